"""Waits for the end of a task, and for an index: answered by push, on every node, at its applied index.

A wait is bounded in time (the client asks again) and in number; it dies with its connection.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tq import limits
from tq.broker.deadlines import Deadline, Deadlines
from tq.errors import Backpressure
from tq.machine.answers import EventKind
from tq.machine.event_runs import EventRuns

ENDING = frozenset(
    {EventKind.COMPLETED, EventKind.CANCELLED, EventKind.EXPIRED, EventKind.DEAD, EventKind.PURGED}
)  # fmt: skip


@attrs.define(eq=False)
class Wait:
    call: Callable[[bool], None]  # with True: it happened; False: the time is over
    deadline: Deadline | None = None


class Waits:
    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._by_task: dict[bytes, dict[Wait, None]] = {}  # in order
        self._by_index: dict[int, dict[Wait, None]] = {}
        self._count = 0

    def for_end(self, id: bytes, wait_ms: int, call: Callable[[bool], None]) -> Callable[[], object]:
        """Call once: with True when the task ends, with False after ``wait_ms``. Returns what forgets the wait."""
        wait = self._new(call)
        self._by_task.setdefault(id, {})[wait] = None
        wait.deadline = self._deadlines.after(wait_ms, lambda: self._end(id, wait, False))
        return lambda: self._forget(id, wait)

    def for_index(self, index: int, wait_ms: int, call: Callable[[bool], None]) -> Callable[[], object]:
        """Call once: with True when ``index`` is applied here, with False after ``wait_ms``. Returns what forgets it."""
        wait = self._new(call)
        self._by_index.setdefault(index, {})[wait] = None
        wait.deadline = self._deadlines.after(wait_ms, lambda: self._index_late(index, wait))
        return lambda: self._forget_index(index, wait)

    def applied(self, index: int, events: EventRuns) -> None:
        if self._by_task:
            by_task = self._by_task
            for run in events.runs:
                if run.kind in ENDING:
                    for id in run.ids:
                        for wait in list(by_task.get(id, ())):
                            self._end(id, wait, True)
        self.reached(index)

    def reached(self, index: int) -> None:
        """All up to there is applied here."""
        if self._by_index:
            for reached in sorted(at for at in self._by_index if at <= index):
                for wait in list(self._by_index.get(reached, ())):
                    if self._forget_index(reached, wait):
                        wait.call(True)

    def begin_anew(self, index: int) -> None:
        """All up to ``index`` is applied here, and nobody saw how. Who waits for a task looks at it, and asks again."""
        for id in list(self._by_task):
            for wait in list(self._by_task.get(id, ())):
                self._end(id, wait, True)
        self.reached(index)

    def clear(self) -> None:
        """The node stops: all waits are over."""
        for id in list(self._by_task):
            for wait in list(self._by_task.get(id, ())):
                self._end(id, wait, False)
        for index in list(self._by_index):
            for wait in list(self._by_index.get(index, ())):
                self._index_late(index, wait)

    def __len__(self) -> int:
        return self._count

    def _new(self, call: Callable[[bool], None]) -> Wait:
        if self._count >= limits.WAITERS_MAX:
            raise Backpressure("as many waits as this node holds; try again later", retry_after=1)
        self._count += 1
        return Wait(call)

    def _forget(self, id: bytes, wait: Wait) -> bool:
        waits = self._by_task.get(id)
        if waits is None or wait not in waits:
            return False
        del waits[wait]
        if not waits:
            del self._by_task[id]
        self._count -= 1
        if wait.deadline is not None:
            wait.deadline.cancel()
        return True

    def _end(self, id: bytes, wait: Wait, ended: bool) -> None:
        if self._forget(id, wait):
            wait.call(ended)

    def _forget_index(self, index: int, wait: Wait) -> bool:
        waits = self._by_index.get(index)
        if waits is None or wait not in waits:
            return False
        del waits[wait]
        if not waits:
            del self._by_index[index]
        self._count -= 1
        if wait.deadline is not None:
            wait.deadline.cancel()
        return True

    def _index_late(self, index: int, wait: Wait) -> None:
        if self._forget_index(index, wait):
            wait.call(False)
