"""Hostile and broken archives are refused before anything is written."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from zarpar_host.archive import unpack
from zarpar_host.errors import HostError


def make(tmp_path: Path, fill: Callable[[tarfile.TarFile], None], mode: str = "w:gz") -> Path:
    path = tmp_path / "archive"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        fill(tar)
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes = b"x", **attributes: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in attributes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def link(tar: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    add(tar, name, b"", type=kind, linkname=target)


HOSTILE: dict[str, Callable[[tarfile.TarFile], None]] = {
    "absolute": lambda tar: add(tar, "/etc/passwd"),
    "dots": lambda tar: add(tar, "../out"),
    "dots inside": lambda tar: add(tar, "a/../../out"),
    "backslash": lambda tar: add(tar, "..\\out"),
    "link out": lambda tar: link(tar, "l", "../../etc"),
    "link absolute": lambda tar: link(tar, "l", "/etc/passwd"),
    "link up and out": lambda tar: link(tar, "a/l", "../../x"),
    "link empty": lambda tar: link(tar, "l", ""),
    "hard link": lambda tar: link(tar, "l", "etc/passwd", tarfile.LNKTYPE),
    "device": lambda tar: add(tar, "d", b"", type=tarfile.CHRTYPE),
    "block device": lambda tar: add(tar, "d", b"", type=tarfile.BLKTYPE),
    "fifo": lambda tar: add(tar, "f", b"", type=tarfile.FIFOTYPE),
    "through a link": lambda tar: (link(tar, "d", "sub"), add(tar, "d/file")),  # type: ignore[func-returns-value]
    "below a file": lambda tar: (add(tar, "d"), add(tar, "d/file")),  # type: ignore[func-returns-value]
    "twice": lambda tar: (add(tar, "a"), add(tar, "a")),  # type: ignore[func-returns-value]
    "link over file": lambda tar: (add(tar, "a"), link(tar, "a", "b")),  # type: ignore[func-returns-value]
    "contiguous": lambda tar: add(tar, "c", b"", type=b"9"),
    "hard link to itself": lambda tar: link(tar, "l", "l", tarfile.LNKTYPE),
    "link over folder": lambda tar: (add(tar, "a/b"), link(tar, "a", "b")),  # type: ignore[func-returns-value]
    "file over folder": lambda tar: (add(tar, "a", b"", type=tarfile.DIRTYPE), add(tar, "a")),  # type: ignore[func-returns-value]
    "folder over link": lambda tar: (link(tar, "a", "b"), add(tar, "a", b"", type=tarfile.DIRTYPE)),  # type: ignore[func-returns-value]
    "only the top": lambda tar: add(tar, ".", b"", type=tarfile.DIRTYPE),
    "name of nothing": lambda tar: add(tar, ""),
    "name too long": lambda tar: add(tar, "a" * 300),
    "empty": lambda _tar: None,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path, HOSTILE[name])
    with pytest.raises(HostError):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "nothing"])
def test_broken_archive(tmp_path: Path, damage: str) -> None:
    archive = make(tmp_path, lambda tar: [add(tar, f"f{i}", bytes(range(256)) * 40) for i in range(20)] and None)
    data = bytearray(archive.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    else:
        data = bytearray(b"hello" if damage == "text" else b"")
    archive.write_bytes(bytes(data))
    with pytest.raises(HostError):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_good_archive(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "app/run.sh", b"#!/bin/sh\n", mode=0o4777, mtime=1_700_000_000)
        add(tar, "app/data", b"1", mode=0o666)
        link(tar, "app/current", "data")

    unpack(make(tmp_path, fill), tmp_path / "target")
    tree = tmp_path / "target" / "app"
    assert (tree / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert (tree / "data").stat().st_mode & 0o7777 == 0o640
    assert int((tree / "run.sh").stat().st_mtime) == 1_700_000_000
    assert (tree / "current").read_text() == "1"


def test_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarpar_host.archive.MAX_BYTES", 1000)
    with pytest.raises(HostError, match="too large"):
        unpack(make(tmp_path, lambda tar: add(tar, "bomb", b"\0" * 2000)), tmp_path / "target")
