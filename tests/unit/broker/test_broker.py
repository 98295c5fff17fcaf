"""The whole broker: from the wire to the disk and back, over restarts, and against clients that mean harm."""

from __future__ import annotations

import pytest

from tq import limits
from tq.broker.holding import HOLD_MS
from tq.broker.services import PERIOD_MS, REST_MS
from tq.errors import StorageFailed
from tq.protocol import messages as m
from tq.protocol.codec import encode
from tq.protocol.connection import ClientConnection
from tq.sim.disk import PowerLoss
from tq.sim.random import SeededRandom

from .rig import Peer, World, complete, id_of, lease, task, task_id


def test_a_task_goes_through():
    world = World()
    peer = world.connect()
    assert peer.submit(task(1)).items == [0]
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    assert peer.report(session, complete(grant)) == [0]
    assert peer.state(task_id(1)) == "completed"


def test_it_looks_less_often_while_nothing_is_to_be_done():
    world = World()
    peer = world.connect()
    broker = world.broker
    stirs = []
    broker.stir = lambda: stirs.append(broker.applied_index)
    world.advance_ms(1_000)
    assert broker.look_wait_ms() == REST_MS
    assert not stirs
    peer.submit(task(1, delay_ms=1_100))
    assert stirs
    assert broker.look_wait_ms() == PERIOD_MS, "a checkpoint is due"
    world.advance_ms(1_000)
    assert PERIOD_MS <= broker.look_wait_ms() <= 100, "its timer is not late for that"
    world.advance_ms(1_000)
    assert broker.look_wait_ms() == REST_MS
    session = peer.register()
    (grant,) = peer.claim(session, 1)
    world.advance_ms(1_000)
    assert broker.look_wait_ms() == PERIOD_MS, "a lease may run out"
    peer.report(session, complete(grant))
    world.advance_ms(1_000)
    assert broker.look_wait_ms() == REST_MS
    peer.submit(task(2))
    world.advance_ms(1_000)
    stirs.clear()
    peer.ask(m.WaitTask, task_id(2), 100)
    world.settle()
    assert stirs, "it ends at a time that was not known before"
    assert broker.look_wait_ms() <= 100


# ---- durable before visible ---------------------------------------------------------------------------


def test_nothing_is_answered_before_its_sync():
    world = World(late=True)
    peer = world.connect()
    rid = peer.ask(m.SubmitTask, [task(1)])
    world.advance_ms(2_000)
    assert rid not in peer.answers
    ping = peer.ask(m.Ping)
    world.settle()
    assert ping in peer.answers, "the loop goes on while the disk works"
    world.finish_sync()
    assert peer.answer(rid).items == [0]


def test_many_clients_share_one_sync():
    world = World(late=True)
    peers = [world.connect() for _ in range(50)]
    peers[0].ask(m.SubmitTask, [task(0)])
    world.settle()
    before = world.node.statistics().syncs
    rids = [peer.ask(m.SubmitTask, [task(number)]) for number, peer in enumerate(peers, 1)]
    world.settle()
    world.finish_sync()
    world.finish_sync()
    assert all(peer.answer(rid).items == [0] for peer, rid in zip(peers, rids, strict=True))
    assert world.node.statistics().syncs - before == 2


def test_a_failed_sync_stops_the_node_and_answers_nobody():
    world = World()
    peer = world.connect()
    world.disk.fail_sync()
    rid = peer.ask(m.SubmitTask, [task(1)])
    with pytest.raises(StorageFailed):
        world.settle()
    assert rid not in peer.answers
    with pytest.raises(StorageFailed):
        world.passes.run_once()


def test_a_full_disk_stops_the_node_and_answers_nobody():
    world = World()
    peer = world.connect()
    peer.submit(task(1))
    world.disk.fill_after(50)
    rid = peer.ask(m.SubmitTask, [task(2, payload=bytes(1_000))])
    with pytest.raises(StorageFailed):
        world.settle()
    assert rid not in peer.answers
    world.disk.fill_after(1 << 40)
    world.lose_power()
    world.start()
    assert world.connect().state(task_id(1)) == "pending"


