"""Sessions, leases, cancels and timers: who may hold a task, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from machine.driver import SESSION, Driver, id_of
from tq import limits
from tq.errors import Conflict, InvalidRequest, SessionLost
from tq.machine import commands as c
from tq.machine.answers import EventKind
from tq.machine.commands import Outcome, Timer
from tq.machine.settings import Settings
from tq.spec import Retry
from tq.store.tables import Table


def kinds(events: list[Any]) -> list[str]:
    return [EventKind(kind).name for kind, *_ in events]


def past(d: Driver, n: int) -> list[str]:
    return [row["outcome"] for row in d.show(n)["history"]]


# ---- sessions ---------------------------------------------------------------------------------------


def test_opening_again_is_fine_with_the_same_content_only() -> None:
    d = Driver()
    d.open()
    before = d.digest()
    assert d.apply(c.SessionOpen(SESSION, "worker", ["echo"], ["default"])).sessions_opened == []
    for other in (("x", ["echo"], ["default"]), ("worker", ["e"], ["default"]), ("worker", ["echo"], ["d"])):
        assert isinstance(d.do(c.SessionOpen(SESSION, *other)), Conflict)
    assert d.digest() == before


@pytest.mark.parametrize(
    ("name", "types", "queues"),
    [
        ("", ["t"], ["q"]),
        ("n" * 129, ["t"], ["q"]),
        ("n", [], ["q"]),
        ("n", ["t"], []),
        ("n", [""], ["q"]),
        ("n", ["t"], ["q" * 129]),
    ],
)
def test_sessions_have_bounds(name: str, types: list[str], queues: list[str]) -> None:
    d = Driver()
    assert isinstance(d.do(c.SessionOpen(SESSION, name, types, queues)), InvalidRequest)
    assert d.txn.count(Table.SESSIONS) == 0


def test_a_closed_session_gives_back_without_attempt_or_crash() -> None:
    d = Driver()
    d.open()
    d.submit(3, 1)
    grants = d.claim(2)
    applied = d.apply(c.SessionClose(SESSION))
    assert kinds(applied.events) == ["RELEASED", "READY"] * 2
    assert applied.released == sorted(grants)
    assert applied.sessions_ended == [SESSION]
    assert [(d.state(n), d.show(n)["attempt"], d.show(n)["crashes"]) for n in (1, 3)] == [("pending", 0, 0)] * 2
    assert isinstance(d.do(c.Claim(SESSION, 9, [], 1)), SessionLost)
    assert d.txn.count(Table.SESSIONS) == d.txn.count(Table.HELD) == 0
    assert d.apply(c.SessionClose(SESSION)).sessions_ended == []


def test_an_ended_session_is_a_crash_of_each_and_may_be_opened_anew() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    d.claim()
    assert kinds(d.apply(c.SessionsEnd([SESSION, b"x" * 16])).events) == ["CRASHED", "READY"]
    assert (d.show(1)["attempt"], d.show(1)["crashes"], past(d, 1)) == (0, 1, ["crashed"])
    d.open()
    assert d.do(c.Claim(SESSION, 0, [], 1))[0][1:3] == [1, 1]


# ---- leases -----------------------------------------------------------------------------------------


def test_the_last_crash_is_poison() -> None:
    d = Driver(Settings(crashes_max=2))
    d.open()
    d.submit(1)
    first = d.claim()[0]
    d.do(c.LeasesExpire([list(first)]))
    assert d.state(1) == "pending"
    d.do(c.LeasesExpire([list(first)]))
    assert d.show(1)["crashes"] == 1
    d.do(c.LeasesExpire([list(d.claim()[0])]))
    assert (d.state(1), d.show(1)["reason"], d.show(1)["attempt"]) == ("dead", "poison", 0)


# ---- cancel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [0, 5])
def test_what_does_not_run_is_cancelled_at_once(delay_ms: int) -> None:
    d = Driver()
    d.submit(1, delay_ms=delay_ms)
    assert d.do(c.Cancel([id_of(1), id_of(1)], 5)) == [[5, None], [5, None]]
    assert d.txn.count(Table.READY) == d.txn.count(Table.TIMERS) == 0
    item = d.do(c.Cancel([id_of(2)], 5))[0]
    assert (item[0], item[1][0], item[1][6]) == (None, "NOT_FOUND", {"purged": False})


@pytest.mark.parametrize(
    ("end", "state", "outcome"),
    [
        (lambda d, g: d.complete(*g), "completed", "completed"),
        (lambda d, g: d.report(*g, Outcome.CANCELLED), "cancelled", "cancelled"),
        (lambda d, g: d.fail(*g), "cancelled", "failed"),
        (lambda d, g: d.report(*g, Outcome.RELEASE), "cancelled", "released"),
        (lambda d, g: d.report(*g, Outcome.SNOOZE, 5), "cancelled", "snoozed"),
        (lambda d, g: d.do(c.LeasesExpire([list(g)])), "cancelled", "crashed"),
        (lambda d, g: d.do(c.SessionClose(SESSION)), "cancelled", "released"),
        (lambda d, g: setattr(d, "now_ms", d.now_ms + 100) or d.advance(Timer.GRACE), "cancelled", "cancelled"),
        (lambda d, g: setattr(d, "now_ms", d.now_ms + 700) or d.advance(Timer.TIMEOUT), "cancelled", "timed_out"),
        (lambda d, g: setattr(d, "now_ms", d.now_ms + 900) or d.advance(Timer.DEADLINE), "dead", "deadline"),
    ],
)
def test_a_cancelling_task_ends_in_one_of_these_ways(end: Any, state: str, outcome: str) -> None:
    d = Driver()
    d.open()
    d.submit(1, timeout_ms=700, deadline_ms=900)
    grant = d.claim()[0]
    assert d.do(c.Cancel([id_of(1)], 100)) == [[3, None]]
    assert d.show(1)["cancelling"]
    end(d, grant)
    assert (d.state(1), past(d, 1), d.show(1)["cancelling"]) == (state, [outcome], False)
    assert d.txn.count(Table.TIMERS) == d.txn.count(Table.HELD) == 0
    assert d.show(1)["fence"] == grant[1]


def test_a_second_cancel_only_shortens_the_grace() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    d.claim()
    assert d.apply(c.Cancel([id_of(1)], 100)).cancels[0][3] == 100
    assert d.apply(c.Cancel([id_of(1)], 200)).cancels == []
    assert d.apply(c.Cancel([id_of(1)], 50)).cancels[0][3] == 50
    d.now_ms += 49
    assert d.advance(Timer.GRACE) == 0
    d.now_ms += 1
    assert d.advance(Timer.GRACE) == 1


# ---- timers -----------------------------------------------------------------------------------------


def test_timers_ring_when_due_the_earliest_first_and_in_slices() -> None:
    d = Driver()
    d.submit(1, delay_ms=30)
    d.submit(2, delay_ms=10)
    d.submit(3, delay_ms=20)
    d.now_ms += 9
    assert d.advance(Timer.DUE) == 0
    d.now_ms += 21
    assert d.advance(Timer.DUE, 2) == 2
    assert [d.state(n) for n in (1, 2, 3)] == ["scheduled", "pending", "pending"]
    assert d.advance(Timer.DUE, 2) == 1
    d.open()
    assert [id for id, _ in d.claim(3)] == [id_of(2), id_of(3), id_of(1)]


def test_expiry_is_over_with_the_first_start() -> None:
    d = Driver()
    d.open()
    d.submit(1, 2, expires_in_ms=10)
    d.report(*d.claim()[0], Outcome.RELEASE)
    d.now_ms += 10
    assert d.advance(Timer.EXPIRES) == 1
    assert [d.state(1), d.state(2)] == ["pending", "expired"]


def test_a_time_out_is_a_failure_with_backoff_and_a_deadline_is_final() -> None:
    d = Driver()
    d.open()
    d.submit(1, timeout_ms=10, deadline_ms=60_000)
    grant = d.claim()[0]
    d.now_ms += 10
    assert d.advance(Timer.TIMEOUT) == 1
    assert (d.state(1), d.show(1)["error"][0]) == ("scheduled", "TimedOut")
    assert d.complete(*grant) == [2, 1]
    d.now_ms += 60_000
    assert d.advance(Timer.DEADLINE) == 1
    assert (d.state(1), d.show(1)["reason"]) == ("dead", "deadline")
    assert d.txn.count(Table.TIMERS) == 0


def test_what_reads_many_large_tasks_stops_and_goes_on_in_the_next_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_READ_BYTES_MAX", 2_500)
    d = Driver()
    d.open()
    d.dead(*range(7), payload=bytes(1_000))
    assert [item[1] and item[1][0] for item in d.do(c.Purge(d.operation(), [id_of(n) for n in range(5)]))] == [
        None, None, None, "BACKPRESSURE", "BACKPRESSURE",
    ]  # fmt: skip
    d.now_ms += limits.DEAD_KEEP_MS_DEFAULT
    assert [d.advance(Timer.RETENTION), d.advance(Timer.RETENTION), d.advance(Timer.RETENTION)] == [3, 1, 0]


def test_a_lease_of_an_older_fence_is_passed_over() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    id, fence = d.claim()[0]
    d.report(id, fence, Outcome.RELEASE)
    d.claim()
    before = d.digest()
    d.do(c.LeasesExpire([[id, fence], [id_of(9), fence]]))
    assert d.digest() == before


def test_a_shortened_grace_leaves_one_timer() -> None:
    d = Driver()
    d.open()
    d.submit(1)
    d.claim()
    d.do(c.Cancel([id_of(1)], 100))
    d.do(c.Cancel([id_of(1)], 50))
    assert d.txn.count(Table.TIMERS) == 1


def test_timers_that_read_large_tasks_go_on_in_the_next_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_READ_BYTES_MAX", 2_500)
    d = Driver()
    d.open()
    d.submit(*range(5), payload=bytes(1_000), timeout_ms=10, retry=Retry(3, 1_000, 1_000, 1_000, 0))
    d.claim(5)
    d.now_ms += 10
    assert [d.advance(Timer.TIMEOUT), d.advance(Timer.TIMEOUT), d.advance(Timer.TIMEOUT)] == [3, 2, 0]
