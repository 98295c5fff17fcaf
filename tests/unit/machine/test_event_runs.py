from __future__ import annotations

from tq.machine.event_runs import EventRuns

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def test_rows_come_in_order_whatever_they_were_put_in_as() -> None:
    events = EventRuns()
    events.add_many(1, [A, B], 5, 6)
    ids, fences = events.begin(2, 5, 6)
    for id, fence in ((A, 100), (B, 101)):
        ids.append(id)
        fences.append(fence)
    events.add(3, C, 7, 8, 102, "why")
    assert list(events) == [
        (1, A, 5, 6, 0, None),
        (1, B, 5, 6, 0, None),
        (2, A, 5, 6, 100, None),
        (2, B, 5, 6, 101, None),
        (3, C, 7, 8, 102, "why"),
    ]
    assert len(events) == 5
    singly = EventRuns()
    for kind, id, queue, type_, fence, extra in events:
        singly.add(kind, id, queue, type_, fence, extra)
    assert singly == events
    singly.add(4, A, 5, 6, 0)
    assert singly != events


def test_they_are_counted_by_kind_and_queue() -> None:
    events = EventRuns()
    events.add_many(1, [A, B], 5, 6)
    events.add(1, C, 5, 9, 0)
    events.add(1, C, 6, 9, 0)
    assert events.counts() == {(1, 5): 3, (1, 6): 1}


def test_nothing_happened() -> None:
    events = EventRuns()
    assert not events
    assert list(events) == []
    assert events.counts() == {}
