"""Who answers each request, and that each is answered once, whatever happens."""

from __future__ import annotations

import attrs
import pytest

from tq import limits
from tq.broker.dispatch import Dispatch
from tq.broker.holding import HOLD_MS
from tq.errors import Backpressure, BrokerUnavailable, NotLeader, TqError, Unsupported
from tq.protocol import messages as m
from tq.protocol.codec import MESSAGES, REQUEST_TYPE_MAX

from .rig import SESSION, World, task, task_id, with_task

REQUESTS = {
    m.Hello: (1, 1, "again"),
    m.Ping: (),
    m.SubmitTask: ([task(7)], False),
    m.GetTask: (task_id(1),),
    m.ListTasks: ({}, 10),
    m.WaitTask: (task_id(1), 0),
    m.CancelTask: ([task_id(1)], 0),
    m.RetryTasks: (b"o" * 16, [task_id(1)]),
    m.PurgeTasks: (b"p" * 16, [task_id(1)]),
    m.ExplainTask: (task_id(1),),
    m.RegisterWorker: (SESSION, "w", ["work"], ["default"]),
    m.ClaimTask: (SESSION, 1, [], 1, 0),
    m.TaskResult: (SESSION, [[task_id(1), 1, 2, None]]),
    m.Heartbeat: (SESSION, []),
    m.Progress: (SESSION, [[task_id(1), 1, 0.5, None, None]]),
    m.Checkpoint: (SESSION, [[task_id(1), 1, 1, b"data"]]),
    m.DeregisterWorker: (SESSION,),
    m.Queues: (),
    m.SetQueue: (b"q" * 16, "default", {"max_length": 5}, "ana"),
    m.Workers: (),
    m.Stats: (),
    m.ClusterStatus: (),
    m.ChangeCluster: ("transfer", {"from": "n2", "to": None}),
    m.Subscribe: (),
    m.Unsubscribe: (1,),
    m.GiveUp: (1,),
}
LEADERS = {
    m.SubmitTask, m.CancelTask, m.RetryTasks, m.PurgeTasks, m.RegisterWorker, m.ClaimTask, m.TaskResult, m.Heartbeat,
    m.Progress, m.Checkpoint, m.DeregisterWorker, m.SetQueue, m.Workers, m.ChangeCluster,
}  # fmt: skip
WRITES = LEADERS - {m.Heartbeat, m.Progress, m.Workers, m.ClaimTask, m.ChangeCluster}


@pytest.fixture
def world() -> World:
    return World()


def ask(peer, kind):
    return peer.ask(kind, *REQUESTS[kind])


def test_every_request_of_the_protocol_is_handled(world):
    known = {cls for type_, cls in MESSAGES.items() if type_ <= REQUEST_TYPE_MAX}
    assert known == set(REQUESTS)
    assert set(world.broker.dispatch._handlers) == known


def test_each_is_answered_by_its_reply(world):
    peer = with_task(world)
    for kind in REQUESTS:
        if kind is m.Hello:
            continue  # the second one is against the protocol
        reply = peer.answer(ask(peer, kind))
        assert type(reply).TYPE == kind.TYPE | 0x80


def test_all_at_once_are_each_answered_once(world):
    peer = with_task(world)
    rids = [ask(peer, kind) for kind in REQUESTS if kind is not m.Hello for _ in range(5)]
    world.settle()
    assert set(rids) <= set(peer.answers)
    assert peer.protocol.in_flight == 0
    assert peer.connection.protocol.in_flight == 0


@pytest.mark.parametrize("kind", sorted(set(REQUESTS) - {m.Hello}, key=lambda kind: kind.TYPE))
def test_who_does_not_lead_says_so(world, kind):
    peer = with_task(world)
    peer.call(m.RegisterWorker, SESSION, "w", ["work"], ["default"])
    world.broker.on_role(False)
    rid = ask(peer, kind)
    world.settle()
    if kind in LEADERS:
        assert isinstance(refused_at_last(world, peer, rid), NotLeader)
    else:
        assert not isinstance(peer.answers[rid], m.ErrorReply), "reads are answered by every node"


def refused_at_last(world, peer, rid):
    """What needs the leader is held for a while, for there may be one soon."""
    assert rid not in peer.answers
    world.clock.advance_ms(HOLD_MS)
    world.broker.look()
    world.settle()
    return peer.error(rid)


def test_linearizable_reads_need_the_leader(world):
    peer = with_task(world)
    assert peer.get(task_id(1), linearizable=True)
    world.broker.on_role(False)
    rids = [peer.ask(m.GetTask, task_id(1), linearizable=True), peer.ask(m.ListTasks, {}, linearizable=True)]
    world.settle()
    assert [type(refused_at_last(world, peer, rids[0])), type(peer.error(rids[1]))] == [NotLeader, NotLeader]
    assert peer.get(task_id(1))


@pytest.mark.parametrize("kind", sorted(WRITES | {m.ClaimTask}, key=lambda kind: kind.TYPE))
@pytest.mark.parametrize("is_in_flight", [True, False], ids=["in flight", "queued"])
def test_lost_leadership_answers_once(kind, is_in_flight):
    world = World(late=True)
    peer = world.connect()
    for first in (m.SubmitTask, m.RegisterWorker):
        peer.ask(first, *(([task(1)], False) if first is m.SubmitTask else REQUESTS[first]))
        world.settle()
        world.finish_sync()
    if not is_in_flight:
        peer.ask(m.SubmitTask, [task(50)])
        world.settle()
    rid = ask(peer, kind)
    world.settle()
    assert rid not in peer.answers
    world.broker.on_role(False)
    world.broker.flush()
    error = peer.error(rid)
    assert isinstance(error, BrokerUnavailable if is_in_flight else NotLeader)
    assert error.retryable
    for _ in range(3):
        world.finish_sync()
    assert peer.connection.protocol.in_flight == 0


