"""The rule ``paused``: nothing is granted from a paused queue.

When a pause or a resumption took place is known within bounds. It was *behind* all that had been answered to anybody before it was
asked for, and *at or before* the index of its answer (a repeated operation is answered later than it was done); without an answer,
maybe never. A queue is paused for certain from the highest index at which the pause was done, to the lowest at which a
resumption may have been: one that is certain to stand before the pause does not count. Grants of the very entry that paused it may stand before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from math import inf

from tq.limits import FENCE_ORDINALS
from tq.sim.checkers.records import History, Seen, Setting
from tq.sim.checkers.tasks import Breach, Task

Span = tuple[int, float, Setting]
"""Paused for certain behind the first index, and up to the second, by this one."""


def check_paused(history: History, tasks: dict[str, Task]) -> Iterator[Breach]:
    if not any(setting.paused for setting in history.settings):
        return
    spans = _spans(history)
    for id, task in tasks.items():
        for queue in {submit.queue for submit in task.submits}:
            for grant in task.grants:
                index = grant.fence // FENCE_ORDINALS
                for low, high, pause in spans[queue]:
                    if low < index <= high:
                        yield Breach(
                            "paused",
                            id,
                            f"granted in entry {index} from {queue!r}, paused by {pause.by} at {low} or before",
                        )


def _spans(history: History) -> defaultdict[str, list[Span]]:
    answered = _Answered(history.seen)
    spans: defaultdict[str, list[Span]] = defaultdict(list)
    for pause in history.settings:
        if not pause.paused or pause.index is None:
            continue
        begun = answered.before(pause.start)
        until = inf
        for other in history.settings:
            if other.queue == pause.queue and not other.paused and (other.index is None or other.index > begun):
                until = min(until, answered.before(other.start))
        if until > pause.index:
            spans[pause.queue].append((pause.index, until, pause))
    return spans


class _Answered:
    """The highest index that anybody had been told at some time."""

    def __init__(self, seen: list[Seen]) -> None:
        ordered = sorted((one.end, one.index) for one in seen)
        self._ends = [end for end, _ in ordered]
        self._highest = [0]
        for _, index in ordered:
            self._highest.append(max(self._highest[-1], index))

    def before(self, time: int) -> int:
        return self._highest[bisect_left(self._ends, time)]
