"""nginx during a switch: the include that names the live slot, and a reload that is over when it says so."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from zarpar_host.errors import HostError
from zarpar_host.files import write_atomic
from zarpar_host.run import run
from zarpar_host.state import Live, Places

PID_FILE = Path("/run/nginx.pid")
RELOAD_LIMIT = 20.0


def live_include(places: Places, live: Live | None, previous: str) -> str:
    """The text of /etc/nginx/zarpar/live/<app>.conf: the slot's socket, the live and the previous release's tree.

    Role nginx makes the same text (with the blue slot and no release) before the first release.
    """
    name = places.app.replace("-", "_")
    slot = live.slot if live else "blue"
    tree = f"{places.release(live.release)}/src" if live else "/nonexistent"
    older = f"{places.release(previous)}/src" if previous else "/nonexistent"
    return (
        "# Managed by Zarpar (zarpar-host): written at each switch.\n"
        f"upstream zarpar_{name} {{\n"
        f"    server unix:{places.socket(slot)} fail_timeout=0;\n"
        "    keepalive 16;\n"
        "}\n"
        f'map "" $zarpar_{name}_release {{ default "{tree}"; }}\n'
        f'map "" $zarpar_{name}_previous {{ default "{older}"; }}\n'
    )


def point(places: Places, live: Live | None, previous: str) -> bool:
    """Make nginx send this app's visitors to `live`; False when it does already.

    Returns only when no worker that knows the old slot accepts connections any more. Raises HostError, with the
    include as it was, when nginx refuses its configuration or does not take it up.
    """
    path = places.live_include
    text = live_include(places, live, previous)
    before = path.read_text() if path.exists() else ""
    if before == text:
        return False
    write_atomic(path, text.encode(), mode=0o644)
    try:
        reload_and_wait()
    except HostError:
        if before:
            write_atomic(path, before.encode(), mode=0o644)
        raise
    return True


def reload_and_wait() -> None:
    """Test the configuration, reload, and wait until only workers of the new generation accept."""
    tested = run(["nginx", "-t", "-q"], check=False)
    if tested.code != 0:
        raise HostError("nginx refuses its configuration", detail=tested.tail, kind="nginx")
    master = master_pid()
    if master is None:
        run(["systemctl", "start", "nginx.service"])
        return
    old = set(workers(master))
    os.kill(master, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_LIMIT
    while time.monotonic() < deadline:
        now = workers(master)
        if set(now) - old and not [pid for pid in old & set(now) if now[pid] == "accepting"]:
            return
        time.sleep(0.01)
    raise HostError(f"nginx did not take up its configuration within {RELOAD_LIMIT:g} s", kind="nginx")


def master_pid() -> int | None:
    """The running nginx's main process."""
    try:
        pid = int(PID_FILE.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def workers(master: int) -> dict[int, str]:
    """nginx's worker processes: "accepting", or "leaving" when they only finish what they have."""
    found = {}
    for children in Path(f"/proc/{master}/task").glob("*/children"):
        for word in children.read_text().split():
            title = _title(int(word))
            if "worker process" in title:
                found[int(word)] = "leaving" if "shutting down" in title else "accepting"
    return found


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_for_leavers(limit: float) -> None:
    """Wait until every worker of an older generation has finished, at most `limit` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        master = master_pid()
        if master is None or "leaving" not in workers(master).values():
            return
        time.sleep(0.2)
