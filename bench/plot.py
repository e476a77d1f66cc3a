"""The medians as bars on a logarithmic axis, as an SVG file that needs nothing else. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from bench.results import Results

WIDTH, LEFT, RIGHT = 760, 170, 70
ROW, GAP, TOP = 16, 30, 48
OURS, THEIRS, LIMIT = "#0f8a7e", "#9aa5b1", "#3b4252"
DRAWN = ("fresh", "nothing", "release", "dependencies", "rollback")


@dataclass(frozen=True)
class Axis:
    """Seconds to the width of the picture, by their logarithm."""

    least: float
    most: float

    def place(self, seconds: float) -> float:
        share = (math.log10(seconds) - math.log10(self.least)) / (math.log10(self.most) - math.log10(self.least))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def marks(self) -> list[float]:
        first, last = math.ceil(math.log10(self.least) - 1e-9), math.floor(math.log10(self.most) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


def draw(results: Results, note: str) -> str:
    """Draw every phase of a deploy at every delay; `note` says where and when."""
    groups = [(phase, delay) for phase in DRAWN if phase in results.phases() for delay in results.delays(phase)]
    rows = {group: _rows(results, *group) for group in groups}
    rows = {group: found for group, found in rows.items() if found}
    times = [seconds for found in rows.values() for _, seconds in found]
    if not times:
        return _picture(TOP, [_text(LEFT, 20, "nothing was measured")])
    axis = Axis(10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times)) + 1e-9))
    height = TOP + sum(GAP + ROW * len(found) for found in rows.values()) + 30
    parts = [_text(10, 20, "Seconds until the command ends, median; the axis is logarithmic", bold=True)]
    parts.append(_text(10, height - 8, note, small=True))
    for mark in axis.marks():
        x = axis.place(mark)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 26}" stroke="#d8dee9"/>')
        parts.append(_text(x - 8, TOP - 12, f"{mark:g} s", small=True))
    y = float(TOP)
    for (phase, delay), found in rows.items():
        parts.append(_text(10, y + 14, f"{phase}, {delay} ms added to a round trip", bold=True))
        y += GAP - 8
        for contender, seconds in found:
            length = max(axis.place(seconds) - LEFT, 1)
            parts.append(_text(20, y + 12, contender))
            place = f'x="{LEFT}" y="{y + 2:.1f}" width="{length:.1f}" height="{ROW - 4}"'
            parts.append(f'<rect {place} fill="{_colour(contender)}"/>')
            parts.append(_text(LEFT + length + 5, y + 12, f"{seconds:.2f}", small=True))
            y += ROW
        y += 8
    return _picture(height, parts)


def _rows(results: Results, phase: str, delay: int) -> list[tuple[str, float]]:
    found = [(name, results.summary(phase, name, delay)) for name in results.contenders(phase)]
    return [(name, summary.seconds) for name, summary in found if summary]


def _colour(contender: str) -> str:
    return OURS if contender.startswith("zarpar") else LIMIT if contender == "shell" else THEIRS


def _text(x: float, y: float, text: str, *, bold: bool = False, small: bool = False) -> str:
    weight, size = ("bold" if bold else "normal"), (11 if small else 12)
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'


def _picture(height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])
