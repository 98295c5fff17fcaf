"""Coroutines on asyncio: their time is the world's."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import Context
from tq.testing import baton, cluster, memory_broker
from tq.worker.handlers import Handlers


def test_sleep_costs_no_time() -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        began = broker.now
        submitted = broker.client.submit("doze", b"5000.5")
        assert broker.client.wait(submitted.id).result == b"5000.5"
        assert (broker.now - began).total_seconds() == pytest.approx(5000.5, abs=0.1)


def test_many_sleep_at_once_and_wake_in_order() -> None:
    book = Book()
    with cluster(1) as nodes:
        nodes.worker(handlers(book), concurrency=10)
        for seconds in (3, 1, 2, 0.5, 0):
            nodes.client.submit("doze", str(seconds).encode())
        nodes.run_until_idle()
    assert [line[1] for line in book.lines if line[0] == "woke"] == [b"0", b"0.5", b"1", b"2", b"3"]


def test_timeouts_of_asyncio_are_virtual() -> None:
    found = Handlers()

    @found.handler("waits", executor="asyncio")
    async def waits(payload: bytes, ctx: Context) -> bytes:
        try:
            async with asyncio.timeout(3_600):
                await asyncio.Event().wait()
        except TimeoutError:
            return b"an hour later"
        return b""

    with memory_broker() as broker:
        broker.worker(found)
        assert broker.client.wait(broker.client.submit("waits").id).result == b"an hour later"


def test_real_work_is_waited_for() -> None:
    gate = threading.Event()
    found = Handlers()

    @found.handler("work", executor="asyncio")
    async def work(payload: bytes, ctx: Context) -> bytes:
        async with asyncio.timeout(60):
            await asyncio.to_thread(gate.wait, 10)
        return b"done"

    with memory_broker() as broker:
        broker.worker(found)
        submitted = broker.client.submit("work")
        threading.Timer(0.05, gate.set).start()
        assert broker.client.wait(submitted.id, 100).result == b"done"


def test_the_threads_of_a_loop_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few turns it has: what ends them is real work, too."""
    monkeypatch.setattr(baton, "ENDINGS_MAX", 2)
    found = Handlers()

    @found.handler("works", executor="asyncio")
    async def works(payload: bytes, ctx: Context) -> None:
        await asyncio.to_thread(threading.get_ident)

    with memory_broker() as broker:
        broker.worker(found)
        broker.client.wait(broker.client.submit("works").id, 5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("tq-testing", "asyncio"))]


def test_a_real_socket_is_waited_for() -> None:
    found = Handlers()

    @found.handler("talk", executor="asyncio")
    async def talk(payload: bytes, ctx: Context) -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line

    with memory_broker() as broker:
        broker.worker(found)
        assert broker.client.wait(broker.client.submit("talk").id, 100).result == b"hello\n"


def test_the_end_of_the_world_cancels() -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        broker.client.submit("doze", b"1000")
        broker.advance(1)
    assert book.lines == [("doze", b"1000"), ("cancelled", b"1000")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tq-testing")]
