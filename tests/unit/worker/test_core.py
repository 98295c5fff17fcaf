"""The worker's decisions, with a broker, a clock and executors that the test plays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.worker.rig import LEASE_MS, Rig, grant, id_of, only
from tq import cbor, limits
from tq.errors import Backpressure, BrokerUnavailable, InvalidRequest, NotLeader, PayloadTooLarge, SessionLost
from tq.protocol import messages as m
from tq.worker.core import (
    CLOSE_MS,
    DEAD_MS,
    DEAD_OTHERS_MS,
    PING_MS,
    PING_OTHERS_MS,
    State,
)
from tq.worker.job import Why
from tq.worker.jobs import STOP_GRACE_MS
from tq.worker.outcomes import CANCELLED, COMPLETE, FAIL, RELEASE, SAID_NOTHING, SAID_STOPPED, crashed, failed
from tq.worker.reports import IN_FLIGHT_MAX

DONE = (COMPLETE, ["", b"done"])


def reports(messages: list[m.Message]) -> list[list[Any]]:
    """All outcomes in these messages: [number of the task, outcome] each."""
    return [
        [int.from_bytes(item[0], "big"), item[2]]
        for message in messages
        if isinstance(message, m.TaskResult)
        for item in message.items
    ]


# ---- sessions and claims -------------------------------------------------------------------------------


def test_it_says_nothing_without_a_connection() -> None:
    rig = Rig()
    assert rig.step() == []
    assert rig.core.wake_ms() is None


def test_it_registers_its_types_and_claims_for_all_slots() -> None:
    rig = Rig(concurrency=3)
    rig.connect()
    request = rig.register()
    assert (request.types, request.queues, request.name, request.info) == (
        ["c", "p", "t"],
        ["default"],
        "w",
        {"pid": 1},
    )
    claim = rig.sent(m.ClaimTask)
    assert (claim.session, claim.seq, claim.queues, claim.max_n) == (request.session, 1, [], 3)
    assert claim.wait_ms == limits.CLAIM_WAIT_MS_MAX
    assert rig.step() == [], "one claim at a time"


def test_a_grant_becomes_a_job_that_knows_its_attempt() -> None:
    rig = Rig()
    raw = grant(7, "t", b"in", fence=900, attempt=2, crashes=1, deadline_ms=rig.clock.wall_ms() + 5_000)
    (job,) = rig.granted(rig.open(), raw)
    c = job.context
    assert (job.payload, c.type, c.queue, c.attempt, c.crashes, c.fence) == (b"in", "t", "default", 2, 1, 900)
    assert c.id == "00000000-0000-0000-0000-000000000007"
    assert c.deadline == pytest.approx(rig.clock.wall_ms() / 1000 + 5)
    assert list(rig.core.jobs.held) == [900]


def test_it_claims_only_for_free_slots_and_never_holds_more_than_them() -> None:
    rig = Rig(concurrency=3)
    first, _second = rig.granted(rig.open(), grant(1), grant(2))
    claim = only(rig.answer, m.ClaimTask)
    assert (claim.seq, claim.max_n) == (2, 1)
    (third,) = rig.granted(claim, grant(3))
    assert rig.answer == [], "all slots are taken"
    rig.core.finished(first, DONE)
    out = rig.step()
    assert only(out, m.ClaimTask).max_n == 1
    assert isinstance(out[0], m.TaskResult), "the outcome leaves before the claim, so that one entry has both"
    rig.core.finished(third, DONE)
    assert not [message for message in rig.step() if isinstance(message, m.ClaimTask)]


def test_a_claim_that_comes_back_after_its_wait_is_asked_again_at_once() -> None:
    rig = Rig()
    claim = rig.open()
    rig.clock.advance_ms(limits.CLAIM_WAIT_MS_MAX)
    rig.core.received(m.ClaimReply(claim.rid, 5, []))
    assert only(rig.step(), m.ClaimTask).seq == 2


def test_claims_that_come_back_empty_at_once_pause_longer_and_longer() -> None:
    rig = Rig()
    claim = rig.open()
    waits = []
    for _ in range(12):
        rig.core.received(m.ClaimReply(claim.rid, 5, []))
        out: list[m.Message] = rig.step()
        begun = rig.clock.monotonic_ms()
        while not out:
            wake_ms = rig.core.wake_ms()
            assert wake_ms is not None
            rig.clock.advance_ms(max(1, wake_ms - rig.clock.monotonic_ms()))
            out = rig.step()
        waits.append(rig.clock.monotonic_ms() - begun)
        claim = only(out, m.ClaimTask)
    assert waits[0] == 0
    assert 50 <= waits[-1] <= 150
    assert sum(waits) > 200


def test_a_lost_connection_repeats_the_claim_under_its_number() -> None:
    rig = Rig()
    claim = rig.open()
    rig.core.disconnected()
    assert rig.step() == []
    rig.connect()
    again = rig.sent(m.ClaimTask)
    assert (again.session, again.seq, again.max_n) == (claim.session, claim.seq, claim.max_n)
    assert again.rid != claim.rid
    (job,) = rig.granted(again, grant(1))
    assert job.fence == 1
    assert only(rig.answer, m.ClaimTask).seq == 2


def test_a_lost_connection_repeats_the_registration() -> None:
    rig = Rig()
    rig.connect()
    first = rig.sent(m.RegisterWorker)
    rig.core.disconnected()
    rig.connect()
    assert rig.sent(m.RegisterWorker).session == first.session


def test_a_grant_of_a_type_that_was_not_registered_goes_back() -> None:
    rig = Rig()
    assert rig.granted(rig.open(), grant(1, "unknown")) == []
    assert reports(rig.answer) == [[1, RELEASE]]
    assert "granted a type that was not registered" in rig.events()
    assert not rig.core.jobs.held


def test_headers_of_the_task_are_in_its_context() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1, headers={"trace": "abc"}))
    assert job.context.headers == {"trace": "abc"}


def test_a_task_of_a_later_version_is_left_to_others() -> None:
    rig = Rig()
    claim = rig.open()
    later = cbor.dumps([id_of(1), "t", b"", "default", 150, {999: 1}])
    (job,) = rig.granted(claim, [later, 1, 0, 5, LEASE_MS, None, None], grant(6))
    assert (job.fence, list(rig.core.jobs.held)) == (6, [6])
    assert reports(rig.answer) == []
    assert "granted a task that this version cannot read" in rig.events()
    rig.core.drain()
    rig.core.received(m.ClaimReply(only(rig.answer, m.ClaimTask).rid, 5, [[later, 1, 0, 7, LEASE_MS, None, None]]))
    assert reports(rig.step()) == []


def test_the_session_that_the_claim_finds_lost_is_opened_anew_and_its_jobs_are_told() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    claim = only(rig.answer, m.ClaimTask)
    out = rig.refused(claim.rid, SessionLost("ended"))
    assert job.context.lost
    assert job.context.cancelled
    assert rig.stopped == [job]
    assert not rig.core.jobs.held
    request = only(out, m.RegisterWorker)
    assert request.session != claim.session
    rig.core.received(m.RegisterReply(request.rid, 1, 1, 1, 1))
    renewed = rig.sent(m.ClaimTask)
    assert (renewed.session, renewed.seq) == (request.session, 1)
    assert renewed.max_n == 3, "the lost job has its slot until it ends"
    rig.core.finished(job, DONE)
    assert reports(rig.step()) == [], "its outcome would be refused"


def test_a_claim_of_a_lost_session_that_was_granted_all_the_same_goes_back() -> None:
    rig = Rig()
    claim = rig.open()
    rig.core.session_lost(claim.session)
    rig.core.received(m.ClaimReply(claim.rid, 5, [grant(1)]))
    assert reports(rig.step()) == [[1, RELEASE]]
    assert rig.started == []


# ---- outcomes ------------------------------------------------------------------------------------------


def test_outcomes_of_a_burst_leave_in_one_message() -> None:
    rig = Rig(concurrency=50)
    jobs = rig.granted(rig.open(), *[grant(n) for n in range(1, 51)])
    for job in jobs:
        rig.core.finished(job, SAID_NOTHING)
    out = rig.step()
    assert reports(out) == [[n, COMPLETE] for n in range(1, 51)]
    assert len(out) == 2
    assert len(rig.core.jobs.held) == 50, "the leases are ours until the broker answered"
    rig.answered(only(out, m.TaskResult))
    assert not rig.core.jobs.held
    assert rig.core.stats().completed == 50


def test_outcomes_gather_while_enough_reports_are_under_way() -> None:
    rig = Rig(concurrency=10)
    jobs = rig.granted(rig.open(), *[grant(n) for n in range(1, 11)])
    sent = []
    for job in jobs:
        rig.core.finished(job, DONE)
        sent += [message for message in rig.step() if isinstance(message, m.TaskResult)]
    assert [len(message.items) for message in sent] == [1] * IN_FLIGHT_MAX
    out = rig.answered(sent[0])
    assert len(only(out, m.TaskResult).items) == 10 - IN_FLIGHT_MAX


def test_unanswered_outcomes_are_sent_again_on_the_next_connection_in_order() -> None:
    rig = Rig()
    first, second = rig.granted(rig.open(), grant(1), grant(2))
    rig.core.finished(first, DONE)
    assert reports(rig.step()) == [[1, COMPLETE]]
    rig.core.disconnected()
    rig.core.finished(second, DONE)
    assert rig.step() == []
    assert set(rig.core.jobs.held) == {1, 2}
    rig.connect()
    report = only(rig.step(), m.TaskResult)
    assert [item[1] for item in report.items] == [1, 2]
    rig.answered(report, 1, 0)  # the first had arrived: ALREADY
    assert not rig.core.jobs.held
    assert rig.core.statistics.stale == 0


def test_a_stale_outcome_is_counted_and_told() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    rig.answered(only(rig.step(), m.TaskResult), [2, 4])
    assert rig.core.stats().stale == 1
    assert "an outcome came too late" in rig.events()


def test_large_results_are_spread_over_messages() -> None:
    rig = Rig()
    jobs = rig.granted(rig.open(), grant(1), grant(2), grant(3))
    big = b"x" * (5 * limits.MIB)
    for job in jobs:
        rig.core.finished(job, (COMPLETE, ["", big]))
    sizes = [
        sum(len(item[3][1]) for item in message.items) for message in rig.step() if isinstance(message, m.TaskResult)
    ]
    assert sizes == [10 * limits.MIB, 5 * limits.MIB]
    assert max(sizes) <= limits.BATCH_BYTES_MAX


def test_a_refused_batch_is_sent_one_by_one_to_find_the_item_that_is_refused() -> None:
    rig = Rig()
    jobs = rig.granted(rig.open(), grant(1), grant(2), grant(3))
    for job in jobs:
        rig.core.finished(job, DONE)
    out = rig.refused(only(rig.step(), m.TaskResult).rid, InvalidRequest("no"))
    singles = [message for message in out if isinstance(message, m.TaskResult)]
    assert [len(message.items) for message in singles] == [1, 1, 1]
    rig.answered(singles[0])
    rig.refused(singles[1].rid, PayloadTooLarge("no"))
    rig.answered(singles[2])
    assert not rig.core.jobs.held
    assert [values["id"] for event, values in rig.notes if event == "an outcome was refused"] == [id_of(2).hex()]


def test_a_broker_without_room_gets_the_outcomes_later() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    assert rig.refused(only(rig.step(), m.TaskResult).rid, Backpressure("full", retry_after=0.5)) == []
    assert rig.after(200) == []
    assert reports(rig.after(800)) == [[1, COMPLETE]]


def test_a_crashed_child_costs_the_lease_of_its_attempt_alone() -> None:
    rig = Rig()
    first, second = rig.granted(rig.open(), grant(1, "p"), grant(2, "p"))
    rig.core.finished(first, crashed("WorkerCrashed", "its process was ended by SIGSEGV"))
    out = rig.step()
    assert first.fence not in rig.core.jobs.held
    assert reports(out) == []
    assert second.fence in rig.core.jobs.held
    assert not second.context.cancelled
    assert "a task's process crashed" in rig.events()


# ---- stopping ------------------------------------------------------------------------------------------


def cancel_pushed(rig: Rig, number: int, grace_ms: int = 10_000) -> None:
    session = rig.core.session
    assert session is not None
    rig.core.received(m.CancelRunning(session, [[id_of(number), number, grace_ms]]))


def test_a_cancel_is_told_once_and_answered() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    cancel_pushed(rig, 1)
    cancel_pushed(rig, 1)
    rig.core.heard(rig.core.session or b"", m.HeartbeatReply(1, [[id_of(1), 1, 10_000]], [], False))
    rig.step()
    assert rig.stopped == [job]
    assert job.context.cancelled
    assert not job.context.lost
    rig.core.finished(job, SAID_STOPPED)
    assert reports(rig.step()) == [[1, CANCELLED]]


def test_a_handler_that_completes_in_spite_of_its_cancel_counts_as_completed() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    cancel_pushed(rig, 1)
    rig.step()
    rig.core.finished(job, DONE)
    assert reports(rig.step()) == [[1, COMPLETE]]


def test_a_cancel_of_another_session_or_attempt_is_none_of_ours() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.received(m.CancelRunning(b"X" * 16, [[id_of(1), 1, 0]]))
    cancel_pushed(rig, 2)
    rig.step()
    assert not job.context.cancelled


def test_a_cancelled_process_is_killed_after_the_grace() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1, "p"))
    cancel_pushed(rig, 1, grace_ms=3_000)
    rig.step()
    rig.after(2_999)
    assert rig.killed == []
    rig.after(1)
    assert rig.killed == [job]


@pytest.mark.parametrize("type_", ["t", "c"])
def test_what_cannot_be_killed_keeps_its_slot_and_loses_its_lease(type_: str) -> None:
    rig = Rig(concurrency=2)
    (job,) = rig.granted(rig.open(), grant(1, type_))
    claim = only(rig.answer, m.ClaimTask)
    cancel_pushed(rig, 1, grace_ms=3_000)
    rig.step()
    rig.after(3_000)
    assert rig.killed == [job], "told once more: a coroutine may have caught the first"
    assert not rig.core.jobs.held
    assert rig.core.stats().stuck == 1
    rig.granted(claim, grant(2))
    assert not [message for message in rig.answer if isinstance(message, m.ClaimTask)], "both slots are taken"
    rig.core.finished(job, DONE)
    out = rig.step()
    assert reports(out) == []
    assert only(out, m.ClaimTask).max_n == 1


@pytest.mark.parametrize(("why", "limit"), [(Why.TIMEOUT, "timeout_ms"), (Why.DEADLINE, "deadline_ms")])
def test_a_time_out_stops_the_handler_and_leaves_the_word_to_the_broker(why: Why, limit: str) -> None:
    rig = Rig()
    end_ms = 2_000 if limit == "timeout_ms" else rig.clock.wall_ms() + 2_000
    (job,) = rig.granted(rig.open(), grant(1, **{limit: end_ms}))  # type: ignore[arg-type]
    rig.after(1_999)
    assert not job.context.cancelled
    rig.after(1)
    assert job.why is why
    assert rig.stopped == [job]
    rig.core.finished(job, SAID_STOPPED)
    assert reports(rig.step()) == []
    assert not rig.core.jobs.held


def test_a_result_that_beats_its_time_out_is_sent() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1, timeout_ms=2_000))
    rig.after(2_000)
    rig.core.finished(job, DONE)
    assert reports(rig.step()) == [[1, COMPLETE]], "log order decides, not we"


def test_a_process_that_timed_out_is_killed_after_a_short_grace() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1, "p", timeout_ms=2_000))
    rig.after(2_000 + STOP_GRACE_MS)
    assert rig.killed == [job]


def test_a_deadline_is_counted_on_the_clock_of_the_cluster() -> None:
    rig = Rig()
    rig.connect(ahead_ms=3_600_000)  # our clock is wrong by an hour
    rig.register()
    deadline_ms = rig.clock.wall_ms() + 3_600_000 + 2_000
    (job,) = rig.granted(rig.sent(m.ClaimTask), grant(1, deadline_ms=deadline_ms))
    assert job.context.deadline == pytest.approx(rig.clock.wall_ms() / 1000 + 2), "on the clock that the handler reads"
    rig.after(1_999)
    assert not job.context.cancelled
    rig.after(1)
    assert job.why is Why.DEADLINE


def test_timers_of_tasks_that_ended_do_not_pile_up() -> None:
    rig = Rig(concurrency=1)
    claim = rig.open()
    for number in range(1, 3_000):
        (job,) = rig.granted(claim, grant(number, timeout_ms=3_600_000))
        rig.core.finished(job, DONE)
        out = rig.step()
        claim = only(out, m.ClaimTask)
        rig.answered(only(out, m.TaskResult))
    assert len(rig.core.jobs._timers) < 1_100


def test_a_lost_lease_is_told_to_the_handler_whose_outcome_is_then_dropped() -> None:
    rig = Rig()
    first, second = rig.granted(rig.open(), grant(1), grant(2))
    session = rig.core.session
    assert session is not None
    rig.core.heard(session, m.HeartbeatReply(1, [], [[id_of(1), 1]], False))
    rig.step()
    assert first.context.lost
    assert first.why is Why.LOST
    assert not second.context.cancelled
    rig.core.finished(first, SAID_STOPPED)
    assert reports(rig.step()) == []


def test_a_lease_that_is_lost_behind_its_outcome_stops_nobody() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    session = rig.core.session
    assert session is not None
    report = only(rig.step(), m.TaskResult)
    rig.core.heard(session, m.HeartbeatReply(1, [], [[id_of(1), 1]], False))
    rig.answered(report)
    assert rig.stopped == []


def test_words_for_an_older_session_are_passed_over() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.heard(b"X" * 16, m.HeartbeatReply(1, [], [[id_of(1), 1]], True))
    rig.core.session_lost(b"X" * 16)
    rig.step()
    assert not job.context.cancelled
    assert rig.core.state is State.RUNNING


def test_a_handler_that_stops_itself_has_failed() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, SAID_STOPPED)
    (item,) = only(rig.step(), m.TaskResult).items
    assert item[2] == FAIL


# ---- draining ------------------------------------------------------------------------------------------


def test_a_drain_claims_no_more_lets_handlers_end_and_takes_leave() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    claim = only(rig.answer, m.ClaimTask)
    rig.core.drain()
    assert rig.step() == []
    rig.core.received(m.ClaimReply(claim.rid, 5, [grant(2)]))
    out = rig.step()
    assert reports(out) == [[2, RELEASE]], "what the parked claim still brought"
    assert rig.started == [job]
    rig.answered(only(out, m.TaskResult))
    rig.core.finished(job, DONE)
    out = rig.step()
    assert reports(out) == [[1, COMPLETE]]
    assert rig.core.state is State.DRAINING
    bye = only(rig.answered(only(out, m.TaskResult)) + rig.step(), m.DeregisterWorker)
    assert bye.session == claim.session
    rig.core.received(m.DeregisterReply(bye.rid, 9))
    assert rig.core.state is State.OVER


def test_the_good_bye_may_be_answered_through_the_parked_claim() -> None:
    rig = Rig()
    claim = rig.open()
    rig.core.drain()
    only(rig.step() + rig.step(), m.DeregisterWorker)
    rig.refused(claim.rid, SessionLost("closed"))
    assert rig.core.state is State.OVER
    assert "session lost" not in rig.events()


def test_when_the_time_to_drain_is_over_handlers_are_stopped_and_the_session_is_closed() -> None:
    rig = Rig(drain_ms=5_000)
    thread, process, coroutine = rig.granted(rig.open(), grant(1), grant(2, "p"), grant(3, "c"))
    rig.core.drain()
    rig.after(4_999)
    assert rig.stopped == []
    out = rig.after(1)
    assert rig.stopped == [thread, process, coroutine]
    assert process in rig.killed
    out += rig.step()
    bye = only(out, m.DeregisterWorker)
    rig.core.received(m.DeregisterReply(bye.rid, 9))
    assert rig.core.state is State.OVER


def test_a_good_bye_that_nobody_hears_has_an_end() -> None:
    rig = Rig()
    rig.open()
    rig.core.disconnected()
    rig.core.drain()
    rig.step()
    assert rig.core.state is State.CLOSING
    rig.after(CLOSE_MS)
    assert rig.core.state is State.OVER
    assert "could not take leave of the cluster" in rig.events()


def test_the_good_bye_waits_for_outcomes_that_are_under_way() -> None:
    """Behind it they would be stale."""
    rig = Rig(drain_ms=1_000)
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    report = only(rig.step(), m.TaskResult)
    rig.core.drain()
    assert rig.after(1_000) == []
    assert rig.core.state is State.CLOSING
    only(rig.answered(report), m.DeregisterWorker)


def test_a_drain_before_there_is_a_session_ends_at_once() -> None:
    rig = Rig()
    rig.core.drain()
    rig.step()
    assert rig.core.state is State.OVER


def test_a_drain_waits_for_outcomes_that_are_not_answered() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    report = only(rig.step(), m.TaskResult)
    rig.core.drain()
    rig.after(1_000)
    assert rig.core.state is State.DRAINING
    rig.core.disconnected()
    rig.after(1_000)
    assert rig.core.state is State.DRAINING
    rig.connect()
    again = only(rig.step(), m.TaskResult)
    assert again.items == report.items
    rig.answered(again)
    assert rig.core.state is State.CLOSING


def test_the_broker_may_ask_for_a_drain() -> None:
    rig = Rig()
    claim = rig.open()
    rig.core.heard(claim.session, m.HeartbeatReply(1, [], [], True))
    assert rig.core.state is State.DRAINING


def test_who_quits_sends_what_is_known_and_gives_the_rest_back() -> None:
    rig = Rig()
    first, _second = rig.granted(rig.open(), grant(1), grant(2))
    rig.core.finished(first, DONE)
    out = rig.core.farewell()
    assert reports(out) == [[1, COMPLETE]]
    assert isinstance(out[-1], m.DeregisterWorker)
    assert rig.core.state is State.OVER


def test_who_quits_without_a_connection_just_ends() -> None:
    rig = Rig()
    rig.open()
    rig.core.disconnected()
    assert rig.core.farewell() == []
    assert rig.core.state is State.OVER


# ---- brokers that refuse, stop, or are silent ----------------------------------------------------------


def test_a_follower_names_the_leader_and_the_connection_is_given_up() -> None:
    rig = Rig()
    rig.connect()
    request = rig.sent(m.RegisterWorker)
    rig.refused(request.rid, NotLeader("no", leader="b:1"))
    assert rig.core.wants_reconnect
    assert rig.core.leader == "b:1"
    rig.core.disconnected()
    rig.connect()
    assert rig.sent(m.RegisterWorker).session == request.session


def test_a_refusal_that_will_not_pass_ends_the_worker() -> None:
    rig = Rig()
    rig.connect()
    rig.refused(rig.sent(m.RegisterWorker).rid, InvalidRequest("queues is ..."))
    assert rig.core.state is State.OVER
    assert isinstance(rig.core.failure, InvalidRequest)


def test_a_claim_refused_for_now_is_repeated_under_its_number() -> None:
    rig = Rig()
    claim = rig.open()
    assert rig.refused(claim.rid, BrokerUnavailable("busy", retry_after=0.2)) == []
    again = only(rig.after(500), m.ClaimTask)
    assert again.seq == claim.seq


def test_a_long_wait_is_slept_through() -> None:
    """The rig refuses a core that asks to be woken at once, again and again."""
    rig = Rig()
    claim = rig.open()
    rig.refused(claim.rid, Backpressure("full", retry_after=8))
    assert only(rig.after(PING_MS + 7_000), m.ClaimTask).seq == claim.seq


def test_goaway_waits_a_little_for_outcomes_and_not_for_the_claim() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    report = only(rig.step(), m.TaskResult)
    rig.core.received(m.GoAway("stopping", "b:1"))
    assert rig.step() == []
    assert not rig.core.wants_reconnect
    rig.answered(report)
    assert rig.core.wants_reconnect
    assert rig.core.leader == "b:1"


def test_goaway_does_not_wait_for_ever() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, DONE)
    rig.step()
    rig.core.received(m.GoAway("stopping"))
    rig.after(2_000)
    assert rig.core.wants_reconnect


def test_a_silent_broker_is_asked_and_then_given_up() -> None:
    rig = Rig()
    rig.open()
    (ping,) = rig.after(PING_MS)
    assert isinstance(ping, m.Ping)
    rig.core.received(m.PingReply(ping.rid, 1))
    assert only(rig.after(PING_MS), m.Ping).rid != ping.rid
    rig.after(DEAD_MS - PING_MS - 1)
    assert not rig.core.wants_reconnect
    rig.after(1)
    assert rig.core.wants_reconnect
    assert "the broker is silent" in rig.events()


def test_a_silent_broker_is_given_up_sooner_when_there_are_others() -> None:
    rig = Rig(has_others=True)
    rig.open()
    (ping,) = rig.after(PING_OTHERS_MS)
    assert isinstance(ping, m.Ping)
    rig.after(DEAD_OTHERS_MS - PING_OTHERS_MS - 1)
    assert not rig.core.wants_reconnect
    rig.after(1)
    assert rig.core.wants_reconnect


def test_a_worker_that_did_not_listen_does_not_call_the_broker_silent() -> None:
    rig = Rig()
    rig.open()
    rig.after(PING_MS)
    assert rig.core.wake_ms() is not None
    rig.clock.advance_ms(60_000)  # a handler held the loop; the answer waits in the socket
    rig.step()
    assert not rig.core.wants_reconnect


def test_an_error_of_the_whole_connection_drops_it() -> None:
    rig = Rig()
    rig.open()
    rig.refused(None, Backpressure("too slow"))
    assert rig.core.wants_reconnect


def test_a_failed_attempt_is_reported_with_its_error() -> None:
    rig = Rig()
    (job,) = rig.granted(rig.open(), grant(1))
    rig.core.finished(job, failed("ValueError", "no", "trace", retry_after_ms=5))
    (item,) = only(rig.step(), m.TaskResult).items
    assert item == [id_of(1), 1, FAIL, [["ValueError", "no", "trace"], False, 5]]
    assert rig.core.stats().failed == 1
    ((event, values),) = [note for note in rig.notes if "attempt" in note[0]]
    assert (event, values["type"], values["error"]) == ("an attempt failed", "t", "ValueError: no")
