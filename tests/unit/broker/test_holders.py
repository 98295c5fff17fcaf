"""Cancels reach who holds the task, and grants that reach nobody go back."""

from __future__ import annotations

import pytest

from tq import limits
from tq.protocol import messages as m

from .rig import World, cancelled, lease, task_id, with_task


@pytest.fixture
def world() -> World:
    return World()


def test_cancel_is_pushed_and_repeated(world):
    worker = world.connect()
    session = worker.register()
    peer = with_task(world)
    (grant,) = worker.claim(session, 1)
    assert peer.call(m.CancelTask, [task_id(1)], 2_000).items == [[3, None]]
    assert worker.pushes == [m.CancelRunning(session, [[task_id(1), grant[3], 2_000]])]
    for _ in range(2):
        assert worker.beat(session, lease(grant)).cancel == [[task_id(1), grant[3], 2_000]]
    assert worker.report(session, cancelled(grant)) == [0]
    assert worker.beat(session, lease(grant)).cancel == []
    assert peer.state(task_id(1)) == "cancelled"


def test_cancel_goes_to_where_the_session_claims_now(world):
    old, new = world.connect(), world.connect()
    session = old.register()
    peer = with_task(world)
    old.claim(session, 1)
    new.claim(session, 2)
    old.close()
    peer.call(m.CancelTask, [task_id(1)], 2_000)
    assert [type(push) for push in new.pushes] == [m.CancelRunning]
    assert old.pushes == []


def test_a_connection_keeps_nothing_of_sessions_that_ended(world):
    peer = with_task(world)
    before = len(peer.connection.on_close)
    for number in range(1, 20):
        session = peer.register(number, types=("other",))
        peer.claim(session, 1)
        peer.call(m.DeregisterWorker, session)
    assert len(peer.connection.on_close) == before
    assert world.broker.holders._connections == {}


def test_cancel_survives_a_restart(world):
    worker = world.connect()
    session = worker.register()
    peer = with_task(world)
    (grant,) = worker.claim(session, 1)
    peer.call(m.CancelTask, [task_id(1)], 10_000)
    world.lose_power()
    world.start()
    worker = world.connect()
    ((id, fence, grace_ms),) = worker.beat(session, lease(grant)).cancel
    assert (id, fence) == (task_id(1), grant[3])
    assert 0 < grace_ms <= 10_000


def test_what_cannot_go_back_waits_for_its_lease(world, monkeypatch):
    peer = with_task(world)
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    with monkeypatch.context() as patch:
        patch.setattr(limits, "PROPOSER_QUEUE_COMMANDS_MAX", 0)
        world.broker.holders.release_undelivered(session, [grant])
    world.broker.is_serving = False
    world.broker.holders.release_undelivered(session, [grant])
    world.broker.is_serving = True
    world.settle()
    assert peer.state(task_id(1)) == "running"
    world.broker.holders.release_undelivered(session, [grant])
    world.settle()
    assert peer.state(task_id(1)) == "pending"
    (again,) = peer.claim(session, 2)
    assert again[3] > grant[3]
    assert (again[1], again[2]) == (1, 0), "no attempt, no crash"
