"""Catches a deploy in the act: a program on the host that says, at once, when a point of it is reached."""

from __future__ import annotations

import select
import subprocess
from types import TracebackType

from support.site import APP
from zarpar import lab

POINTS = (
    "receive",  # the archive is coming in
    "build",  # the app's build command runs
    "prepared",  # the release is whole
    "migrate",  # the migration runs
    "start",  # the idle slot's file names the new release
    "gate",  # it answers, and is not well yet
    "switched",  # the record names it live, unconfirmed
    "linked",  # visitors reach it, unconfirmed
    "confirmed",  # the controller has confirmed
)
PROGRAM = r"""
import json, os, signal, sys, time
from pathlib import Path

app, point, victim, limit = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
home, data, slots = Path("/srv", app), Path("/var/lib/zarpar/apps", app), Path("/etc/zarpar/apps", app, "slots")
mark = home / "shared" / "migrating"
mark.unlink(missing_ok=True)
before = set(os.listdir(home / "releases"))

def new():
    return [home / "releases" / name for name in os.listdir(home / "releases") if name not in before and name[0] != "."]

def is_new(name):
    return name not in before

def state():
    try:
        return json.loads((data / "state.json").read_text())
    except (OSError, ValueError):
        return {"live": None, "pending": None}

def slot_of_new():
    return [slot for slot in slots.iterdir() if slot.is_symlink() and is_new(slot.readlink().name)]

def unconfirmed():
    now = state()
    return now["live"] and is_new(now["live"]["release"]) and now["pending"] and not now["pending"]["confirmed"]

def linked():
    return unconfirmed() and os.readlink(home / "live") == "slots/" + state()["live"]["slot"]

def confirmed():
    now = state()
    return now["live"] and is_new(now["live"]["release"]) and not unconfirmed()

reached = {
    "receive": lambda: (home / "releases" / ".incoming.tar").exists(),
    "build": lambda: any((folder / "src" / "building").exists() for folder in new()),
    "prepared": lambda: any((folder / "release.json").exists() for folder in new()),
    "migrate": mark.exists,
    "start": slot_of_new,
    "gate": lambda: any(Path("/run/zarpar", f"{app}-{slot.name}", "gunicorn.sock").exists() for slot in slot_of_new()),
    "switched": unconfirmed,
    "linked": linked,
    "confirmed": confirmed,
    "any": lambda: True,
    "draining": lambda: any("drain" in words for _, words in processes()),
}[point]

def processes():
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            ours = any(word.startswith("/usr/local/lib/zarpar/") for word in words)
            if ours and words[0].endswith("python3"):
                yield int(folder.name), words

def kill():
    for pid, words in processes():
        watcher = {"watch", "drain", "recover"} & set(words)
        if bool(watcher) == (victim == "watcher"):
            os.kill(pid, signal.SIGKILL)

print("ready", flush=True)
end = time.monotonic() + limit
while time.monotonic() < end:
    if reached():
        if victim:
            kill()
        print("now", flush=True)
        break
    time.sleep(0.002)
else:
    print("never", flush=True)
"""


class Ambush:
    """Waits on the host for a point of a deploy, from the beginning of the `with` statement's body on.

    victim: "verb" kills zarpar-host's working process there and then, "watcher" the one that watches or drains.
    """

    def __init__(self, host: str, point: str, *, victim: str = "", limit: float = 120) -> None:
        words = ["python3", "-I", "-c", PROGRAM, APP, point, victim, str(limit)]
        self._point, self._limit = point, limit
        self._argv = [*lab.exec_command(host), *words]

    def __enter__(self) -> Ambush:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self._line(30) == "ready"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def wait(self) -> None:
        """Return when the point is reached."""
        said = self._line(self._limit + 10)
        assert said == "now", f"the deploy did not come to {self._point!r}: {said}"

    def _line(self, limit: float) -> str:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        return self._process.stdout.readline().strip() if ready else "silence"
