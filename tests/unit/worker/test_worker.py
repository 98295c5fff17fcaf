"""The whole worker in this process, against the real state machine behind a socket; signals are real, too."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from tests.unit.client.fake_broker import CLOSE, FakeBroker
from tests.unit.client.machine_broker import MachineBroker
from tq.client.blocking import Client
from tq.errors import InternalError, InvalidRequest, ResourceFailed, SessionLost, Unsupported, to_wire
from tq.protocol import messages as m
from tq.protocol.addresses import parse
from tq.worker import worker
from tq.worker.context import Context
from tq.worker.core import Settings
from tq.worker.handlers import Handlers, Loaded
from tq.worker.recycling import NEVER, Recycling
from tq.worker.signals import LastResort


class Broker:
    """``MachineBroker`` with heartbeats; claims that find nothing are answered at once. ``intercept`` answers first."""

    def __init__(self) -> None:
        self.machine = MachineBroker()
        self.heartbeats: list[m.Heartbeat] = []
        self.intercept: Callable[[Any], Any] = lambda request: None

    def __call__(self, request: Any) -> Any:
        said = self.intercept(request)
        if said is not None:
            return said
        if isinstance(request, m.Heartbeat):
            self.heartbeats.append(request)
            return m.HeartbeatReply(request.rid, [], [], False)
        return self.machine(request)


class Worker:
    """``serve`` on the main thread, and the test beside it on another: signals need it so."""

    def __init__(
        self,
        broker: FakeBroker,
        handlers: Handlers,
        *,
        slots: int = 4,
        drain_ms: int = 20_000,
        recycling: Recycling = NEVER,
    ) -> None:
        self._failures: list[BaseException] = []
        self.worker = worker.Worker(
            Settings("w-1", ["default"], slots, drain_ms, {"pid": os.getpid()}),
            Loaded(handlers, handlers.worker_middleware, handlers.resources),
            "tests.unit.worker.process_handlers",
            parse(broker.address),
            recycling=recycling,
            last_resort=lambda wait_s: LastResort(60, lambda code: self._failures.append(AssertionError("no end"))),
        )

    def run(self, beside: Callable[[], None]) -> int:
        def work() -> None:
            try:
                beside()
            except BaseException as error:  # noqa: BLE001 - to be raised again below
                self._failures.append(error)
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            code = trio.run(self.worker.serve)
        finally:
            thread.join(30)
        if self._failures:
            raise self._failures[0]
        return code


@pytest.fixture
def inside() -> Broker:
    return Broker()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def submit(client: Client, type: str, payload: bytes = b"") -> Any:
    return client.submit(type, payload).id


def until_ended(client: Client, id: Any) -> Any:
    """The stand-in answers a wait at once, so ask until it is over."""
    while True:
        info = client.get(id)
        if info.state in ("completed", "dead", "cancelled"):
            return info
        threading.Event().wait(0.002)


def test_tasks_of_all_executors_are_done_and_a_signal_ends_it(inside: Broker) -> None:
    handlers = Handlers()
    handlers.register("thread", lambda payload, ctx: b"thread " + payload)

    async def coroutine(payload: bytes, ctx: Context) -> bytes:
        await trio.sleep(0)
        return b"async " + payload

    async def on_asyncio(payload: bytes, ctx: Context) -> bytes:
        await asyncio.sleep(0)
        return b"asyncio " + payload

    handlers.register("async", coroutine)
    handlers.register("asyncio", on_asyncio, executor="asyncio")
    handlers.register("pid", lambda payload, ctx: None, executor="process")

    with FakeBroker(inside) as broker, Client(broker.address) as client:
        ids = [submit(client, name, b"1") for name in ("thread", "async", "asyncio", "pid")]

        def beside() -> None:
            infos = [until_ended(client, id) for id in ids]
            assert [info.state for info in infos] == ["completed"] * 4
            assert [info.result for info in infos[:3]] == [b"thread 1", b"async 1", b"asyncio 1"]
            assert int(infos[3].result) != os.getpid()
            stop()

        assert Worker(broker, handlers).run(beside) == 0
        (heartbeat,) = inside.heartbeats
        assert heartbeat.stats["slots"] == 4
        assert isinstance(broker.requests[-1], m.DeregisterWorker), "it took leave"


def test_a_lost_connection_is_replaced_and_the_outcome_sent_again(inside: Broker) -> None:
    handlers = Handlers()
    handlers.register("t", lambda payload, ctx: payload)
    losses = [CLOSE, CLOSE]

    def lose(request: Any) -> Any:
        if isinstance(request, m.TaskResult) and losses:
            inside.machine(request)  # it arrives, and its answer does not
            return losses.pop()
        return None

    inside.intercept = lose
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        id = submit(client, "t", b"once")

        def beside() -> None:
            assert until_ended(client, id).result == b"once"
            while not (losses == [] and len([r for r in broker.requests if isinstance(r, m.TaskResult)]) == 3):
                threading.Event().wait(0.002)
            stop()

        assert Worker(broker, handlers).run(beside) == 0
        sessions = {request.session for request in broker.requests if isinstance(request, m.RegisterWorker)}
        assert len(sessions) == 1


def test_a_drain_lets_the_running_task_end_and_a_second_signal_does_not_wait(inside: Broker) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def handler(payload: bytes, ctx: Context) -> bytes:
        begun.release()
        go_on.wait(20)
        return b"done"

    handlers = Handlers()
    handlers.register("t", handler)
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        id = submit(client, "t")

        def drain() -> None:
            assert begun.acquire(timeout=20)
            stop()
            threading.Event().wait(0.05)
            assert client.get(id).state == "running"
            go_on.set()

        assert Worker(broker, handlers).run(drain) == 0
        assert client.get(id).state == "completed"

        go_on.clear()
        id = submit(client, "t")

        def quit_() -> None:
            assert begun.acquire(timeout=20)
            stop()
            threading.Event().wait(0.05)  # two signals at once are one
            stop()

        assert Worker(broker, handlers).run(quit_) == 130
        while client.get(id).state == "running":
            threading.Event().wait(0.002)
        info = client.get(id)
        assert (info.state, info.attempt, info.crashes) == ("pending", 0, 0), "given back, not counted"
        go_on.set()


def test_what_does_not_end_while_draining_goes_back(inside: Broker) -> None:
    begun = threading.Event()

    async def handler(payload: bytes, ctx: Context) -> None:
        begun.set()
        await trio.sleep_forever()

    handlers = Handlers()
    handlers.register("t", handler)
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        id = submit(client, "t")

        def beside() -> None:
            assert begun.wait(20)
            stop()

        assert Worker(broker, handlers, drain_ms=50).run(beside) == 0
        info = client.get(id)
        assert (info.state, info.attempt, info.crashes) == ("pending", 0, 0)


def test_a_session_that_a_heartbeat_finds_lost_is_opened_anew(inside: Broker) -> None:
    handlers = Handlers()
    handlers.register("t", lambda payload, ctx: payload)
    lost: list[bytes] = []
    renewed = threading.Event()

    def end_the_first(request: Any) -> Any:
        if isinstance(request, m.Heartbeat) and not lost:
            lost.append(request.session)
            return m.ErrorReply(request.rid, to_wire(SessionLost("ended")))
        if isinstance(request, m.RegisterWorker) and lost and request.session != lost[0]:
            renewed.set()
        return None

    inside.intercept = end_the_first
    with FakeBroker(inside) as broker, Client(broker.address) as client:

        def beside() -> None:
            assert renewed.wait(20)
            id = submit(client, "t", b"on")
            assert until_ended(client, id).result == b"on"
            stop()

        assert Worker(broker, handlers).run(beside) == 0


def test_a_refused_registration_ends_the_worker_with_the_reason(inside: Broker) -> None:
    handlers = Handlers()
    handlers.register("t", lambda payload, ctx: None)

    def refuse(request: Any) -> Any:
        if isinstance(request, m.RegisterWorker):
            return m.ErrorReply(request.rid, to_wire(InvalidRequest.of("queues", "!", "no such name")))
        return None

    inside.intercept = refuse
    with FakeBroker(inside) as broker, pytest.raises(InvalidRequest, match="no such name"):
        Worker(broker, handlers).run(lambda: None)


def test_a_broker_of_another_time_ends_the_worker_with_the_reason() -> None:
    handlers = Handlers()
    handlers.register("t", lambda payload, ctx: None)

    class Old(FakeBroker):
        def _answer_all(self, sock: Any, connection: Any) -> bool:
            hello = connection.next_event()
            if isinstance(hello, m.Hello):
                sock.sendall(connection.send(m.ErrorReply(hello.rid, to_wire(Unsupported("speaks version 9")))))
            return False

    with Old(lambda request: None) as broker, pytest.raises(Unsupported, match="version 9"):
        Worker(broker, handlers).run(lambda: None)


# ---- lives -----------------------------------------------------------------------------------------------


def test_a_worker_that_has_lived_long_enough_drains_and_asks_to_begin_anew(inside: Broker) -> None:
    handlers = Handlers()
    handlers.register("t", lambda payload, ctx: payload)
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        ids = [submit(client, "t", b"%d" % number) for number in range(30)]
        for _ in range(3):
            assert Worker(broker, handlers, slots=2, recycling=Recycling(tasks_max=5)).run(lambda: None) == worker.ANEW
            assert isinstance(broker.requests[-1], m.DeregisterWorker), "it took leave"
        infos = [client.get(id) for id in ids]
        done = [number for number, info in enumerate(infos) if info.state == "completed"]
        assert 15 <= len(done) <= 15 + 3, "those that ran at the end of a life end in it"
        assert all(infos[number].result == b"%d" % number for number in done)
        assert {(info.state, info.attempt, info.crashes) for info in infos} == {("completed", 1, 0), ("pending", 0, 0)}


def test_a_signal_goes_before_a_new_life(inside: Broker) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(payload: bytes, ctx: Context) -> None:
        begun.set()
        go_on.wait(20)

    handlers = Handlers()
    handlers.register("slow", slow)
    handlers.register("quick", lambda payload, ctx: None)
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        id = submit(client, "slow")

        def beside() -> None:
            assert begun.wait(20)
            until_ended(client, submit(client, "quick"))
            stop()
            go_on.set()

        assert Worker(broker, handlers, recycling=Recycling(tasks_max=1)).run(beside) == 0
        assert client.get(id).state == "completed"


def test_a_worker_above_its_memory_begins_anew(inside: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_S", 0.01)
    handlers = Handlers()
    handlers.register("t", lambda payload, ctx: None)
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        ids = [submit(client, "t") for _ in range(3)]
        assert Worker(broker, handlers, recycling=Recycling(memory_bytes_max=1)).run(lambda: None) == worker.ANEW
        assert "completed" in {client.get(id).state for id in ids}, "one task in each life at least"


def test_a_loop_of_asyncio_that_ends_by_itself_ends_the_worker_with_the_reason(inside: Broker) -> None:
    left: list[asyncio.Task[None]] = []

    async def poison(payload: bytes, ctx: Context) -> None:
        async def ends() -> None:
            raise SystemExit(3)

        left.append(asyncio.get_running_loop().create_task(ends(), name="left behind"))
        await asyncio.Event().wait()

    handlers = Handlers()
    handlers.register("poison", poison, executor="asyncio")
    with FakeBroker(inside) as broker, Client(broker.address) as client:
        submit(client, "poison")
        with pytest.raises(
            InternalError, match="the asyncio loop ended, by something that a handler left on it: SystemExit: 3"
        ):
            Worker(broker, handlers).run(lambda: None)
    assert isinstance(left[0].exception(), SystemExit)


def test_resources_that_cannot_be_made_end_it_before_it_connects(inside: Broker) -> None:
    def failing() -> None:
        raise OSError("refused")

    log: list[str] = []

    def first() -> Iterator[None]:
        yield
        log.append("closed")

    handlers = Handlers(resources={"first": first, "db": failing})
    handlers.register("t", lambda payload, ctx: None)
    with FakeBroker(inside) as broker:
        with pytest.raises(ResourceFailed, match="resource 'db' could not be made: OSError: refused"):
            Worker(broker, handlers).run(lambda: None)
        assert broker.connections == 0
        assert log == ["closed"]