@pytest.mark.parametrize("seed", range(15))
def test_power_goes_anywhere_and_what_was_answered_is_there(seed):
    random = SeededRandom(seed)
    world = World(seed)
    peer = world.connect()
    session = peer.register()
    world.disk.stop_at(world.disk.steps + 1 + random.below(60))
    accepted, done, fences = [], [], []
    try:
        for number in range(1, 200):
            peer.submit(task(number))
            accepted.append(number)
            (grant,) = peer.claim(session, number)
            fences.append(grant[3])
            peer.report(session, complete(grant, b"%d" % number))
            done.append(number)
            world.advance_ms(20)
    except PowerLoss:
        pass
    else:
        raise AssertionError(f"seed {seed}: the power did not go")
    world.lose_power()
    world.start()
    peer = world.connect()
    for number in accepted:
        found = peer.get(task_id(number))
        if number in done:
            assert (found["state"], found["result"]) == ("completed", b"%d" % number), f"seed {seed}"
    peer.submit(task(1_000, priority=255))
    (grant,) = peer.claim(peer.register(2), 1)
    assert id_of(grant) == task_id(1_000)
    assert grant[3] > max(fences, default=0), f"seed {seed}: a fence repeats"


# ---- restarts -----------------------------------------------------------------------------------------


def test_sessions_and_leases_survive_a_restart():
    world = World()
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1), task(2))
    (grant,) = peer.claim(session, 1)
    world.restart()
    peer = world.connect()
    assert peer.beat(session, lease(grant)).lost == []
    assert peer.report(session, complete(grant)) == [0]
    assert [id_of(grant) for grant in peer.claim(session, 2)] == [task_id(2)]
    (worker,) = peer.call(m.Workers).workers
    assert worker["name"] == "worker-1"


def test_a_claim_whose_reply_the_crash_took_is_repeated():
    world = World()
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1))
    peer.reads = False
    peer.ask_claim(session, 1)
    world.settle()
    world.restart()
    (grant,) = world.connect().claim(session, 1)
    assert (id_of(grant), grant[1]) == (task_id(1), 1)


def test_nothing_but_reads_before_it_serves():
    world = World(late=True)
    peer = world.connect()
    rid = peer.ask(m.SubmitTask, [task(1)])
    world.settle()
    world.finish_sync()
    assert peer.answer(rid)
    world.broker.is_serving = False
    rid = peer.ask(m.SubmitTask, [task(2)])
    world.settle()
    assert peer.call(m.GetTask, task_id(1))
    assert rid not in peer.answers, "it leads, so it serves soon"
    world.clock.advance_ms(HOLD_MS)
    world.broker.look()
    world.settle()
    assert isinstance(peer.answers[rid], m.ErrorReply)


def test_log_time_goes_on_over_a_restart_with_the_clock_set_back():
    world = World()
    peer = world.connect()
    peer.submit(task(1, delay_ms=60_000))
    created = peer.get(task_id(1))["created_ms"]
    world.clock.jump_wall_ms(-3_600_000)
    world.restart()
    peer = world.connect()
    peer.submit(task(2))
    assert peer.get(task_id(2))["created_ms"] >= created
    assert peer.state(task_id(1)) == "scheduled"
    (node,) = peer.call(m.ClusterStatus).status["nodes"]
    assert node["log_time_ahead_ms"] > 3_000_000


def test_a_running_worker_is_not_harmed_by_checkpoints():
    world = World()
    peer = world.connect()
    for number in range(1, 40):
        peer.submit(task(number))
        world.advance_ms(60)
    before = world.store.checkpointed_index
    assert before > 10
    world.crash()
    assert world.store.checkpointed_index == before
    world.start()
    assert world.broker.applied_index >= before


# ---- stopping -----------------------------------------------------------------------------------------


def test_graceful_stop_answers_what_is_in_flight():
    world = World(late=True)
    peer, idle = world.connect(), world.connect()
    rid = peer.ask(m.SubmitTask, [task(1)])
    world.settle()
    queued = peer.ask(m.SubmitTask, [task(2)])
    world.settle()
    world.stop()
    assert not world.broker.is_idle
    for peer_ in (peer, idle):
        (goaway,) = peer_.pushes
        assert isinstance(goaway, m.GoAway)
    assert rid not in peer.answers
    for _ in range(3):
        world.finish_sync()
    assert peer.answers[rid].items == [0]
    assert peer.answers[queued].items == [0]
    assert world.broker.is_idle


def test_requests_behind_goaway_are_refused_not_lost():
    world = World()
    peer = world.connect()
    rid = peer.ask(m.Ping)
    world.broker.stop()  # the ping is on its way
    world.settle()
    reply = peer.answers[rid]
    assert isinstance(reply, m.ErrorReply)
    assert reply.error[0] == "UNAVAILABLE"
    assert reply.error[2] is True