@pytest.mark.parametrize("kind", sorted(WRITES, key=lambda kind: kind.TYPE))
def test_backpressure_answers_each(kind, monkeypatch):
    world = World(late=True)
    peer = world.connect()
    monkeypatch.setattr(limits, "PROPOSER_QUEUE_COMMANDS_MAX", 1)
    in_flight = peer.ask(m.SubmitTask, [task(1)])
    world.settle()
    queued = peer.ask(m.SubmitTask, [task(2)])
    rid = ask(peer, kind)
    error = peer.error(rid)
    assert isinstance(error, Backpressure)
    assert error.retry_after == limits.OVERLOAD_RETRY_AFTER_MS / 1000
    world.finish_sync()
    world.finish_sync()
    assert peer.answer(in_flight).items == [0]
    assert peer.answer(queued).items == [0]


def test_stopping_answers_all_that_comes_late(world):
    """What was read before GOAWAY was sent; what the protocol lets through afterwards."""
    peer = with_task(world)
    world.broker.is_stopping = True
    for kind in set(REQUESTS) - {m.Hello}:
        error = peer.error(ask(peer, kind))
        assert isinstance(error, BrokerUnavailable)
        assert error.retry_after


def test_requests_in_flight_are_bounded():
    world = World(late=True)
    peer = world.connect()
    rids = [peer.ask(m.SubmitTask, [task(number)]) for number in range(limits.REQUESTS_IN_FLIGHT_MAX + 3)]
    world.settle()
    refused = [rid for rid in rids if rid in peer.answers]
    assert refused == rids[limits.REQUESTS_IN_FLIGHT_MAX :]
    assert all(isinstance(peer.error(rid), Backpressure) for rid in refused)
    for _ in range(5):
        world.finish_sync()
    assert all(peer.answers[rid].items == [0] for rid in rids[: limits.REQUESTS_IN_FLIGHT_MAX])


def test_an_unknown_request_is_unsupported(world):
    peer = with_task(world)
    peer.send_bytes(bytes.fromhex("00000003" + "3e" + "8118"))  # not even a good body
    world.settle()
    assert peer.fatal is not None
    assert peer.fatal.code == "PROTOCOL"
    peer = world.connect()
    peer.reads = False
    peer.send_bytes(bytes.fromhex("00000003" + "3e" + "8107"))
    world.settle()
    assert b"UNSUPPORTED" in peer.socket.to_peer
    assert not peer.is_closed

    @attrs.frozen
    class Later(m.Message):
        rid: int

    sent = []
    dispatch: Dispatch = world.broker.dispatch

    class Recorder:
        def send_error(self, rid: int, error: TqError) -> None:
            sent.append((rid, error))

    dispatch.request(Recorder(), Later(5))  # type: ignore[arg-type]
    assert sent[0][0] == 5
    assert isinstance(sent[0][1], Unsupported)


def test_hello_names_limits_window_and_cluster(world):
    peer = world.connect()
    hello = peer.answers[1]
    assert hello.limits["payload_bytes_max"] == 10 * limits.MIB
    assert hello.memory_window_ms == limits.TOMBSTONE_KEEP_MS_DEFAULT
    assert hello.leader == "127.0.0.1:7379"
    assert hello.cluster_id != bytes(16)
    world.restart()
    assert world.connect().answers[1].cluster_id == hello.cluster_id


# ---- giving up ---------------------------------------------------------------------------------------


def test_a_wait_that_is_given_up_ends_at_once(world):
    peer = with_task(world)
    kept, rid = peer.ask(m.WaitTask, task_id(1), 20_000), peer.ask(m.WaitTask, task_id(1), 20_000)
    world.settle()
    assert len(world.broker.waits) == 2
    peer.call(m.GiveUp, rid)
    assert len(world.broker.waits) == 1
    with pytest.raises(BrokerUnavailable, match="given up"):
        peer.answer(rid)
    peer.call(m.CancelTask, [task_id(1)], 0)
    assert peer.answer(kept).ended


def test_a_wait_for_an_index_can_be_given_up(world):
    peer = with_task(world)
    rid = peer.ask(m.GetTask, task_id(1), 7, 1_000_000)
    world.settle()
    peer.call(m.GiveUp, rid)
    assert len(world.broker.waits) == 0
    with pytest.raises(BrokerUnavailable, match="given up"):
        peer.answer(rid)


def test_giving_up_what_is_answered_or_of_another_connection_does_nothing(world):
    peer, other = with_task(world), world.connect()
    rid = peer.ask(m.WaitTask, task_id(1), 20_000)
    assert not peer.has(rid)
    other.call(m.GiveUp, rid)
    peer.call(m.GiveUp, 12_345)
    assert len(world.broker.waits) == 1
    peer.call(m.CancelTask, [task_id(1)], 0)
    assert peer.answer(rid).ended
    peer.call(m.GiveUp, rid)
