"""Durable writes, and the transaction that can take a set of them back, also after a power cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError

UNDO = Path("/var/lib/zarpar/undo")
FOLDER = os.O_RDONLY | os.O_DIRECTORY


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Replace path by data in one step: write, fsync, rename, fsync of the directory.

    The new file has its mode and owner before it has its name, so it is never more open than asked.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".zarpar-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            os.fchown(handle.fileno(), uid, gid)
            os.fchmod(handle.fileno(), mode)
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_directory(path: Path, mode: int, uid: int, gid: int) -> None:
    """Make a directory, and give it its owner and mode; missing parents are made as root, 0755.

    No link is followed that a user could have put there: the way is walked folder by folder, each one held open.
    Raises HostError for such a link.
    """
    here = os.open(path.anchor, FOLDER)
    try:
        for number, name in enumerate(path.parts[1:], start=2):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700 if number == len(path.parts) else 0o755, dir_fd=here)
            mine = os.fstat(here).st_uid == 0
            try:
                below = os.open(name, FOLDER if mine else FOLDER | os.O_NOFOLLOW, dir_fd=here)
            except OSError as error:
                raise HostError(f"{Path(*path.parts[:number])} is not a directory ({error.strerror})") from error
            os.close(here)
            here = below
        os.fchown(here, uid, gid)
        os.fchmod(here, mode)
    finally:
        os.close(here)


def replace_link(path: Path, target: str) -> None:
    """Point the symbolic link path at target in one step; there is no moment without it."""
    temporary = path.with_name(f".zarpar-{path.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(path)
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Store value as JSON, durably, readable by root alone."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), mode=0o600)


class Transaction:
    """Remembers, durably, what each file and link was before it was changed.

    Only `commit` ends it. `undo` puts everything back; a transaction that was cut off (kill, power) is undone
    by the next one, or at boot. So a file whose unit was not reloaded yet is never taken for done.
    """

    def __init__(self, folder: Path = UNDO) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        self.index = folder / "index.json"

    def remember(self, path: Path) -> None:
        """Keep what is at path now; call it before each change."""
        if any(entry["path"] == str(path) for entry in self.entries):
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry: dict[str, Any] = {"path": str(path), "kind": "absent"}
        if path.is_symlink():
            entry |= {"kind": "link", "target": str(path.readlink())}
        elif path.is_file():
            backup = self.folder / str(len(self.entries))
            status = path.stat()
            write_atomic(backup, path.read_bytes(), mode=0o600)
            entry |= {
                "kind": "file",
                "backup": backup.name,
                "mode": status.st_mode & 0o7777,
                "uid": status.st_uid,
                "gid": status.st_gid,
            }
        self.entries.append(entry)
        write_json(self.index, self.entries)

    def commit(self) -> None:
        """Forget the old state: the change stands."""
        self.entries = []
        if self.index.exists():
            self.index.unlink()
            sync_directory(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def undo(self) -> list[str]:
        """Put everything back, newest first, and return the paths."""
        if not self.entries and self.index.exists():
            self.entries = json.loads(self.index.read_text())
        paths = []
        for entry in reversed(self.entries):
            path = Path(entry["path"])
            paths.append(str(path))
            if entry["kind"] == "file":
                data = (self.folder / entry["backup"]).read_bytes()
                write_atomic(path, data, mode=entry["mode"], uid=entry["uid"], gid=entry["gid"])
            elif entry["kind"] == "link":
                replace_link(path, entry["target"])
            else:
                path.unlink(missing_ok=True)
        self.commit()
        return paths
