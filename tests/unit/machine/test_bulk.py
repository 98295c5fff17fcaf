"""Retry, purge, jobs, retention and tombstones: what happens after the end."""

from __future__ import annotations

from typing import Any

import pytest

from machine.driver import Driver, id_of
from tq import limits
from tq.errors import Backpressure, Conflict, InvalidRequest, InvalidState, NotFound
from tq.machine import commands as c
from tq.machine import queries
from tq.machine.answers import SubmitOutcome
from tq.machine.commands import Timer
from tq.machine.filters import Filter
from tq.machine.retention import content_hash
from tq.machine.settings import Settings
from tq.spec import Spec
from tq.store.tables import Table

RETRY, PURGE = 0, 1
ALL: list[object] = [None] * 5


def codes(items: list[Any]) -> list[tuple[int | None, str | None]]:
    return [(state, error and error[0]) for state, error in items]


# ---- by id ------------------------------------------------------------------------------------------


def test_a_retry_begins_anew_and_keeps_history_and_fence() -> None:
    d = Driver()
    d.open()
    d.submit(1, deadline_ms=10_000)
    id, fence = d.claim()[0]
    d.fail(id, fence, permanent=True)
    d.now_ms += 20_000
    assert d.do(c.Retry(d.operation(), [id], 0)) == [[2, None]]
    shown = d.show(1)
    assert (shown["attempt"], shown["reason"], shown["ended_ms"], shown["fence"]) == (0, None, None, fence)
    assert shown["deadline_ms"] == d.now_ms + 10_000
    assert [row["outcome"] for row in shown["history"]] == ["failed"]
    assert d.claim()[0][1] > fence


def test_a_retry_may_wait() -> None:
    d = Driver()
    d.open()
    d.dead(1)
    assert d.do(c.Retry(d.operation(), [id_of(1)], 500)) == [[1, None]]
    assert d.show(1)["due_ms"] == d.now_ms + 500


def test_what_cannot_be_retried_or_purged_says_why() -> None:
    d = Driver()
    d.open()
    d.submit(1, 2, 3)
    d.complete(*d.claim()[0])
    d.claim()
    ids = [id_of(n) for n in (1, 2, 3, 4)]
    assert codes(d.do(c.Retry(d.operation(), ids))) == [
        (4, "INVALID_STATE"), (3, "INVALID_STATE"), (2, "INVALID_STATE"), (None, "NOT_FOUND"),
    ]  # fmt: skip
    assert codes(d.do(c.Purge(d.operation(), [*ids, ids[0]]))) == [
        (4, None), (3, "INVALID_STATE"), (2, "INVALID_STATE"), (None, "NOT_FOUND"), (None, "NOT_FOUND"),
    ]  # fmt: skip


def test_an_operation_is_done_once_within_the_memory_window() -> None:
    d = Driver()
    d.open()
    d.dead(1)
    operation = d.operation()
    first = d.do(c.Retry(operation, [id_of(1)]))
    before = d.digest()
    assert d.do(c.Retry(operation, [id_of(1)])) == first
    assert isinstance(d.do(c.Purge(operation, [id_of(1)])), Conflict)
    assert isinstance(d.do(c.JobStart(operation, PURGE, ALL)), Conflict)
    assert d.digest() == before
    d.now_ms += limits.TOMBSTONE_KEEP_MS_DEFAULT
    assert d.advance(Timer.OPERATION) == 1
    assert codes(d.do(c.Retry(operation, [id_of(1)]))) == [(2, "INVALID_STATE")]


# ---- tombstones and retention -------------------------------------------------------------------------


def test_a_purged_task_leaves_its_tombstone_alone() -> None:
    d = Driver()
    d.open()
    d.submit(1, idempotency_key="k")
    d.complete(*d.claim()[0])
    d.do(c.Purge(d.operation(), [id_of(1)]))
    for table in (Table.TASKS, Table.SPECS, Table.RESULTS, Table.HISTORY, Table.ENDED, Table.READY, Table.HELD):
        assert d.txn.count(table) == 0, table
    assert d.submit(1, idempotency_key="k") == [[SubmitOutcome.DUPLICATE, 4, id_of(1), None]]
    assert d.submit(2, idempotency_key="k") == [[SubmitOutcome.DUPLICATE, 4, id_of(1), None]]
    assert d.submit(1, payload=b"other")[0][0] == SubmitOutcome.CONFLICT
    with pytest.raises(NotFound, match="purged") as error:
        d.show(1)
    assert error.value.detail == {"purged": True}
    d.now_ms += limits.TOMBSTONE_KEEP_MS_DEFAULT
    assert d.advance(Timer.TOMBSTONE) == 1
    assert d.txn.count(Table.KEYS) == d.txn.count(Table.TOMBSTONES) == 0
    assert d.submit(2, idempotency_key="k") == [0]


