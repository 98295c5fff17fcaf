"""The judges of queues, by events and from the outside: they keep still where promises are kept, and speak where one is broken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tq.limits import FENCE_ORDINALS
from tq.machine.answers import NO_TASK, NO_TYPE, Applied, EventKind
from tq.machine.event_runs import EventRuns
from tq.sim.checkers.breach import Breach
from tq.sim.checkers.history import check
from tq.sim.checkers.queues import QueuePromises
from tq.sim.checkers.records import parse

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
        happened = EventRuns()
        for kind, id, queue, type_, fence, extra in events:
            happened.add(kind, id, queue, type_, fence, extra)
        self.promises.look(Applied(index, 0, [], happened, {}, [], [], [], [], []), NAMES.__getitem__)


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


# ---- from the outside ---------------------------------------------------------------------------------


def queue_set(
    op: int, start: int, end: int | None, index: int = 0, *, paused: bool, by: str = "c"
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"op": op, "by": by, "t": start, "call": "queue", "queue": "q", "paused": paused}]
    return lines if end is None else [*lines, {"op": op, "by": by, "t": end, "index": index}]


def granted(index: int, start: int = 500, end: int = 600) -> list[dict[str, Any]]:
    """One task in queue ``q``, granted in that entry."""
    task = ["a", "a", "t", "q", 150, False]
    return [
        {"op": 90, "by": "c", "t": 1, "call": "submit", "tasks": [task]},
        {"op": 90, "by": "c", "t": 2, "index": 1, "answers": ["created"]},
        {"op": 91, "by": "w", "t": start, "call": "claim"},
        {"op": 91, "by": "w", "t": end, "index": index, "grants": [["a", index * FENCE_ORDINALS, 1, 0]]},
    ]


def told(*lines: list[dict[str, Any]]) -> list[str]:
    history = parse([[json.dumps(line) for part in lines for line in part]])
    return [str(breach) for breach in check(history, drained=False) if breach.rule == "paused"]


PAUSE = queue_set(1, 10, 20, 5, paused=True)


def test_what_is_granted_behind_a_pause_is_a_breach() -> None:
    (breach,) = told(PAUSE, granted(6))
    assert "granted in entry 6 from 'q', paused by c at 5 or before" in breach


def test_the_entry_of_the_pause_and_those_before_it_may_grant() -> None:
    assert told(PAUSE, granted(5)) == told(PAUSE, granted(4)) == []


def test_behind_a_resumption_all_is_well_and_before_it_nothing() -> None:
    """The resumption was asked for when 5 had been told, so it may be entry 6; when 8 had been told, it cannot be before 9."""
    resume = queue_set(2, 30, 40, 9, paused=False)
    assert told(PAUSE, resume, granted(6)) == []
    look = [
        {"op": 3, "by": "d", "t": 21, "call": "list", "min_index": 0},
        {"op": 3, "by": "d", "t": 22, "index": 8, "rows": []},
    ]
    assert told(PAUSE, look, resume, granted(9)) == []
    assert len(told(PAUSE, look, resume, granted(8))) == 1


def test_a_resumption_that_was_never_answered_may_have_been_done_at_any_time_behind() -> None:
    resume = queue_set(2, 30, None, paused=False)
    assert told(PAUSE, resume, granted(600)) == []
    assert told(PAUSE, resume, granted(6)) == [], "and at once"


def test_a_pause_that_was_never_answered_may_not_have_been_done() -> None:
    assert told(queue_set(1, 10, None, paused=True), granted(6)) == []


def test_a_resumption_that_was_over_before_does_not_count() -> None:
    resume = queue_set(2, 3, 4, 2, paused=False)
    assert len(told(resume, PAUSE, granted(6))) == 1


def test_one_that_was_under_way_at_the_same_time_may_have_come_later() -> None:
    resume = queue_set(2, 15, 18, 4, paused=False, by="d")
    assert told(PAUSE, resume, granted(6)) == []
