"""Schedules: what they are, when they ran and how it went; and one run at once, for a person's terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zarpar_host import processes
from zarpar_host.errors import HostError
from zarpar_host.releases import settings_of
from zarpar_host.run import BASE_ENVIRONMENT, run
from zarpar_host.state import Places, all_apps, load

FAILED = 125
USAGE = "usage: zarpar-host run-schedule APP NAME"
LOOK_EVERY = 0.5
TIMER = "NextElapseUSecRealtime,LastTriggerUSec"
SERVICE = "ActiveState,Result,ExecMainStatus,ExecMainCode,ExecMainStartTimestamp,ExecMainExitTimestamp,InvocationID"


def listed(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """The schedules that this host runs. request: apps (names; all without).

    Returns {schedules: [{app, name, command, at, next, last, outcome}]}; times are UTC, empty when there is none.
    """
    wanted = set(request.get("apps") or [])
    found = []
    for places in all_apps(root):
        if not wanted or places.app in wanted:
            for each in _of_live(places):
                found.append({"app": places.app, **each, **_past(places, each["name"])})
    return {"schedules": found, "changed": False}


def _of_live(places: Places) -> list[dict[str, str]]:
    """The schedules of the live release, where this host is the one that runs them."""
    state = load(places)
    if not state.live or not places.once.exists():
        return []
    try:
        settings = settings_of(places, state.live.release)
    except HostError:
        return []
    schedules: list[dict[str, str]] = settings["schedules"]
    return schedules


def _past(places: Places, name: str) -> dict[str, str]:
    timer, service = places.timer(name), places.schedule_unit(name)
    shown = processes.shown([timer], TIMER).get(timer, {}) | processes.shown([service], SERVICE).get(service, {})
    last = _time(shown.get("ExecMainStartTimestamp", "")) or _time(shown.get("LastTriggerUSec", ""))
    return {"next": _time(shown.get("NextElapseUSecRealtime", "")), "last": last, "outcome": _outcome(shown)}


def _outcome(shown: dict[str, str]) -> str:
    """How the last run ended; empty when there was none since the host started."""
    if shown.get("ActiveState") in ("activating", "active", "deactivating"):
        return "running"
    if not _time(shown.get("ExecMainExitTimestamp", "")):
        return ""
    if shown.get("Result") == "success":
        return "ok"
    return f"failed ({processes.how(shown) or shown.get('Result', '')})"


def _time(text: str) -> str:
    """systemd's way to write a time, "Sun 2026-11-22 04:00:00 UTC", as others write it; empty for none."""
    words = text.split()
    return f"{words[1]}T{words[2]}Z" if len(words) == 4 else ""


def main(words: Sequence[str]) -> int:
    """Run a schedule now, or follow the run that goes on; print what it says, and return its exit code."""
    if len(words) != 2:
        print(USAGE, file=sys.stderr)
        return FAILED
    places = Places(words[0])
    if not words[0].replace("-", "").isalnum() or words[1] not in {each["name"] for each in _of_live(places)}:
        print(f"error: {words[0]} has no schedule {words[1]!r} on this host", file=sys.stderr)
        return FAILED
    return follow(places.schedule_unit(words[1]))


def follow(unit: str) -> int:
    """Start a run, tell what it says until it ends, and return its code; a run that goes on already is followed."""
    before = processes.shown([unit], SERVICE).get(unit, {})
    earlier = before.get("InvocationID", "")
    if before.get("ActiveState") == "activating":
        print(f"it runs already, since {_time(before.get('ExecMainStartTimestamp', ''))}", file=sys.stderr)
        earlier = ""
    # ends when the run does; a second start of what runs already waits for the same run
    argv = ["systemctl", "start", "--quiet", "--", unit]
    quiet = subprocess.DEVNULL  # that it failed, its code says
    with subprocess.Popen(argv, env=BASE_ENVIRONMENT, stdin=quiet, stderr=quiet) as job:  # noqa: S603
        position, over = "", False
        while not over:
            over = job.poll() is not None
            if over:
                run(["journalctl", "--sync"], check=False)
            else:
                time.sleep(LOOK_EVERY)
            shown = processes.shown([unit], SERVICE).get(unit, {})
            if shown.get("InvocationID", "") != earlier:
                position = _tell(shown.get("InvocationID", ""), position)
    code = exit_code(shown)
    if code:
        print(f"error: {_outcome(shown) or 'it could not be started'}", file=sys.stderr)
    return code


def _tell(invocation: str, position: str) -> str:
    """Print what a run said after a position in the journal; returns the position to go on from."""
    if not invocation:
        return position
    argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--show-cursor"]
    argv += [f"--after-cursor={position}"] if position else []
    lines = run([*argv, f"_SYSTEMD_INVOCATION_ID={invocation}"], check=False).out.splitlines()
    if lines and lines[-1].startswith("-- cursor: "):
        position = lines.pop().removeprefix("-- cursor: ")
    with contextlib.suppress(BrokenPipeError):
        for line in lines:
            print(line, flush=True)
    return position


def exit_code(shown: dict[str, str]) -> int:
    """The exit code of a unit's last run, as a shell says it; 125 when it was not even started."""
    if shown.get("Result") == "exec-condition":
        return FAILED
    status = int(shown.get("ExecMainStatus") or 0)
    killed = shown.get("ExecMainCode") in (str(os.CLD_KILLED), str(os.CLD_DUMPED))
    if shown.get("Result") != "success" and status == 0:
        return FAILED  # it was never started
    return 128 + status if killed else status
