"""The sockets' shell, on loopback, with trio's own clock where nothing but time has to pass."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tq import config, limits
from tq.broker import listen
from tq.errors import Backpressure, ConfigError, ProtocolError, from_wire
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed
from tq.raft import driver

from .rig import CONFIG, World, task, task_id, with_limits


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Client:
    """A blocking caller's view, in trio: one request, one reply."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.protocol = ClientConnection()
        self.rid = 0
        self.answers: dict[int | None, Any] = {}

    async def send(self, kind: type[m.Message], *fields: Any) -> int:
        self.rid += 1
        await self.stream.send_all(self.protocol.send(kind(self.rid, *fields)))
        return self.rid

    async def receive(self) -> bool:
        """Take what comes next. False at the end of the stream."""
        data = await self.stream.receive_some(65_536)
        self.protocol.receive_data(data)
        while (event := self.protocol.next_event()) is not NEED_DATA:
            if isinstance(event, ConnectionClosed):
                return False
            self.answers[getattr(event, "rid", -1)] = event
        return True

    async def answer(self, rid: int | None) -> Any:
        while rid not in self.answers:
            if not await self.receive():
                break
        reply = self.answers[rid]
        if isinstance(reply, m.ErrorReply):
            raise from_wire(reply.error)
        return reply

    async def call(self, kind: type[m.Message], *fields: Any) -> Any:
        return await self.answer(await self.send(kind, *fields))

    async def until_closed(self) -> None:
        try:
            while await self.receive():
                pass
        except trio.BrokenResourceError:
            pass


@attrs.frozen
class Running:
    world: World
    port: int
    nursery: trio.Nursery
    streams: list[trio.SocketStream] = attrs.field(factory=list)

    async def connect(self, *, hello: bool = True, port: int = 0) -> Client:
        client = Client(await trio.open_tcp_stream("127.0.0.1", port or self.port))
        self.streams.append(client.stream)
        if hello:
            await client.call(m.Hello, 1, 1, "test")
        return client


@asynccontextmanager
async def running(settings: config.Config = CONFIG) -> AsyncIterator[Running]:
    world = World(settings=settings)
    broker = world.broker
    port = free_port()
    listener = listen.open_listener("node.listen", f"127.0.0.1:{port}")
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                driver.run, world.node, broker.before_turn, broker.on_committed, broker.on_role, broker.on_reads
            )
            nursery.start_soon(listen.accept_clients, broker, listener, nursery)
            run = Running(world, port, nursery)
            try:
                yield run
            finally:
                for stream in run.streams:
                    stream.socket.close()
                nursery.cancel_scope.cancel()


