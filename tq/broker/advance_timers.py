"""Leader only: when a timer of the store is due, propose that the log acts on it.

Delays, backoffs, expiries, time-outs, deadlines, the grace of a cancel, results and finished tasks past their
time: all are ``Advance(kind, limit)``. One proposal of a kind is under way at a time; a full slice is followed
by the next at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tq import limits
from tq.broker.services import Propose
from tq.errors import Backpressure, NotLeader
from tq.machine.commands import Advance, Timer
from tq.world import Random

COMMAND_BYTES = 16


class AdvanceTimers:
    def __init__(
        self,
        next_due_ms: Callable[[Timer], int | None],
        now_ms: Callable[[], int],
        random: Random,
        propose: Propose,
        applied_index: Callable[[], int],
    ) -> None:
        """next_due_ms: time of the first timer of a kind in the store, which only an applied entry changes. now_ms: log
        time."""
        self._next_due_ms = next_due_ms
        self._now_ms = now_ms
        self._random = random
        self._propose = propose
        self._applied_index = applied_index
        self._under_way: set[Timer] = set()
        self._looked_index = -1  # applied when all kinds were looked at last
        self._due_ms: float = 0  # of the first of them, if none is under way

    def run_once(self) -> None:
        now_ms, index = self._now_ms(), self._applied_index()
        if index == self._looked_index and now_ms < self._due_ms:
            return
        first_ms = math.inf
        for kind in Timer:
            if kind not in self._under_way:
                due_ms = self._next_due_ms(kind)
                if due_ms is not None:
                    first_ms = min(first_ms, due_ms)
                    if due_ms <= now_ms:
                        self._advance(kind)
        self._looked_index = index if not self._under_way else -1
        self._due_ms = first_ms

    def wait_ms(self) -> float:
        """Until the first timer is due; 0 if that must be looked up."""
        is_known = self._looked_index == self._applied_index()
        return max(0, self._due_ms - self._now_ms()) if is_known else 0

    def _advance(self, kind: Timer) -> None:
        command = Advance(int(kind), limits.ADVANCE_SLICE_TASKS, self._random.below(1 << 32))
        try:
            self._propose(
                command, limits.ADVANCE_SLICE_TASKS, COMMAND_BYTES, lambda answer, _: self._done(kind, answer)
            )
        except (Backpressure, NotLeader):
            return  # the next look tries again
        self._under_way.add(kind)

    def _done(self, kind: Timer, answer: object) -> None:
        self._under_way.discard(kind)
        if isinstance(answer, int) and answer >= limits.ADVANCE_SLICE_TASKS:
            self._advance(kind)
