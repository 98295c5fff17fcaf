"""QUEUE_SET as a command, and what the other commands make of it. The rules are told by tests/machine/scripts/queue_*.txt."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from machine.driver import SESSION, Driver, id_of
from tq import limits
from tq.errors import Conflict, InvalidRequest, Unsupported
from tq.machine import commands as c
from tq.machine import queries
from tq.machine.answers import NO_TASK, NO_TYPE, EventKind, SubmitOutcome
from tq.machine.apply import Machine
from tq.machine.commands import Timer
from tq.machine.settings import Settings
from tq.spec import Retry, Spec, encode
from tq.store import keys
from tq.store.tables import Table

DAY_MS = limits.DAY_MS


def command(d: Driver, queue: str = "mail", by: str = "ana", **changes: Any) -> c.QueueSet:
    return c.QueueSet(d.operation(), queue, by, [[name, value] for name, value in changes.items()])


def set_queue(d: Driver, queue: str = "mail", **changes: Any) -> Any:
    return d.do(command(d, queue, **changes))


def row(d: Driver, queue: str = "mail") -> dict[str, Any] | None:
    return next((row for row in queries.queues(d.txn, d.now_ms) if row["name"] == queue), None)


# ---- the command ----------------------------------------------------------------------------------------


def test_a_queue_may_be_set_before_its_first_task_and_goes_without_a_trace() -> None:
    d = Driver()
    assert set_queue(d, max_length=None)["max_length"] is None
    assert d.machine.number_of_queue("mail") is None, "nothing was said: not even the name is kept"
    assert set_queue(d, max_length=5)["max_length"] == 5
    shown = row(d)
    assert shown is not None
    assert (shown["settings"]["max_length"], shown["pending"]) == (5, {"low": 0, "normal": 0, "high": 0})
    set_queue(d, max_length=None)
    assert row(d) is None


def test_a_queue_is_listed_while_it_has_tasks_or_settings() -> None:
    d = Driver()
    d.open(queues=("mail",))
    d.submit(1, queue="mail")
    d.claim()
    assert row(d) is not None
    d.do(c.SessionClose(SESSION))
    d.do(c.Cancel([id_of(1)], 0))
    assert row(d) is not None, "an ended task is kept"
    d.do(c.Purge(d.operation(), [id_of(1)]))
    assert row(d) is None


def test_an_operation_is_done_once() -> None:
    d = Driver()
    first = command(d, max_length=5)
    answer = d.do(first)
    set_queue(d, max_length=6)
    assert d.do(first) == answer
    assert row(d)["settings"]["max_length"] == 6  # type: ignore[index]
    assert isinstance(d.do(c.Retry(first.operation, [])), Conflict)
    d.now_ms += d.machine.settings.tombstone_keep_ms
    d.advance(Timer.OPERATION)
    assert d.do(first)["max_length"] == 5, "forgotten with its window"


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"rate": "100/s"}, Unsupported), ({"max_length": -1}, InvalidRequest), ({"paused": True, "max_length": ""}, InvalidRequest)],
)  # fmt: skip
def test_what_is_refused_changes_nothing(changes: dict[str, Any], error: type[Exception]) -> None:
    d = Driver()
    set_queue(d, max_length=5)
    digest = d.digest()
    assert isinstance(set_queue(d, **changes), error)
    assert d.digest() == digest


@pytest.mark.parametrize(
    ("queue", "by"), [("", "ana"), (" mail", "ana"), ("m" * 129, "ana"), ("mail", ""), ("mail", "a\nb")]
)
def test_names_are_names(queue: str, by: str) -> None:
    d = Driver()
    answer = d.do(command(d, queue, by, max_length=5))
    assert isinstance(answer, InvalidRequest)
    assert answer.detail["field"] in ("queue", "by")


def test_there_is_room_for_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NAMES_MAX", 1)
    d = Driver()
    assert set_queue(d, max_length=5)["max_length"] == 5
    assert isinstance(set_queue(d, "other", max_length=5), InvalidRequest)
    assert set_queue(d, max_length=6)["max_length"] == 6


def test_events_tell_who_did_what() -> None:
    d = Driver()
    told = d.apply(
        command(d, paused=True, reason="deploy", max_length=5),
        command(d, max_length=5),
        command(d, by="ben", paused=False),
    ).events
    queue = d.machine.number_of_queue("mail")
    assert list(told) == [
        (EventKind.QUEUE_PAUSED, NO_TASK, queue, NO_TYPE, 0, ["ana", "deploy"]),
        (EventKind.QUEUE_SET, NO_TASK, queue, NO_TYPE, 0, ["ana", {"max_length": 5}]),
        (EventKind.QUEUE_RESUMED, NO_TASK, queue, NO_TYPE, 0, ["ben"]),
    ]
    assert d.machine.type_name(NO_TYPE) == ""


# ---- paused -------------------------------------------------------------------------------------------


def test_the_leader_is_told_of_what_can_be_claimed_and_nothing_else() -> None:
    d = Driver()
    d.open(types=("x", "y"), queues=("mail", "default"))
    plain = [encode(Spec(id_of(n), "xy"[n % 2], b"", "mail")) for n in range(5)]
    assert d.apply(command(d, paused=True), c.Submit(plain)).ready == {}
    assert d.submit(9, type="x") == [0]
    assert not d.machine.has_ready(["mail"], ["x", "y"])
    assert d.machine.has_ready(["mail", "default"], ["x"])
    assert [id for id, _ in d.claim(9)] == [id_of(9)]
    more = c.Submit([encode(Spec(id_of(5), "y", b"", "mail"))])
    ready = d.apply(command(d, paused=False), more).ready
    assert {d.machine.type_name(type_): n for (_, type_), n in ready.items()} == {"x": 3, "y": 3}
    assert d.machine.has_ready(["mail"], ["x"])
    ready = d.apply(
        c.Submit([encode(Spec(id_of(6), "y", b"", "mail"))]), command(d, paused=True), command(d, paused=False)
    ).ready
    assert {d.machine.type_name(type_): n for (_, type_), n in ready.items()} == {"x": 3, "y": 4}
    assert len(d.claim(9)) == 7


def test_what_is_told_at_a_resumption_has_the_same_order_on_every_node() -> None:
    """One node has lived through it, another one has read it from its store."""
    old, new = Driver(), Driver()
    for d in (old, new):
        d.open(types=("x", "y", "z"), queues=("mail",))
        for n, type_ in enumerate("zyx"):
            d.submit(n, type=type_, queue="mail")
        d.claim(2)
        for n, type_ in enumerate("yz", 5):
            d.submit(n, type=type_, queue="mail")
        set_queue(d, paused=True)
    new.restart()
    answers = [d.apply(command(d, paused=False)) for d in (old, new)]
    assert repr(answers[0]) == repr(answers[1])
    assert len(answers[0].ready) == 3


def test_the_order_of_queues_in_a_claim_stays_without_the_paused_one() -> None:
    d = Driver()
    d.open(queues=("a", "b", "c"))
    for n, queue in enumerate("cba"):
        d.submit(n, queue=queue)
    set_queue(d, "b", paused=True)
    assert [id for id, _ in d.claim(9)] == [id_of(2), id_of(0)]


def test_time_goes_on_in_a_paused_queue() -> None:
    d = Driver()
    d.open(queues=("mail",))
    d.submit(1, queue="mail", expires_in_ms=5)
    d.submit(2, queue="mail", delay_ms=5)
    set_queue(d, paused=True)
    d.now_ms += 5
    d.advance(Timer.EXPIRES)
    d.advance(Timer.DUE)
    assert (d.state(1), d.state(2)) == ("expired", "pending")


# ---- full ---------------------------------------------------------------------------------------------


def test_a_full_queue_says_how_full_it_is_and_when_to_come_again() -> None:
    d = Driver()
    set_queue(d, max_length=2)
    assert d.submit(1, 2, queue="mail") == [0, 0]
    ((outcome, state, id, error),) = d.submit(3, queue="mail")
    assert (outcome, state, id) == (SubmitOutcome.QUEUE_FULL, None, None)
    assert error[0] == "QUEUE_FULL"
    assert error[2:4] == [True, limits.QUEUE_FULL_RETRY_AFTER_MS]
    assert error[6] == {"queue": "mail", "length": 2, "max_length": 2}


def test_a_batch_in_bulk_fits_or_is_looked_at_one_by_one() -> None:
    d = Driver()
    set_queue(d, max_length=5)
    specs = [encode(Spec(id_of(n), "echo", b"", ["default", "mail"][n % 2])) for n in range(12)]
    answer = d.do(c.Submit(specs[:10]))
    assert answer == [0] * 10
    answer = d.do(c.Submit(specs))
    assert [item if item == 0 else item[0] for item in answer] == [1] * 10 + [0, SubmitOutcome.QUEUE_FULL]


def test_a_refused_atomic_batch_leaves_nothing() -> None:
    d = Driver()
    set_queue(d, max_length=1)
    digest = d.digest()
    answer = d.submit(1, 2, queue="mail", atomic=True)
    assert [item[0] for item in answer] == [SubmitOutcome.NOT_DONE, SubmitOutcome.QUEUE_FULL]
    assert d.digest() == digest
    assert d.submit(1, queue="mail", atomic=True) == [0]


def test_what_waits_for_another_try_counts_and_what_runs_does_not() -> None:
    d = Driver()
    d.open(queues=("mail",))
    set_queue(d, max_length=1)
    d.submit(1, queue="mail")
    ((id, fence),) = d.claim()
    assert d.submit(2, queue="mail") == [0]
    d.fail(id, fence)
    assert d.state(1) == "scheduled"
    assert d.submit(3, queue="mail")[0][0] == SubmitOutcome.QUEUE_FULL
    d.do(c.Cancel([id_of(1), id_of(2)], 0))
    assert d.submit(3, queue="mail") == [0]


# ---- defaults ------------------------------------------------------------------------------------------


def test_what_is_written_out_is_said_even_if_it_is_the_built_in_value() -> None:
    d = Driver()
    d.open(queues=("mail",))
    set_queue(d, retry=[1, 0, 1_000, 0, 0], result_ttl_ms=5)
    said = [id_of(1), "echo", b"", "mail", 150, {7: list(Retry()), 12: limits.RESULT_TTL_MS_DEFAULT}]
    assert d.do(c.Submit([cbor2.dumps(said), encode(Spec(id_of(2), "echo", b"", "mail"))])) == [0, 0]
    assert (d.show(1)["attempts_max"], d.show(2)["attempts_max"]) == (5, 1)
    for id, fence in d.claim(2):
        d.complete(id, fence)
    d.now_ms += 5
    assert d.advance(Timer.RESULT_TTL) == 1
    assert (d.show(1)["result"], d.show(2)["result"]) == (b"r", None)


def test_a_tombstone_remembers_what_was_sent() -> None:
    d = Driver()
    set_queue(d, timeout_ms=5)
    d.submit(1, queue="mail")
    d.do(c.Cancel([id_of(1)], 0))
    d.do(c.Purge(d.operation(), [id_of(1)]))
    set_queue(d, timeout_ms=6)
    assert d.submit(1, queue="mail")[0][0] == SubmitOutcome.DUPLICATE
    assert d.submit(1, queue="mail", timeout_ms=5)[0][0] == SubmitOutcome.CONFLICT


def test_defaults_go_with_a_task_through_every_state() -> None:
    """The tail of its header has unique key, what was given, session and worker, in this order."""
    d = Driver()
    d.open(queues=("mail",))
    set_queue(d, timeout_ms=50, retry=[9, 7, 1_000, 7, 0])
    d.submit(1, queue="mail", unique=("k", 1))
    for wait_ms in (7, 7):
        ((id, fence),) = d.claim()
        assert d.show(1)["worker"] == "worker"
        d.fail(id, fence)
        assert d.show(1)["due_ms"] == d.now_ms + wait_ms
        d.now_ms += wait_ms
        d.restart()
        assert d.advance(Timer.DUE) == 1
    ((id, fence),) = d.claim()
    d.now_ms += 50
    assert d.advance(Timer.TIMEOUT) == 1
    assert d.show(1)["state"] == "scheduled"


# ---- retention -----------------------------------------------------------------------------------------


def ended(d: Driver, *ns: int, queue: str) -> None:
    d.submit(*ns, queue=queue)
    d.do(c.Cancel([id_of(n) for n in ns], 0))


def test_own_retention_does_not_stand_in_the_way_of_the_common_one() -> None:
    """Tasks that are kept longer are walked over once, and then never again."""
    d = Driver()
    set_queue(d, finished_keep_ms=9 * DAY_MS)
    ended(d, *range(10), queue="mail")
    d.now_ms += 1
    ended(d, 10, queue="default")
    d.now_ms += DAY_MS
    assert queries.next_due_ms(d.txn, Timer.RETENTION, d.settings) <= d.now_ms  # type: ignore[operator]
    assert d.advance(Timer.RETENTION, limit=6) == 6
    assert d.state(10) == "cancelled"
    assert d.advance(Timer.RETENTION) == 5
    assert queries.next_due_ms(d.txn, Timer.RETENTION, d.settings) is None
    assert queries.get_task(d.txn, id_of(0), 0)["state"] == "cancelled"
    d.restart()
    assert d.advance(Timer.RETENTION) == 0
    assert queries.next_due_ms(d.txn, Timer.KEPT, d.settings) == d.now_ms - DAY_MS - 1 + 9 * DAY_MS
    d.now_ms += 9 * DAY_MS
    assert d.advance(Timer.KEPT) == 10
    assert d.txn.count(Table.TASKS) == 0


def test_own_retention_is_not_counted_against_the_number_that_is_kept() -> None:
    d = Driver(Settings(finished_keep_tasks=2))
    set_queue(d, finished_keep_ms=9 * DAY_MS)
    ended(d, *range(5), queue="mail")
    ended(d, 5, 6, queue="default")
    d.now_ms += 1
    assert d.advance(Timer.RETENTION) == 0
    ended(d, 7, queue="default")
    d.now_ms += 1
    d.advance(Timer.RETENTION)
    assert d.txn.count(Table.TASKS) == 7


def test_nothing_is_passed_over_in_the_millisecond_in_which_tasks_end() -> None:
    """A task that ends then may have a lower id, and would stand before the place that was passed."""
    d = Driver(Settings(finished_keep_tasks=0))
    set_queue(d, finished_keep_ms=DAY_MS)
    ended(d, 5, queue="mail")
    ended(d, 6, queue="default")
    assert d.advance(Timer.RETENTION) == 0
    ended(d, 1, queue="default")
    d.now_ms += 1
    assert d.advance(Timer.RETENTION) == 3
    assert [id for id, _ in d.txn.scan(Table.TASKS, b"\x00", None, 9)] == [id_of(5)]


# ---- explained -----------------------------------------------------------------------------------------


def why(d: Driver, n: int) -> tuple[str, dict[str, Any]]:
    return queries.explain(d.txn, id_of(n), d.now_ms, {("mail", "echo")})


def test_explain_tells_of_the_pause() -> None:
    d = Driver()
    d.open(queues=("mail",))
    set_queue(d, paused=True, reason="deploy of v2")
    d.submit(1, queue="mail")
    d.submit(2, queue="mail", delay_ms=300_000)
    d.now_ms += 150_000
    sentence, facts = why(d, 1)
    assert sentence == "pending: queue 'mail' is paused by ana, for 2 min 30 s now: deploy of v2"
    assert facts["paused"] == {"by": "ana", "since_ms": d.now_ms - 150_000, "reason": "deploy of v2"}
    assert (facts["ahead"], facts["has_worker"]) == (0, True)
    sentence, _ = why(d, 2)
    assert sentence == (
        "scheduled: it was asked to start later; due in 2 min 30 s; "
        "queue 'mail' is paused by ana, for 2 min 30 s now: deploy of v2"
    )
    set_queue(d, paused=False)
    assert "paused" not in why(d, 1)[0]


def test_explain_tells_of_a_full_queue() -> None:
    d = Driver()
    set_queue(d, max_length=2)
    d.submit(1, 2, queue="mail")
    sentence, facts = why(d, 1)
    assert sentence.endswith("; queue 'mail' is full, 2 of 2: it takes no more tasks")
    assert (facts["queue_length"], facts["queue_max_length"]) == (2, 2)


def test_settings_are_state() -> None:
    d = Driver()
    digest = d.digest()
    number = set_queue(d, max_length=5) and d.machine.number_of_queue("mail")
    assert number is not None
    assert d.txn.get(Table.META, keys.QUEUE_SETTINGS + keys.U32.pack(number)) is not None
    assert d.digest() != digest
    assert Machine(d.txn)._rules.of(number).max_length == 5