async def eventually(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not is_so():
            await trio.sleep(0.001)


# ---- opening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:7379", "[::]:7379", "192.168.1.1:7379"])
def test_only_loopback(address):
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1") as refused:
        listen.open_listener("node.listen", address)
    assert "node.listen" in str(refused.value)


def test_an_address_in_use():
    port = free_port()
    with (
        listen.open_listener("node.listen", f"127.0.0.1:{port}"),
        pytest.raises(ConfigError, match="another broker"),
    ):
        listen.open_listener("node.listen", f"127.0.0.1:{port}")


def test_an_unknown_host():
    with pytest.raises(ConfigError, match=r"node\.listen"):
        listen.open_listener("node.listen", "no-such-host.invalid:7379")


# ---- talking ----------------------------------------------------------------------------------------


async def test_a_task_over_a_socket():
    async with running() as run:
        client = await run.connect()
        reply = await client.call(m.SubmitTask, [task(1)])
        assert reply.items == [0]
        assert (await client.call(m.GetTask, task_id(1))).task["state"] == "pending"


async def test_many_requests_in_flight():
    async with running() as run:
        client = await run.connect()
        rids = [await client.send(m.SubmitTask, [task(number)]) for number in range(200)]
        for rid in rids:
            assert (await client.answer(rid)).items == [0]
        assert run.world.broker.proposer.statistics().entries < 200, "grouped"


async def test_a_reply_that_the_kernel_does_not_take_at_once():
    async with running() as run:
        client = await run.connect()
        payload = bytes(8 * limits.MIB)
        assert (await client.call(m.SubmitTask, [task(1, payload=payload)])).items == [0]
        rids = [await client.send(m.GetTask, task_id(1)) for _ in range(4)]
        await eventually(lambda: any(c.out_bytes for c in run.world.broker.connections))
        for rid in rids:
            assert (await client.answer(rid)).task["payload"] == payload


async def test_a_slow_reader_is_not_read_and_harms_nobody():
    """More than READ_PAUSE_BYTES unread, and requests go on coming: they wait, others are served, then all is answered."""
    async with running() as run:
        client = await run.connect()
        payload = bytes(9 * limits.MIB)
        await client.call(m.SubmitTask, [task(1, payload=payload)])
        rids = [await client.send(m.GetTask, task_id(1)) for _ in range(3)]
        await eventually(lambda: any(c.out_bytes > 8 * limits.MIB for c in run.world.broker.connections))
        rids += [await client.send(m.Ping) for _ in range(3)]
        other = await run.connect()
        for _ in range(20):
            await other.call(m.Ping)
        for rid in rids:
            await client.answer(rid)


async def test_the_end_of_the_stream_ends_the_connection():
    async with running() as run:
        client = await run.connect()
        await client.stream.send_eof()
        await client.until_closed()
        await eventually(lambda: not run.world.broker.connections)


async def test_requests_before_the_end_of_the_stream_are_done():
    """They were read; whether the caller hears of it is its own affair."""
    async with running() as run:
        client = await run.connect()
        await client.send(m.SubmitTask, [task(1)])
        await client.stream.send_eof()
        await client.until_closed()
        other = await run.connect()
        assert (await other.call(m.GetTask, task_id(1))).task["state"] == "pending"


async def test_a_reset_while_a_claim_waits():
    async with running() as run:
        client = await run.connect()
        await client.call(m.RegisterWorker, b"s" * 16, "w", ["work"], ["default"])
        await client.send(m.ClaimTask, b"s" * 16, 1, [], 1, 20_000)
        await eventually(lambda: len(run.world.broker.claims) == 1)
        client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await client.stream.aclose()
        await eventually(lambda: not run.world.broker.connections)
        assert len(run.world.broker.claims) == 0


# ---- bounds -----------------------------------------------------------------------------------------


async def test_above_the_bound_a_connection_is_refused_with_a_reason():
    async with running(with_limits(connections_max=2)) as run:
        first, _second = await run.connect(), await run.connect()
        third = await run.connect(hello=False)
        with pytest.raises(Backpressure) as refused:
            await third.answer(None)
        assert refused.value.retry_after == 1
        assert run.world.broker.counters.connections_refused == 1
        await first.stream.aclose()
        await eventually(lambda: len(run.world.broker.connections) == 1)
        assert await run.connect()


async def test_without_hello_a_connection_ends(autojump_clock):
    async with running() as run:
        client = await run.connect(hello=False)
        began = trio.current_time()
        await client.until_closed()
        assert trio.current_time() - began == pytest.approx(limits.HELLO_TIMEOUT_MS / 1000, abs=1)
        assert not run.world.broker.connections


async def test_a_hello_that_never_ends_does_not_count_as_one(autojump_clock):
    async with running() as run:
        client = await run.connect(hello=False)
        data = ClientConnection().send(m.Hello(1, 1, 1, "slow"))
        began = trio.current_time()

        async def trickle() -> None:
            for at in range(len(data) - 1):
                try:
                    await client.stream.send_all(data[at : at + 1])
                except trio.BrokenResourceError:
                    return
                await trio.sleep(4)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            await client.until_closed()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 2 * limits.HELLO_TIMEOUT_MS / 1000


async def test_an_idle_connection_ends_and_a_ping_keeps_it(autojump_clock):
    async with running() as run:
        client = await run.connect()
        for _ in range(3):
            await trio.sleep(limits.IDLE_TIMEOUT_MS / 1000 - 10)
            await client.call(m.Ping)
        began = trio.current_time()
        await client.until_closed()
        assert trio.current_time() - began == pytest.approx(limits.IDLE_TIMEOUT_MS / 1000, abs=2)


# ---- strangers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 64,
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x02\x01\xff",
        b"\x7f\xff\xff\xff\x01",
        bytes(64),
    ],
    ids=["http", "ones", "empty frame", "bad body", "huge length", "zeros"],
)
async def test_strangers_are_told_and_closed(data):
    async with running() as run:
        stranger = await run.connect(hello=False)
        await stranger.stream.send_all(data)
        with pytest.raises(ProtocolError):
            await stranger.answer(None)
        await stranger.until_closed()
        await eventually(lambda: not run.world.broker.connections)
        assert await run.connect()


async def test_a_version_that_nobody_speaks_is_refused_with_a_reason():
    async with running() as run:
        client = await run.connect(hello=False)
        rid = await client.send(m.Hello, 7, 9, "future")
        with pytest.raises(Exception, match="speaks version 1"):
            await client.answer(rid)
        await client.until_closed()


async def test_without_descriptors_it_waits_and_goes_on(monkeypatch):
    async with running() as run:
        await run.connect()
        refusals = [0]

        class Poor:
            """A listener whose process has no descriptor left, three times."""

            def __init__(self, inner: socket.socket) -> None:
                self.inner = inner

            def fileno(self) -> int:
                return self.inner.fileno()

            def accept(self) -> Any:
                if refusals[0] < 3:
                    refusals[0] += 1
                    raise OSError(24, "too many open files")
                return self.inner.accept()

        port = free_port()
        with listen.open_listener("node.listen", f"127.0.0.1:{port}") as listener:
            poor: Any = Poor(listener)
            run.nursery.start_soon(listen.accept_clients, run.world.broker, poor, run.nursery)
            await run.connect(port=port)
        assert refusals == [3]
