"""Uploaded pictures: what they really are, and where they are kept."""

import secrets
from pathlib import Path
from typing import IO

from werkzeug.datastructures import FileStorage

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
}


def picture_type(stream: IO[bytes]) -> str | None:
    """Tell the type from the first bytes, as a file extension; None for anything else."""
    head = stream.read(12)
    stream.seek(0)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    return next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), None)


def save_picture(upload: FileStorage, folder: Path) -> str:
    """Store an upload that the form has checked and return its new name.

    Nothing of the name that the browser sent is used, so it cannot reach other files or
    overwrite one. nginx, a member of the app's group, must be able to read the file.
    """
    name = f"{secrets.token_hex(16)}.{picture_type(upload.stream)}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    try:
        upload.save(path)
        path.chmod(0o640)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return name
