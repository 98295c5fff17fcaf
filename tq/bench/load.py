"""Load generators: processes of their own that submit for a given time and print one JSON document of what came of it.

``singles`` speaks the protocol by hand over many sockets from one thread, so that what is measured is the broker
and not 64 client threads. The others use the client as users do. Each says when it is ready and waits for a file
with the moment of the common start, so that starting Python is in no figure, however busy the machine is; all count
what was answered inside their time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import selectors
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from tq import Client, TaskSpec, cbor, spec
from tq.bench.app_tasks import app, call
from tq.bench.measure import spread
from tq.protocol import messages

HEADER = struct.Struct(">IB")
RECEIVE_BYTES = 1 << 16
READY = "ready"
GATE_LOOK_SECONDS = 0.005
WAITING_MAX = 4_000
WAITING_CHECK_BATCHES = 10
WAITING_LOOK_SECONDS = 0.002


@attrs.frozen
class Plan:
    """What a generator was asked for."""

    address: str
    type: str
    gate: Path
    seconds: float
    batch: int
    connections: int
    payload: bytes
    priority: int

    def wait(self) -> float:
        """Say that all is ready, wait for the common start (see ``Bed.go``); the moment of the end."""
        print(READY, flush=True)
        while not self.gate.exists():
            time.sleep(GATE_LOOK_SECONDS)
        start = float(self.gate.read_text("ascii"))
        time.sleep(max(0.0, start - time.monotonic()))
        return start + self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tq.bench.load")
    parser.add_argument("kind", choices=["one", "singles", "many", "feed", "app-one", "app-feed"])
    parser.add_argument("--address", required=True, help="of brokers; singles take the first")
    parser.add_argument("--type", default="bench.noop")
    parser.add_argument("--gate", type=Path, required=True, help="a file that will hold the moment of the start")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--payload-bytes", type=int, default=100)
    parser.add_argument("--priority", type=int, default=150)
    o = parser.parse_args()
    payload = b"x" * o.payload_bytes
    plan = Plan(o.address, o.type, o.gate, o.seconds, o.batch, o.connections, payload, o.priority)
    kinds = {
        "one": one, "singles": singles, "many": many, "feed": feed, "app-one": app_one, "app-feed": app_feed
    }  # fmt: skip
    tasks, times = kinds[o.kind](plan)
    print(json.dumps({"tasks": tasks, "seconds": plan.seconds, **attrs.asdict(spread(times))}))


def one(plan: Plan) -> tuple[int, list[float]]:
    """One blocking client, one task a call."""
    times = []
    with Client(plan.address) as client:
        client.stats()
        end = plan.wait()
        while (begun := time.perf_counter()) and time.monotonic() < end:
            client.submit(plan.type, plan.payload, priority=plan.priority)
            times.append(time.perf_counter() - begun)
    return len(times), times


def many(plan: Plan) -> tuple[int, list[float]]:
    """One blocking client, a batch a call, as fast as it is answered."""
    times = []
    with Client(plan.address) as client:
        client.stats()
        end = plan.wait()
        while time.monotonic() < end:
            begun = time.perf_counter()
            client.submit_many(specs(plan))
            times.append(time.perf_counter() - begun)
    return len(times) * plan.batch, times


def feed(plan: Plan) -> tuple[int, list[float]]:
    """As ``many``, but no more than a few thousand tasks wait: what workers do is the measure."""
    with Client(plan.address) as client:
        return _feed(plan, client, lambda: client.submit_many(specs(plan)))


def _feed(plan: Plan, client: Client, submit: Callable[[], object]) -> tuple[int, list[float]]:
    times = []
    client.stats()
    end = plan.wait()
    base = waiting(client)
    while time.monotonic() < end:
        begun = time.perf_counter()
        submit()
        times.append(time.perf_counter() - begun)
        while len(times) % WAITING_CHECK_BATCHES == 0 and waiting(client) - base > WAITING_MAX:
            if time.monotonic() > end:
                break
            time.sleep(WAITING_LOOK_SECONDS)  # to ask without a pause would take a core from what is measured
    return len(times) * plan.batch, times


# ---- through the front door ------------------------------------------------------------------------


def app_one(plan: Plan) -> tuple[int, list[float]]:
    """As ``one``: a task with two arguments, of as many bytes."""
    times = []
    text = plan.payload.decode()
    app.brokers = plan.address
    with app:
        app.client.stats()
        end = plan.wait()
        while (begun := time.perf_counter()) and time.monotonic() < end:
            call.submit(text, number=7)
            times.append(time.perf_counter() - begun)
    return len(times), times


def app_feed(plan: Plan) -> tuple[int, list[float]]:
    """As ``feed``."""
    text = plan.payload.decode()
    app.brokers = plan.address
    with app:
        return _feed(plan, app.client, lambda: call.submit_many([(text, number) for number in range(plan.batch)]))


def specs(plan: Plan) -> list[TaskSpec]:
    return [TaskSpec(type=plan.type, payload=plan.payload, priority=plan.priority) for _ in range(plan.batch)]


def waiting(client: Client) -> int:
    """Tasks of all queues that are ready."""
    return sum(queue.pending_total for queue in client.queues())


# ---- many connections from one thread --------------------------------------------------------------


class _Connection:
    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self._in = bytearray()
        self._send(messages.Hello.TYPE, [0, messages.PROTOCOL_VERSION, messages.PROTOCOL_VERSION, "tq-bench", [], None])
        self.wait_frame(messages.HelloReply.TYPE)
        self.socket.setblocking(False)

    def submit(self, raw: bytes, rid: int) -> None:
        self.begun = time.perf_counter()
        self._send(messages.SubmitTask.TYPE, [rid, [raw], False])

    def receive(self) -> bytes | None:
        """The next whole frame (type and body), if it is there."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionError("the broker closed the connection")
        self._in += data
        return self._frame()

    def wait_frame(self, type_expected: int) -> None:
        while (frame := self._frame()) is None:
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._in += data
        if frame[0] != type_expected:
            raise ConnectionError(f"expected message {type_expected:#x}, got {frame[0]:#x}: {cbor.loads(frame[1:])!r}")

    def _frame(self) -> bytes | None:
        if len(self._in) < 4:
            return None
        length = int.from_bytes(self._in[:4], "big")
        if len(self._in) < 4 + length:
            return None
        frame = bytes(self._in[4 : 4 + length])
        del self._in[: 4 + length]
        return frame

    def _send(self, kind: int, fields: list[object]) -> None:
        body = cbor.dumps(fields)
        self.socket.sendall(HEADER.pack(1 + len(body), kind) + body)