def test_it_is_not_idle_while_somebody_has_not_taken_its_answer():
    world = World()
    peer = world.connect(room=2_000)
    peer.submit(task(1, payload=bytes(10_000)))
    peer.reads = False
    peer.ask(m.GetTask, task_id(1))
    world.stop()
    assert not world.broker.is_idle
    peer.reads = True
    world.settle()
    assert world.broker.is_idle


def test_stopping_with_strangers_connected():
    world = World()
    mute = Peer(world)
    half = Peer(world)
    half.send_bytes(b"\x00\x00")
    world.settle()
    world.stop()
    assert world.broker.is_idle
    assert mute.is_closed or mute.pushes


# ---- numbers ------------------------------------------------------------------------------------------


def test_statistics_and_status():
    world = World()
    peer = world.connect()
    session = peer.register()
    peer.submit(task(1), task(2))
    peer.claim(session, 1)
    world.advance_ms(500)
    stats = peer.call(m.Stats).stats
    assert stats["tasks"]["running"] == 1
    assert stats["tasks"]["pending"] == 1
    assert (stats["workers"], stats["leases"], stats["connections"]) == (1, 1, 1)
    assert ["default", "created", 2] in stats["events"]
    assert stats["proposer"]["queued_commands"] == 0
    assert stats["raft"]["role"] == "LEADER"
    status = peer.call(m.ClusterStatus).status
    (node,) = status["nodes"]
    assert (node["role"], node["reachable"], node["serving"]) == ("leader", True, True)
    assert node["applied"] == node["commit"] == node["last"]
    assert status["cluster"]["name"] == "tq"


def test_the_same_seed_gives_the_same_run():
    def run() -> tuple[bytes, int]:
        world = World(5)
        peers = [world.connect() for _ in range(5)]
        for number, peer in enumerate(peers):
            peer.ask(m.SubmitTask, [task(number)])
            peer.ask(m.WaitTask, task_id(0), 100)
        world.advance_ms(300)
        return world.node.read(world.node.last_index, world.node.last_index + 1)[0].data, world.disk.steps

    assert run() == run()


# ---- clients that mean harm ---------------------------------------------------------------------------


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "ones": b"\xff" * 4_096,
    "zeros": bytes(4_096),
    "huge length": b"\x7f\xff\xff\xff\x02",
    "sixteen megabytes": (limits.FRAME_BYTES_MAX).to_bytes(4, "big") + b"\x02",
    "a reply": b"\x00\x00\x00\x03\x82\x81\x01",
    "empty": b"\x00\x00\x00\x00",
    "deep": b"\x00\x00\x01\x01\x02" + b"\x81" * 256,
    "not an array": b"\x00\x00\x00\x02\x02\x01",
    "no rid": b"\x00\x00\x00\x02\x1f\x80",
    "text rid": b"\x00\x00\x00\x04\x1f\x81\x61a",
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("after_hello", [False, True], ids=["first", "after hello"])
def test_garbage_ends_its_connection_only(name, after_hello):
    world = World()
    good = world.connect()
    bad = world.connect() if after_hello else Peer(world)
    rid = bad.ask(m.GetTask, task_id(1), 7, 1_000_000) if after_hello else None
    bad.send_bytes(GARBAGE[name])
    world.settle()
    if name == "sixteen megabytes" and after_hello:
        assert not bad.is_closed  # as long as a frame may be: it waits for the rest
    else:
        assert bad.is_closed
        assert bad.fatal is not None
        assert bad.fatal.code == "PROTOCOL"
    assert good.submit(task(1)).items == [0]
    assert rid is None or rid not in bad.answers


def test_a_request_id_in_flight_twice():
    world = World(late=True)
    bad = world.connect()
    data = encode(m.SubmitTask(77, [task(1)]))
    bad.send_bytes(data + data)
    world.settle()
    assert bad.is_closed
    world.finish_sync()
    world.finish_sync()
    good = world.connect()
    rid = good.ask(m.GetTask, task_id(1))
    assert good.answer(rid).task["state"] == "pending", "what was sound was done"


def test_requests_before_hello():
    world = World()
    bad = Peer(world)
    bad.send_bytes(encode(m.Ping(1)))
    world.settle()
    assert bad.is_closed


