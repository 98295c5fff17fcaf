"""Outcomes on their way to the broker: those that wait, those that are under way, and what is sent again.

Outcomes gather while requests are under way and leave in batches, in their order. An item is ours until it was
answered: after a lost connection, or a refusal that will pass, it stands again in front of those that wait. The
fence makes that safe: the broker answers a second time what it has applied. When a batch is refused for good, its
items are sent one at a time, to find the one that is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tq import limits
from tq.protocol.messages import TaskResult
from tq.worker.outcomes import COMPLETE

IN_FLIGHT_MAX: Final = 4
BYTES_MAX: Final = limits.BATCH_BYTES_MAX - limits.KIB * 64
ITEM_OVERHEAD_BYTES: Final = 64

Item = list[Any]  # [id, fence, outcome, body]


class Reports:
    def __init__(self) -> None:
        self._waiting: list[Item] = []
        self._in_flight: dict[int, list[Item]] = {}  # by rid
        self._is_singly = False

    def __len__(self) -> int:
        """Outcomes that are not answered."""
        return len(self._waiting) + sum(map(len, self._in_flight.values()))

    def __contains__(self, rid: int) -> bool:
        return rid in self._in_flight

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def has_in_flight(self) -> bool:
        return bool(self._in_flight)

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._in_flight

    def add(self, item: Item) -> None:
        self._waiting.append(item)

    def take(self, next_rid: Callable[[], int], session: bytes) -> list[TaskResult]:
        """What may leave now."""
        messages = []
        count_max = 1 if self._is_singly else limits.BATCH_TASKS_MAX
        while self._waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            items = self._waiting
            count = min(len(items), count_max)
            if count > 1:
                count = _fitting(items, count)
            batch, self._waiting = items[:count], items[count:]
            rid = next_rid()
            self._in_flight[rid] = batch
            messages.append(TaskResult(rid, session, batch))
        return messages

    def answered(self, rid: int) -> list[Item]:
        """The items that this answer is for, in order; they are no longer ours."""
        items = self._in_flight.pop(rid, [])
        if self.is_empty:
            self._is_singly = False
        return items

    def again(self, rid: int) -> None:
        """It was refused for now."""
        self._waiting[:0] = self._in_flight.pop(rid)

    def refused(self, rid: int) -> Item | None:
        """It was refused for good: the item that is meant, which is dropped, or None while that must be found."""
        items = self._in_flight.pop(rid)
        if len(items) == 1:
            return items[0]
        self._waiting[:0] = items
        self._is_singly = True
        return None

    def disconnected(self) -> None:
        """What was under way is sent again."""
        self._waiting[:0] = [item for items in self._in_flight.values() for item in items]
        self._in_flight.clear()


def _fitting(items: list[Item], count: int) -> int:
    """How many of the first ``count`` go into one message; at least one."""
    size = 0
    for place in range(count):
        body = items[place][3]
        if body.__class__ is list:
            # A result, or an error of bounded length.
            size += len(body[1]) if items[place][2] == COMPLETE else limits.ERROR_TEXT_BYTES_MAX
        size += ITEM_OVERHEAD_BYTES
        if size > BYTES_MAX:
            return max(place, 1)
    return count
