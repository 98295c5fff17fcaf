"""Outcomes on their way to the broker."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tq import limits
from tq.protocol.codec import encode
from tq.protocol.messages import TaskResult
from tq.worker.outcomes import COMPLETE, RELEASE, failed
from tq.worker.reports import IN_FLIGHT_MAX, Item, Reports

SESSION = bytes(16)


def item(number: int, result: bytes = b"") -> Item:
    return [number.to_bytes(16, "big"), number, COMPLETE, ["", result]]


def fences(messages: list[TaskResult]) -> list[list[int]]:
    return [[item[1] for item in message.items] for message in messages]


@pytest.fixture
def next_rid() -> Callable[[], int]:
    numbers = count(1)
    return lambda: next(numbers)


def test_what_waits_leaves_together_and_in_order(next_rid: Callable[[], int]) -> None:
    reports = Reports()
    assert reports.is_empty
    for number in range(3):
        reports.add(item(number))
    (message,) = reports.take(next_rid, SESSION)
    assert fences([message]) == [[0, 1, 2]]
    assert (len(reports), reports.has_waiting, reports.has_in_flight) == (3, False, True)
    assert message.rid in reports
    assert reports.answered(message.rid) == [item(0), item(1), item(2)]
    assert reports.is_empty
    assert reports.answered(message.rid) == []


def test_so_many_are_under_way_and_no_more(next_rid: Callable[[], int]) -> None:
    reports = Reports()
    sent = []
    for number in range(IN_FLIGHT_MAX + 3):
        reports.add(item(number))
        sent += reports.take(next_rid, SESSION)
    assert fences(sent) == [[n] for n in range(IN_FLIGHT_MAX)]
    reports.answered(sent[0].rid)
    assert fences(reports.take(next_rid, SESSION)) == [[IN_FLIGHT_MAX, IN_FLIGHT_MAX + 1, IN_FLIGHT_MAX + 2]]


def test_what_was_refused_for_now_or_lost_goes_first_next_time(next_rid: Callable[[], int]) -> None:
    reports = Reports()
    reports.add(item(1))
    (first,) = reports.take(next_rid, SESSION)
    reports.add(item(2))
    (second,) = reports.take(next_rid, SESSION)
    reports.add(item(3))
    reports.again(first.rid)
    reports.disconnected()
    assert sorted(fences(reports.take(next_rid, SESSION))[0]) == [1, 2, 3]
    assert first.rid not in reports
    assert second.rid not in reports


def test_a_lost_connection_keeps_the_order(next_rid: Callable[[], int]) -> None:
    reports = Reports()
    for number in range(3):
        reports.add(item(number))
        reports.take(next_rid, SESSION)
    reports.add(item(3))
    reports.disconnected()
    assert fences(reports.take(next_rid, SESSION)) == [[0, 1, 2, 3]]


def test_a_refused_item_is_found_and_dropped_and_batches_come_back(next_rid: Callable[[], int]) -> None:
    reports = Reports()
    for number in range(3):
        reports.add(item(number))
    (batch,) = reports.take(next_rid, SESSION)
    assert reports.refused(batch.rid) is None
    singles = reports.take(next_rid, SESSION)
    assert fences(singles) == [[0], [1], [2]]
    assert reports.refused(singles[1].rid) == item(1)
    reports.answered(singles[0].rid)
    reports.answered(singles[2].rid)
    for number in (4, 5):
        reports.add(item(number))
    assert fences(reports.take(next_rid, SESSION)) == [[4, 5]]


def test_messages_stay_within_their_bounds(next_rid: Callable[[], int]) -> None:
    reports = Reports()
    for number in range(2 * limits.BATCH_TASKS_MAX):
        reports.add([bytes(16), number, RELEASE, None])
    for number in range(3):
        reports.add(item(number, b"x" * limits.RESULT_BYTES_MAX))
    for number in range(300):
        outcome, body = failed("E" * 128, "m" * 4_000, "t" * limits.ERROR_TEXT_BYTES_MAX)
        reports.add([bytes(16), number, outcome, body])
    sent = []
    while reports.has_waiting:
        for message in reports.take(next_rid, SESSION):
            sent.append(message)
            reports.answered(message.rid)
    assert sum(len(message.items) for message in sent) == 2 * limits.BATCH_TASKS_MAX + 303
    assert max(len(message.items) for message in sent) == limits.BATCH_TASKS_MAX
    assert max(len(encode(message)) for message in sent) < limits.BATCH_BYTES_MAX + 64 * limits.KIB
