"""Log time: the clock of the log. Entries carry it, and every expiry, delay and retention is judged by it.

It never runs backwards. It follows the wall clock; when the wall clock is set back it goes on at half pace by
the monotonic clock until the wall has caught up, so that nothing fires early and nothing stands still.

"The wall clock" is the median of the wall clocks of all voters, as the leader last heard them: one clock that is wrong,
be it the leader's own, moves nothing. A node alone is its own median.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from tq.world import Clock


class LogTime:
    def __init__(self, clock: Clock, start_ms: int, offsets_ms: Callable[[], Iterable[int]] = lambda: ()) -> None:
        """start_ms: the time of the last entry applied. offsets_ms: the clocks of the other voters, less ours."""
        self._clock = clock
        self._offsets_ms = offsets_ms
        self._last_ms = float(start_ms)
        self._last_monotonic_ms = clock.monotonic_ms()

    def now_ms(self) -> int:
        """Log time of this moment; at least that of every entry known so far. To look changes nothing: a node whose clock
        was wrong while it followed, or had heard of no other clock yet, must not carry that into its time as leader."""
        return int(max(self._wall_ms(), self._slow_ms()))

    def next_ms(self) -> int:
        """The time of an entry that this node proposes now."""
        self._last_ms = max(float(self._wall_ms()), self._slow_ms())
        self._last_monotonic_ms = self._clock.monotonic_ms()
        return int(self._last_ms)

    def seen(self, time_ms: int) -> None:
        """An entry with this time was applied; ours is never behind it."""
        if time_ms > self._last_ms:
            self._last_ms = float(time_ms)
            self._last_monotonic_ms = self._clock.monotonic_ms()

    def offset_ms(self) -> int:
        """How far this node's wall clock is from the median of all; positive: ours is ahead."""
        return self._clock.wall_ms() - self._wall_ms()

    def ahead_ms(self) -> int:
        """How far log time is ahead of the wall clock that it follows, because that was set back; 0 else."""
        return max(0, self.now_ms() - self._wall_ms())

    def _slow_ms(self) -> float:
        """What it is at least: half pace since the last entry."""
        return self._last_ms + (self._clock.monotonic_ms() - self._last_monotonic_ms) / 2

    def _wall_ms(self) -> int:
        offset_ms = statistics.median_low([0, *self._offsets_ms()])
        return self._clock.wall_ms() + offset_ms
