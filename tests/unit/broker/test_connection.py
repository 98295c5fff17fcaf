from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.broker import requests
from tq.broker.connection import Connection
from tq.errors import PayloadTooLarge, from_wire
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, ClientConnection
from tq.sim.client import SimSocket

from .rig import World, id_of, task, task_id

SESSION = b"s" * 16
GRANT = [task(1), 1, 0, 11, 3_000, None, None]


class Rig:
    """A connection by itself, with HELLO said."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.socket = SimSocket()
        self.dirty: Any = {}
        self.returned: list[tuple[bytes, list[Any]]] = []
        self.connection = Connection(
            self.socket,  # type: ignore[arg-type]
            "peer",
            self.dirty,
            lambda session, grants: self.returned.append((session, grants)),
        )
        self.client = ClientConnection()
        self.rid = 0
        self.request(m.Hello, 1, 1, "rig")
        self.connection.send(m.HelloReply(1, 1, [], {}, 0, bytes(16), "n1", None, "tq", 0))
        self.flush()
        self.read()
        self.socket.room = room

    def request(self, kind: type[m.Message], *fields: Any) -> int:
        self.rid += 1
        self.connection.protocol.receive_data(self.client.send(kind(self.rid, *fields)))
        assert self.connection.protocol.next_event() is not NEED_DATA
        return self.rid

    def flush(self) -> None:
        self.connection.flush()

    def read(self, count: int | None = None) -> list[Any]:
        """The peer reads ``count`` bytes of what the kernel holds."""
        data = bytes(self.socket.to_peer[:count])
        del self.socket.to_peer[:count]
        if data:
            self.client.receive_data(data)
        found = []
        while (event := self.client.next_event()) is not NEED_DATA:
            found.append(event)
        return found


def claim(rig):
    return rig.request(m.ClaimTask, SESSION, 1, [], 1, 0)


def test_nothing_leaves_before_the_flush():
    rig = Rig()
    rids = [rig.request(m.Ping) for _ in range(3)]
    for rid in rids:
        rig.connection.send(m.PingReply(rid, 5))
    assert not rig.socket.to_peer
    assert rig.connection in rig.dirty
    rig.flush()
    assert [reply.rid for reply in rig.read()] == rids
    assert rig.connection.out_bytes == 0


def test_what_the_kernel_does_not_take_waits_in_order():
    rig = Rig(room=100)
    waits = []
    rig.connection.wait_for_room = waits.append
    rids = [rig.request(m.GetTask, task_id(1)) for _ in range(5)]
    for rid in rids:
        rig.connection.send(m.GetReply(rid, 5, {"payload": b"p" * 70}))
    rig.flush()
    assert waits == [rig.connection]
    got = []
    while rig.connection.out_bytes or rig.socket.to_peer:
        got += rig.read(33)
        rig.flush()
    assert [reply.rid for reply in got] == rids


def test_a_reply_that_fits_no_frame_is_an_error_of_its_request():
    rig = Rig(room=1 << 30)
    rid = rig.request(m.GetTask, task_id(1))
    rig.connection.send(m.GetReply(rid, 5, {"payload": bytes(limits.FRAME_BYTES_MAX)}))
    rig.flush()
    (reply,) = rig.read()
    assert isinstance(from_wire(reply.error), PayloadTooLarge)
    rid = rig.request(m.Ping)
    rig.connection.send(m.PingReply(rid, 1))
    rig.flush()
    assert rig.read() == [m.PingReply(rid, 1)]


def test_grants_that_never_left_go_back():
    rig = Rig(room=0)
    rig.connection.send_grants(claim(rig), 5, SESSION, [GRANT])
    rig.flush()
    rig.connection.close()
    assert rig.returned == [(SESSION, [GRANT])]


def test_grants_whose_reply_left_in_part_go_back():
    rig = Rig(room=20)
    rig.connection.send_grants(claim(rig), 5, SESSION, [GRANT])
    rig.flush()
    assert rig.socket.to_peer
    assert rig.connection.out_bytes
    rig.connection.close()
    assert rig.returned == [(SESSION, [GRANT])]


def test_grants_that_the_kernel_took_do_not_go_back():
    rig = Rig()
    rig.connection.send_grants(claim(rig), 5, SESSION, [GRANT])
    rig.flush()
    rig.connection.send_grants(claim(rig), 6, SESSION, [[*GRANT[:3], 12, *GRANT[4:]]])
    rig.connection.close()
    assert [grants[0][3] for _, grants in rig.returned] == [12]


def test_grants_for_a_closed_connection_go_back_at_once():
    rig = Rig()
    rid = claim(rig)
    rig.connection.close()
    rig.connection.send_grants(rid, 5, SESSION, [GRANT])
    rig.connection.send_grants(rid, 5, SESSION, [])
    assert rig.returned == [(SESSION, [GRANT])]


def test_grants_behind_a_full_buffer_go_back(monkeypatch):
    monkeypatch.setattr(limits, "CONNECTION_OUT_BYTES_MAX", 500)
    rig = Rig(room=0)
    for _ in range(3):
        rig.connection.send(m.GetReply(rig.request(m.GetTask, task_id(1)), 1, {"payload": bytes(400)}))
    rig.connection.send_grants(claim(rig), 5, SESSION, [GRANT])
    assert rig.connection.is_closed
    assert rig.returned == [(SESSION, [GRANT])]


def test_a_broken_pipe_closes():
    rig = Rig()
    rid = claim(rig)
    told = []
    rig.connection.on_close["k"] = lambda: told.append("k")
    rig.socket.is_broken = True
    rig.connection.send_grants(rid, 5, SESSION, [GRANT])
    rig.flush()
    assert rig.connection.is_closed
    assert rig.socket.is_closed
    assert rig.returned == [(SESSION, [GRANT])]
    assert told == ["k"]
    rig.flush()
    rig.connection.close()
    rig.connection.send(m.PingReply(1, 1))
    assert told == ["k"]
    assert rig.connection not in rig.dirty


def test_a_slow_reader_is_cut_off(monkeypatch):
    monkeypatch.setattr(limits, "CONNECTION_OUT_BYTES_MAX", 1_000)
    rig = Rig(room=100)
    rig.connection.send(m.GetReply(rig.request(m.GetTask, task_id(1)), 1, {"payload": bytes(900)}))
    rig.flush()
    assert not rig.connection.is_closed
    rig.connection.send(m.GetReply(rig.request(m.GetTask, task_id(1)), 1, {"payload": bytes(900)}))
    rig.flush()
    assert rig.connection.is_closed
    assert rig.connection.out_bytes == 0


def test_what_one_entry_answers_is_bounded_too(monkeypatch):
    """Between two flushes a connection may be sent far more than its bound."""
    monkeypatch.setattr(limits, "CONNECTION_OUT_BYTES_MAX", 10_000)
    rig = Rig()
    most = 0
    for _ in range(200):
        if rig.connection.is_closed:
            break
        rig.connection.send(m.GetReply(rig.request(m.GetTask, task_id(1)), 1, {"payload": bytes(1_000)}))
        most = max(most, rig.connection.out_bytes)
    assert rig.connection.is_closed
    assert most < 12_000


def test_a_blocked_connection_is_not_copied_at_each_try():
    rig = Rig(room=0)
    for _ in range(20):
        rig.connection.send(m.GetReply(rig.request(m.GetTask, task_id(1)), 1, {"payload": bytes(limits.MIB)}))
    sizes = []
    original = rig.socket.send
    rig.socket.send = lambda data: sizes.append(len(data)) or original(data)  # type: ignore[method-assign]
    for _ in range(5):
        rig.flush()
    assert max(sizes) < 3 * limits.MIB


# ---- on a whole broker --------------------------------------------------------------------------------


def test_a_connection_that_vanishes_gives_back_what_it_did_not_get():
    world = World()
    submitter = world.connect()
    submitter.submit(task(1))
    worker = world.connect()
    session = worker.register()
    worker.socket.room = 0
    worker.ask_claim(session, 1)
    world.settle()
    assert submitter.state(task_id(1)) == "running"
    worker.vanish()
    world.settle()
    found = submitter.get(task_id(1))
    assert (found["state"], found["attempt"], found["crashes"]) == ("pending", 0, 0)
    other = world.connect()
    (grant,) = other.claim(other.register(2), 1)
    assert (id_of(grant), grant[1], grant[2]) == (task_id(1), 1, 0)


def test_few_bytes_of_requests_may_ask_for_gigabytes(monkeypatch):
    """Answers are made only as far as somebody takes them."""
    monkeypatch.setattr(requests, "READ_PAUSE_BYTES", 80_000)
    world = World()
    peer = world.connect(room=30_000)
    peer.submit(task(1, payload=bytes(10_000)))
    peer.reads = False
    rids = [peer.ask(m.GetTask, task_id(1)) for _ in range(500)]
    world.settle()
    assert 80_000 < peer.connection.out_bytes < 100_000
    assert not peer.is_closed
    other = world.connect()
    assert other.call(m.Ping).index > 0
    peer.reads = True
    world.settle()
    assert all(rid in peer.answers for rid in rids)


def test_a_reply_in_many_pieces():
    world = World()
    peer = world.connect(room=1_000)
    peer.submit(task(1, payload=bytes(50_000)))
    assert len(peer.get(task_id(1))["payload"]) == 50_000


@pytest.mark.parametrize("cut", [1, 3, 5, 20])
def test_half_a_frame_waits_for_the_other_half(cut):
    world = World()
    peer = world.connect()
    peer.rid += 1
    data = peer.protocol.send(m.SubmitTask(peer.rid, [task(1)]))
    peer.send_bytes(data[:cut])
    world.advance_ms(1_000)
    assert peer.rid not in peer.answers
    peer.send_bytes(data[cut:])
    assert peer.answer(peer.rid).items == [0]
