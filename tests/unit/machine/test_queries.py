"""Questions: what a task shows, pages of lists, explanations, and numbers."""

from __future__ import annotations

from typing import Any

import pytest

from machine.driver import SESSION, Driver, id_of
from tq.errors import NotFound
from tq.machine import commands as c
from tq.machine import queries
from tq.machine.commands import Outcome, Timer
from tq.machine.settings import Settings
from tq.machine.states import State
from tq.spec import Retry, Spec, encode


def mixed() -> Driver:
    """0 pending high, 1 pending low, 2 scheduled, 3 running, 4 completed, 5 cancelled, 6 expired, 7 dead, 8 other queue."""
    d = Driver()
    d.open(queues=("default", "other"))
    for n in (3, 4, 7):
        d.submit(n)
    running, completed, dead = d.claim(3)
    assert running[0] == id_of(3)
    d.now_ms += 10
    d.complete(*completed)
    d.fail(*dead, permanent=True)
    d.submit(5)
    d.do(c.Cancel([id_of(5)], 0))
    d.submit(6, expires_in_ms=1)
    d.now_ms += 1
    d.advance(Timer.EXPIRES)
    d.submit(0, priority=200)
    d.submit(1, priority=0, tags=("t",))
    d.submit(2, delay_ms=1_000)
    d.submit(8, queue="other")
    return d


# ---- one task ---------------------------------------------------------------------------------------


def test_a_task_shows_all_its_fields_and_only_the_parts_asked_for() -> None:
    d = mixed()
    for n in range(9):
        assert set(d.show(n, 7)) == set(queries.TASK_FIELDS)
    bare = set(d.show(4, 0))
    assert set(d.show(4, queries.PART_PAYLOAD)) - bare == {"payload"}
    assert set(d.show(4, queries.PART_RESULT)) - bare == {"result", "result_content_type", "error"}
    assert set(d.show(4, queries.PART_HISTORY)) - bare == {"error", "history", "history_dropped"}
    with pytest.raises(NotFound):
        d.show(99)


def test_what_was_sent_is_shown() -> None:
    d = Driver()
    sent: dict[str, Any] = {
        "payload": b"p", "content_type": "text/plain", "tags": ("a", "b"), "headers": (("h", "v"),), "timeout_ms": 5,
        "expires_in_ms": 6, "deadline_ms": 7, "priority": 3, "queue": "q",
    }  # fmt: skip
    d.submit(1, **sent)
    shown = d.show(1)
    assert {name: shown[name] for name in ("payload", "content_type", "tags", "headers", "timeout_ms", "priority", "queue")} == {
        "payload": b"p", "content_type": "text/plain", "tags": ["a", "b"], "headers": {"h": "v"}, "timeout_ms": 5, "priority": 3,
        "queue": "q",
    }  # fmt: skip
    assert (shown["expires_ms"], shown["deadline_ms"]) == (d.now_ms + 6, d.now_ms + 7)


def test_the_id_stands_in_the_spec() -> None:
    assert queries.id_of_spec(encode(Spec(id_of(3), "t", b"p"))) == id_of(3)


# ---- explanations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "first in line of type 'echo' in queue 'default'"),
        (1, "behind 1 of type 'echo' in queue 'default'"),
        (2, "asked to start later; due in 1 s"),
        (3, "running on worker for 11 ms (attempt 1 of 5)"),
        (4, "completed by worker in attempt 1"),
        (5, "cancelled before it was started"),
        (6, "expired: no worker had started it when its time for that, expires_in, was over"),
        (7, "dead: its handler said in attempt 1 that no retry can help; last error: E: m"),
        (8, "no worker is connected that runs type 'echo' from queue 'other'"),
    ],
)
def test_explanations(n: int, words: str) -> None:
    d = mixed()
    why, facts = queries.explain(d.txn, id_of(n), d.now_ms, {("default", "echo")})
    assert words in why
    assert facts["id"] == id_of(n)


