"""Which slot visitors reach: one symbolic link, /srv/<app>/live, replaced in one step.

    /srv/<app>/live            -> slots/blue
    /srv/<app>/slots/blue/socket   -> /run/zarpar/<app>-blue/gunicorn.sock   (nginx's upstream is live/socket)
    /srv/<app>/slots/blue/tree     -> the release's tree                     (nginx's static files: live/tree/...)
    /srv/<app>/slots/blue/previous -> the tree of the release before         (for pages that are still open)
    /etc/zarpar/apps/<app>/slots/live -> the release's environment           (schedules run in it)

nginx opens these paths for each request and file, so a switch needs no reload of nginx: no worker is replaced,
no visitor's connection is closed. Requests that reached the old slot end there, while it drains. Only static files
are found at their old place for a second more (open_file_cache_valid in role nginx).
"""

from __future__ import annotations

import time
from pathlib import Path

from zarpar_host.files import replace_link, sync_directory
from zarpar_host.state import Live, Places

IN_USE = {"02", "03"}  # waiting to be accepted; accepted


def point(places: Places, live: Live | None, previous: str) -> bool:
    """Make visitors reach `live` (nobody, when None); False when they do already."""
    link = places.home / "live"
    now = str(link.readlink()) if link.is_symlink() else ""
    scheduled = places.slot_file("live")
    if live is None:
        scheduled.unlink(missing_ok=True)
        if now:
            link.unlink()
            sync_directory(places.home)
        return bool(now)
    changed = _fill(places, live, previous)
    scheduled.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = str(places.environment(live.release))
    if not scheduled.is_symlink() or str(scheduled.readlink()) != environment:
        replace_link(scheduled, environment)
    target = f"slots/{live.slot}"
    if now != target:
        replace_link(link, target)
    return changed or now != target


def points_to(places: Places, live: Live) -> bool:
    """Whether visitors reach the slot of `live`."""
    link = places.home / "live"
    return link.is_symlink() and str(link.readlink()) == f"slots/{live.slot}"


def _fill(places: Places, live: Live, previous: str) -> bool:
    """The links of one slot's folder; they are in place before `live` points there."""
    folder = places.home / "slots" / live.slot
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    wanted = {
        "socket": str(places.socket(live.slot)),
        "tree": str(places.release(live.release) / "src"),
        "previous": str(places.release(previous) / "src") if previous else "/nonexistent",
    }
    changed = False
    for name, target in wanted.items():
        link = folder / name
        if not link.is_symlink() or str(link.readlink()) != target:
            replace_link(link, target)
            changed = True
    return changed


def connections(socket: Path, table: Path = Path("/proc/net/unix")) -> int:
    """How many connections to a slot's socket are open, accepted already or not."""
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    return sum(1 for row in rows if len(row) > 7 and row[5] in IN_USE and row[7] == str(socket))


def wait_drained(socket: Path, limit: float) -> None:
    """Wait until nobody uses a slot any more: answers given; at most `limit` s."""
    begin = time.monotonic()
    quiet = 0
    while time.monotonic() - begin < limit:
        time.sleep(0.1)
        quiet = quiet + 1 if connections(socket) == 0 else 0
        if quiet >= 3 and time.monotonic() - begin > 0.5:
            return
