"""What settings of queues promise, judged by the log: the events of each entry, in their order.

    paused      no grant from a queue between its pause and its resumption
    full        no task is created in a queue that has its max_length, or more

It knows the events only: a set of the tasks that wait is kept beside, and is not what the machine counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tq.broker.broker import Broker
from tq.machine.answers import Applied, EventKind
from tq.sim.checkers.breach import Breach

ENTERS = (EventKind.CREATED, EventKind.READY, EventKind.SCHEDULED)
LEAVES = (
    EventKind.STARTED, EventKind.COMPLETED, EventKind.CANCELLED, EventKind.EXPIRED, EventKind.DEAD, EventKind.PURGED,
)  # fmt: skip


class QueuePromises:
    """
    Attributes:
        seen: how often each thing was judged or happened, so that a run can tell that it had something to judge.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._index = 0
        self._paused: dict[str, str] = {}  # queue -> by whom
        self._max: dict[str, int] = {}
        self._waits: dict[bytes, str] = {}  # task -> queue
        self._lengths: Counter[str] = Counter()

    def watch(self, broker: Broker) -> None:
        """Look at all that ``broker`` applies, each entry once, whoever applies it first."""
        apply: Callable[[Applied], None] = broker.events.applied

        def look(applied: Applied) -> None:
            self.look(applied, broker.applier.machine.queue_name)
            apply(applied)

        broker.events.applied = look  # type: ignore[method-assign]

    def look(self, applied: Applied, queue_name: Callable[[int], str]) -> None:
        if applied.index <= self._index:
            return
        self._index = applied.index
        for kind, id, number, _type, fence, extra in applied.events:
            queue = queue_name(number)
            if kind == EventKind.QUEUE_PAUSED:
                self._paused[queue] = extra[0]  # type: ignore[index]
                self.seen["pauses"] += 1
            elif kind == EventKind.QUEUE_RESUMED:
                del self._paused[queue]
            elif kind == EventKind.QUEUE_SET:
                self._set(queue, extra[1])  # type: ignore[index]
            else:
                self._task(EventKind(kind), id, queue, fence)

    def _set(self, queue: str, changes: dict[str, int | None]) -> None:
        if "max_length" in changes:
            self._max.pop(queue, None)
            if (most := changes["max_length"]) is not None:
                self._max[queue] = most
                self.seen["bounds"] += 1

    def _task(self, kind: EventKind, id: bytes, queue: str, fence: int) -> None:
        where = f"entry {self._index}: task {id.hex()}"
        if kind is EventKind.STARTED and queue in self._paused:
            raise Breach(f"{where} was granted under {fence} from {queue!r}, which {self._paused[queue]} has paused")
        if kind is EventKind.CREATED and queue in self._max:
            self.seen["created under a bound"] += 1
            if self._lengths[queue] >= self._max[queue]:
                raise Breach(
                    f"{where} was taken into {queue!r}, which has {self._lengths[queue]} of {self._max[queue]}"
                )
        if kind in ENTERS and id not in self._waits:
            self._waits[id] = queue
            self._lengths[queue] += 1
        elif kind in LEAVES and self._waits.pop(id, None) is not None:
            self._lengths[queue] -= 1