def test_explanations_of_what_failed_snoozed_and_is_being_cancelled() -> None:
    d = Driver()
    d.open()
    d.submit(1, 2, 3)
    one, two, _three = d.claim(3)
    d.fail(*one)
    d.report(*two, Outcome.SNOOZE, 500)
    d.do(c.Cancel([id_of(3)], 2_500))
    said = [queries.explain(d.txn, id_of(n), d.now_ms, None)[0] for n in (1, 2, 3)]
    assert "attempt 1 of 5 failed and the next one waits" in said[0]
    assert "put it off; due in 500 ms" in said[1]
    assert "a cancel was asked for, its grace ends in 2.5 s" in said[2]


def test_explanations_of_ends_say_how_far_it_had_come() -> None:
    d = Driver()
    d.open()
    once = Retry(attempts_max=1)
    d.submit(1, deadline_ms=50, queue="nobody")
    d.submit(2, 3, 4, deadline_ms=50)
    d.submit(5, retry=once)
    d.submit(6)
    _two, three, _four, five, _six = d.claim(5)
    d.fail(*three)
    d.do(c.Cancel([id_of(6)], 10))
    d.fail(*five)
    d.now_ms += 60
    d.advance(Timer.DEADLINE)
    d.advance(Timer.GRACE)
    assert {n: queries.explain(d.txn, id_of(n), d.now_ms, None)[0] for n in (1, 2, 3, 4, 5, 6)} == {
        1: "dead: its deadline passed before it was started",
        2: "dead: its deadline passed while attempt 1 of 5 ran on worker",
        3: "dead: its deadline passed after 1 of 5 attempts; last error: E: m",
        4: "dead: its deadline passed while attempt 1 of 5 ran on worker",
        5: "dead: its only attempt failed; last error: E: m",
        6: "cancelled while attempt 1 of 5 ran on worker",
    }
    assert d.do(c.Retry(d.operation(), [id_of(6)]))
    d.now_ms += 1
    d.do(c.Cancel([id_of(6)], 10))
    assert queries.explain(d.txn, id_of(6), d.now_ms, None)[0] == "cancelled before it was started"


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 ms"), (999, "999 ms"), (1_000, "1 s"), (1_500, "1.5 s"), (9_900, "9.9 s"), (38_100, "38 s"), (60_000, "1 min"),
        (150_000, "2 min 30 s"), (3_600_000, "1 h"), (3_661_000, "1 h 1 min"), (86_400_000, "1 d"), (97_200_000, "1 d 3 h"),
    ],
)  # fmt: skip
def test_lengths_of_time_are_said_as_people_say_them(ms: int, said: str) -> None:
    d = Driver()
    d.submit(1, delay_ms=ms or 1)
    d.now_ms += 0 if ms else 1
    why = queries.explain(d.txn, id_of(1), d.now_ms, None)[0]
    assert why == f"scheduled: it was asked to start later; {f'due in {said}' if ms else 'due now'}"


def test_the_place_in_a_line_counts_all_before_it() -> None:
    d = Driver()
    d.submit(*range(4))
    assert [queries.explain(d.txn, id_of(n), d.now_ms, None)[1]["ahead"] for n in range(4)] == [0, 1, 2, 3]


def test_explaining_what_is_not_there() -> None:
    with pytest.raises(NotFound):
        queries.explain(Driver().txn, id_of(1), 0, None)


# ---- numbers ----------------------------------------------------------------------------------------


