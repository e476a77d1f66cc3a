"""Who may work on an app: one deploy at a time, by a lease that ends by itself when its owner died.

The lease is a file in /run (gone after a reboot, as the owner's connection is) with an end in the host's own
boot time, which no wall clock can move. Every call of its owner renews it, and so does the controller's heartbeat.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError
from zarpar_host.files import write_json
from zarpar_host.state import Places

SECONDS = 45


def lock(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Take the lease of an app. request: app, lease (the deploy's token), by, commit, seconds, wait.

    Waits `wait` seconds for another deploy to end. Raises HostError naming the holder, kind "locked".
    """
    places = Places(request["app"], root)
    deadline = time.monotonic() + float(request.get("wait") or 0)
    while True:
        try:
            _take(places, request)
            return {"outcome": "locked", "changed": False}
        except HostError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.5)


def renew(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Renew the lease of an app (request: app, lease); nothing happens when it is another's by now."""
    places = Places(request["app"], root)
    with _guarded(places):
        held = _read(places)
        mine = held.get("lease") == request["lease"]
        if mine:
            _write(places, held)
    return {"outcome": "renewed" if mine else "lost", "changed": False}


def unlock(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Give the lease back (request: app, lease); another's stays."""
    places = Places(request["app"], root)
    with _guarded(places):
        if _read(places).get("lease") == request["lease"]:
            _path(places).unlink(missing_ok=True)
    return {"outcome": "unlocked", "changed": False}


def hold(places: Places, request: dict[str, Any]) -> None:
    """Renew the lease for a call of its owner; `lock` alone takes one, and starts with it the heartbeat that ends it.

    Raises HostError, kind "locked", when somebody else has it: also for the call of a person on the host.
    """
    with _guarded(places):
        if _held_by_me(places, request):
            _write(places, _read(places))


def _take(places: Places, request: dict[str, Any]) -> None:
    with _guarded(places):
        if _held_by_me(places, request):
            _write(places, _read(places))
            return
        fresh = {name: str(request.get(name) or "") for name in ("lease", "by", "commit")}
        fresh["since"] = time.strftime("%H:%M:%S UTC", time.gmtime())  # for people only
        _write(places, {**fresh, "seconds": int(request.get("seconds") or SECONDS)})


def _held_by_me(places: Places, request: dict[str, Any]) -> bool:
    """Whether the caller has the lease; False when nobody has. Raises HostError when somebody else has it."""
    held = _read(places)
    if not held or held["until"] <= _now():
        return False
    if held["lease"] != request.get("lease"):
        raise HostError(
            f"{places.app} is being deployed by {held['by']} (since {held['since']}, commit {held['commit'][:8]})",
            hint="Wait for it to end and run again, or let this command wait: --wait-lock 600. A deploy that died"
            f" frees the lock by itself within {held['seconds']} s.",
            kind="locked",
        )
    return True


def _path(places: Places) -> Path:
    return places.runtime / f"{places.app}.lease"


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _read(places: Places) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads(_path(places).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return held


def _write(places: Places, held: dict[str, Any]) -> None:
    write_json(_path(places), {**held, "until": _now() + held["seconds"]})


@contextlib.contextmanager
def _guarded(places: Places) -> Iterator[None]:
    """One process at a time at the lease's file; apart from the app's own lock, which long verbs hold."""
    places.runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (places.runtime / f"{places.app}.lease.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
