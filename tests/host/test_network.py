"""Who listens where, as the host's sockets say and as a visitor sees it."""

from __future__ import annotations

import ipaddress
import warnings

import pytest
from environment import App, Server
from on_host import Live, Machine
from visitor import Visitor

pytestmark = pytest.mark.on("web")


def is_public(address: str) -> bool:
    """Tell whether a socket at this address can be reached over a network."""
    bare = address.split("%")[0]
    return bare == "*" or not ipaddress.ip_address(bare).is_loopback


def test_only_expected_ports_are_public(server: Server, machine: Machine) -> None:
    """Other services on a host in use are told, not judged."""
    public = {(port, program) for address, port, program in machine.listeners if is_public(address)}
    wanted = {"nginx": {80, 443} if any(app["tls"] != "off" for app in server.apps) else {80}}
    if server.clients:
        wanted["postgres"] = {5432}
    if server.services["redis"] == "network":
        wanted["redis-server"] = {app["redis_port"] for app in server.apps if app["redis"]}
    for program, ports in wanted.items():
        assert {port for port, owner in public if owner == program} >= ports, f"{program} does not listen: {public}"
    others = {(port, program) for port, program in public if program != "sshd" and port not in wanted.get(program, ())}
    known = {"postgres", "redis-server", "gunicorn", "python3"}
    ours = {(port, program) for port, program in others if server.lab or program in known}
    assert not ours, f"open to the network: {ours}"
    if others:
        warnings.warn(f"{server.name}: open to the network, and not of Zarpar: {sorted(others)}", stacklevel=1)


def test_slot_listens_on_its_socket_only(machine: Machine, app: App, live: Live) -> None:
    processes = machine.ask(SLOT_SOCKETS, live.unit)
    assert processes["unix"] == [live.socket]
    assert processes["tcp"] == [], f"{live.unit} listens on TCP ports"


def test_ports_answer_from_outside(server: Server, visitor: Visitor) -> None:
    for port in (80, 443) if any(app["tls"] != "off" for app in server.apps) else (80,):
        visitor.dial(port).close()


SLOT_SOCKETS = """
import json, pathlib, subprocess, sys
show = ["systemctl", "show", "--property=ControlGroup", "--value", sys.argv[1]]
group = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
pids = pathlib.Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split()
def listening(kind):
    out = subprocess.run(["ss", "-Hlnp", kind], capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [line.split() for line in out if any(f"pid={pid}," in line for pid in pids)]
    return sorted({words[4 if kind == "-x" else 3] for words in mine})
print(json.dumps({"unix": listening("-x"), "tcp": listening("-t")}))
"""
