"""What each request is answered with, and that each is answered once, whatever happens."""

from __future__ import annotations

import attrs
import pytest

from tq import limits
from tq.broker.dispatch import Dispatch
from tq.broker.holding import HOLD_MS
from tq.errors import (
    Backpressure,
    BrokerUnavailable,
    InvalidRequest,
    NotFound,
    NotLeader,
    PayloadTooLarge,
    SessionLost,
    TqError,
    Unsupported,
    from_wire,
)
from tq.protocol import messages as m
from tq.protocol.codec import MESSAGES, REQUEST_TYPE_MAX
from tq.spec import Retry

from .rig import World, cancelled, complete, fail, lease, release, task, task_id

SESSION = b"s" * 16
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


def with_task(world):
    peer = world.connect()
    peer.submit(task(1))
    return peer


def ask(peer, kind):
    return peer.ask(kind, *REQUESTS[kind])


def error_of(peer, rid):
    peer.world.settle()
    reply = peer.answers[rid]
    assert isinstance(reply, m.ErrorReply), reply
    return from_wire(reply.error)


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
    return error_of(peer, rid)


def test_linearizable_reads_need_the_leader(world):
    peer = with_task(world)
    assert peer.get(task_id(1), linearizable=True)
    world.broker.on_role(False)
    rids = [peer.ask(m.GetTask, task_id(1), linearizable=True), peer.ask(m.ListTasks, {}, linearizable=True)]
    world.settle()
    assert [type(refused_at_last(world, peer, rids[0])), type(error_of(peer, rids[1]))] == [NotLeader, NotLeader]
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
    error = error_of(peer, rid)
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
    error = error_of(peer, rid)
    assert isinstance(error, Backpressure)
    assert error.retry_after == limits.OVERLOAD_RETRY_AFTER_MS / 1000
    world.finish_sync()
    world.finish_sync()
    assert peer.answer(in_flight).items == [0]
    assert peer.answer(queued).items == [0]


def test_the_proposer_is_bounded_in_bytes(monkeypatch):
    world = World(late=True)
    peer = world.connect()
    monkeypatch.setattr(limits, "PROPOSER_QUEUE_BYTES_MAX", 10_000)
    peer.ask(m.SubmitTask, [task(1)])
    world.settle()
    rids = [peer.ask(m.SubmitTask, [task(number, payload=bytes(4_000))]) for number in range(2, 6)]
    world.settle()
    refused = [rid for rid in rids if rid in peer.answers]
    assert refused == rids[2:]
    assert all(isinstance(error_of(peer, rid), Backpressure) for rid in refused)


def test_stopping_answers_all_that_comes_late(world):
    """What was read before GOAWAY was sent; what the protocol lets through afterwards."""
    peer = with_task(world)
    world.broker.is_stopping = True
    for kind in set(REQUESTS) - {m.Hello}:
        error = error_of(peer, ask(peer, kind))
        assert isinstance(error, BrokerUnavailable)
        assert error.retry_after


# ---- bounds of the contract ---------------------------------------------------------------------------


