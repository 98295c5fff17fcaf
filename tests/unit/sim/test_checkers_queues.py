"""The judge of queues: it keeps still where promises are kept, and speaks where one is broken."""

from __future__ import annotations

import pytest

from tq.machine.answers import NO_TASK, NO_TYPE, Applied, EventKind
from tq.sim.checkers.breach import Breach
from tq.sim.checkers.queues import QueuePromises

NAMES = ["mail", "other"]
Event = tuple[int, bytes, int, int, int, object]


def of_queue(kind: EventKind, *extra: object, queue: int = 0) -> Event:
    return (int(kind), NO_TASK, queue, NO_TYPE, 0, ["ana", *extra])


def of_task(kind: EventKind, id: bytes = b"a", queue: int = 0) -> Event:
    return (int(kind), id, queue, 0, 7, None)


PAUSED = of_queue(EventKind.QUEUE_PAUSED, None)
RESUMED = of_queue(EventKind.QUEUE_RESUMED)
STARTED = of_task(EventKind.STARTED)


def bounded(most: int | None) -> Event:
    return of_queue(EventKind.QUEUE_SET, {"max_length": most})


class Log:
    def __init__(self) -> None:
        self.promises = QueuePromises()
        self.index = 0

    def entry(self, *events: Event) -> None:
        self.index += 1
        self.again(self.index, *events)

    def again(self, index: int, *events: Event) -> None:
        self.promises.look(Applied(index, 0, [], list(events), {}, [], [], [], [], []), NAMES.__getitem__)


def created(*ids: bytes, queue: int = 0) -> list[Event]:
    return [of_task(EventKind.CREATED, id, queue) for id in ids]


def test_a_grant_from_a_paused_queue_is_a_breach() -> None:
    log = Log()
    log.entry(*created(b"a"), PAUSED)
    with pytest.raises(Breach, match="'mail', which ana has paused"):
        log.entry(STARTED)


def test_order_within_an_entry_counts() -> None:
    log = Log()
    log.entry(*created(b"a", b"b"), STARTED, PAUSED, RESUMED, of_task(EventKind.STARTED, b"b"))
    assert log.promises.seen["pauses"] == 1
    with pytest.raises(Breach):
        log.entry(PAUSED, STARTED)


def test_other_queues_go_on() -> None:
    log = Log()
    log.entry(PAUSED, *created(b"a", queue=1), of_task(EventKind.STARTED, queue=1))


def test_what_is_over_the_bound_is_a_breach() -> None:
    log = Log()
    log.entry(bounded(2), *created(b"a", b"b"), *created(b"c", queue=1))
    with pytest.raises(Breach, match="has 2 of 2"):
        log.entry(*created(b"d"))


@pytest.mark.parametrize(
    "kind", [EventKind.STARTED, EventKind.CANCELLED, EventKind.EXPIRED, EventKind.DEAD, EventKind.COMPLETED]
)
def test_what_waits_no_more_makes_room(kind: EventKind) -> None:
    log = Log()
    log.entry(bounded(1), *created(b"a"), of_task(kind), *created(b"b"))
    with pytest.raises(Breach):
        log.entry(*created(b"c"))


@pytest.mark.parametrize("kind", [EventKind.READY, EventKind.SCHEDULED])
def test_what_comes_back_counts_once_and_may(kind: EventKind) -> None:
    log = Log()
    log.entry(bounded(2), *created(b"a"), STARTED, *created(b"b"), of_task(kind), of_task(EventKind.READY))
    with pytest.raises(Breach, match="has 2 of 2"):
        log.entry(*created(b"c"))


def test_a_bound_may_be_lowered_and_taken_away() -> None:
    log = Log()
    log.entry(*created(b"a", b"b", b"c"), bounded(1), of_task(EventKind.READY, b"a"))
    log.entry(bounded(None), *created(b"d"))
    log.entry(of_queue(EventKind.QUEUE_SET, {"timeout_ms": 5}), *created(b"e"))


def test_an_entry_is_judged_once_whoever_applies_it() -> None:
    log = Log()
    log.entry(bounded(1), *created(b"a"))
    log.again(1, bounded(1), *created(b"a"))
    log.entry(STARTED, *created(b"b"))
    assert log.promises.seen == {"bounds": 1, "created under a bound": 2}
