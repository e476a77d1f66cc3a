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
# Phases of one contender that differ in a number: `fleet-5` is a bar called 5 under this title.
NUMBERED = {
    "fleet": "release, server after server: number of web servers",
    "growth-hosts": "nothing to do: number of hosts",
    "growth-apps": "nothing to do: number of apps on one host",
}


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
    """Draw every phase of a deploy at every delay, and how costs grow; `note` says where and when."""
    groups = {
        f"{phase}, {delay} ms added to a round trip": _rows(results, phase, delay)
        for phase in DRAWN
        for delay in results.delays(phase)
    }
    groups |= {title: _numbered(results, name) for name, title in NUMBERED.items()}
    groups = {title: found for title, found in groups.items() if found}
    times = [seconds for found in groups.values() for _, seconds, _ in found]
    if not times:
        return _picture(TOP, [_text(LEFT, 20, "nothing was measured")])
    axis = Axis(10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times)) + 1e-9))
    height = TOP + sum(GAP + ROW * len(found) for found in groups.values()) + 30
    parts = [_text(10, 20, "Seconds until the command ends, median; the axis is logarithmic", bold=True)]
    parts.append(_text(10, height - 8, note, small=True))
    for mark in axis.marks():
        x = axis.place(mark)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 26}" stroke="#d8dee9"/>')
        parts.append(_text(x - 8, TOP - 12, f"{mark:g} s", small=True))
    y = float(TOP)
    for title, found in groups.items():
        parts.append(_text(10, y + 14, title, bold=True))
        y += GAP - 8
        for label, seconds, colour in found:
            length = max(axis.place(seconds) - LEFT, 1)
            parts.append(_text(20, y + 12, label))
            place = f'x="{LEFT}" y="{y + 2:.1f}" width="{length:.1f}" height="{ROW - 4}"'
            parts.append(f'<rect {place} fill="{colour}"/>')
            parts.append(_text(LEFT + length + 5, y + 12, f"{seconds:.2f}", small=True))
            y += ROW
        y += 8
    return _picture(height, parts)


def _rows(results: Results, phase: str, delay: int) -> list[tuple[str, float, str]]:
    """A bar's name, seconds and colour for each contender."""
    found = [(name, results.summary(phase, name, delay)) for name in results.contenders(phase)]
    return [(name, summary.seconds, _colour(name)) for name, summary in found if summary]


def _numbered(results: Results, name: str) -> list[tuple[str, float, str]]:
    phases = [phase for phase in results.phases() if phase.rpartition("-")[0] == name]
    rows = [(phase.rpartition("-")[2], results.contenders(phase)[0], phase) for phase in phases]
    found = [(number, contender, results.summary(phase, contender, 0)) for number, contender, phase in rows]
    return [(number, summary.seconds, _colour(contender)) for number, contender, summary in found if summary]


def _colour(contender: str) -> str:
    return OURS if contender.startswith("zarpar") else LIMIT if contender == "shell" else THEIRS


def _text(x: float, y: float, text: str, *, bold: bool = False, small: bool = False) -> str:
    weight, size = ("bold" if bold else "normal"), (11 if small else 12)
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'


def _picture(height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])
