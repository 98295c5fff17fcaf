from __future__ import annotations

import pytest

from tq import limits
from tq.broker.deadlines import Deadlines
from tq.broker.waits import Waits
from tq.errors import Backpressure, InvalidRequest
from tq.machine.answers import EventKind
from tq.machine.event_runs import EventRuns
from tq.protocol import messages as m
from tq.sim.clock import VirtualClock

from .rig import World, complete, fail, task, task_id

A, B = b"A" * 16, b"B" * 16


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.deadlines = Deadlines(self.clock)
        self.waits = Waits(self.deadlines)
        self.called: list[tuple[str, bool]] = []

    def call(self, name: str):
        return lambda happened: self.called.append((name, happened))

    def event(self, index: int, kind: EventKind, id: bytes) -> None:
        events = EventRuns()
        events.add(kind, id, 0, 0, 0)
        self.waits.applied(index, events)


@pytest.fixture
def rig() -> Rig:
    return Rig()


ENDS = {EventKind.COMPLETED, EventKind.CANCELLED, EventKind.EXPIRED, EventKind.DEAD, EventKind.PURGED}


@pytest.mark.parametrize("kind", list(EventKind), ids=lambda kind: kind.name.lower())
def test_the_end_of_a_task_and_nothing_else(rig, kind):
    rig.waits.for_end(A, 1_000, rig.call("a"))
    rig.waits.for_end(B, 1_000, rig.call("b"))
    rig.event(5, kind, A)
    assert rig.called == ([("a", True)] if kind in ENDS else [])
    assert len(rig.waits) == (1 if kind in ENDS else 2)


def test_all_who_wait_for_it_in_order(rig):
    for name in "xyz":
        rig.waits.for_end(A, 1_000, rig.call(name))
    rig.event(5, EventKind.COMPLETED, A)
    rig.event(6, EventKind.PURGED, A)
    assert rig.called == [("x", True), ("y", True), ("z", True)]
    rig.clock.advance_ms(2_000)
    rig.deadlines.run()
    assert len(rig.called) == 3


def test_its_time_is_over(rig):
    rig.waits.for_end(A, 1_000, rig.call("a"))
    rig.waits.for_index(9, 500, rig.call("index"))
    rig.clock.advance_ms(500)
    rig.deadlines.run()
    assert rig.called == [("index", False)]
    rig.clock.advance_ms(500)
    rig.deadlines.run()
    assert rig.called == [("index", False), ("a", False)]
    assert len(rig.waits) == 0
    rig.event(9, EventKind.COMPLETED, A)
    assert len(rig.called) == 2


def test_an_index_is_reached(rig):
    rig.waits.for_index(7, 1_000, rig.call("seven"))
    rig.waits.for_index(5, 1_000, rig.call("five"))
    rig.waits.for_index(9, 1_000, rig.call("nine"))
    rig.waits.reached(4)
    assert rig.called == []
    rig.waits.reached(8)
    assert rig.called == [("five", True), ("seven", True)]
    assert len(rig.waits) == 1


def test_what_was_forgotten_is_not_called(rig):
    forget_end = rig.waits.for_end(A, 1_000, rig.call("a"))
    forget_index = rig.waits.for_index(5, 1_000, rig.call("i"))
    forget_end()
    forget_index()
    forget_end()
    assert len(rig.waits) == 0
    rig.event(5, EventKind.COMPLETED, A)
    rig.clock.advance_ms(2_000)
    rig.deadlines.run()
    assert rig.called == []


def test_a_call_may_forget_another(rig):
    forgets = []
    rig.waits.for_end(A, 1_000, lambda _: [forget() for forget in forgets])
    forgets.append(rig.waits.for_end(A, 1_000, rig.call("second")))
    forgets.append(rig.waits.for_index(5, 1_000, rig.call("index")))
    rig.event(5, EventKind.COMPLETED, A)
    assert rig.called == []
    assert len(rig.waits) == 0


