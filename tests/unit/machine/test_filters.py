"""Filters: read from the wire and from commands, old ones too. What they match is in test_listing.py and test_bulk.py."""

from __future__ import annotations

from typing import Any

import pytest

from machine.driver import Driver, id_of
from tq import cbor
from tq.errors import InvalidRequest, InvalidState
from tq.machine import commands as c
from tq.machine.filters import Filter, Matcher
from tq.machine.states import State
from tq.store.tables import Table

RETRY, PURGE = 0, 1


@pytest.mark.parametrize(
    "fields",
    [
        {"no": 1},
        {"state": "gone"},
        {"state": 3},
        {"state": []},
        {"state": ["dead", 3]},
        {"queue": 5},
        {"tag": b"t"},
        {"worker": 1},
        {"error": 1},
        {"id_prefix": ""},
        {"id_prefix": "xyz"},
        {"id_prefix": "0" * 33},
        {"ended_before_ms": "x"},
        {"created_since_ms": -1},
        {"ended_since_ms": 1 << 63},
    ],
)
def test_a_filter_names_what_is_wrong(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as error:
        Filter.of_map(fields)
    assert error.value.detail["field"] in ("filter", *[f"filter.{name}" for name in fields])


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, 5),
        ({"state": "dead", "queue": "q", "type": "t", "tag": "g", "ended_before_ms": 5}, 5),
        ({"state": ["dead"]}, 5),
        ({"state": ["dead", "expired"]}, 12),
        ({"state": "failed"}, 12),
        ({"state": "dead", "worker": "w"}, 12),
        ({"id_prefix": "0198-F3"}, 12),
        ({"error": "E", "created_since_ms": 1, "created_before_ms": 2, "ended_since_ms": 3}, 12),
    ],
)
def test_a_filter_survives_its_command_which_is_as_old_as_it_can_be(fields: dict[str, Any], size: int) -> None:
    wanted = Filter.of_map(fields)
    command = wanted.command()
    assert len(command) == size
    assert Filter.of_command(cbor.loads(cbor.dumps(command))) == wanted
    assert c.JobStart(bytes(16), RETRY, command).format == (1 if size == 5 else 2)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [None] * 6,
        [9, None, None, None, None],
        [True, None, None, None, None],
        [None, 5, None, None, None],
        [None, None, None, None, -1],
        [None] * 5 + [[]] + [None] * 6,
        [None] * 5 + [[9]] + [None] * 6,
        [None] * 5 + [5] + [None] * 6,
        [None] * 6 + ["xyz"] + [None] * 5,
        [None] * 7 + [1] + [None] * 4,
        [None] * 11 + ["x"],
    ],
)
def test_a_command_that_is_no_filter_is_refused(fields: list[Any]) -> None:
    with pytest.raises(InvalidRequest):
        Filter.of_command(fields)
    d = Driver()
    assert isinstance(d.do(c.JobStart(d.operation(), PURGE, fields)), InvalidRequest)
    assert d.txn.count(Table.JOBS) == 0


def test_groups_are_states() -> None:
    ends = (State.COMPLETED, State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD)
    assert Filter.of_map({"state": "ended"}).states == ends
    assert Filter.of_map({"state": ["failed", "running"]}).states == (State.RUNNING, *ends[1:])
    assert Filter.of_map({"state": "queued"}).states == (State.WAITING, State.SCHEDULED, State.PENDING)
    assert Filter.of_map({"state": "live"}).states == (State.WAITING, State.SCHEDULED, State.PENDING, State.RUNNING)


def test_a_session_that_is_over_is_known_by_what_completed_in_it() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    d.complete(*d.claim()[0])
    d.dead(2)
    session = b"session".ljust(16, b"-")

    def found(worker: str) -> list[int]:
        matcher = Matcher(d.txn, Filter.of_map({"worker": worker}))
        raws = d.txn.scan(Table.TASKS, bytes(16), None, 10)
        return [int.from_bytes(id, "big") for id, raw in raws if matcher.matches(id, raw)]

    assert found(session.hex()) == found("worker") == [1, 2]
    d.do(c.SessionClose(session))
    assert found(session.hex()) == [1]
    assert found("worker") == [1, 2]


def run(d: Driver, verb: int, fields: dict[str, Any]) -> int:
    operation = d.operation()
    assert not isinstance(d.do(c.JobStart(operation, verb, Filter.of_map(fields).command())), Exception)
    for _ in range(100):
        status = d.do(c.JobStep(operation, 2))
        if status[4]:
            return int(status[2])
    raise AssertionError("a job without end")


def test_jobs_take_the_same_filters() -> None:
    d = Driver()
    d.open()
    d.dead(1)
    d.submit(2)
    d.fail(*d.claim()[0], permanent=True, error=["shop.OutOfStock", "m", "t"])
    d.submit(3)
    d.do(c.Cancel([id_of(3)], 0))
    d.now_ms += 10
    d.submit(4, 5)
    d.complete(*d.claim()[0])
    d.fail(*d.claim()[0], permanent=True)
    assert run(d, RETRY, {"error": "OutOfStock"}) == 1
    assert run(d, RETRY, {"state": ["cancelled", "dead"], "ended_before_ms": d.now_ms}) == 2
    assert run(d, RETRY, {"ended_since_ms": d.now_ms + 1}) == 0
    assert run(d, PURGE, {"worker": "worker", "created_since_ms": d.now_ms}) == 2
    assert [d.state(n) for n in (1, 2, 3)] == ["pending"] * 3


def test_a_job_over_states_that_do_not_fit_is_refused() -> None:
    d = Driver()
    for verb, states in (
        (RETRY, "ended"),
        (RETRY, ["dead", "completed"]),
        (PURGE, "live"),
        (PURGE, ["dead", "running"]),
    ):
        answer = d.do(c.JobStart(d.operation(), verb, Filter.of_map({"state": states}).command()))
        assert isinstance(answer, InvalidState), states