def test_a_client_that_leaves_with_a_thousand_in_flight():
    world = World(late=True)
    good = world.connect()
    bad = world.connect()
    for number in range(limits.REQUESTS_IN_FLIGHT_MAX):
        bad.ask(m.SubmitTask, [task(number)])
    world.settle()
    bad.vanish()
    world.settle()
    for _ in range(4):
        world.finish_sync()
    assert bad.is_closed
    rid = good.ask(m.Ping)
    assert good.answer(rid)
    assert len(world.broker.connections) == 1


def test_a_crowd_that_claims_and_leaves():
    world = World()
    good = world.connect()
    for number in range(1, 40):
        bad = world.connect()
        session = bad.register(number)
        bad.ask_claim(session, 1, 1_000, 30_000)
        world.settle()
        bad.vanish() if number % 2 else bad.close()
    world.settle()
    assert len(world.broker.claims) == 0
    assert good.submit(task(1)).items == [0]
    assert good.state(task_id(1)) == "pending"


@pytest.mark.parametrize("seed", range(30))
def test_mangled_conversations(seed):
    """Sound requests with flipped bytes, cut, doubled and thrown together, in pieces of any size."""
    random = SeededRandom(seed)
    world = World(seed)
    good = world.connect()
    good.submit(task(1))
    session = good.register()
    for _ in range(20):
        bad = Peer(world)
        bad.reads = False
        talk = ClientConnection()
        data = bytearray(talk.send(m.Hello(0, 1, 1, "bad")))
        for rid in range(1, 12):
            data += encode(_request(random, rid, session))
        for _ in range(random.below(4)):
            at = random.below(len(data))
            match random.below(3):
                case 0:
                    data[at] ^= 1 << random.below(8)
                case 1:
                    del data[at : at + 1 + random.below(9)]
                case _:
                    data[at:at] = data[at : at + random.below(40)]
        while data:
            size = 1 + random.below(200)
            bad.send_bytes(bytes(data[:size]))
            del data[:size]
            world.settle()
            if bad.is_closed:
                break
        if random.below(2):
            bad.close()
        world.advance_ms(random.below(100))
    assert good.call(m.Ping).index, f"seed {seed}"
    assert good.submit(task(99)).items == [0], f"seed {seed}"


def _request(random: SeededRandom, rid: int, session: bytes) -> m.Message:
    id = task_id(random.below(4))
    requests: list[m.Message] = [
        m.Ping(rid),
        m.SubmitTask(rid, [task(random.below(4))] * random.below(3)),
        m.GetTask(rid, id),
        m.WaitTask(rid, id, random.below(1_000)),
        m.ListTasks(rid, {"state": "pending"}),
        m.CancelTask(rid, [id], 100),
        m.RetryTasks(rid, random.bytes(16), [id]),
        m.PurgeTasks(rid, random.bytes(16), None, {"state": "cancelled"}),
        m.RegisterWorker(rid, session, "worker-1", ["work"], ["default"]),
        m.ClaimTask(rid, session, random.below(5), ["default", "default"], 1 + random.below(10), random.below(500)),
        m.TaskResult(rid, session, [[id, random.below(100_000), 0, ["text/plain", b"x"]]]),
        m.Heartbeat(rid, session, [[id, random.below(100_000)]]),
        m.Subscribe(rid, None, [0, 0]),
        m.Unsubscribe(rid, random.below(12)),
        m.GiveUp(rid, random.below(12), [session, random.below(5)] if random.below(2) else None),
        m.DeregisterWorker(rid, random.bytes(16)),
        m.ExplainTask(rid, id),
        m.Stats(rid),
        m.Queues(rid),
        m.Workers(rid),
        m.ClusterStatus(rid),
    ]
    return requests[random.below(len(requests))]


def test_how_long_submissions_and_claims_took_is_counted() -> None:
    world = World(late=True)
    client, worker = world.connect(), world.connect()
    rid = worker.ask(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
    world.settle()
    world.finish_sync()
    worker.answer(rid)
    claim = worker.ask_claim(b"s" * 16, 1, wait_ms=30_000)
    world.settle()
    submit = client.ask(m.SubmitTask, [task(1)])
    world.settle()
    world.clock.advance_ms(300)
    for _ in range(4):
        world.finish_sync()
    client.answer(submit)
    worker.answer(claim)
    stats = world.broker.stats()
    for name in ("submit_seconds", "claim_wait_seconds"):
        told = stats[name]
        assert (told["count"], told["sum"]) == (1, pytest.approx(0.3)), name
        assert dict(told["buckets"])[0.2] == 0, name
        assert dict(told["buckets"])[0.5] == 1, name
