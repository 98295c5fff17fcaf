from __future__ import annotations

import math
from typing import Any

import pytest

from tq import limits
from tq.broker.advance_timers import AdvanceTimers
from tq.broker.services import PERIOD_MS
from tq.errors import Backpressure, BrokerUnavailable
from tq.machine.commands import Timer
from tq.protocol import messages as m
from tq.sim.random import SeededRandom
from tq.spec import Retry

from .rig import World, cancelled, fail, task, task_id


class Rig:
    def __init__(self) -> None:
        self.due: dict[Timer, int] = {}
        self.now_ms = 1_000
        self.proposed: list[tuple[Any, Any]] = []
        self.refuse = False
        self.applied_index = 1
        self.looks = 0
        self.service = AdvanceTimers(
            self._next_due_ms, lambda: self.now_ms, SeededRandom(1), self._propose, lambda: self.applied_index
        )

    def _next_due_ms(self, kind: Timer) -> int | None:
        self.looks += 1
        return self.due.get(kind)

    def _propose(self, command, operations, size, done):
        if self.refuse:
            raise Backpressure("full")
        self.proposed.append((command, done))

    def kinds(self) -> list[int]:
        return [command.kind for command, _ in self.proposed]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_only_what_is_due(rig):
    rig.due = {Timer.DUE: 1_000, Timer.DEADLINE: 1_001}
    rig.service.run_once()
    assert rig.kinds() == [Timer.DUE]
    assert rig.proposed[0][0].limit == limits.ADVANCE_SLICE_TASKS


def test_the_store_is_looked_at_when_something_was_applied_or_is_due(rig):
    rig.due = {Timer.DUE: 1_500, Timer.DEADLINE: 2_000}
    assert rig.service.wait_ms() == 0
    rig.service.run_once()
    assert (rig.looks, rig.service.wait_ms()) == (len(Timer), 500)
    rig.now_ms = 1_499
    rig.service.run_once()
    assert (rig.looks, rig.service.wait_ms()) == (len(Timer), 1)
    rig.due[Timer.EXPIRES] = 1_400
    rig.applied_index += 1
    assert rig.service.wait_ms() == 0
    rig.service.run_once()
    assert rig.kinds() == [Timer.EXPIRES]
    rig.proposed[0][1](BrokerUnavailable("lost"), 0)
    del rig.due[Timer.EXPIRES]
    rig.now_ms = 1_500
    rig.service.run_once()
    assert rig.kinds() == [Timer.EXPIRES, Timer.DUE]


def test_with_nothing_to_come_it_waits_for_an_entry(rig):
    rig.service.run_once()
    assert rig.service.wait_ms() == math.inf


def test_one_of_a_kind_is_under_way(rig):
    rig.due[Timer.DUE] = 0
    rig.service.run_once()
    rig.service.run_once()
    assert len(rig.proposed) == 1
    rig.proposed[0][1](1, 10)
    rig.service.run_once()
    assert len(rig.proposed) == 2


def test_a_full_slice_is_followed_at_once(rig):
    rig.due[Timer.EXPIRES] = 0
    rig.service.run_once()
    rig.proposed[0][1](limits.ADVANCE_SLICE_TASKS, 10)
    assert len(rig.proposed) == 2
    rig.proposed[1][1](limits.ADVANCE_SLICE_TASKS - 1, 11)
    assert len(rig.proposed) == 2


def test_a_lost_one_is_proposed_again(rig):
    rig.due[Timer.DUE] = 0
    rig.service.run_once()
    rig.proposed[0][1](BrokerUnavailable("lost"), 0)
    rig.service.run_once()
    assert len(rig.proposed) == 2


def test_overload_is_borne(rig):
    rig.due[Timer.DUE] = 0
    rig.refuse = True
    rig.service.run_once()
    rig.refuse = False
    rig.service.run_once()
    assert rig.kinds() == [Timer.DUE]