def test_counts_and_queues() -> None:
    d = mixed()
    d.now_ms += 700  # no entry is written in this time
    assert queries.counts(d.txn) == {
        "waiting": 0, "scheduled": 1, "pending": 3, "running": 1, "completed": 1, "cancelled": 1, "expired": 1, "skipped": 0, "dead": 1,
    }  # fmt: skip
    default, other = queries.queues(d.txn, d.now_ms)
    assert (default["name"], default["pending"], default["running"]) == (
        "default",
        {"low": 1, "normal": 0, "high": 1},
        1,
    )
    assert (other["name"], other["pending"], other["dead"]) == ("other", {"low": 0, "normal": 1, "high": 0}, 0)
    assert default["oldest_ready_age_ms"] == 700
    assert set(default) == {
        "name",
        "settings",
        "oldest_ready_ms",
        "oldest_ready_age_ms",
        *(state.name.lower() for state in State),
    }
    assert queries.ready(d.txn) == {("default", "echo"): 2, ("other", "echo"): 1}


def test_the_oldest_ready_task_may_have_any_priority_and_waits_anew_after_a_release() -> None:
    d = Driver()
    d.open()
    d.submit(1, priority=0)
    d.now_ms += 50
    d.submit(2, priority=255)
    since = d.now_ms - 50
    assert queries.queues(d.txn, d.now_ms)[0]["oldest_ready_ms"] == since
    d.submit(3, priority=100, type="other")
    assert queries.queues(d.txn, d.now_ms)[0]["oldest_ready_ms"] == since
    d.do(c.Cancel([id_of(3)], 0))
    grants = d.claim(2)
    d.now_ms += 10
    assert queries.queues(d.txn, d.now_ms)[0]["oldest_ready_ms"] is None
    d.report(*grants[1], Outcome.RELEASE)
    assert queries.queues(d.txn, d.now_ms)[0]["oldest_ready_ms"] == d.now_ms


def test_the_next_timer_of_each_kind() -> None:
    d = Driver(Settings(finished_keep_ms=1_000, finished_keep_tasks=1, dead_keep_ms=500))
    d.open()

    def due(kind: Timer) -> int | None:
        return queries.next_due_ms(d.txn, kind, d.settings)

    assert [due(kind) for kind in Timer] == [None] * len(Timer)
    start = d.now_ms
    d.submit(1, delay_ms=7)
    d.submit(2, delay_ms=5)
    d.submit(3, timeout_ms=20, deadline_ms=30)
    d.claim()
    d.do(c.Cancel([id_of(3)], 9))
    assert [due(Timer.DUE), due(Timer.TIMEOUT), due(Timer.DEADLINE), due(Timer.GRACE)] == [
        start + n for n in (5, 20, 30, 9)
    ]
    d.do(c.Cancel([id_of(1)], 0))
    assert due(Timer.RETENTION) == start + 1_000
    d.do(c.Cancel([id_of(2)], 0))
    assert due(Timer.RETENTION) == start, "more finished tasks than are kept"
    d.do(c.Purge(d.operation(), [id_of(1)]))
    assert due(Timer.RETENTION) == start + 1_000
    d.dead(4)
    assert due(Timer.RETENTION) == start + 500


# ---- for a new leader -------------------------------------------------------------------------------


def test_sessions_and_leases() -> None:
    d = Driver()
    d.open()
    d.open(b"another".ljust(16), types=("x",), queues=("q", "r"))
    assert list(queries.sessions(d.txn)) == [
        (b"another".ljust(16), "worker", ["x"], ["q", "r"]), (SESSION, "worker", ["echo"], ["default"]),
    ]  # fmt: skip
    assert queries.last_seq(d.txn, SESSION) == -1
    d.submit(1, 2)
    (_, one), (_, two) = d.claim(2)
    assert queries.last_seq(d.txn, SESSION) == d.index - 1
    d.do(c.Cancel([id_of(2)], 100))
    d.now_ms += 30
    d.apply()
    assert list(queries.held(d.txn)) == [(SESSION, id_of(1), one, None), (SESSION, id_of(2), two, 70)]
    assert queries.session_record(d.txn, SESSION) == ("worker", ["echo"], ["default"])
    assert queries.session_record(d.txn, b"none".ljust(16)) is None
