"""Counts and times that a run tells at its end, whether it passed or not."""

from __future__ import annotations

from typing import Any

_LINES: list[str] = []


def note(text: str) -> None:
    """Have a line printed when the tests are over."""
    _LINES.append(text)


def lines() -> list[str]:
    """All lines so far: a worker of pytest-xdist sends them to the process that prints."""
    return list(_LINES)


def tell(terminal: Any) -> None:
    """Print the lines; to be called by a conftest's pytest_terminal_summary."""
    if _LINES:
        terminal.section("counts and times")
        for line in _LINES:
            terminal.write_line(line)