def test_a_batch_is_bounded(world):
    peer = with_task(world)
    with pytest.raises(InvalidRequest):
        peer.call(m.SubmitTask, [], False)
    with pytest.raises(InvalidRequest):
        peer.call(m.SubmitTask, [task(number) for number in range(1_001)])
    big = [task(number, payload=bytes(limits.BATCH_BYTES_MAX // 2)) for number in range(3)]
    with pytest.raises(PayloadTooLarge) as refused:
        peer.call(m.SubmitTask, [*big[:2], task(5, payload=bytes(1_000))])
    assert refused.value.detail["bound"] == limits.BATCH_BYTES_MAX
    assert not refused.value.retryable


@pytest.mark.parametrize("outcome", [0, 1], ids=["results", "errors"])
def test_results_are_bounded_in_bytes(world, outcome):
    peer = with_task(world)
    session = peer.register()
    half = limits.BATCH_BYTES_MAX // 2 + 1
    body = ["text/plain", bytes(half)] if outcome == 0 else [["E", "x" * half, ""], False, None]
    with pytest.raises(PayloadTooLarge):
        peer.report(session, *[[task_id(1), 1, outcome, body]] * 2)


def test_a_flood_of_error_texts_does_not_stop_the_node(monkeypatch):
    """Each is within its bound; together they are more than an entry takes."""
    monkeypatch.setattr(limits, "ENTRY_BYTES_MAX", 100_000)
    world = World(late=True)
    peers = [world.connect() for _ in range(8)]
    rids = []
    for peer in peers:
        failure = [["E", "\u4e2d" * 10_000, ""], False, None]
        rids.append(peer.ask(m.TaskResult, SESSION, [[task_id(1), 1, 1, failure]]))
    for _ in range(12):
        world.settle()
        world.finish_sync()
    assert [peer.answer(rid).items for peer, rid in zip(peers, rids, strict=True)] == [[[2, None]]] * 8


def test_a_flood_of_queue_names_does_not_stop_the_node(world, monkeypatch):
    monkeypatch.setattr(limits, "ENTRY_BYTES_MAX", 200_000)
    peer = with_task(world)
    session = peer.register()
    queues = tuple("\U0001f600" * 124 + f"{number:04}" for number in range(100))
    peer.submit(task(2, queue=queues[0]))
    rids = [peer.ask_claim(session, number, 1, 0, queues) for number in range(20)]
    world.settle()
    assert all(rid in peer.answers for rid in rids)


def test_texts_count_as_what_they_weigh(world):
    """Sizes are in bytes, of all that a command carries: the proposer's bounds and groups go by them."""
    sizes = []
    world.broker.proposer.propose = lambda command, operations, size, done: sizes.append(size)  # type: ignore[method-assign]
    peer = world.connect()
    wide = "\u4e2d" * 1_000
    peer.ask(m.TaskResult, SESSION, [[task_id(1), 1, 1, [["E", wide, wide], False, None]]])
    peer.ask(m.RegisterWorker, SESSION, "w", ["\u4e2d" * 100] * 10, ["default"])
    world.settle()
    assert 6_000 < sizes[0] < 6_200
    assert 3_000 < sizes[1] < 3_200


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (m.CancelTask, ([], 0)),
        (m.CancelTask, ([task_id(1)], limits.DAY_MS + 1)),
        (m.RegisterWorker, (SESSION, "w", [], ["default"])),
        (m.RegisterWorker, (SESSION, "w", ["work"], [])),
        (m.TaskResult, (SESSION, [])),
        (m.RetryTasks, (b"o" * 16, [])),
        (m.RetryTasks, (b"o" * 16, None, None)),
        (m.RetryTasks, (b"o" * 16, [task_id(1)], {"state": "dead"})),
        (m.PurgeTasks, (b"o" * 16, None, None)),
        (m.PurgeTasks, (b"o" * 16, [task_id(1)], {"state": "dead"})),
        (m.PurgeTasks, (b"o" * 16, None, {"colour": "red"})),
        (m.ListTasks, ({"state": "sleeping"}, 10)),
        (m.ListTasks, ({}, 10, b"not a cursor")),
        (m.Subscribe, (None, [-1, 0])),
    ],
)
def test_what_is_out_of_bounds_is_named(world, kind, fields):
    peer = with_task(world)
    with pytest.raises(InvalidRequest) as refused:
        peer.call(kind, *fields)
    assert refused.value.detail["field"]
    assert peer.call(m.Ping).index, "the connection lives on"


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


def test_requests_in_flight_are_bounded():
    world = World(late=True)
    peer = world.connect()
    rids = [peer.ask(m.SubmitTask, [task(number)]) for number in range(limits.REQUESTS_IN_FLIGHT_MAX + 3)]
    world.settle()
    refused = [rid for rid in rids if rid in peer.answers]
    assert refused == rids[limits.REQUESTS_IN_FLIGHT_MAX :]
    assert all(isinstance(error_of(peer, rid), Backpressure) for rid in refused)
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


# ---- what they say ------------------------------------------------------------------------------------


def test_writes_answer_with_the_index_of_their_entry(world):
    peer = world.connect()
    before = peer.call(m.Ping).index
    reply = peer.submit(task(1))
    assert reply.index == before + 1
    assert peer.call(m.GetTask, task_id(1)).index >= reply.index
    assert peer.call(m.CancelTask, [task_id(1)], 0).index == reply.index + 1


def test_the_same_again_is_answered_the_same(world):
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    assert peer.submit(task(1)).items[0][0] == 1
    assert peer.submit(task(1, payload=b"other")).items[0][0] == 2
    peer.register()
    (grant,) = peer.claim(session, 1)
    assert peer.report(session, fail(grant, permanent=True)) == [0]
    assert peer.report(session, fail(grant, permanent=True)) == [1]
    assert peer.report(session, complete(grant))[0][0] == 2
    assert world.broker.counters.stale_results == 1
    first = peer.call(m.RetryTasks, b"o" * 16, [task_id(1)])
    again = peer.call(m.RetryTasks, b"o" * 16, [task_id(1)])
    assert first.items == again.items == [[2, None]]
    assert peer.call(m.DeregisterWorker, session)
    assert peer.call(m.DeregisterWorker, session)


def test_two_who_ask_the_same_in_one_entry():
    world = World(late=True)
    peer, other = world.connect(), world.connect()
    warm = peer.ask(m.SubmitTask, [task(9)])
    world.settle()
    rids = [(p, p.ask(m.SubmitTask, [task(1)])) for p in (peer, other)]
    conflict = other.ask(m.SubmitTask, [task(1, payload=b"other")])
    for _ in range(3):
        world.settle()
        world.finish_sync()
    assert peer.answer(warm)
    assert [p.answer(rid).items for p, rid in rids] == [[0], [[1, 2, task_id(1), None]]]
    assert other.answer(conflict).items[0][0] == 2


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
    assert world.broker.dispatch._holders == {}


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


def test_heartbeats_of_strangers(world):
    peer = with_task(world)
    with pytest.raises(SessionLost):
        peer.beat(SESSION)


def test_progress_of_strangers(world):
    peer = with_task(world)
    with pytest.raises(SessionLost):
        peer.call(m.Progress, SESSION, [])


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


def test_checkpoints_are_bounded_in_bytes(world):
    peer = with_task(world)
    data = bytes(limits.CHECKPOINT_BYTES_MAX)
    n = limits.BATCH_BYTES_MAX // limits.CHECKPOINT_BYTES_MAX
    assert len(peer.call(m.Checkpoint, SESSION, [[task_id(1), 1, number, data] for number in range(n)]).items) == n
    with pytest.raises(PayloadTooLarge):
        peer.call(m.Checkpoint, SESSION, [[task_id(1), 1, number, data] for number in range(n + 1)])


def test_workers_are_shown(world):
    peer = with_task(world)
    peer.call(m.RegisterWorker, SESSION, "host-1-abc", ["work"], ["default", "low"], {"version": "1"})
    peer.claim(SESSION, 1)
    peer.call(m.Heartbeat, SESSION, [], {"cpu_percent": 12})
    (row,) = peer.call(m.Workers).workers
    assert (row["name"], row["types"], row["queues"]) == ("host-1-abc", ["work"], ["default", "low"])
    assert (row["running"], row["info"], row["stats"]) == (1, {"version": "1"}, {"cpu_percent": 12})


def test_explain_names_what_is_missing(world):
    peer = with_task(world)
    assert "worker" in peer.call(m.ExplainTask, task_id(1)).why
    with pytest.raises(NotFound):
        peer.call(m.ExplainTask, task_id(99))


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


def test_hello_names_limits_window_and_cluster(world):
    peer = world.connect()
    hello = peer.answers[1]
    assert hello.limits["payload_bytes_max"] == 10 * limits.MIB
    assert hello.memory_window_ms == limits.TOMBSTONE_KEEP_MS_DEFAULT
    assert hello.leader == "127.0.0.1:7379"
    assert hello.cluster_id != bytes(16)
    world.restart()
    assert world.connect().answers[1].cluster_id == hello.cluster_id


# ---- queues -----------------------------------------------------------------------------------------------


def test_settings_of_a_queue_are_set_told_and_kept(world):
    peer = world.connect()
    changes = {"paused": True, "reason": "deploy", "retry": [1, 0, 1_000, 0, 0]}
    reply = peer.call(m.SetQueue, b"a" * 16, "mail", changes, "ana")
    assert reply.settings["retry"] == [1, 0, 1_000, 0, 0]
    assert reply.settings["paused"]["by"] == "ana"
    again = peer.call(m.SetQueue, b"a" * 16, "mail", {"max_length": 5}, "ben")
    assert again.settings == reply.settings
    assert again.index > reply.index
    for _ in range(2):
        (row,) = world.connect().call(m.Queues).queues
        assert (row["name"], row["settings"]) == ("mail", reply.settings)
        world.restart()


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"rate": "100/s"}, Unsupported), ({"colour": None}, Unsupported), ({"max_length": -1}, InvalidRequest), ({"retry": []}, InvalidRequest)],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(world, changes, error):
    peer = world.connect()
    with pytest.raises(error) as refused:
        peer.call(m.SetQueue, b"a" * 16, "mail", changes, "ana")
    assert refused.value.detail["field"] == next(iter(changes))
    assert peer.call(m.Queues).queues == []


def test_events_of_a_queue_reach_who_listens_to_all(world):
    peer, all_of_it, of_one = world.connect(), world.connect(), world.connect()
    all_of_it.call(m.Subscribe)
    of_one.call(m.Subscribe, task_id(1))
    peer.call(m.SetQueue, b"a" * 16, "mail", {"paused": True, "reason": "deploy"}, "ana")
    world.settle()
    (push,) = all_of_it.pushes
    (row,) = push.events
    assert row[2:4] == [17, bytes(16)]
    assert row[5:] == ["mail", "", 0, ["ana", "deploy"]]
    assert of_one.pushes == []
    assert not any(event.startswith("queue") for _, event, _ in world.broker.stats()["events"]), "no task was concerned"


def test_a_full_queue_refuses_what_is_new(world):
    peer = world.connect()
    peer.call(m.SetQueue, b"a" * 16, "default", {"max_length": 1}, "ana")
    assert peer.submit(task(1)).items == [0]
    one, two = peer.submit(task(1), task(2)).items
    assert (one[0], two[0], two[3][0]) == (1, 3, "QUEUE_FULL")


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
