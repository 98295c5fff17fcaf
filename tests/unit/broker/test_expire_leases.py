from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.broker.expire_leases import SLICE, ExpireLeases
from tq.broker.leases import PROPOSE_AGAIN_MS, Leases
from tq.errors import Backpressure, SessionLost
from tq.machine.commands import LeasesExpire, SessionsEnd
from tq.protocol import messages as m
from tq.sim.clock import VirtualClock

from .rig import LEASES, World, complete, lease, task, task_id

A = b"A" * 16


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.leases = Leases(self.clock, 1_000, 1_000)
        self.proposed: list[tuple[Any, int]] = []
        self.refuse = False
        self.service = ExpireLeases(self.leases, self._propose)

    def _propose(self, command, operations, size, done):
        if self.refuse:
            raise Backpressure("full")
        self.proposed.append((command, operations))

    def advance_ms(self, by_ms: int) -> None:
        for _ in range(by_ms // 50):
            self.clock.advance_ms(50)
            self.leases._look()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_it_proposes_what_ran_out_and_no_more(rig):
    rig.leases.open(A, "a", [], [])
    rig.leases.granted(A, 1, [b"1" * 16])
    rig.service.run_once()
    assert rig.proposed == []
    rig.advance_ms(1_000)
    rig.service.run_once()
    assert rig.proposed == [
        (SessionsEnd([A]), limits.SESSION_TASKS_MAX),
        (LeasesExpire([[b"1" * 16, 1]]), 1),
    ]
    rig.service.run_once()
    assert len(rig.proposed) == 2


def test_slices_are_bounded(rig):
    rig.leases.granted(A, 0, [b"1" * 16] * (SLICE + 10))
    rig.advance_ms(1_000)
    rig.service.run_once()
    rig.service.run_once()
    assert [operations for _, operations in rig.proposed] == [SLICE, 10]
    assert [len(command.items) for command, _ in rig.proposed] == [SLICE, 10]


def test_overload_is_borne_and_tried_again(rig):
    rig.leases.granted(A, 1, [b"1" * 16])
    rig.advance_ms(1_000)
    rig.refuse = True
    rig.service.run_once()
    rig.refuse = False
    rig.advance_ms(PROPOSE_AGAIN_MS)
    rig.service.run_once()
    assert rig.proposed == [(LeasesExpire([[b"1" * 16, 1]]), 1)]


# ---- on a whole broker --------------------------------------------------------------------------------


def granted(world: World):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    (grant,) = peer.claim(session, 1)
    return peer, session, grant


def test_a_lease_that_is_not_renewed_ends_as_a_crash():
    world = World()
    peer, session, grant = granted(world)
    world.advance_ms(2_000)
    peer.beat(session)  # alive, and says nothing of the task
    world.advance_ms(900)
    assert peer.state(task_id(1)) == "running"
    world.advance_ms(300)
    found = peer.get(task_id(1))
    assert (found["state"], found["attempt"], found["crashes"]) == ("pending", 0, 1)
    assert peer.beat(session, lease(grant)).lost == [lease(grant)]
    assert peer.report(session, complete(grant)) == [[2, 2]], "stale; the state is pending"
    assert world.broker.counters.leases_expired == 1


def test_heartbeats_keep_a_task_for_ever():
    world = World()
    peer, session, grant = granted(world)
    for _ in range(20):
        world.advance_ms(1_000)
        assert peer.beat(session, lease(grant)) == m.HeartbeatReply(peer.rid, [], [], False)
    assert peer.report(session, complete(grant)) == [0]


def test_three_crashes_are_poison():
    world = World()
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    for seq in range(1, 4):
        (grant,) = peer.claim(session, seq)
        assert (grant[1], grant[2]) == (1, seq - 1)
        for _ in range(4):
            world.advance_ms(1_000)
            peer.beat(session)
    found = peer.get(task_id(1))
    assert (found["state"], found["reason"], found["crashes"]) == ("dead", "poison", 3)


def test_a_silent_session_is_ended_and_its_tasks_are_crashes():
    world = World()
    peer, session, grant = granted(world)
    for _ in range(5):  # renew the lease, but through the back door: nothing of the session is heard
        world.advance_ms(1_000)
        world.broker.leases.heartbeat(session, [lease(grant)])
    found = peer.get(task_id(1))
    assert (found["state"], found["crashes"]) == ("pending", 1)
    with pytest.raises(SessionLost):
        peer.beat(session)
    with pytest.raises(SessionLost):
        peer.claim(session, 2)
    assert peer.call(m.Workers).workers == []


def test_after_a_restart_each_lease_has_one_full_term():
    world = World()
    _peer, session, grant = granted(world)
    world.advance_ms(2_500)
    world.restart()
    peer = world.connect()
    world.advance_ms(LEASES.lease_ms - 200)
    assert peer.state(task_id(1)) == "running"
    assert peer.beat(session, lease(grant)).lost == []
    world.advance_ms(2_000)
    assert peer.report(session, complete(grant)) == [0]


def test_after_a_restart_what_nobody_renews_is_reclaimed():
    world = World()
    granted(world)
    world.lose_power()
    world.start()
    peer = world.connect()
    world.advance_ms(LEASES.lease_ms + 200)
    assert peer.state(task_id(1)) == "pending"
    world.advance_ms(LEASES.session_ms)
    assert peer.call(m.Workers).workers == []


def test_a_stopped_broker_gives_the_heartbeats_time_to_come():
    """SIGSTOP for an hour, then SIGCONT: the workers were alive all the time."""
    world = World()
    peer, session, grant = granted(world)
    world.pause_ms(3_600_000)
    assert peer.state(task_id(1)) == "running"
    world.advance_ms(1_000)
    assert peer.beat(session, lease(grant)).lost == []
    world.advance_ms(2_500)
    assert peer.report(session, complete(grant)) == [0]


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000])
def test_the_wall_clock_ends_no_lease(jump_ms):
    world = World()
    peer, session, grant = granted(world)
    world.clock.jump_wall_ms(jump_ms)
    world.advance_ms(2_000)
    assert peer.state(task_id(1)) == "running"
    assert peer.beat(session, lease(grant)).lost == []


def test_a_claim_is_a_sign_of_life():
    world = World()
    peer = world.connect()
    session = peer.register()
    for seq in range(1, 6):
        rid = peer.ask_claim(session, seq, 1, 3_000)
        world.advance_ms(3_100)
        assert peer.answer(rid).grants == []
    assert len(peer.call(m.Workers).workers) == 1
