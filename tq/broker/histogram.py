"""How long things take, in a few numbers: how many were at most so long."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def as_dict(self) -> dict[str, Any]:
        """``buckets``: [[bound in seconds, how many took at most that]], the last with None for a bound."""
        total = 0
        buckets: list[list[float | None]] = []
        for bound_s, count in zip((*BOUNDS_S, None), self._counts, strict=True):
            total += count
            buckets.append([bound_s, total])
        return {"count": total, "sum": self._sum_s, "buckets": buckets}
