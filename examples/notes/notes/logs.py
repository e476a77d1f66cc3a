"""Logging to stderr: whoever starts the app decides where that goes (terminal, file, journal)."""

import logging
import os
import sys


class JournalFormatter(logging.Formatter):
    """Begin each line with its syslog priority, so that `journalctl -p warning` finds it.

    The journal knows time and process already. See sd-daemon(3).
    """

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = priority_of(record.levelno)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def priority_of(level: int) -> int:
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((priority for floor, priority in steps if level >= floor), 7)


def stderr_is_journal() -> bool:
    """Compare stderr with JOURNAL_STREAM, as systemd.exec(5) asks: the variable alone is inherited."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure_logging() -> None:
    """Set up the root logger, unless somebody (a test runner) did already."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JournalFormatter()
        if stderr_is_journal()
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
