"""What was measured, as values: samples, and the lines of the table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "BYTES",
    "DOLLARS",
    "MEGABYTES",
    "MICROSECONDS",
    "MILLISECONDS",
    "OURS",
    "RATE",
    "READS",
    "SECONDS",
    "TIMES",
    "WRITES",
    "Line",
    "Sample",
    "Unit",
    "best_of_others",
    "ratio",
    "samples_of",
]


@dataclass(frozen=True)
class Unit:
    """How figures are written, and which way is better."""

    suffix: str
    digits: int = 0
    more_is_better: bool = False

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}{self.suffix}"


RATE = Unit("/s", more_is_better=True)
SECONDS = Unit(" s", digits=3)
MEGABYTES = Unit(" MB")
BYTES = Unit(" B")
MILLISECONDS = Unit(" ms", digits=1)
MICROSECONDS = Unit(" us", digits=1)
DOLLARS = Unit(" USD", digits=3)
TIMES = Unit("x", digits=3)
WRITES = Unit("")
READS = Unit("", more_is_better=True)

OURS = ("ours", "ours, batched")


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing.

    Attributes:
        values: one for each repetition; empty where there is nothing to measure.
        at_least: whether the value is only a lower bound, because the measurement was given up.
        remark: what has to be known about it.
    """

    values: Sequence[float]
    at_least: bool = False
    remark: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, unit: Unit) -> str:
        if not self.values:
            return self.remark or "-"
        text = f"{'at least ' if self.at_least else ''}{unit.text(self.median)}"
        lowest, highest = unit.text(min(self.values)), unit.text(max(self.values))
        if lowest != highest:
            text += f" ({lowest} to {highest})"
        return f"{text}; {self.remark}" if self.remark else text


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        work: what was done.
        unit: of all its figures.
        samples: by contender; ``"ours"`` is always there.
        target: in words; "-" where there is none.
        met: whether the target was met; None where there is none.
        against: the contender that ours is compared with; "" for nobody.
    """

    work: str
    unit: Unit
    samples: dict[str, Sample] = field(repr=False)
    target: str = "-"
    met: bool | None = None
    against: str = "reference"

    def ratio(self) -> float | None:
        """How many times better ours is; above 1 is better, whichever way the unit counts."""
        return ratio(self.samples, self.unit, self.against)


def ratio(samples: dict[str, Sample], unit: Unit, against: str = "reference") -> float | None:
    """The ratio of medians, above 1 where ours is better."""
    other = samples.get(against)
    if other is None or not other.values:
        return None
    ours = samples["ours"].median
    return ours / other.median if unit.more_is_better else other.median / ours


def samples_of(results: dict[str, list[dict[str, float]]], key: str) -> dict[str, Sample]:
    """One figure of each contender's measurements."""
    return {name: Sample([figures[key] for figures in measured]) for name, measured in results.items()}


def best_of_others(samples: dict[str, Sample], unit: Unit) -> str:
    """The other library with the best median; "" if none was measured."""
    others = {name: sample.median for name, sample in samples.items() if name not in OURS and sample.values}
    best = max if unit.more_is_better else min
    return best(others, key=others.__getitem__, default="")
