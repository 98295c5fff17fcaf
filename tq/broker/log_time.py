"""Log time: the clock of the log. Entries carry it, and every expiry, delay and retention is judged by it.

It never runs backwards. It follows the wall clock; when the wall clock is set back it goes on at half pace by
the monotonic clock until the wall has caught up, so that nothing fires early and nothing stands still. With one
node, its own wall clock is the median of the voters.
"""

from __future__ import annotations

from tq.world import Clock


class LogTime:
    def __init__(self, clock: Clock, start_ms: int) -> None:
        """start_ms: the time of the last entry applied."""
        self._clock = clock
        self._last_ms = float(start_ms)
        self._last_monotonic_ms = clock.monotonic_ms()

    def now_ms(self) -> int:
        """Log time of this moment; at least that of every entry known so far."""
        monotonic_ms = self._clock.monotonic_ms()
        wall_ms = self._clock.wall_ms()
        if wall_ms >= self._last_ms:
            self._last_ms = wall_ms
        else:
            self._last_ms += (monotonic_ms - self._last_monotonic_ms) / 2
        self._last_monotonic_ms = monotonic_ms
        return int(self._last_ms)

    next_ms = now_ms

    def seen(self, time_ms: int) -> None:
        """An entry with this time was applied; ours is never behind it."""
        if time_ms > self._last_ms:
            self._last_ms = float(time_ms)
            self._last_monotonic_ms = self._clock.monotonic_ms()

    def offset_ms(self) -> int:
        """How far the wall clock is from log time; positive: the wall is ahead."""
        return self._clock.wall_ms() - int(self._last_ms)
