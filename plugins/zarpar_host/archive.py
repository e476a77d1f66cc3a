"""Unpacks a release's archive without trusting it: everything is checked before anything is written."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from zarpar_host.errors import HostError

MAX_FILES = 200_000
MAX_BYTES = 4 * 2**30
LONGEST_NAME = 255  # bytes: NAME_MAX of Linux


def unpack(archive: Path, target: Path) -> int:
    """Unpack a gzipped tar archive into target, which must be new; returns the number of files.

    Only folders, regular files and links that stay inside are allowed; owners and special modes in the archive
    are ignored. Raises HostError and writes nothing when one member is not of that kind.
    """
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            members = _checked(tar)
            while stream.read(2**20):
                pass  # to the very end, where gzip's checksum is
            target.mkdir(mode=0o750)
            for member in members:
                _write(tar, member, target / member.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise HostError(f"the archive cannot be unpacked: {error}", kind="archive") from error
    return len(members)


def _refuse(member: tarfile.TarInfo, why: str) -> HostError:
    return HostError(f"the archive is refused: {member.name[:200]!r} {why}", kind="archive")


def _checked(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    kinds: dict[PurePosixPath, str] = {}
    size = 0
    for member in tar:
        path = PurePosixPath(member.name)
        if path == PurePosixPath("."):
            continue
        if path.is_absolute() or ".." in path.parts or "\0" in member.name or "\\" in member.name:
            raise _refuse(member, "leads out of the release")
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
            raise _refuse(member, "is a name that no file can have")
        if not (member.isdir() or member.isreg() or member.issym()):
            raise _refuse(member, "is neither a file, a folder nor a symbolic link")
        if member.issym():
            _check_link(member, path)
        if path in kinds and not (member.isdir() and kinds[path] == "folder"):
            raise _refuse(member, "is there twice")
        for parent in path.parents:
            if kinds.setdefault(parent, "folder") != "folder":
                raise _refuse(member, "lies below something that is not a folder")
        kinds[path] = "folder" if member.isdir() else "link" if member.issym() else "file"
        size += member.size
        members.append(member)
        if len(members) > MAX_FILES or size > MAX_BYTES:
            raise HostError("the archive is refused: it is too large", kind="archive")
    if not members:
        raise HostError("the archive is refused: it is empty", kind="archive")
    return sorted(members, key=lambda member: member.issym())  # links last: nothing is written through one


def _check_link(member: tarfile.TarInfo, path: PurePosixPath) -> None:
    target = PurePosixPath(member.linkname)
    depth = len(path.parts) - 1
    if target.is_absolute() or not member.linkname:
        raise _refuse(member, "is a link that leads out of the release")
    for part in target.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise _refuse(member, "is a link that leads out of the release")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir(mode=0o750, exist_ok=True)
    elif member.issym():
        path.symlink_to(member.linkname)
    else:
        source = tar.extractfile(member)
        if source is None:
            raise _refuse(member, "has no content")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        mode = 0o750 if member.mode & 0o100 else 0o640
        with source, os.fdopen(os.open(path, flags, mode), "wb") as handle:
            while chunk := source.read(2**20):
                handle.write(chunk)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            os.utime(handle.fileno(), (member.mtime, member.mtime))  # one commit, one ETag on every host
