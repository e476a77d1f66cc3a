"""A reboot, and a power cut: the same releases serve again, and nobody has to do anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from environment import App, Server
from on_host import Machine
from testinfra.host import Host
from visitor import NoAnswer, Visitor

from zarpar import lab

pytestmark = pytest.mark.lab

LIMIT = 60.0


def power_cut(name: str) -> None:
    lab.power_cut(name)
    lab.start(name)


@pytest.mark.parametrize("fault", [lab.reboot, power_cut], ids=["reboot", "power cut"])
def test_everything_comes_back(
    server: Server, host: Host, machine: Machine, visitor: Visitor, fault: Callable[[str], None]
) -> None:
    apps = server.apps if server.groups & {"web", "worker"} else ()
    visited = apps if "web" in server.groups else ()
    before = {app["name"]: machine.live(app["name"]) for app in apps}
    fault(server.name)
    wait(lambda: can_log_in(host), f"{server.name} cannot be logged in to")
    for app in visited:
        wait(lambda app=app: is_healthy(visitor, app), f"{app['name']} does not answer")  # type: ignore[misc]
    state = machine.host.run("timeout 60 systemctl is-system-running --wait").stdout.strip()
    assert state == "running", machine.check("systemctl list-units --state=failed --no-legend --plain")
    for app in apps:
        after, was = machine.live(app["name"]), before[app["name"]]
        assert (after.release, after.slot) == (was.release, was.slot)
        assert machine.status(app["name"])["healthy"]  # also where nobody visits: its processes run
    failures = machine.check("systemctl show zarpar-recover.service --property=Result --value")
    assert failures == "success"


def wait(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < deadline, f"after {LIMIT:g} s {otherwise}"
        time.sleep(0.3)


def can_log_in(host: Host) -> bool:
    try:
        return bool(host.run("true").rc == 0)
    except RuntimeError:  # ssh: the old connection is dead, or nobody listens yet
        return False


def is_healthy(visitor: Visitor, app: App) -> bool:
    scheme = "http" if app["tls"] == "off" else "https"
    try:
        answer = visitor.ask(f"{scheme}://{app['canonical']}{app['health']['path']}")
    except NoAnswer:
        return False
    return bool(answer.status == app["health"]["status"])
