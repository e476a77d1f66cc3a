"""What was measured: samples, and their medians. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One measured command.

    seconds: wall time; cpu and peak_mb: on the controller; changed: what the command says that it changed, None when it
    does not say; problem: why the sample does not count, empty when it does.
    """

    phase: str
    contender: str
    delay: int
    round: int
    seconds: float
    cpu: float
    peak_mb: float
    changed: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Summary:
    """All good samples of one contender in one phase at one delay."""

    count: int
    seconds: float
    least: float
    most: float
    cpu: float
    peak_mb: float
    changed: int | None


@dataclass
class Results:
    """The samples of a run. served holds one entry per configuration and measured value."""

    samples: list[Sample] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)

    def phases(self) -> list[str]:
        """The names of the phases, in the order in which they were measured first."""
        return list(dict.fromkeys(sample.phase for sample in self.samples))

    def contenders(self, phase: str) -> list[str]:
        return list(dict.fromkeys(sample.contender for sample in self.samples if sample.phase == phase))

    def delays(self, phase: str) -> list[int]:
        return sorted({sample.delay for sample in self.samples if sample.phase == phase})

    def summary(self, phase: str, contender: str, delay: int) -> Summary | None:
        """Medians, or None where nothing counts."""
        wanted = (phase, contender, delay)
        return summarize(
            sample
            for sample in self.samples
            if (sample.phase, sample.contender, sample.delay) == wanted and not sample.problem
        )

    def ratio(self, phase: str, contender: str, reference: str, delay: int) -> float | None:
        """The median of one contender through that of another, or None where one is missing."""
        mine, other = self.summary(phase, contender, delay), self.summary(phase, reference, delay)
        return mine.seconds / other.seconds if mine and other else None

    def plain(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {"samples": [asdict(sample) for sample in self.samples], "served": self.served, "notes": self.notes}


def summarize(samples: Iterable[Sample]) -> Summary | None:
    """The medians of samples that all count; changed is the largest number that was told."""
    found = list(samples)
    if not found:
        return None
    times = [sample.seconds for sample in found]
    told = [sample.changed for sample in found if sample.changed is not None]
    return Summary(
        count=len(found),
        seconds=median(times),
        least=min(times),
        most=max(times),
        cpu=median(sample.cpu for sample in found),
        peak_mb=median(sample.peak_mb for sample in found),
        changed=max(told, default=None),
    )
