"""What an app runs beside its web server: all of it, in the slot of the live release alone, shut in, warm to stop."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from environment import App, Server
from on_host import Live, Machine, seconds

pytestmark = pytest.mark.on("web", "worker")

RECOVERY = 60  # seconds


@pytest.fixture
def release(machine: Machine, app: App, live: Live) -> dict[str, Any]:
    """What the live release says of its processes and schedules."""
    facts: dict[str, Any] = json.loads(machine.check("cat %s", f"{live.folder}/release.json"))
    found = {kind: facts.get(kind, []) for kind in ("processes", "schedules")}
    if not any(found.values()):
        pytest.skip(f"{app['name']} runs nothing beside its web server")
    return found


@pytest.fixture
def once(machine: Machine, app: App) -> bool:
    """Whether this host is the one that runs what must not run twice."""
    return bool(machine.host.run("test -e %s", f"/etc/zarpar/apps/{app['name']}/once").rc == 0)


@pytest.fixture
def wanted(server: Server, app: App, live: Live, release: dict[str, Any], once: bool) -> list[str]:
    """The units of all processes that are to run here."""
    processes = [each for each in release["processes"] if once or not each["single"]]
    if not processes or server.services["part"] == "web":
        pytest.skip("no process is to run here")
    return [unit(app, live, each["name"], number) for each in processes for number in range(1, each["count"] + 1)]


def unit(app: App, live: Live, name: str, number: int) -> str:
    return f"zarpar-{app['name']}.{live.slot}@{name}-{number}.service"


def test_every_process_runs(machine: Machine, live: Live, wanted: list[str]) -> None:
    for name in wanted:
        shown = machine.properties(name, "ActiveState", "MainPID")
        assert shown["ActiveState"] == "active", f"{name} is {shown['ActiveState']}"
        assert machine.check("readlink /proc/%s/cwd", shown["MainPID"]).startswith(f"{live.folder}/src")


def test_no_process_of_another_release_runs(machine: Machine, app: App, live: Live, wanted: list[str]) -> None:
    assert running(machine, app) == set(wanted), f"slot {live.slot} is live"


def test_nothing_runs_here_that_the_workers_run(server: Server, machine: Machine, app: App) -> None:
    if server.services["part"] != "web":
        pytest.skip(f"{server.name} runs processes itself")
    assert not running(machine, app)


def test_a_worker_has_no_web_server(server: Server, machine: Machine, app: App) -> None:
    if server.services["part"] != "processes":
        pytest.skip(f"{server.name} has visitors")
    name = app["name"]
    listed = "systemctl list-units --plain --no-legend --state=active,activating"
    assert not machine.check(f"{listed} 'zarpar-{name}@*.service'")
    machine.check("test ! -e %s -a ! -e %s", f"/etc/zarpar/tls/{name}", f"/etc/nginx/sites-enabled/zarpar-{name}.conf")


def running(machine: Machine, app: App) -> set[str]:
    """The units of all processes; those that still end their last task are left out, they are deactivating."""
    listed = "systemctl list-units --plain --no-legend --state=active,activating"
    lines = machine.check(f"{listed} 'zarpar-{app['name']}.blue@*' 'zarpar-{app['name']}.green@*'").splitlines()
    return {line.split()[0] for line in lines}


def test_status_counts_them(machine: Machine, app: App, wanted: list[str]) -> None:
    counted = machine.status(app["name"])["processes"]
    assert sum(its["running"] for its in counted.values()) == sum(its["wanted"] for its in counted.values()), counted
    assert sum(its["wanted"] for its in counted.values()) == len(wanted)


def test_exposure(machine: Machine, wanted: list[str]) -> None:
    shown = machine.check("systemd-analyze security --no-pager %s", wanted[0])
    found = re.search(r"exposure level for \S+: ([0-9.]+)", shown)
    assert found, shown
    assert float(found.group(1)) <= 1.5, found.group()


def test_they_stop_warm(machine: Machine, release: dict[str, Any], wanted: list[str]) -> None:
    for name in wanted:
        shown = machine.properties(name, "TimeoutStopUSec", "KillMode", "Restart")
        assert (shown["KillMode"], shown["Restart"]) == ("mixed", "always")
        assert seconds(shown["TimeoutStopUSec"]) > max(each["stop"] for each in release["processes"])


def test_schedules_have_their_timers(machine: Machine, app: App, release: dict[str, Any], once: bool) -> None:
    lines = machine.check(
        "systemctl list-units --plain --no-legend --state=active %s", f"zarpar-{app['name']}.schedule@*.timer"
    ).splitlines()
    names = {each["name"] for each in release["schedules"]} if once else set()
    assert {line.split()[0] for line in lines} == {f"zarpar-{app['name']}.schedule@{name}.timer" for name in names}
    listed = json.loads(machine.check("echo %s | zarpar-host schedules", json.dumps({"apps": [app["name"]]})))
    assert {each["name"] for each in listed["schedules"] if each["next"]} == names


def test_commands_are_not_the_app_s_to_change(machine: Machine, app: App, live: Live, release: dict[str, Any]) -> None:
    folders = [f"{live.folder}/{kind}" for kind in release if release[kind]]
    words = " ".join(["%s"] * len(folders))
    for path in machine.check(f"find {words} -printf '%%U %%m %%p\\n'", *folders).splitlines():
        owner, mode, name = path.split()
        assert owner == "0", name
        assert not int(mode, 8) & 0o027, name


@pytest.mark.lab
def test_a_killed_process_comes_back(machine: Machine, wanted: list[str]) -> None:
    before = machine.properties(wanted[0], "MainPID")["MainPID"]
    machine.check("kill -9 %s", before)
    again = f"[ $(systemctl show -p MainPID --value {wanted[0]}) != {before} ] && systemctl is-active -q {wanted[0]}"
    machine.check(f"for i in $(seq {RECOVERY}); do {again} && exit 0; sleep 1; done; exit 1")


@pytest.mark.lab
def test_a_schedule_runs_now(machine: Machine, app: App, release: dict[str, Any], once: bool) -> None:
    if not release["schedules"] or not once:
        pytest.skip("no schedule is to run here")
    name = release["schedules"][0]["name"]
    done = machine.host.run("zarpar-host run-schedule %s %s", app["name"], name)
    assert done.rc == 0, done.stdout + done.stderr
    listed = json.loads(machine.check("echo %s | zarpar-host schedules", json.dumps({"apps": [app["name"]]})))
    assert [each["outcome"] for each in listed["schedules"] if each["name"] == name] == ["ok"]
