"""What workers say, and what they are answered."""

from __future__ import annotations

import pytest

from tq.errors import SessionLost
from tq.protocol import messages as m
from tq.spec import Retry

from .rig import SESSION, World, complete, fail, release, task, task_id, with_task


@pytest.fixture
def world() -> World:
    return World()


def test_a_checkpoint_goes_to_the_next_grant(world):
    peer = with_task(world)
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    assert len(grant) == 7
    items = [[task_id(1), grant[3], 1, b"half"], [task_id(1), grant[3], 1, b"twice"], [task_id(9), 5, 1, b"x"]]
    assert peer.call(m.Checkpoint, session, items).items == [0, 1, [2, None]]
    assert peer.call(m.GetTask, task_id(1)).task["checkpoint_bytes"] == 4
    world.lose_power()
    world.start()
    peer = world.connect()
    assert peer.report(session, release(grant)) == [0]
    (again,) = peer.claim(session, 2)
    assert again[7] == b"half"
    assert peer.call(m.Checkpoint, session, [[task_id(1), grant[3], 9, b"stale"]]).items == [[2, 3]]


def test_a_release_is_not_counted(world):
    peer = with_task(world)
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    assert peer.report(session, release(grant)) == [0]
    (again,) = peer.claim(session, 2)
    assert (again[1], again[2]) == (1, 0)
    assert again[3] > grant[3]


def test_retries_go_through_backoff(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1, retry=Retry(2, 1_000, 2_000, 60_000, 0)))
    (grant,) = peer.claim(session, 1)
    peer.report(session, fail(grant))
    assert peer.state(task_id(1)) == "scheduled"
    world.advance_ms(1_100)
    (grant,) = peer.claim(session, 2)
    peer.report(session, fail(grant))
    assert peer.state(task_id(1)) == "dead"


def test_the_same_again_is_answered_the_same(world):
    peer = with_task(world)
    session = peer.register()
    peer.register()
    (grant,) = peer.claim(session, 1)
    assert peer.report(session, fail(grant, permanent=True)) == [0]
    assert peer.report(session, fail(grant, permanent=True)) == [1]
    assert peer.report(session, complete(grant))[0][0] == 2
    assert world.broker.counters.stale_results == 1
    assert peer.call(m.DeregisterWorker, session)
    assert peer.call(m.DeregisterWorker, session)


def test_of_strangers_only_the_log_takes_anything(world):
    """Their results and checkpoints: it says what became of the task."""
    peer = with_task(world)
    for kind, fields in ((m.Heartbeat, ([],)), (m.Progress, ([],)), (m.ClaimTask, (1, [], 1, 0))):
        with pytest.raises(SessionLost):
            peer.call(kind, SESSION, *fields)
    assert peer.report(SESSION, [task_id(1), 1, 2, None])[0][0] == 2
    assert peer.call(m.Checkpoint, SESSION, [[task_id(1), 1, 1, b"x"]]).items[0][0] == 2
