"""Words and checkpoints on their way, through the core that sends them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.worker.rig import Rig, grant, id_of
from tq import limits
from tq.errors import Backpressure, InvalidRequest, SessionLost, StaleFence, TqError
from tq.protocol import messages as m
from tq.worker.asides import IN_FLIGHT_MAX, Asides
from tq.worker.context import Context
from tq.worker.job import Job


class Told:
    """What became of checkpoints, in order."""

    def __init__(self) -> None:
        self.errors: list[TqError | None] = []

    def __call__(self, error: TqError | None) -> None:
        self.errors.append(error)


def running(count: int = 1) -> tuple[Rig, list[Job]]:
    rig = Rig(concurrency=count)
    return rig, rig.granted(rig.open(), *[grant(n) for n in range(1, count + 1)])


def save(rig: Rig, job: Job, number: int, data: bytes | None, told: Told) -> None:
    rig.core.asides.save(job.context, number, data, told)


def only(messages: list[m.Message]) -> Any:
    (message,) = messages
    return message


# ---- progress ------------------------------------------------------------------------------------------


def test_the_last_word_of_each_task_leaves_now_and_then() -> None:
    rig, (first, second) = running(2)
    first.context.progress(1, 10, "begins")
    first.context.progress(2, 10)
    second.context.progress(0.5)
    message = only(rig.step())
    assert message == m.Progress(
        message.rid, message.session, [[id_of(1), 1, 2, 10, None], [id_of(2), 2, 0.5, None, None]]
    )
    rig.core.received(m.ProgressReply(message.rid))
    for done in range(3, 9):
        first.context.progress(done)
        assert rig.step() == []
    assert [item.items for item in rig.after(limits.PROGRESS_MS)] == [[[id_of(1), 1, 8, None, None]]]
    assert not any(isinstance(message, m.Progress) for message in rig.after(2_000))


def test_a_loop_is_woken_once_for_many_words() -> None:
    wakes = []
    asides = Asides()
    asides.wake = lambda: wakes.append(1)
    contexts = [Context(id_of(n), "t", "q", 1, 0, n, None, {}, None, asides) for n in (1, 2)]
    for done in range(50):
        for context in contexts:
            context.progress(done)
    assert len(wakes) == 1
    asides.look()
    assert asides.wake_ms(500) == 500
    asides.take(lambda: 1, b"s" * 16, 500)
    assert asides.wake_ms(500) is None
    contexts[0].progress(51)
    assert len(wakes) == 2
    assert asides.wake_ms(600) == 500 + limits.PROGRESS_MS


def test_a_new_connection_hears_the_last_word_of_all_that_run() -> None:
    """It may be to a leader that was told nothing."""
    rig, (job,) = running()
    job.context.progress(7)
    rig.step()
    rig.core.disconnected()
    rig.connect()
    assert [message.items for message in rig.step() if isinstance(message, m.Progress)] == [
        [[id_of(1), 1, 7, None, None]]
    ]


def test_a_word_of_a_lost_lease_is_not_told() -> None:
    rig, (job,) = running()
    job.context.progress(7)
    rig.core.heard(rig.core.session or b"", m.HeartbeatReply(1, [], [[id_of(1), 1]], False))
    assert rig.step() == []


def test_a_refused_word_is_forgotten() -> None:
    rig, (job,) = running()
    job.context.progress(7)
    assert rig.refused(only(rig.step()).rid, SessionLost("gone")) == []
    assert rig.core.session is not None


# ---- checkpoints ---------------------------------------------------------------------------------------


def test_a_checkpoint_is_told_when_it_is_answered() -> None:
    rig, (job,) = running()
    told = Told()
    save(rig, job, 5, b"half", told)
    message = only(rig.step())
    assert message == m.Checkpoint(message.rid, message.session, [[id_of(1), 1, 5, b"half"]])
    assert told.errors == []
    rig.core.received(m.CheckpointReply(message.rid, 9, [0]))
    assert told.errors == [None]
    save(rig, job, 6, None, told)
    message = only(rig.step())
    rig.core.received(m.CheckpointReply(message.rid, 9, [1]))  # a later one is kept, of another connection
    assert told.errors == [None, None]


def test_a_stale_one_is_an_error() -> None:
    rig, jobs = running(2)
    told = Told()
    for job in jobs:
        save(rig, job, 1, b"x", told)
    message = only(rig.step())
    rig.core.received(m.CheckpointReply(message.rid, 9, [[2, 2], 0]))
    assert isinstance(told.errors[0], StaleFence)
    assert told.errors[1] is None


def test_it_is_sent_again_under_its_number_until_it_is_answered() -> None:
    rig, (job,) = running()
    told = Told()
    save(rig, job, 5, b"half", told)
    first = only(rig.step())
    rig.core.disconnected()
    save(rig, job, 6, b"more", told)
    assert rig.step() == []
    rig.connect()
    again = next(message for message in rig.step() if isinstance(message, m.Checkpoint))
    assert [item[2:] for item in again.items] == [[5, b"half"], [6, b"more"]]
    assert again.rid != first.rid
    assert rig.refused(again.rid, Backpressure("full", retry_after=0.05)) == []
    third = next(message for message in rig.after(200) if isinstance(message, m.Checkpoint))
    assert third.items == again.items
    rig.core.received(m.CheckpointReply(third.rid, 9, [0, 0]))
    assert told.errors == [None, None]


def test_one_of_a_lost_lease_is_answered_without_a_connection() -> None:
    rig, (job,) = running()
    told = Told()
    rig.core.disconnected()
    save(rig, job, 5, b"half", told)
    rig.step()
    rig.core.session_lost(rig.core.session or b"")
    rig.step()
    assert [type(error) for error in told.errors] == [StaleFence]


def test_a_refusal_for_good_is_told() -> None:
    rig, (job,) = running()
    told = Told()
    save(rig, job, 5, b"half", told)
    rig.refused(only(rig.step()).rid, InvalidRequest("no"))
    assert [type(error) for error in told.errors] == [InvalidRequest]
    assert rig.core.failure is None


def test_many_leave_in_messages_that_the_broker_takes() -> None:
    rig, (job,) = running()
    told = Told()
    for number in range(400):
        save(rig, job, number, bytes(limits.CHECKPOINT_BYTES_MAX), told)
    seen = 0
    while seen < 400:
        messages = rig.step()
        assert 0 < len(messages) <= IN_FLIGHT_MAX
        for message in messages:
            assert isinstance(message, m.Checkpoint)
            assert sum(len(item[3]) for item in message.items) <= limits.BATCH_BYTES_MAX
            assert [item[2] for item in message.items] == list(range(seen, seen + len(message.items)))
            seen += len(message.items)
            rig.core.received(m.CheckpointReply(message.rid, 9, [0] * len(message.items)))
    assert told.errors == [None] * 400


def test_a_grant_may_bring_what_was_kept() -> None:
    rig = Rig(concurrency=2)
    claim = rig.open()
    first, second = rig.granted(claim, [*grant(1), b"kept"], grant(2))
    assert (first.context.checkpoint_data, second.context.checkpoint_data) == (b"kept", None)


def test_what_comes_while_it_drains_still_leaves() -> None:
    rig, (job,) = running()
    told = Told()
    rig.core.drain()
    rig.step()
    save(rig, job, 5, b"half", told)
    assert isinstance(only(rig.step()), m.Checkpoint)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_broker_that_leaves_is_waited_for(is_answered: bool) -> None:
    rig, (job,) = running()
    told = Told()
    save(rig, job, 5, b"half", told)
    message = only(rig.step())
    rig.core.received(m.GoAway("stops"))
    rig.step()
    assert not rig.core.wants_reconnect
    if is_answered:
        rig.core.received(m.CheckpointReply(message.rid, 9, [0]))
        rig.step()
    else:
        rig.after(2_000)
    assert rig.core.wants_reconnect
