"""What an app runs beside its web server: processes in the slot of the live release, and timers of its schedules.

Which of them a host runs follows from release.json and from two files of role gunicorn_systemd. `once`: the host that
has it, one in a fleet, runs what must not run twice, which is schedulers such as Celery's beat, and schedules. `part`:
the host runs only this part of the app, `web` or `processes`; without it, both.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError
from zarpar_host.run import run
from zarpar_host.state import Places

WEB, PROCESSES = "web", "processes"
TIMER = """\
# Made by zarpar-host from the live release, and made anew at every boot: changes here are overwritten.
[Unit]
Description=Zarpar app {app}, schedule {name}

[Timer]
OnCalendar={at}
# A time that the host was off at is made up for, once.
Persistent=yes
AccuracySec=1s
"""


def part(places: Places) -> str:
    """What a host runs of an app: WEB, PROCESSES, or both (empty)."""
    return places.part.read_text().strip() if places.part.exists() else ""


def instances(places: Places, settings: dict[str, Any], *, single: bool | None = None) -> list[str]:
    """The processes of a release that are to run here, as "worker-1"; `single`: only schedulers, or only the others."""
    if part(places) == WEB:
        return []
    once = places.once.exists()
    return [
        f"{each['name']}-{number}"
        for each in settings["processes"]
        if (once or not each["single"]) and single in (None, each["single"])
        for number in range(1, each["count"] + 1)
    ]


def schedulers(settings: dict[str, Any]) -> list[str]:
    """The processes of a release that must not run twice, on whichever host they are to run."""
    return [f"{each['name']}-1" for each in settings["processes"] if each["single"]]


def elsewhere(places: Places, settings: dict[str, Any]) -> list[str]:
    """The processes of a release that are to run on other hosts, and not here."""
    here = instances(places, settings)
    every = (f"{each['name']}-{n}" for each in settings["processes"] for n in range(1, each["count"] + 1))
    return [name for name in every if name not in here]


def calendar(places: Places, settings: dict[str, Any]) -> dict[str, str]:
    """The schedules of a release that are to run here: name to time."""
    return {each["name"]: each["at"] for each in settings["schedules"]} if places.once.exists() else {}


def units(places: Places, slot: str, settings: dict[str, Any]) -> list[str]:
    """The units that are up when all that a release in a slot is to run here runs."""
    timers = [places.timer(name) for name in calendar(places, settings)]
    return [*(places.process_unit(slot, name) for name in instances(places, settings)), *timers]


def timer_text(app: str, name: str, at: str) -> str:
    """The unit file of a schedule's timer."""
    return TIMER.format(app=app, name=name, at=at)


def check(places: Places, release: dict[str, Any]) -> None:
    """Refuse, before anything is made, what this host cannot run. Raises HostError."""
    if not release.get("processes") and not release.get("schedules"):
        return
    if not (places.units / f"zarpar-{places.app}.blue@.service").exists():
        raise HostError(
            f"this host has no units for the processes and schedules of {places.app} yet",
            hint="Bring it into shape first: zarpar provision ENV (zarpar deploy does both)",
            kind="bad_data",
        )
    for each in release.get("schedules", []):
        done = run(["systemd-analyze", "calendar", "--", each["at"]], check=False)
        if done.code != 0:
            where = f"apps.{places.app}.schedules.{each['name']}.at"
            raise HostError(f"{where}: systemd refuses {each['at']!r}", detail=done.tail, kind="bad_data")


def write(folder: Path, release: dict[str, Any]) -> None:
    """Write the commands of a release into its folder: processes/NAME, schedules/NAME, for /bin/sh.

    bash, as other platforms have it: without pipes and redirections it becomes the program, which so gets its signals.
    """
    for kind in ("processes", "schedules"):
        for each in release.get(kind, []):
            (folder / kind).mkdir(mode=0o750, exist_ok=True)
            (folder / kind / each["name"]).write_text(f"exec /bin/bash -c -- {shlex.quote(each['command'])}\n")


def in_use(places: Places, proc: Path = Path("/proc")) -> set[str]:
    """The releases that some process works in: workers that end their last task, schedules, one-off commands."""
    folder = str(places.home / "releases") + "/"
    found = set()
    for process in proc.iterdir():
        if process.name.isdigit():
            try:
                works_in = str((process / "cwd").readlink())
            except OSError:  # it has ended, or is the kernel's
                continue
            if works_in.startswith(folder):
                found.add(works_in[len(folder) :].split("/")[0])
    return found


def status(places: Places, slot: str, settings: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Of each process of the live release: how many run, and how many should, here."""
    wanted = instances(places, settings)
    down = set(units_down([places.process_unit(slot, name) for name in wanted]))
    found: dict[str, dict[str, int]] = {}
    for name in wanted:
        its = found.setdefault(name.rpartition("-")[0], {"wanted": 0, "running": 0})
        its["wanted"] += 1
        its["running"] += places.process_unit(slot, name) not in down
    return found


def shown(names: list[str], properties: str) -> dict[str, dict[str, str]]:
    """Properties of units, times in UTC. Raises HostError when systemd does not answer: that says nothing of a unit."""
    if not names:
        return {}
    done = run(["systemctl", "show", "-p", f"Id,{properties}", "--", *names], env={"TZ": "UTC"})
    found = {}
    for block in done.out.split("\n\n"):
        its = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[its.pop("Id", "")] = its
    return found


def units_down(names: list[str]) -> list[str]:
    """Those of the units that are not up now."""
    found = shown(names, "ActiveState")
    return [name for name in names if found.get(name, {}).get("ActiveState") != "active"]


def ended(names: list[str]) -> dict[str, str]:
    """Those of the units whose process is down, or ended since it was started and was started again, and how."""
    found = shown(names, "ActiveState,NRestarts,ExecMainCode,ExecMainStatus")
    return {
        name: how(found.get(name, {}))
        for name in names
        if (found.get(name, {}).get("ActiveState"), found.get(name, {}).get("NRestarts")) != ("active", "0")
    }


def how(its: dict[str, str]) -> str:
    """How a unit's process ended, as far as systemd still knows."""
    code, status = its.get("ExecMainCode", ""), its.get("ExecMainStatus", "")
    if code == str(os.CLD_EXITED):
        return f"code {status}"
    return f"signal {status}" if code in (str(os.CLD_KILLED), str(os.CLD_DUMPED)) else ""
