"""The one exception family of the controller's code, and the exit codes of every command.

Lowest layer: imports nothing of Zarpar.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code says; `zarpar COMMAND --help` shows the same list."""

    OK = 0
    FAILED = 1
    REFUSED = 2
    PARTIAL = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


EXIT_CODES = """\
  0    fine: done, or nothing to do
  1    failed; what served before still serves
  2    refused before any host was changed: wrong usage or wrong data
  3    some hosts are done and some are not; the summary says which
  4    a host could not be reached
  130  interrupted"""


class ZarparError(Exception):
    """A failure that a person can act on: what (summary), more of it (detail), what to do next (hint)."""

    exit_code: int = Exit.FAILED

    def __init__(self, summary: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail
        self.hint = hint


class BadData(ZarparError):
    """The inventory, a flag or a source is wrong; no host was touched."""

    exit_code = Exit.REFUSED


class Interrupted(ZarparError):
    """A person stopped it."""

    exit_code = Exit.INTERRUPTED
