"""The bars that Zarpar is held against, as ratios within one run. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.results import Results


@dataclass(frozen=True)
class Bar:
    """contender's median <= most x reference's median, in one phase at one delay."""

    phase: str
    contender: str
    reference: str
    most: float
    delay: int = 0
    reference_phase: str = ""  # another phase of the reference, when it is not the same

    def __str__(self) -> str:
        where = f" at {self.delay} ms" if self.delay else ""
        other = f" ({self.reference_phase})" if self.reference_phase else ""
        return f"{self.phase}{where}: {self.contender} <= {self.most:g} x {self.reference}{other}"


@dataclass(frozen=True)
class Verdict:
    """A bar and what was reached; `reached` is None when it was not measured."""

    text: str
    reached: float | None
    fine: bool | None

    @property
    def word(self) -> str:
        return "not measured" if self.fine is None else "pass" if self.fine else "FAIL"

    def plain(self) -> dict[str, Any]:
        return {"bar": self.text, "reached": self.reached, "result": self.word}


def _releases(contender: str) -> list[Bar]:
    pairs = [("shell", 1.1), ("pyinfra", 1.0), ("fujin", 1.0)]
    return [Bar("release", contender, reference, most, delay) for delay in (0, 40) for reference, most in pairs]


BARS: tuple[Bar, ...] = (
    Bar("nothing", "zarpar-ansible", "shell", 6, 0),
    Bar("nothing", "zarpar-ansible", "shell", 4, 40),
    Bar("nothing", "zarpar-ansible", "ansible", 0.1, 0),
    Bar("nothing", "zarpar-ansible", "pyinfra", 0.5, 0),
    *_releases("zarpar-release"),
    *_releases("zarpar-ansible"),
    *_releases("zarpar"),
    Bar("rollback", "zarpar-ansible", "shell", 2, 0),
    Bar("rollback", "zarpar-ansible", "shell", 2, 40),
    Bar("fleet-5", "zarpar", "zarpar", 2.5, 0, "fleet-1"),
    Bar("fleet-10", "zarpar", "zarpar", 4, 0, "fleet-1"),
    Bar("fresh", "zarpar-ansible", "shell", 1.15, 0),
    Bar("wrapper", "zarpar", "zarpar-ansible", 1.15, 0),
)


@dataclass(frozen=True)
class ServedBar:
    """A bar of what visitors get: value of one configuration through that of another."""

    what: str
    configuration: str
    reference: str
    limit: float
    least: bool  # the ratio must be at least, not at most, the limit

    def __str__(self) -> str:
        sign = ">=" if self.least else "<="
        return f"served, {self.what}: {self.configuration} {sign} {self.limit:g} x {self.reference}"


SERVED_BARS: tuple[ServedBar, ...] = (
    ServedBar("dynamic requests/s", "zarpar", "lesson", 1.3, True),
    ServedBar("static requests/s", "zarpar", "lesson", 1.0, True),
    ServedBar("memory MB", "zarpar", "lesson", 0.6, False),
    ServedBar("dynamic requests/s", "granian", "lesson", 2.5, True),
    ServedBar("longest ms in a release", "zarpar", "zarpar calm p99", 5, False),
    ServedBar("lost in a release", "zarpar", "nothing", 0, False),
)


def judge(results: Results) -> list[Verdict]:
    """Compare everything that was measured with its bar."""
    return [
        *(_judge(bar, results) for bar in BARS),
        _unchanged(results),
        *(_judge_served(bar, results.served) for bar in SERVED_BARS),
    ]


def _judge(bar: Bar, results: Results) -> Verdict:
    mine = results.summary(bar.phase, bar.contender, bar.delay)
    other = results.summary(bar.reference_phase or bar.phase, bar.reference, bar.delay)
    if not mine or not other:
        return Verdict(str(bar), None, None)
    ratio = mine.seconds / other.seconds
    return Verdict(str(bar), ratio, ratio <= bar.most)


def _unchanged(results: Results) -> Verdict:
    text = "nothing: zarpar-ansible changes 0"
    told = [results.summary("nothing", "zarpar-ansible", delay) for delay in results.delays("nothing")]
    counts = [each.changed for each in told if each and each.changed is not None]
    return Verdict(text, float(max(counts)), max(counts) == 0) if counts else Verdict(text, None, None)


def served_value(served: list[dict[str, Any]], configuration: str, what: str) -> float | None:
    """The median value of one configuration, or None."""
    values = [float(each["value"]) for each in served if (each["configuration"], each["what"]) == (configuration, what)]
    return median(values) if values else None


def _judge_served(bar: ServedBar, served: list[dict[str, Any]]) -> Verdict:
    mine = served_value(served, bar.configuration, bar.what)
    if bar.reference == "nothing":
        return Verdict(str(bar), mine, None if mine is None else mine <= bar.limit)
    if bar.reference.endswith("calm p99"):
        other = served_value(served, bar.configuration, "calm p99 ms")
    else:
        other = served_value(served, bar.reference, bar.what)
    if mine is None or not other:
        return Verdict(str(bar), None, None)
    ratio = mine / other
    return Verdict(str(bar), ratio, ratio >= bar.limit if bar.least else ratio <= bar.limit)