def test_draws_differ(rig):
    rig.due[Timer.TIMEOUT] = 0
    for _ in range(3):
        rig.service.run_once()
        rig.proposed[-1][1](1, 10)
    assert len({command.draw for command, _ in rig.proposed}) == 3


# ---- on a whole broker: each kind of timer ------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


def test_a_delay_ends_in_time_and_wakes(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1, delay_ms=1_500))
    rid = peer.ask_claim(session, 1, 1, 10_000)
    world.advance_ms(1_450)
    assert not peer.has(rid)
    assert peer.state(task_id(1)) == "scheduled"
    world.advance_ms(50 + 2 * PERIOD_MS)
    assert len(peer.answer(rid).grants) == 1


def test_expiry(world):
    peer = world.connect()
    peer.submit(task(1, expires_in_ms=1_000))
    world.advance_ms(950)
    assert peer.state(task_id(1)) == "pending"
    world.advance_ms(200)
    assert peer.state(task_id(1)) == "expired"


def test_deadline_of_a_running_task(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1, deadline_ms=1_000))
    (grant,) = peer.claim(session, 1)
    assert grant[6] is not None
    world.advance_ms(1_200)
    found = peer.get(task_id(1))
    assert (found["state"], found["reason"]) == ("dead", "deadline")


def test_timeout_and_backoff(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1, timeout_ms=500, retry=Retry(2, 1_000, 2_000, 3_600_000, 0)))
    (grant,) = peer.claim(session, 1)
    assert grant[5] == 500
    world.advance_ms(700)
    assert peer.state(task_id(1)) == "scheduled"
    assert peer.report(session, fail(grant))[0][0] == 2, "stale"
    world.advance_ms(1_100)
    assert peer.state(task_id(1)) == "pending"


def test_the_grace_of_a_cancel(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    (grant,) = peer.claim(session, 1)
    (item,) = peer.call(m.CancelTask, [task_id(1)], 800).items
    assert item == [3, None]
    world.advance_ms(700)
    assert peer.get(task_id(1))["cancelling"] is True
    world.advance_ms(300)
    assert peer.state(task_id(1)) == "cancelled"
    assert peer.report(session, cancelled(grant))[0] in (1, [2, 5])


def test_many_due_at_once_are_drained_slice_by_slice(world):
    peer = world.connect()
    for start in (0, 1_000):
        peer.submit(*[task(number, delay_ms=1_000) for number in range(start, start + 1_000)])
    world.advance_ms(1_000 + 3 * PERIOD_MS)
    (queue,) = peer.call(m.Queues).queues
    assert queue["scheduled"] == 0
    assert sum(queue["pending"].values()) == 2_000


def test_a_cluster_that_slept_catches_up(world):
    peer = world.connect()
    peer.submit(task(1, delay_ms=3_600_000), task(2, expires_in_ms=3_600_000))
    world.crash()
    world.clock.advance_ms(7_200_000)
    world.start()
    world.advance_ms(200)
    peer = world.connect()
    assert peer.state(task_id(1)) == "pending"
    assert peer.state(task_id(2)) == "expired"


def test_a_wall_clock_set_back_fires_nothing_early_and_nothing_twice(world):
    peer = world.connect()
    peer.submit(task(1, delay_ms=2_000))
    world.clock.jump_wall_ms(-3_600_000)
    world.advance_ms(1_900)
    assert peer.state(task_id(1)) == "scheduled"
    world.advance_ms(2_300)  # at half pace
    assert peer.state(task_id(1)) == "pending"
    world.advance_ms(1_000)
    assert peer.get(task_id(1))["history"] == []


def test_results_and_finished_tasks_go_after_their_time(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1, result_ttl_ms=1_000))
    (grant,) = peer.claim(session, 1)
    peer.call(m.TaskResult, session, [[task_id(1), grant[3], 0, ["text/plain", b"r"]]])
    assert peer.get(task_id(1))["result"] == b"r"
    world.advance_ms(1_200)
    assert peer.get(task_id(1))["result"] is None
