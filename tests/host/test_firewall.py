"""The firewall: PostgreSQL and Redis of a host of their own are reached by the apps' hosts, and by nobody else."""

from __future__ import annotations

import re
import socket

import pytest
from environment import Server
from on_host import Machine
from visitor import Visitor


def test_lets_in_the_hosts_of_the_inventory_only(server: Server, machine: Machine) -> None:
    if not server.services["ports"]:
        pytest.skip(f"nobody needs a service of {server.name} over the network")
    shown = machine.properties("zarpar-firewall.service", "ActiveState", "UnitFileState")
    assert shown == {"ActiveState": "active", "UnitFileState": "enabled"}
    rules = machine.check("nft list table inet zarpar")
    allowed = set(re.findall(r"saddr (\S+) accept", rules))
    assert allowed == {address for client in server.services["clients"] for address in client["addresses"]}
    ports = re.search(r"tcp dport (\{[^}]*\}|\d+)", rules)
    assert ports
    assert {int(port) for port in re.findall(r"\d+", ports.group(1))} == set(server.services["ports"])


def test_nothing_where_nobody_comes_in(server: Server, machine: Machine) -> None:
    if server.services["ports"]:
        pytest.skip(f"other hosts use services of {server.name}")
    machine.check("test ! -e /etc/zarpar/firewall.nft -a ! -e /etc/systemd/system/zarpar-firewall.service")


def test_others_are_kept_out(server: Server, visitor: Visitor) -> None:
    """This machine is no host of the inventory; in an environment in use it may be one."""
    if not server.lab or not server.services["ports"]:
        pytest.skip("not a host of the lab that serves others")
    for port in server.services["ports"]:
        with pytest.raises(OSError):  # noqa: PT011 - no answer, or a refusal
            socket.create_connection((visitor.address, port), timeout=3).close()
