"""How far this node's wall clock is from those of the others, and what follows from that.

Every few seconds all nodes are asked for their time. The median of all clocks that were ever heard is taken as right: one
that is wrong moves it little. Beyond CLOCK_OFFSET_WARN_MS that is said; beyond CLOCK_OFFSET_LEAD_MS_MAX the node should not
lead, because the times that people read are written by the leader. Log time is safe from it anyway (``log_time.py``).

What was heard is kept against the monotonic clock, so that a jump of our own wall clock is ours, also towards a node that
is down now. Two clocks that differ say nothing about which of them is wrong: then both warn, and neither gives way.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Callable, Sequence
from typing import Final

from tq import limits
from tq.world import Clock

LOOK_MS: Final = 5_000
LATE_MS: Final = 1_000  # an answer that took longer says little about now
CLOCKS_MIN: Final = 3  # to say which of them is wrong


class ClockState(enum.Enum):
    OK = "ok"
    WARN = "warn"
    FAR = "far"


class ClockWatch:
    """
    Args:
        ask: ask all others; each answer is told to ``heard``, then ``judge`` is called once.
        changed: called with the state before, when it has changed.
    """

    def __init__(
        self, clock: Clock, others: Sequence[str], ask: Callable[[], None], changed: Callable[[ClockState], None]
    ) -> None:
        self._clock = clock
        self._others = frozenset(others)
        self._ask = ask
        self._changed = changed
        self._asked_ms = self._next_ms = clock.monotonic_ms()
        self._wall_less_monotonic_ms: dict[str, int] = {}
        self.offset_ms = 0  # ours less the median; positive: ours is ahead
        self.state = ClockState.OK

    def run_once(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if self._others and now_ms >= self._next_ms:
            self._asked_ms, self._next_ms = now_ms, now_ms + LOOK_MS
            self._ask()

    def heard(self, peer: str, wall_ms: int) -> None:
        now_ms = self._clock.monotonic_ms()
        if peer in self._others and now_ms - self._asked_ms <= LATE_MS:
            self._wall_less_monotonic_ms[peer] = wall_ms - now_ms

    def judge(self) -> None:
        """Compare all clocks that are known."""
        offsets_ms = self._offsets_ms()
        self.offset_ms = -self._median_ms(offsets_ms)
        distance_ms = abs(self.offset_ms)
        if len(offsets_ms) + 1 < CLOCKS_MIN:
            distance_ms = max((abs(offset_ms) for offset_ms in offsets_ms.values()), default=0)
        before, self.state = self.state, self._state(distance_ms, is_known=len(offsets_ms) + 1 >= CLOCKS_MIN)
        if self.state is not before:
            self._changed(before)

    def is_far(self, peer: str) -> bool:
        """Whether the peer should not lead either."""
        offsets_ms = self._offsets_ms()
        if peer not in offsets_ms or len(offsets_ms) + 1 < CLOCKS_MIN:
            return False
        return abs(offsets_ms[peer] - self._median_ms(offsets_ms)) > limits.CLOCK_OFFSET_LEAD_MS_MAX

    # ---- inside -----------------------------------------------------------------------------------

    def _offsets_ms(self) -> dict[str, int]:
        """The other clocks less ours."""
        ours_ms = self._clock.wall_ms() - self._clock.monotonic_ms()
        return {peer: theirs_ms - ours_ms for peer, theirs_ms in self._wall_less_monotonic_ms.items()}

    def _median_ms(self, offsets_ms: dict[str, int]) -> int:
        return statistics.median_low([0, *offsets_ms.values()])

    def _state(self, distance_ms: int, *, is_known: bool) -> ClockState:
        if is_known and distance_ms > limits.CLOCK_OFFSET_LEAD_MS_MAX:
            return ClockState.FAR
        return ClockState.WARN if distance_ms > limits.CLOCK_OFFSET_WARN_MS else ClockState.OK
