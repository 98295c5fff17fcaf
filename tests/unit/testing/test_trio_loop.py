"""Coroutines on trio: their time is the world's."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import trio

from tests.unit.testing.handlers import Book, handlers
from tq import Context, Retry
from tq.errors import InternalError
from tq.testing import cluster, memory_broker
from tq.testing.baton import ms_behind
from tq.worker.handlers import Handlers


def test_sleep_costs_no_time() -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        began = broker.now
        submitted = broker.client.submit("nap", b"5000.5")
        assert broker.client.wait(submitted.id).result == b"5000.5"
        assert (broker.now - began).total_seconds() == pytest.approx(5000.5, abs=0.1)


def test_a_deadline_has_come_at_the_millisecond_that_is_waited_for() -> None:
    draw = random.Random(1)
    for _ in range(2_000):
        moment_s = (
            draw.randrange(10**7) / 1000 + draw.choice([0, 0.0004, 8, 0.1, 1e-9]) + draw.random() * draw.choice([0, 1])
        )
        at_ms = ms_behind(moment_s)
        assert (at_ms - 1) / 1000 < moment_s <= at_ms / 1000, "or the loop would be woken again and again"


def test_many_sleep_at_once_and_wake_in_order() -> None:
    book = Book()
    with cluster(1) as nodes:
        nodes.worker(handlers(book), concurrency=10)
        for seconds in (3, 1, 2, 0.5, 0):
            nodes.client.submit("nap", str(seconds).encode())
        nodes.run_until_idle()
    assert [line[1] for line in book.lines if line[0] == "woke"] == [b"0", b"0.5", b"1", b"2", b"3"]


def together(seed: int) -> list[Any]:
    lines: list[Any] = []
    found = Handlers()

    @found.handler("crowd")
    async def crowd(payload: bytes, ctx: Context) -> None:
        async def one(number: int) -> None:
            await trio.sleep(1)
            lines.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number)

    with memory_broker(seed=seed) as broker:
        broker.worker(found)
        for _ in range(3):
            broker.client.submit("crowd")
        broker.run_until_idle()
    return lines


def test_the_order_of_what_happens_at_once_is_the_seeds() -> None:
    stories = [together(seed) for seed in (1, 1, 2, 3)]
    assert stories[0] == stories[1]
    assert stories[0] != stories[2] or stories[0] != stories[3], "chance is still chance"


def test_real_work_is_waited_for() -> None:
    gate = threading.Event()
    found = Handlers()

    @found.handler("work")
    async def work(payload: bytes, ctx: Context) -> bytes:
        with trio.move_on_after(60):
            await trio.to_thread.run_sync(gate.wait, 10)
            return b"done"
        return b"too late"

    with memory_broker() as broker:
        broker.worker(found)
        submitted = broker.client.submit("work")
        threading.Timer(0.05, gate.set).start()
        assert broker.client.wait(submitted.id, 100).result == b"done"


def test_it_drives_the_world_itself_where_it_calls_a_client() -> None:
    found = Handlers()

    @found.handler("caller")
    async def caller(payload: bytes, ctx: Context) -> bytes:
        child = broker.client.submit("plain", b"x")  # blocks this loop for a moment
        await trio.sleep(1)
        return broker.client.wait(child.id, 5).result or b""

    @found.handler("plain")
    def plain(payload: bytes, ctx: Context) -> bytes:
        return payload * 2

    with memory_broker() as broker:
        broker.worker(found)
        assert broker.client.wait(broker.client.submit("caller").id, 50).result == b"xx"


def test_what_does_not_let_itself_be_cancelled_is_left() -> None:
    lines: list[str] = []
    found = Handlers()

    @found.handler("stubborn")
    async def stubborn(payload: bytes, ctx: Context) -> None:
        try:
            await trio.sleep(1_000)
        finally:
            with trio.CancelScope(shield=True):
                lines.append("cleaning up")
                await trio.sleep(1_000)
                lines.append("clean")

    with memory_broker() as broker:
        broker.worker(found)
        submitted = broker.client.submit("stubborn", timeout=10, retry=Retry(max_attempts=1))
        assert broker.client.wait(submitted.id, 100).state == "dead"
        broker.advance(100)
        assert lines == ["cleaning up"]
        broker.advance(2_000)
        assert lines == ["cleaning up", "clean"]


def test_the_end_of_the_world_cancels() -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        broker.client.submit("nap", b"1000")
        broker.advance(1)
    assert book.lines == [("nap", b"1000"), ("cancelled", b"1000")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tq-testing")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_breaks_down_is_told() -> None:
    found = Handlers()

    @found.handler("breaks")
    async def breaks(payload: bytes, ctx: Context) -> None:
        def crash() -> None:
            raise ZeroDivisionError

        trio.lowlevel.current_trio_token().run_sync_soon(crash)

    with pytest.raises(InternalError, match="has ended"), memory_broker() as broker:  # noqa: PT012
        broker.worker(found)
        broker.client.wait(broker.client.submit("breaks").id, 5)
