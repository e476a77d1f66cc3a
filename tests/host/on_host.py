"""Questions to a server that several tests ask, each in one round trip."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from testinfra.host import Host

WATCH_LIMIT = 90.0
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Live:
    """An app's live release, its slot and the main process there.

    confirmed: the deploy saw the switch. watched: the host would still go back by itself if the release fell ill.
    """

    app: str
    release: str
    slot: str
    pid: int
    state: str
    confirmed: bool
    watched: bool

    @property
    def unit(self) -> str:
        return f"zarpar-{self.app}@{self.slot}.service"

    @property
    def folder(self) -> str:
        return f"/srv/{self.app}/releases/{self.release}"

    @property
    def socket(self) -> str:
        return f"/run/zarpar/{self.app}-{self.slot}/gunicorn.sock"


class Machine:
    """One server."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def check(self, command: str, *args: str) -> str:
        """Return what a command printed. An AssertionError quotes a failed one."""
        done = self.host.run(command, *args)
        assert done.rc == 0, f"{done.command!r} failed with code {done.rc}:\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def ask(self, script: str, *args: str, user: str = "", enter: str = "") -> Any:
        """Run a Python script on the host and return the JSON it prints.

        user: another account than root. enter: words of nsenter, to run it among another process's namespaces.
        """
        words = f"nsenter {enter} -- " if enter else ""
        words += f"runuser -u {user} -- " if user else ""
        quoted = " ".join(["%s"] * len(args))
        return json.loads(self.check(f"cd / && {words}python3 -I -S -c %s {quoted}", script, *args))

    def open_to(self, user: str, *paths: str) -> list[str]:
        """Return what a user gets to see of these files and folders, or that a path is not there at all."""
        found: list[str] = self.ask(OPEN, *paths, user=user)
        return found

    def denied(self, user: str, command: str, *args: str) -> str:
        """Return why a command fails for a user; empty when it works."""
        done = self.host.run(f"cd / && runuser -u {user} -- {command}", *args)
        return "" if done.rc == 0 else str(done.stdout + done.stderr).strip() or f"code {done.rc}"

    def live(self, app: str) -> Live:
        """Look up an app's live release."""
        path = f"/var/lib/zarpar/apps/{app}/state.json"
        state = json.loads(self.check("cat %s", path))
        assert state["live"], f"no release of {app} is live: deploy it"
        slot = state["live"]["slot"]
        shown = self.properties(f"zarpar-{app}@{slot}.service", "MainPID", "ActiveState")
        pid, active = int(shown["MainPID"]), shown["ActiveState"]
        pending = state["pending"]
        confirmed = not pending or bool(pending.get("confirmed"))
        return Live(app, state["live"]["release"], slot, pid, active, confirmed, watched=bool(pending))

    def unwatched(self, app: str) -> Live:
        """Wait until the live release has proved itself: before that, the host takes a test's fault for the app's."""
        deadline = time.monotonic() + WATCH_LIMIT
        while (live := self.live(app)).watched:
            assert time.monotonic() < deadline, f"{app} is still watched after {WATCH_LIMIT:g} s"
            time.sleep(1)
        return live

    def status(self, app: str) -> dict[str, Any]:
        """Return what the host says of an app; it asks the app whether it is well."""
        answer = json.loads(self.check("echo %s | zarpar-host status", json.dumps({"apps": [app]})))
        status: dict[str, Any] = answer["apps"][app]
        return status

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit."""
        lines = self.check("systemctl show %s --property=%s", unit, ",".join(names)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def log(self, app: str) -> str:
        """Return the last lines of nginx's log of errors, and of an app's journal, or else of the host's warnings."""
        units = f"-u 'zarpar-{app}@*'" if app else "-p warning"
        command = f"tail -n 5 /var/log/nginx/error.log; journalctl --no-pager -q -o short -n 15 {units}"
        done = self.host.run(command)
        return str(done.stdout + done.stderr)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts that templates get as `host`."""
        facts: dict[str, Any] = json.loads(self.check("zarpar-host facts"))
        return facts

    @cached_property
    def listeners(self) -> list[tuple[str, int, str]]:
        """Every listening TCP socket: address, port, and the name of the program."""
        found = []
        for line in self.check("ss --no-header --listening --numeric --tcp --processes").splitlines():
            address, _, port = line.split()[3].rpartition(":")
            program = re.search(r'users:\(\("([^"]+)"', line)
            found.append((address.strip("[]"), int(port), program.group(1) if program else "?"))
        return found


OPEN = """
import json, os, sys
found = []
for path in sys.argv[1:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
        found.append(path)
    except PermissionError:
        pass
    except OSError as error:
        found.append(f"{path}: {error}")
print(json.dumps(found))
"""


def seconds(text: str) -> float:
    """Read systemd's way to write a time: 1min 30s."""
    if text == "infinity":
        return float("inf")
    parts = re.findall(r"([0-9.]+)(us|ms|s|min|h|d|w)\b", text)
    assert parts, f"{text!r} is no time"
    return sum(float(number) * UNITS[unit] for number, unit in parts)
