"""The hand-made protocol of the load generator, against bytes that the broker's own codec makes."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from pathlib import Path

import pytest

from tq import spec
from tq.bench import load
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, BrokerConnection

PLAN = load.Plan("", "bench.noop", Path("gate"), 1.0, 10, 4, b"x" * 100, 150)


def test_raw_specs_are_what_the_machine_parses_with_rising_ids() -> None:
    raws = list(itertools.islice(load.raw_specs(PLAN), 50))
    specs = [spec.parse(raw) for raw in raws]
    assert {one.type for one in specs} == {"bench.noop"}
    assert {one.payload for one in specs} == {PLAN.payload}
    ids = [one.id for one in specs]
    assert ids == sorted(set(ids))
    assert all(id[6] >> 4 == 7 and id[8] >> 6 == 2 for id in ids), "UUIDv7"


def test_specs_are_a_batch() -> None:
    batch = load.specs(PLAN)
    assert len(batch) == 10
    assert (batch[0].type, batch[0].priority, batch[0].payload) == ("bench.noop", 150, PLAN.payload)


class Peer:
    """The broker's end: answers HELLO and submissions."""

    def __init__(self, items: list[object]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.submitted: list[bytes] = []
        self._items = items
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        sock, _ = self.listener.accept()
        protocol = BrokerConnection()
        with sock:
            while data := sock.recv(65_536):
                protocol.receive_data(data)
                while (message := protocol.next_event()) is not NEED_DATA:
                    sock.sendall(protocol.send(self._answer(message)))

    def _answer(self, message: object) -> m.Message:
        if isinstance(message, m.Hello):
            return m.HelloReply(message.rid, 1, [], {}, 0, bytes(16), "n", None, "tq", 0)
        assert isinstance(message, m.SubmitTask), message
        self.submitted += message.specs
        return m.SubmitReply(message.rid, 5, self._items)

    def close(self) -> None:
        self._thread.join()
        self.listener.close()


def submit_once(items: list[object]) -> tuple[Peer, bytes]:
    peer = Peer(items)
    connection = load._Connection(peer.address)
    try:
        connection.submit(next(load.raw_specs(PLAN)), 9)
        while (frame := connection.receive()) is None:
            pass
        return peer, frame
    finally:
        connection.socket.close()
        peer.close()


def test_a_submission_by_hand_is_one_that_the_broker_reads() -> None:
    peer, frame = submit_once([0])
    load._check_created(frame)
    assert spec.parse(peer.submitted[0]).type == "bench.noop"


def test_what_was_not_created_is_never_counted() -> None:
    _, frame = submit_once([[1, 2, bytes(16), None]])
    with pytest.raises(ConnectionError, match="not created"):
        load._check_created(frame)


def test_a_generator_waits_for_the_moment_in_its_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = tmp_path / "gate"
    plan = load.Plan("", "t", gate, 2.0, 1, 1, b"", 150)
    start = time.monotonic() + 0.05
    opened = threading.Timer(0.02, lambda: gate.with_suffix(".draft").rename(gate))
    gate.with_suffix(".draft").write_text(repr(start), "ascii")
    opened.start()
    assert plan.wait() == start + 2.0
    assert time.monotonic() >= start
    assert capsys.readouterr().out == "ready\n"
    opened.join()
