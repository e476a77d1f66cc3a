"""Counts and times that a run tells at its end, whether it passed or not."""

from __future__ import annotations

from typing import Any

import pytest

_LINES: list[str] = []


def note(text: str) -> None:
    """Have a line printed when the tests are over."""
    _LINES.append(text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist sends its lines to the process that prints. A conftest imports these three hooks."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = list(_LINES)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker sent."""
    for line in node.workeroutput.get("lines", []):
        note(line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines."""
    if _LINES:
        terminalreporter.section("counts and times")
        for line in _LINES:
            terminalreporter.write_line(line)
