"""What a scenario measured, and the arithmetic of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs


@attrs.frozen
class Line:
    """One measured thing: what, the figure with its unit, the budget in the same words, and what else was seen.

    value: in ``unit``; None: not measured, the note says why. budget: None where none is set. better: which side of
    the budget is good. others: percent of all cores that other work of the machine took meanwhile.
    """

    scenario: str
    what: str
    value: float | None
    unit: str
    budget: float | None
    better: str  # "higher" | "lower"
    note: str = ""
    others: float | None = None

    @property
    def kept(self) -> bool | None:
        """Within its budget; None where none is set, or nothing was measured."""
        if self.budget is None or self.value is None:
            return None
        return self.value >= self.budget if self.better == "higher" else self.value <= self.budget


@attrs.frozen
class Spread:
    """Of a list of times in seconds, in ms."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def spread(seconds: Sequence[float]) -> Spread:
    """Nearest-rank percentiles. ValueError for no times."""
    if not seconds:
        raise ValueError("nothing was measured")
    ordered = sorted(seconds)
    return Spread(len(ordered), rank(ordered, 0.50) * 1e3, rank(ordered, 0.99) * 1e3, ordered[-1] * 1e3)


def rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def shown(value: float) -> str:
    """Three figures are enough for a person: 43,300 · 62.1 · 0.33."""
    if value >= 1_000:
        digits = 3 - len(str(int(value)))
        return f"{round(value, digits):,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"
