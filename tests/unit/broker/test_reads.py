"""What is read of tasks and queues, and at which index."""

from __future__ import annotations

import pytest

from tq import limits
from tq.errors import BrokerUnavailable, NotFound, PayloadTooLarge
from tq.protocol import messages as m

from .rig import World, complete, release, task, task_id, with_task


@pytest.fixture
def world() -> World:
    return World()


def test_the_last_word_of_a_handler_is_shown_while_it_runs(world):
    peer = with_task(world)
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    fence = grant[3]
    shown = peer.call(m.GetTask, task_id(1)).task
    assert (shown["progress_known"], shown["progress"]) == (True, None)
    for words in ([1, 10, "begins"], [2.5, 10, None]):
        peer.call(m.Progress, session, [[task_id(1), fence, *words]])
    # What is not held under that fence, by that session, of that task, is passed over.
    other = peer.register(2)
    for item in ([task_id(1), fence + 1], [task_id(2), fence], [task_id(9), 5]):
        peer.call(m.Progress, session, [[*item, 9, None, None]])
    peer.call(m.Progress, other, [[task_id(1), fence, 9, None, None]])
    for reply in (
        peer.call(m.GetTask, task_id(1)).task,
        peer.call(m.WaitTask, task_id(1), 0).task,
        peer.call(m.ListTasks, {}).tasks[0],
        peer.call(m.ExplainTask, task_id(1)).facts,
    ):
        assert reply["progress_known"] is True
        said = reply["progress"]
        assert (said["done"], said["total"], said["note"]) == (2.5, 10, None)
        assert said["at_ms"] == world.clock.wall_ms()
    assert peer.report(session, release(grant)) == [0]
    assert "progress" not in peer.call(m.GetTask, task_id(1)).task
    peer.claim(session, 2)
    assert peer.call(m.GetTask, task_id(1)).task["progress"] is None, "of an attempt that is over"


def test_explain_names_what_is_missing(world):
    peer = with_task(world)
    assert "worker" in peer.call(m.ExplainTask, task_id(1)).why
    with pytest.raises(NotFound):
        peer.call(m.ExplainTask, task_id(99))


def test_a_reply_that_fits_no_frame_is_answered_with_an_error(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1, payload=bytes(9 * limits.MIB)))
    (grant,) = peer.claim(session, 1)
    peer.report(session, complete(grant, bytes(9 * limits.MIB)))
    with pytest.raises(PayloadTooLarge):
        peer.get(task_id(1), parts=3)
    assert len(peer.get(task_id(1), parts=1)["payload"]) == 9 * limits.MIB
    assert len(peer.get(task_id(1), parts=2)["result"]) == 9 * limits.MIB


# ---- what is waited for ---------------------------------------------------------------------------------


def test_what_has_ended_is_answered_at_once(world):
    peer = world.connect()
    peer.submit(task(1))
    peer.call(m.CancelTask, [task_id(1)], 0)
    assert peer.call(m.WaitTask, task_id(1), 30_000).ended
    assert peer.call(m.WaitTask, task_id(1), 0, 4).task["state"] == "cancelled"


def test_an_unknown_task_is_not_waited_for(world):
    peer = world.connect()
    with pytest.raises(NotFound):
        peer.call(m.WaitTask, task_id(1), 30_000)


def test_a_task_purged_while_somebody_waits(world):
    """It ends and goes in one entry: the wait is answered, with an error."""
    peer = world.connect()
    other = world.connect()
    peer.submit(task(1))
    rid = peer.ask(m.WaitTask, task_id(1), 30_000)
    world.settle()
    other.ask(m.CancelTask, [task_id(1)], 0)
    other.ask(m.PurgeTasks, b"o" * 16, [task_id(1)])
    world.settle()
    assert rid in peer.answers
    assert isinstance(peer.answers[rid], m.WaitReply | m.ErrorReply)


def test_a_read_waits_for_its_index(world):
    peer = world.connect()
    index = peer.submit(task(1)).index
    rids = [
        peer.ask(m.GetTask, task_id(1), 7, index + 1),
        peer.ask(m.ListTasks, {}, 10, None, index + 1),
        peer.ask(m.ExplainTask, task_id(1), index + 1),
        peer.ask(m.Queues, index + 1),
        peer.ask(m.WaitTask, task_id(1), 0, 2, index + 1),
    ]
    world.settle()
    assert not any(rid in peer.answers for rid in rids)
    peer.submit(task(2))
    for rid in rids:
        assert peer.answer(rid).index >= index + 1


def test_an_index_that_does_not_come_is_an_error_in_time(world):
    peer = world.connect()
    rids = [peer.ask(m.GetTask, task_id(1), 7, 1_000_000), peer.ask(m.WaitTask, task_id(1), 0, 2, 1_000_000)]
    world.advance_ms(limits.CLAIM_WAIT_MS_MAX + 100)
    for rid in rids:
        with pytest.raises(BrokerUnavailable):
            peer.answer(rid)
