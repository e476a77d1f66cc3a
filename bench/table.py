"""The results as tables for people: plain text that is Markdown as well. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.bars import Verdict, served_value
from bench.results import Results

REFERENCE = "shell"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table; the first column is aligned to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [_line(head, widths), _line(["-" * width for width in widths], widths)]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    return f"| {' | '.join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])} |"


def phase_tables(results: Results) -> str:
    """One table for each phase and delay."""
    parts = []
    for phase in results.phases():
        for delay in results.delays(phase):
            parts.append(f"{phase}, {delay} ms added\n\n{phase_table(results, phase, delay)}")
    return "\n\n".join(parts)


def phase_table(results: Results, phase: str, delay: int) -> str:
    """Medians of all contenders in one phase, with the ratio to the shell script."""
    head = ["contender", "seconds", "range", "x shell", "cpu s", "peak MB", "changed", "runs"]
    rows = []
    for contender in results.contenders(phase):
        found = results.summary(phase, contender, delay)
        if not found:
            rows.append([contender, "not measured", *[""] * (len(head) - 2)])
            continue
        ratio = results.ratio(phase, contender, REFERENCE, delay)
        rows.append(
            [
                contender,
                f"{found.seconds:.2f}",
                f"{found.least:.2f}-{found.most:.2f}",
                f"{ratio:.2f}" if ratio else "",
                f"{found.cpu:.2f}",
                f"{found.peak_mb:.0f}",
                "" if found.changed is None else str(found.changed),
                str(found.count),
            ]
        )
    return grid(head, rows)


def served_table(served: list[dict[str, Any]]) -> str:
    """What visitors get: one row for each configuration, one column for each measured value."""
    head = list(dict.fromkeys(str(each["what"]) for each in served))
    rows = []
    for configuration in dict.fromkeys(str(each["configuration"]) for each in served):
        values = [served_value(served, configuration, what) for what in head]
        rows.append([configuration, *("" if value is None else f"{value:.5g}" for value in values)])
    return grid(["configuration", *head], rows)


def bar_table(verdicts: Sequence[Verdict]) -> str:
    """Each bar that was measured, what was reached, and whether that is enough; then how many were not."""
    rows = [[one.text, f"{one.reached:.2f}", one.word] for one in verdicts if one.reached is not None]
    missing = sum(1 for one in verdicts if one.reached is None)
    table = grid(["bar", "reached", "result"], rows)
    return f"{table}\n\n{missing} bars were not measured" if missing else table


def problems(results: Results) -> list[str]:
    """The samples that do not count, and why."""
    return [
        f"{sample.phase} {sample.contender} at {sample.delay} ms, round {sample.round + 1}: {sample.problem}"
        for sample in results.samples
        if sample.problem
    ]