def test_the_number_is_bounded(rig, monkeypatch):
    monkeypatch.setattr(limits, "WAITERS_MAX", 2)
    forget = rig.waits.for_end(A, 1_000, rig.call("a"))
    rig.waits.for_index(5, 1_000, rig.call("i"))
    with pytest.raises(Backpressure) as refused:
        rig.waits.for_end(B, 1_000, rig.call("b"))
    assert refused.value.retry_after
    forget()
    rig.waits.for_end(B, 1_000, rig.call("b"))


def test_the_node_stops(rig):
    rig.waits.for_end(A, 1_000, rig.call("a"))
    rig.waits.for_index(5, 1_000, rig.call("i"))
    rig.waits.clear()
    assert sorted(rig.called) == [("a", False), ("i", False)]
    assert len(rig.waits) == 0


# ---- on a whole broker --------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


def test_a_wait_is_answered_when_the_task_ends(world):
    peer = world.connect()
    worker = world.connect()
    session = worker.register()
    peer.submit(task(1))
    rid = peer.ask(m.WaitTask, task_id(1), 10_000)
    (grant,) = worker.claim(session, 1)
    assert not peer.has(rid)
    worker.report(session, complete(grant, b"result"))
    reply = peer.answer(rid)
    assert reply.ended
    assert reply.task["result"] == b"result"
    assert len(world.broker.waits) == 0


def test_a_failed_attempt_is_no_end(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    rid = peer.ask(m.WaitTask, task_id(1), 10_000)
    (grant,) = peer.claim(session, 1)
    peer.report(session, fail(grant))
    assert not peer.has(rid)


def test_at_its_time_it_is_answered_with_the_state(world):
    peer = world.connect()
    peer.submit(task(1))
    rid = peer.ask(m.WaitTask, task_id(1), 1_000)
    world.advance_ms(950)
    assert not peer.has(rid)
    world.advance_ms(100)
    reply = peer.answer(rid)
    assert (reply.ended, reply.task["state"]) == (False, "pending")


def test_waits_die_with_their_connection(world):
    peer = world.connect()
    other = world.connect()
    other.submit(task(1))
    peer.ask(m.WaitTask, task_id(1), 30_000)
    peer.ask(m.WaitTask, task_id(1), 30_000, 2, 10_000)
    peer.ask(m.GetTask, task_id(1), 7, 10_000)
    world.settle()
    assert len(world.broker.waits) == 3
    peer.vanish()
    world.settle()
    assert len(world.broker.waits) == 0
    other.call(m.CancelTask, [task_id(1)], 0)


def test_bounds(world, monkeypatch):
    peer = world.connect()
    peer.submit(task(1))
    with pytest.raises(InvalidRequest):
        peer.call(m.WaitTask, task_id(1), limits.WAIT_MS_MAX + 1)
    monkeypatch.setattr(limits, "WAITERS_MAX", 1)
    peer.ask(m.WaitTask, task_id(1), 1_000)
    with pytest.raises(Backpressure):
        peer.call(m.WaitTask, task_id(1), 1_000)
    with pytest.raises(Backpressure):
        peer.call(m.GetTask, task_id(1), 7, 1_000_000)
    with pytest.raises(Backpressure):
        peer.call(m.WaitTask, task_id(1), 0, 2, 1_000_000)


def test_stop_answers_all_waits(world):
    peer = world.connect()
    peer.submit(task(1))
    waits = peer.ask(m.WaitTask, task_id(1), 30_000)
    late = peer.ask(m.GetTask, task_id(1), 7, 1_000_000)
    world.stop()
    assert peer.answers[waits].ended is False
    assert isinstance(peer.answers[late], m.ErrorReply)


def test_a_state_that_came_by_a_snapshot_answers_who_waits(rig):
    """What happened on the way to it was not seen: whoever waits for a task looks for itself."""
    rig.waits.for_end(A, 1_000, rig.call("a"))
    rig.waits.for_index(40, 1_000, rig.call("index 40"))
    rig.waits.for_index(41, 1_000, rig.call("index 41"))
    rig.waits.begin_anew(40)
    assert rig.called == [("a", True), ("index 40", True)]
    assert len(rig.waits) == 1