def singles(plan: Plan) -> tuple[int, list[float]]:
    """Many connections, each with one task in flight."""
    connections = [_Connection(plan.address.partition(",")[0]) for _ in range(plan.connections)]
    tasks = raw_specs(plan)
    times: list[float] = []
    rids = itertools.count(1)
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        end = plan.wait()
        for connection in connections:
            connection.submit(next(tasks), next(rids))
        while time.monotonic() < end:
            for key, _events in selector.select(1.0):
                connection = key.data
                frame = connection.receive()
                if frame is None:
                    continue
                times.append(time.perf_counter() - connection.begun)
                _check_created(frame)
                connection.submit(next(tasks), next(rids))
    for connection in connections:
        connection.socket.close()
    return len(times), times


def _check_created(frame: bytes) -> None:
    body = cbor.loads(frame[1:])
    if frame[0] != messages.SubmitReply.TYPE or body[2] != [0]:
        raise ConnectionError(f"a submission was not created: {frame[0]:#x} {body!r}")


def raw_specs(plan: Plan) -> Iterator[bytes]:
    """Encoded tasks with ids in order of time, as the client makes them."""
    base = uuid.uuid4().int & ((1 << 60) - 1)
    for number in itertools.count():
        value = ((time.time_ns() // 1_000_000) << 80) | (7 << 76) | (2 << 62) | ((base + number) & ((1 << 62) - 1))
        yield spec.encode(spec.Spec(value.to_bytes(16, "big"), plan.type, plan.payload, priority=plan.priority))


if __name__ == "__main__":
    main()