def test_the_hash_of_a_tombstone_is_of_the_content() -> None:
    spec = Spec(id_of(1), "t", b"p", tags=("a",), headers=(("k", "v"),))
    assert content_hash(spec) == content_hash(spec._replace(id=id_of(2)))
    others = {
        "type": "u",
        "payload": b"q",
        "queue": "q",
        "priority": 1,
        "delay_ms": 1,
        "unique": ("u", 0),
        "tags": ("b",),
        "headers": (),
    }
    hashes = {content_hash(spec._replace(**{field: value})) for field, value in others.items()}
    assert len(hashes | {content_hash(spec)}) == len(others) + 1
    assert content_hash(Spec(id_of(1), "ab", b"c")) != content_hash(Spec(id_of(1), "a", b"bc"))
    assert content_hash(Spec(bytes(16), "t", b"p")).hex() == "0fee90cd867af2a13c31ee267c68a37b7ed10019", (
        "stored hashes must stay"
    )


def test_finished_tasks_go_by_age_and_by_number_the_oldest_first() -> None:
    d = Driver(Settings(finished_keep_ms=1_000, finished_keep_tasks=3, dead_keep_ms=5_000))
    d.open()
    d.dead(9)
    for n in range(5):
        d.now_ms += 10
        d.submit(n)
        if n % 2:
            d.do(c.Cancel([id_of(n)], 0))
        else:
            d.complete(*d.claim()[0])
    assert d.advance(Timer.RETENTION) == 2
    assert d.txn.count(Table.TOMBSTONES) == 2
    assert [d.state(n) for n in (2, 3, 4)] == ["completed", "cancelled", "completed"]
    assert d.advance(Timer.RETENTION) == 0
    d.now_ms += 980
    assert d.advance(Timer.RETENTION) == 1
    d.now_ms += 5_000
    assert d.advance(Timer.RETENTION, 1) == 1
    assert d.advance(Timer.RETENTION) == 2
    assert d.txn.count(Table.TASKS) == 0


# ---- jobs -------------------------------------------------------------------------------------------


def steps(d: Driver, operation: bytes, limit: int) -> list[list[Any]]:
    found = []
    while not found or not found[-1][4]:
        found.append(d.do(c.JobStep(operation, limit)))
        assert len(found) < 100
    return found


def test_a_job_works_in_slices_and_over_a_restart() -> None:
    d = Driver()
    d.open()
    d.dead(*range(10))
    operation = d.operation()
    assert d.do(c.JobStart(operation, RETRY, Filter.of_map({"state": "dead"}).command())) == [
        operation,
        RETRY,
        0,
        0,
        False,
    ]
    assert d.do(c.JobStart(operation, RETRY, ALL))[2:] == [0, 0, False]
    assert d.do(c.JobStep(operation, 4))[2:] == [4, 4, False]
    d.restart()
    assert steps(d, operation, 4) == [[operation, RETRY, 8, 8, False], [operation, RETRY, 10, 10, True]]
    assert d.do(c.JobStep(operation, 4)) == d.do(c.JobStart(operation, RETRY, ALL)) == [operation, RETRY, 10, 10, True]
    assert d.txn.count(Table.JOBS) == 0
    assert [d.state(n) for n in range(10)] == ["pending"] * 10


def test_a_job_leaves_alone_what_ended_after_it_started() -> None:
    d = Driver()
    d.open()
    d.dead(1, 2)
    operation = d.operation()
    d.do(c.JobStart(operation, RETRY, ALL))
    d.do(c.JobStep(operation, 1))
    d.fail(*d.claim()[0], permanent=True)
    d.now_ms += 1
    d.dead(3)
    assert steps(d, operation, 5)[-1][2:] == [2, 2, True]
    assert [d.state(n) for n in (1, 2, 3)] == ["dead", "pending", "dead"]


