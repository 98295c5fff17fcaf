"""Things that happen at a time unless something else happens first: one heap, cancelled lazily."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from tq.world import Clock


class Deadline:
    """A pending call; ``cancel`` makes it moot."""

    __slots__ = ("at_ms", "call")

    def __init__(self, at_ms: int, call: Callable[[], None]) -> None:
        self.at_ms = at_ms
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Deadlines:
    def __init__(self, clock: Clock, changed: Callable[[], None] = lambda: None) -> None:
        """changed: called when the next deadline has become an earlier one."""
        self._clock = clock
        self._changed = changed
        self._heap: list[tuple[int, int, Deadline]] = []
        self._number = 0

    def after(self, wait_ms: int, call: Callable[[], None]) -> Deadline:
        deadline = Deadline(self._clock.monotonic_ms() + wait_ms, call)
        self._number += 1
        heapq.heappush(self._heap, (deadline.at_ms, self._number, deadline))
        if self._heap[0][2] is deadline:
            self._changed()
        elif self._number % 4096 == 0:
            self._sweep()
        return deadline

    def run(self) -> None:
        """Call what is due."""
        now_ms = self._clock.monotonic_ms()
        while self._heap and (self._heap[0][2].call is None or self._heap[0][0] <= now_ms):
            call = heapq.heappop(self._heap)[2].call
            if call is not None:
                call()

    def wait_ms(self) -> int | None:
        """Until the next deadline; None if there is none."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        return max(0, self._heap[0][0] - self._clock.monotonic_ms())

    def __len__(self) -> int:
        return len(self._heap)

    def _sweep(self) -> None:
        # Cancelled ones far in the future would pile up: claims are parked for 30 s and fed within milliseconds.
        self._heap = [item for item in self._heap if item[2].call is not None]
        heapq.heapify(self._heap)
