from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.broker.bulk_jobs import BulkJobs
from tq.errors import Backpressure, BrokerUnavailable, NotLeader
from tq.machine.commands import JobStep
from tq.protocol import messages as m

from .rig import World, fail, task, task_id

A, B = b"A" * 16, b"B" * 16


class Rig:
    def __init__(self, *operations: bytes) -> None:
        self.unfinished = list(operations)
        self.proposed: list[tuple[Any, Any]] = []
        self.refuse: Exception | None = None
        self.jobs = BulkJobs(lambda: self.unfinished, self._propose)

    def _propose(self, command, operations, size, done):
        if self.refuse:
            raise self.refuse
        self.proposed.append((command, done))


def test_one_job_at_a_time_the_oldest_first():
    rig = Rig(A, B)
    rig.jobs.run_once()
    rig.jobs.run_once()
    assert [command for command, _ in rig.proposed] == [JobStep(A, limits.JOB_SLICE_TASKS)]
    rig.unfinished.remove(A)
    rig.proposed[0][1]([A, 0, 5, 5, True], 10)
    assert rig.proposed[1][0].operation == B, "at once, without waiting for the next look"
    rig.unfinished.remove(B)
    rig.proposed[1][1]([B, 0, 5, 5, True], 11)
    rig.jobs.run_once()
    assert len(rig.proposed) == 2


@pytest.mark.parametrize("error", [Backpressure("full"), NotLeader("no")])
def test_refusals_are_borne(error):
    rig = Rig(A)
    rig.refuse = error
    rig.jobs.run_once()
    rig.refuse = None
    rig.jobs.run_once()
    assert len(rig.proposed) == 1


def test_a_lost_step_is_taken_again_at_the_next_look():
    rig = Rig(A)
    rig.jobs.run_once()
    rig.proposed[0][1](BrokerUnavailable("lost"), 0)
    assert len(rig.proposed) == 1, "not in a tight loop"
    rig.jobs.run_once()
    assert len(rig.proposed) == 2


# ---- on a whole broker --------------------------------------------------------------------------------


def dead_tasks(world: World, count: int):
    peer = world.connect()
    session = peer.register()
    for start in range(0, count, 500):
        peer.submit(*[task(number) for number in range(start, start + 500)])
        grants = peer.claim(session, start + 1, 500)
        peer.report(session, *[fail(grant, permanent=True) for grant in grants])
    return peer


def drain(peer, kind, operation, world, filter_=None):
    for _ in range(100):
        job = peer.call(kind, operation, None, filter_ or {"state": "dead"}).job
        if job[4]:
            return job
        world.advance_ms(50)
    raise AssertionError("the job does not end")


def test_a_bulk_retry_drains():
    world = World()
    peer = dead_tasks(world, 1_500)
    first = peer.call(m.RetryTasks, A, None, {"state": "dead"}).job
    assert not first[4]
    done = drain(peer, m.RetryTasks, A, world)
    assert done[2] == 1_500
    (queue,) = peer.call(m.Queues).queues
    assert (queue["dead"], sum(queue["pending"].values())) == (0, 1_500)


def test_a_bulk_purge_drains_over_a_restart():
    world = World()
    peer = dead_tasks(world, 1_500)
    peer.ask(m.PurgeTasks, A, None, {"state": "dead"})
    for _ in range(3):
        world.peers[-1].world._pass()
    world.lose_power()
    world.start()
    world.advance_ms(500)
    peer = world.connect()
    done = drain(peer, m.PurgeTasks, A, world)
    assert done[2] == 1_500
    assert peer.call(m.Queues).queues == [], "a queue is there while it has tasks"


def test_others_get_their_turn_while_a_job_runs():
    world = World(late=True)
    peer = world.connect()
    register = peer.ask(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
    world.settle()
    world.finish_sync()
    peer.answer(register)
    for start in range(0, 4_000, 1_000):
        peer.ask(m.SubmitTask, [task(number) for number in range(start, start + 1_000)])
        world.settle()
        world.finish_sync()
    cancel = [peer.ask(m.CancelTask, [task_id(n) for n in range(s, s + 1_000)], 0) for s in range(0, 4_000, 1_000)]
    for _ in range(8):
        world.settle()
        world.finish_sync()
    assert all(rid in peer.answers for rid in cancel)
    job = peer.ask(m.PurgeTasks, A, None, {"state": "cancelled"})
    world.settle()
    world.finish_sync()
    peer.answer(job)
    world.look()
    other = world.connect()
    submit = other.ask(m.SubmitTask, [task(9_000)])
    for _ in range(3):
        world.settle()
        world.finish_sync()
    assert submit in other.answers, "the submission does not wait for the job"
