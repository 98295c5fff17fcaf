"""Heartbeats against a broker whose answers the test gives; real threads and sockets on the loopback."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import structlog.testing

from tests.unit.client.fake_broker import CLOSE, FakeBroker
from tq.errors import BrokerUnavailable, NotLeader, SessionLost, to_wire
from tq.protocol import messages as m
from tq.protocol.addresses import Addresses, parse
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom
from tq.worker.heartbeats import ANSWER_S_MAX, Beat, Heartbeats, answer_seconds
from tq.world import RealClock

SESSION = b"S" * 16
LONG_MS = 3_600_000
GOOD = Beat(SESSION, 2 * LONG_MS, LONG_MS, [[b"T" * 16, 5]], ["t"])


@attrs.define
class Rig:
    """``said`` has what was told to the loop, in order."""

    heartbeats: Heartbeats
    said: queue.SimpleQueue[tuple[bytes, Any]]
    clock: VirtualClock
    beats: list[Beat | None]

    def next_said(self) -> tuple[bytes, Any]:
        return self.said.get(timeout=20)


Start = Callable[..., Rig]


@pytest.fixture
def start() -> Any:
    rigs = []

    def start(brokers: str, beat: Beat | None = GOOD) -> Rig:
        said: queue.SimpleQueue[tuple[bytes, Any]] = queue.SimpleQueue()
        clock, beats = VirtualClock(), [beat]
        heartbeats = Heartbeats(
            Addresses(parse(brokers)),
            "tq-worker/test",
            clock,
            SeededRandom(7),
            lambda: beats[-1],
            lambda session, answer: said.put((session, answer)),
            lambda: {"slots": 4},
        )
        rigs.append(Rig(heartbeats, said, clock, beats))
        heartbeats.start()
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.heartbeats.stop()
        rig.heartbeats.join(20)
        assert not rig.heartbeats.is_alive()


def fine(request: m.Heartbeat) -> m.HeartbeatReply:
    return m.HeartbeatReply(request.rid, [[b"T" * 16, 5, 100]], [], False)


def test_it_names_the_leases_and_takes_the_answer_to_the_loop(start: Start) -> None:
    with FakeBroker(fine) as broker:
        rig = start(broker.address)
        session, answer = rig.next_said()
        assert (session, answer.cancel) == (SESSION, [[b"T" * 16, 5, 100]])
        (request,) = broker.requests
        assert (request.session, request.tasks, request.stats) == (SESSION, [[b"T" * 16, 5]], {"slots": 4})


def test_it_goes_on_beating_on_one_connection(start: Start) -> None:
    with FakeBroker(fine) as broker:
        rig = start(broker.address, Beat(SESSION, 30_000, 1, [], []))
        for _ in range(5):
            rig.next_said()
        assert broker.connections == 1


def test_it_waits_for_a_session_and_begins_with_it_at_once(start: Start) -> None:
    with FakeBroker(fine) as broker:
        rig = start(broker.address, None)
        rig.beats.append(GOOD)
        rig.heartbeats.poke()
        assert rig.next_said()[0] == SESSION
        rig.heartbeats.poke()
        rig.next_said()
        assert broker.connections == 1


def test_a_lost_session_is_told(start: Start) -> None:
    with FakeBroker(lambda request: m.ErrorReply(request.rid, to_wire(SessionLost("ended")))) as broker:
        session, answer = start(broker.address).next_said()
        assert session == SESSION
        assert isinstance(answer, SessionLost)


def test_a_follower_names_the_leader_which_is_then_asked(start: Start) -> None:
    with FakeBroker(fine) as leader:
        no = NotLeader("no", leader=leader.address)
        with FakeBroker(lambda request: m.ErrorReply(request.rid, to_wire(no))) as follower:
            start(follower.address).next_said()
            assert leader.requests


def test_a_connection_that_is_lost_is_replaced_and_the_beat_sent_again(start: Start) -> None:
    answers = [CLOSE, BrokerUnavailable("starting"), CLOSE, None]

    def answer(request: m.Heartbeat) -> Any:
        said = answers.pop(0)
        if isinstance(said, BrokerUnavailable):
            return m.ErrorReply(request.rid, to_wire(said))
        return fine(request) if said is None else said

    with structlog.testing.capture_logs() as logs, FakeBroker(answer) as broker:
        start(broker.address).next_said()
        assert broker.connections == 4
        assert len(broker.requests) == 4
    events = [log["event"] for log in logs]
    assert events.count("a heartbeat failed") == 1


def test_goaway_moves_it_to_another_connection(start: Start) -> None:
    def answer(request: m.Heartbeat) -> Any:
        return [m.GoAway("stopping"), fine(request)]

    with FakeBroker(answer) as broker:
        rig = start(broker.address)
        rig.next_said()
        rig.heartbeats.poke()
        rig.next_said()
        assert broker.connections == 2


def test_a_broker_that_is_not_there_is_tried_until_it_is(start: Start) -> None:
    with FakeBroker(fine) as broker:
        rig = start(f"127.0.0.1:1,{broker.address}")
        assert rig.next_said()[0] == SESSION


def test_a_late_heartbeat_names_who_ran() -> None:
    """Without its thread: the time it was due is long past."""
    beat = Beat(SESSION, 30_000, 15_000, [], ["resize", "scan"])
    clock = VirtualClock()
    heartbeats = Heartbeats(
        Addresses(parse("a:1")), "c", clock, SeededRandom(7), lambda: beat, lambda _s, _a: None, dict
    )
    with structlog.testing.capture_logs() as logs:
        heartbeats._look_late(clock.monotonic_ms() - 1_000)
        assert logs == []
        heartbeats._look_late(clock.monotonic_ms() - 5_000)
    (log,) = logs
    assert "late" in log["event"]
    assert (log["late_ms"], log["running"]) == (5_000, ["resize", "scan"])


@pytest.mark.parametrize("addresses", [1, 3, 5, 7])
@pytest.mark.parametrize(("lease_ms", "heartbeat_ms"), [(30_000, 15_000), (6_000, 2_000), (1_500, 400)])
def test_a_beat_that_is_due_finds_a_broker_in_time_though_others_are_dead(
    addresses: int, lease_ms: int, heartbeat_ms: int
) -> None:
    """The old connection and every other address say nothing, each to the end of its time."""
    answer_s = answer_seconds(Beat(SESSION, lease_ms, heartbeat_ms, [], []), addresses)
    if lease_ms == 30_000 or addresses <= 3:
        assert heartbeat_ms + addresses * answer_s * 1000 < lease_ms
    assert 0.2 < answer_s <= ANSWER_S_MAX


def test_a_dead_address_among_three_costs_a_part_of_the_lease_alone(start: Start) -> None:
    """Two brokers take the connection and say nothing, as one does that stands still."""
    with (
        FakeBroker(lambda request: None) as first,
        FakeBroker(lambda request: None) as second,
        FakeBroker(fine) as third,
    ):
        brokers = f"{first.address},{second.address},{third.address}"
        begun = RealClock().monotonic_ms()
        start(brokers, Beat(SESSION, 3_000, 1_000, [], [])).next_said()
        assert RealClock().monotonic_ms() - begun < 2_000
        assert first.requests
        assert second.requests
