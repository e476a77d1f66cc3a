"""The systemd units of the apps: what runs, how it is shut in, and what it is allowed."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from environment import App
from on_host import Live, Machine, seconds

pytestmark = pytest.mark.on("web")


def test_exposure(machine: Machine, live: Live) -> None:
    shown = machine.check("systemd-analyze security --no-pager %s", live.unit)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", shown)
    assert found, shown
    bad = "\n".join(line for line in shown.splitlines() if line.lstrip().startswith("✗"))
    assert float(found.group(1)) <= 1.5, f"exposure {found.group(1)}:\n{bad}"


def test_process_has_no_rights(machine: Machine, app: App, live: Live) -> None:
    lines = machine.check("cat %s", f"/proc/{live.pid}/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"], "no filter of system calls"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0, f"{kind} is {status[kind][0]}"
    assert set(status["Uid"]) == {machine.check("id -u %s", app["name"])}
    assert status["Umask"] == ["0027"]


def test_sandbox_holds(machine: Machine, app: App, live: Live) -> None:
    """Asked of the kernel from within: even root could not write there, and nothing is written to find out."""
    name = app["name"]
    inside = machine.ask(INSIDE, name, enter=f"--target {live.pid} --mount")
    assert inside["writable"] == [f"/srv/{name}/shared", "/tmp"], inside  # noqa: S108
    assert inside["home"] == [], "home directories can be seen"
    assert inside["devices"] == [], "devices of the machine can be seen"
    outside = machine.ask(INSIDE, name)
    assert inside["tmp"] != outside["tmp"], "temporary files are shared with the system"
    assert outside["writable"] != inside["writable"], "the question itself is wrong: root writes nowhere"


def test_sees_no_other_processes(machine: Machine, live: Live) -> None:
    shown = machine.check("nsenter --target %s --mount -- findmnt --noheadings -o OPTIONS /proc", str(live.pid))
    assert "hidepid=invisible" in shown, shown
    assert "subset=pid" in shown, shown


def test_users_are_separate(machine: Machine, live: Live) -> None:
    spaces = machine.check("readlink /proc/1/ns/user %s", f"/proc/{live.pid}/ns/user").splitlines()
    assert len(set(spaces)) == 2, "PrivateUsers has no effect"


def test_stops_later_than_it_drains(machine: Machine, app: App, live: Live) -> None:
    shown = machine.properties(live.unit, "TimeoutStopUSec", "KillMode", "Restart")
    limit = seconds(shown["TimeoutStopUSec"])
    assert limit > app["drain"], "a drain would be cut short"
    assert limit > app["gunicorn"]["graceful_timeout"], "requests would be cut short"
    assert (shown["KillMode"], shown["Restart"]) == ("mixed", "on-failure")


def test_limits(machine: Machine, app: App, live: Live) -> None:
    shown = machine.properties(live.unit, "TasksMax", "LimitNOFILE", "MemoryMax")
    wanted = {"TasksMax": str(app["limits"]["tasks"]), "LimitNOFILE": str(app["limits"]["files"])}
    memory = app["limits"]["memory"]
    wanted["MemoryMax"] = str(int(memory[:-1]) * {"M": 2**20, "G": 2**30}[memory[-1]]) if memory else "infinity"
    assert shown == wanted


def test_gunicorn_is_configured_as_asked(machine: Machine, app: App) -> None:
    text = machine.check("cat %s", f"/etc/zarpar/apps/{app['name']}/gunicorn.conf.py")
    settings = literals(text)
    wanted = dict(app["gunicorn"])
    wanted |= {"loglevel": wanted.pop("log_level"), "preload_app": wanted.pop("preload") is True}
    del wanted["worker_class"]  # the release's own
    threads = wanted.pop("threads")  # of gthread only: another worker class takes it for a wish to be gthread
    assert f"\n    threads = {threads}\n" in text
    if wanted["workers"] == 0:  # auto
        wanted["workers"] = max(settings["workers"], 2)
    assert (settings["accesslog"] is not None) == wanted.pop("access_log")
    assert {name: settings.get(name) for name in wanted} == wanted
    assert settings["control_socket_disable"] is True


def test_worker_class(machine: Machine, app: App, live: Live) -> None:
    asked = app["gunicorn"]["worker_class"]
    slot = f"/etc/zarpar/apps/{app['name']}/slots/{live.slot}"
    found = machine.check("grep ^ZARPAR_WORKER_CLASS= %s", slot).partition("=")[2].strip('"')
    uvicorn = {"uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornWorker"}
    assert found == asked or (found and not asked) or {found, asked} <= uvicorn


def test_runs_its_release(machine: Machine, app: App, live: Live) -> None:
    """The process itself says which release it is, whatever the files say."""
    where = machine.check("readlink /proc/%s/cwd", str(live.pid))
    assert where == f"{live.folder}/src"
    command = machine.check("tr '\\0' ' ' < %s", f"/proc/{live.pid}/cmdline")
    assert f"/srv/{app['name']}/venvs/" in command or "gunicorn: master" in command, command


@pytest.mark.lab
def test_writing_outside_fails_for_the_app(machine: Machine, app: App, live: Live) -> None:
    name = app["name"]
    enter = f"nsenter --target {live.pid} --mount --setuid $(id -u {name}) --setgid $(id -g {name}) --"
    for path in ("/etc", "/usr/local", f"/srv/{name}/releases", f"/srv/{name}/cache", "/run", "/run/lock"):
        done = machine.host.run(f"{enter} sh -c 'touch {path}/zarpar-verify && rm {path}/zarpar-verify'")
        assert done.rc != 0, f"the app wrote into {path}"
        assert re.search("Read-only|Permission denied", done.stderr), done.stderr
    machine.check(f"{enter} sh -c 'touch /srv/{name}/shared/zarpar-verify && rm /srv/{name}/shared/zarpar-verify'")


@pytest.mark.lab
def test_comes_back_after_a_crash(machine: Machine, app: App, live: Live) -> None:
    machine.check(f"systemctl kill --kill-whom=main --signal=SIGKILL {live.unit}")
    machine.check(f"for i in $(seq 50); do sleep 0.2; systemctl is-active -q {live.unit} && exit 0; done; exit 1")
    again = machine.live(app["name"])
    assert (again.release, again.slot) == (live.release, live.slot)
    assert again.pid != live.pid
    status = machine.status(app["name"])
    assert status["healthy"], status["problem"]


def literals(source: str) -> dict[str, Any]:
    """The settings of a configuration in Python that are plain values. Nothing of it is run."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


INSIDE = """
import json, os, sys
app = sys.argv[1]
places = ["/", "/etc", "/usr", "/var", "/var/lib", "/boot", "/opt", "/run", "/run/lock", "/proc/sys", "/sys"]
places += [f"/etc/zarpar/apps/{app}", "/srv", f"/srv/{app}", f"/srv/{app}/releases", f"/srv/{app}/venvs"]
places += [f"/srv/{app}/shared", "/tmp"]
tmp = os.stat("/tmp")
harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "hugepages", "log",
            "char", "core", "fd", "stdin", "stdout", "stderr"}
print(json.dumps({
    "writable": [place for place in places if os.path.isdir(place) and os.access(place, os.W_OK)],
    "home": os.listdir("/home") + os.listdir("/root"),
    "devices": sorted(set(os.listdir("/dev")) - harmless),
    "tmp": [tmp.st_dev, tmp.st_ino],
}))
"""