def test_a_filter_picks() -> None:
    d = Driver()
    d.open(types=("echo", "x"), queues=("default", "q"))
    d.dead(1)
    d.dead(2, type="x")
    d.submit(3, queue="q")
    d.fail(*d.claim(1, ("q",))[0], permanent=True)
    d.dead(4, tags=("t",))
    d.now_ms += 50
    d.dead(5)
    d.submit(6)
    d.complete(*d.claim()[0])
    for fields, wanted in (
        ({"type": "x"}, [2]),
        ({"queue": "q"}, [3]),
        ({"tag": "t"}, [4]),
        ({"queue": "never"}, []),
        ({"state": "dead", "ended_before_ms": d.now_ms}, [1]),
        ({}, [5, 6]),
    ):
        operation = d.operation()
        d.do(c.JobStart(operation, PURGE, Filter.of_map(fields).command()))
        assert steps(d, operation, 3)[-1][2] == len(wanted), fields
        for n in wanted:
            with pytest.raises(NotFound):
                d.show(n)
    assert d.txn.count(Table.TASKS) == 0


def test_a_limit_ends_a_job() -> None:
    d = Driver()
    d.open()
    d.dead(*range(5))
    operation = d.operation()
    d.do(c.JobStart(operation, RETRY, ALL, 3))
    assert steps(d, operation, 2)[-1] == [operation, RETRY, 3, 3, True]
    assert sum(d.state(n) == "dead" for n in range(5)) == 2


def test_large_payloads_make_slices_smaller_not_jobs_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_READ_BYTES_MAX", 2_500)
    d = Driver()
    d.open()
    d.dead(*range(7), payload=bytes(1_000))
    operation = d.operation()
    d.do(c.JobStart(operation, PURGE, ALL))
    assert [step[2] for step in steps(d, operation, 500)] == [3, 6, 7]


def test_jobs_are_refused_with_reason() -> None:
    d = Driver()
    assert isinstance(
        d.do(c.JobStart(d.operation(), RETRY, Filter.of_map({"state": "completed"}).command())), InvalidState
    )
    assert isinstance(
        d.do(c.JobStart(d.operation(), PURGE, Filter.of_map({"state": "pending"}).command())), InvalidState
    )
    for wrong in (
        [],
        [9, None, None, None, None],
        [None, 5, None, None, None],
        [None, None, None, None, -1],
        [True, *ALL[1:]],
    ):
        assert isinstance(d.do(c.JobStart(d.operation(), PURGE, wrong)), InvalidRequest), wrong
    assert isinstance(d.do(c.JobStep(d.operation(), 5)), NotFound)
    assert d.txn.count(Table.JOBS) == 0


def test_jobs_under_way_are_bounded_and_listed_in_order() -> None:
    d = Driver()
    operations = [d.operation() for _ in range(limits.JOBS_MAX)][::-1]
    for operation in operations:
        assert isinstance(d.do(c.JobStart(operation, PURGE, ALL)), list)
    assert isinstance(d.do(c.JobStart(b"x" * 16, PURGE, ALL)), Backpressure)
    assert queries.jobs_unfinished(d.txn) == operations


def test_a_retry_forgets_the_crashes() -> None:
    d = Driver(Settings(crashes_max=1))
    d.open()
    d.submit(1)
    d.do(c.LeasesExpire([list(d.claim()[0])]))
    assert (d.show(1)["reason"], d.show(1)["crashes"]) == ("poison", 1)
    d.do(c.Retry(d.operation(), [id_of(1)]))
    assert d.show(1)["crashes"] == 0


def test_a_job_leaves_alone_what_ended_later_though_never_claimed() -> None:
    d = Driver()
    operation = d.operation()
    d.do(c.JobStart(operation, RETRY, ALL))
    d.now_ms += 1
    d.submit(1)
    d.do(c.Cancel([id_of(1)], 0))
    assert steps(d, operation, 5)[-1][2:] == [0, 0, True]


def test_a_job_does_not_retry_twice_what_dies_again_at_once() -> None:
    """In the very millisecond in which the job began, behind its cursor."""
    d = Driver()
    d.open()
    d.dead(1, 2)
    operation = d.operation()
    d.do(c.JobStart(operation, RETRY, ALL))
    d.do(c.JobStep(operation, 1))
    d.fail(*d.claim()[0], permanent=True)
    d.dead(3)
    assert steps(d, operation, 5)[-1][2:] == [2, 2, True]
    assert d.state(3) == "dead"
