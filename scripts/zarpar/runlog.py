"""A log file per run, for the question that comes after it: all that --verbose would have shown, with no secret.

Tasks that handle secrets say nothing of them, so the log holds what the screen could show, and no more.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TextIO

FOLDER = ".run-logs"
KEPT = 50


def open_log(checkout: Path, command: str, environment: str) -> TextIO | None:
    """Open a new log in the checkout, readable by its owner only; the oldest go. None where nothing can be written."""
    folder = checkout / FOLDER
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{command}-{environment}-{os.getpid()}.log"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in sorted(folder.glob("*.log"))[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        return open(folder / name, "x", buffering=1, errors="replace", opener=_private)
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
