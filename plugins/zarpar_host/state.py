"""What a host knows of an app's releases. state.json holds the one durable fact: which release is live.

Everything else (the link that nginx follows, running slots) is derived from it, and made again by
`switch.recover`.
Order is by sequence number, never by date: clocks lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError
from zarpar_host.files import sync_directory, write_json

SLOTS = ("blue", "green")
PATIENCE = 60.0  # seconds that a verb waits for another one to end


@dataclass(frozen=True)
class Places:
    """Where an app's things are on the host. root is another folder in unit tests only."""

    app: str
    root: Path = Path("/")

    @property
    def home(self) -> Path:
        return self.root / "srv" / self.app

    @property
    def data(self) -> Path:
        return self.root / "var/lib/zarpar/apps" / self.app

    @property
    def settings(self) -> Path:
        return self.root / "etc/zarpar/apps" / self.app

    @property
    def runtime(self) -> Path:
        return self.root / "run/zarpar"

    def release(self, release: str) -> Path:
        return self.home / "releases" / release

    def environment(self, release: str) -> Path:
        return self.settings / "env" / release

    def slot_file(self, slot: str) -> Path:
        return self.settings / "slots" / slot

    def socket(self, slot: str) -> Path:
        return self.runtime / f"{self.app}-{slot}" / "gunicorn.sock"

    @property
    def once(self) -> Path:
        return self.settings / "once"

    @property
    def part(self) -> Path:
        return self.settings / "part"

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    @property
    def timers(self) -> Path:
        return self.root / "run/systemd/system"

    @property
    def timer_stamps(self) -> Path:
        return self.root / "var/lib/systemd/timers"

    def unit(self, slot: str) -> str:
        return f"zarpar-{self.app}@{slot}.service"

    def process_unit(self, slot: str, instance: str) -> str:
        return f"zarpar-{self.app}.{slot}@{instance}.service"

    def timer(self, schedule: str) -> str:
        return f"zarpar-{self.app}.schedule@{schedule}.timer"

    def schedule_unit(self, schedule: str) -> str:
        return f"zarpar-{self.app}.schedule@{schedule}.service"


@dataclass(frozen=True)
class Live:
    """A release in a slot."""

    release: str
    slot: str


@dataclass(frozen=True)
class Pending:
    """A switch that is still watched: where it came from, its token, and whether the controller confirmed it."""

    token: str
    origin: Live | None
    confirmed: bool = False


@dataclass
class State:
    """The content of state.json."""

    sequence: int = 0
    live: Live | None = None
    pending: Pending | None = None
    deploy: str = ""  # the deploy that switched last, so that it can be undone
    undo_to: str = ""  # the release that was live before it
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, release: str, **facts: Any) -> None:
        """Add facts about a release; a new one gets the next sequence number."""
        if release not in self.releases:
            self.sequence += 1
            self.releases[release] = {"sequence": self.sequence, "status": "new"}
        self.releases[release].update(facts)

    def took(self, release: str, seconds: float) -> None:
        """Add to the seconds that a release has taken: prepared, migrated and activated."""
        facts = self.releases[release]
        facts["took"] = round(float(facts.get("took", 0)) + seconds, 2)

    def newest_first(self) -> list[str]:
        """Release ids: the live one, then by when they were live last (or, if never, prepared), newest first."""
        return sorted(self.releases, key=lambda name: -self._order(name))

    def _order(self, release: str) -> int:
        if self.live and release == self.live.release:
            return self.sequence + 1
        facts = self.releases[release]
        return int(facts.get("activated") or facts["sequence"])

    def previous(self) -> str:
        """The newest good release other than the live one; empty when there is none."""
        live = self.live.release if self.live else ""
        good = [name for name in self.newest_first() if self.releases[name]["status"] == "good" and name != live]
        return good[0] if good else ""


def load(places: Places) -> State:
    """Read state.json; an app that was never prepared has an empty state."""
    path = places.data / "state.json"
    if not path.exists():
        return State()
    raw = json.loads(path.read_text())
    live, pending = raw.get("live"), raw.get("pending")
    return State(
        sequence=raw["sequence"],
        live=Live(**live) if live else None,
        pending=_pending(pending) if pending else None,
        deploy=raw.get("deploy", ""),  # younger than the first versions of this file
        undo_to=raw.get("undo_to", ""),
        releases=raw["releases"],
    )


def _pending(raw: dict[str, Any]) -> Pending:
    return Pending(raw["token"], Live(**raw["origin"]) if raw["origin"] else None, raw.get("confirmed", False))


def save(places: Places, state: State) -> None:
    """Write state.json durably, in one step."""
    places.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(places.data / "state.json", asdict(state))


def now() -> str:
    """The wall clock, for people only: nothing is decided by it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def record(places: Places, event: str, **facts: Any) -> None:
    """Append a line to the app's history."""
    places.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = places.data / "history.jsonl"
    created = not path.exists()
    line = {"event": event, "at": now(), **facts}
    with path.open("a") as handle:
        os.fchmod(handle.fileno(), 0o600)
        handle.write(json.dumps(line) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    if created:
        sync_directory(path.parent)


def read_history(places: Places) -> list[dict[str, Any]]:
    """All whole lines of the history, oldest first; a line cut by a power loss is passed over."""
    path = places.data / "history.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return events


def locked(places: Places, who: str, verb: str, wait: float = PATIENCE) -> contextlib.AbstractContextManager[None]:
    """Hold the app's state.json, slots and processes on this host, as briefly as can be: the watcher needs them.

    Raises HostError, kind "locked", naming the holder, when they are not free within `wait` seconds.
    """
    return _held(places, "lock", who, verb, wait)


def deploying(places: Places, who: str, verb: str, wait: float = PATIENCE) -> contextlib.AbstractContextManager[None]:
    """Hold the app's releases on this host, for as long as a verb of a deploy takes; may be taken before `locked`.

    Other deploys are kept out by the lease, but the last verb of one whose controller is gone goes on without it.
    Raises HostError as `locked` does.
    """
    return _held(places, "deploy.lock", who, verb, wait)


@contextlib.contextmanager
def _held(places: Places, lock: str, who: str, verb: str, wait: float) -> Iterator[None]:
    """The kernel frees a lock when the process ends, however it ends."""
    places.runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with (places.runtime / f"{places.app}.{lock}").open("a+") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    handle.seek(0)
                    holder = handle.read().strip() or "unknown"
                    raise HostError(
                        f"{places.app} is being worked on: {holder}",
                        hint="Wait for it to end, then run the same command again.",
                        kind="locked",
                    ) from None
                time.sleep(0.1)
        handle.seek(0)
        handle.truncate()
        handle.write(f"{verb} by {who or 'the host itself'}, process {os.getpid()}")
        handle.flush()
        yield


def all_apps(root: Path = Path("/")) -> list[Places]:
    """Every app with a state on this host."""
    return [Places(path.parent.name, root) for path in sorted((root / "var/lib/zarpar/apps").glob("*/state.json"))]
