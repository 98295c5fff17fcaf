"""Workers of a simulated world: what they run, and the ways in which they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import Context, Middleware, Retry, Stopped
from tq.errors import ConfigError, ResourceFailed
from tq.testing import cluster, memory_broker
from tq.worker.asked import resource
from tq.worker.handlers import Handlers


def test_a_killed_worker_loses_its_lease_and_another_gets_the_task() -> None:
    book = Book()
    with memory_broker(lease=10) as broker:
        first = broker.worker(handlers(book), name="first")
        submitted = broker.client.submit("nap", b"3")
        broker.advance(1)
        assert first.running == [submitted.id]
        first.kill()
        assert not first.is_up
        broker.worker(handlers(book), name="second")
        broker.advance(5)
        assert broker.client.get(submitted.id).state == "running", "its lease is not over"
        info = broker.client.wait(submitted.id, 60)
        assert (info.state, info.crashes, info.attempt) == ("completed", 1, 1)
        assert [line[0] for line in book.lines] == ["nap", "cancelled", "nap", "woke"]


def test_killed_when_handled_runs_twice() -> None:
    book = Book()
    with memory_broker(lease=10) as broker:
        broker.worker(handlers(book)).kill("handled")
        submitted = broker.client.submit("echo", b"x")
        broker.run_until_idle()
        assert book.lines == [("echo", b"x", 1, 0)]
        assert broker.client.get(submitted.id).state == "running"
        broker.worker(handlers(book))
        assert broker.client.wait(submitted.id, 60).result == b"x"
        assert book.lines == [("echo", b"x", 1, 0), ("echo", b"x", 1, 1)]


def test_killed_from_within_leaves_the_handler_there() -> None:
    steps: list[str] = []
    found = Handlers()

    @found.handler("dies")
    def dies(payload: bytes, ctx: Context) -> bytes:
        steps.append("before")
        if ctx.crashes == 0:
            workers[0].kill()
        steps.append("after")
        return b"done"

    with memory_broker(lease=5) as broker:
        workers = [broker.worker(found), broker.worker(found)]
        workers[1].freeze()
        submitted = broker.client.submit("dies")
        broker.run_until_idle()
        assert steps == ["before"]
        workers[1].thaw()
        assert broker.client.wait(submitted.id, 60).result == b"done"
        assert steps == ["before", "before", "after"]


def test_what_dies_again_and_again_is_poison() -> None:
    found = Handlers()

    @found.handler("dies")
    def dies(payload: bytes, ctx: Context) -> None:
        workers[-1].kill()

    with memory_broker(lease=2) as broker:
        submitted = broker.client.submit("dies")
        workers = []
        for _ in range(10):
            workers.append(broker.worker(found))
            broker.advance(10)
        info = broker.client.get(submitted.id)
        assert (info.state, info.reason) == ("dead", "poison")


def test_heartbeats_keep_the_lease_of_a_long_handler() -> None:
    for make in (memory_broker, cluster):
        with make(lease=4) as simulation:
            worker = simulation.worker(handlers(Book()))
            submitted = simulation.client.submit("nap", b"60")
            info = simulation.client.wait(submitted.id, 100)
            assert (info.state, info.crashes) == ("completed", 0)
            assert worker.stats["completed"] == 1
            assert simulation.client.workers()[0].name == worker.name


def test_a_frozen_worker_is_overtaken_and_its_outcome_refused() -> None:
    book = Book()
    with memory_broker(lease=5) as broker:
        slow = broker.worker(handlers(book), name="slow")
        submitted = broker.client.submit("nap", b"2")
        broker.advance(1)
        slow.freeze()
        broker.worker(handlers(book), name="quick")
        info = broker.client.wait(submitted.id, 60)
        assert info.crashes == 1
        slow.thaw()
        broker.advance(10)
        assert slow.stats["completed"] + slow.stats["stopped"] == 1
        assert broker.client.get(submitted.id).fence == info.fence
        again = broker.client.submit("echo")
        broker.client.wait(again.id, 10)


def test_a_frozen_worker_begins_nothing() -> None:
    book = Book()
    with memory_broker() as broker:
        worker = broker.worker(handlers(book))
        worker.freeze()
        submitted = broker.client.submit("echo", b"x")
        broker.advance(5)
        assert book.lines == []
        worker.thaw()
        assert broker.client.wait(submitted.id, 5).result == b"x"


def test_stop_drains() -> None:
    book = Book()
    with memory_broker() as broker:
        worker = broker.worker(handlers(book))
        running = broker.client.submit("nap", b"10")
        broker.advance(1)
        worker.stop()
        assert not worker.is_up
        assert broker.client.get(running.id).state == "completed"
        later = broker.client.submit("echo")
        broker.advance(5)
        assert broker.client.get(later.id).state == "pending"
        assert broker.client.workers() == []


def test_what_does_not_end_in_time_is_given_back() -> None:
    book = Book()
    with memory_broker() as broker:
        worker = broker.worker(handlers(book))
        running = broker.client.submit("nap", b"1000")
        broker.advance(1)
        worker.stop()
        info = broker.client.get(running.id)
        assert (info.state, info.crashes) == ("pending", 0)
        assert ("cancelled", b"1000") in book.lines


@pytest.mark.parametrize("type", ["nap", "doze"])
def test_a_cancel_reaches_a_coroutine(type: str) -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        submitted = broker.client.submit(type, b"1000")
        broker.advance(1)
        assert broker.client.cancel(submitted.id, wait=30) == "cancelled"
        assert book.lines == [(type, b"1000"), ("cancelled", b"1000")]


@pytest.mark.parametrize("type", ["nap", "doze"])
def test_a_timeout_ends_a_coroutine(type: str) -> None:
    book = Book()
    with memory_broker() as broker:
        broker.worker(handlers(book))
        submitted = broker.client.submit(type, b"1000", timeout=5, retry=Retry(max_attempts=1))
        info = broker.client.wait(submitted.id, 60)
        assert (info.state, [row.outcome for row in info.history]) == ("dead", ["timed_out"])
        broker.advance(1)
        assert book.lines == [(type, b"1000"), ("cancelled", b"1000")]


def test_concurrency_is_a_bound() -> None:
    with memory_broker() as broker:
        worker = broker.worker(handlers(Book()), concurrency=2)
        for _ in range(5):
            broker.client.submit("nap", b"10")
        broker.advance(1)
        assert len(worker.running) == 2
        broker.advance(30)
        assert worker.stats["completed"] == 5


def test_middleware_and_resources_are_the_workers() -> None:
    seen: list[Any] = []

    class Layer(Middleware):
        def before(self, ctx: Context) -> None:
            seen.append(("before", ctx.type))

    def pool() -> Iterator[str]:
        seen.append("open")
        yield "pool"
        seen.append("closed")

    async def apool() -> AsyncIterator[str]:
        seen.append("aopen")
        yield "apool"
        seen.append("aclosed")

    found = Handlers(middleware=[Layer()], resources={"pool": pool, "apool": apool})

    @found.handler("plain", executor="process")
    def plain(payload: bytes, ctx: Context, pool: str = resource("pool")) -> bytes:
        return pool.encode()

    @found.handler("coroutine")
    async def coroutine(payload: bytes, ctx: Context, apool: str = resource("apool")) -> bytes:
        return apool.encode()

    with memory_broker() as broker:
        broker.worker(found)
        ids = [broker.client.submit(name).id for name in ("plain", "coroutine")]
        assert [broker.client.wait(id, 5).result for id in ids] == [b"pool", b"apool"]
    assert seen == ["open", "aopen", ("before", "plain"), ("before", "coroutine"), "aclosed", "closed"]


def test_a_resource_that_cannot_be_made_is_told() -> None:
    async def broken() -> str:
        raise OSError("no such host")

    def missing() -> str:
        raise OSError("no such file")

    for factory, kind in ((broken, "async"), (missing, "plain")):
        found = Handlers(resources={"it": factory})
        if kind == "async":

            @found.handler("x")
            async def aneeds(payload: bytes, ctx: Context, it: str = resource("it")) -> None: ...
        else:

            @found.handler("x")
            def needs(payload: bytes, ctx: Context, it: str = resource("it")) -> None: ...

        with memory_broker() as broker, pytest.raises(ResourceFailed, match="no such"):
            broker.worker(found)


def test_a_middleware_that_does_not_fit_is_told() -> None:
    class Half(Middleware):
        def around(self, ctx: Context, call_next: Any) -> Any:
            return call_next()

    found = handlers(Book())
    found.worker_middleware.append(Half())
    with memory_broker() as broker, pytest.raises(ConfigError, match="around_async"):
        broker.worker(found)


def test_its_notes_are_what_a_worker_logs() -> None:
    with memory_broker() as broker:
        worker = broker.worker(handlers(Book()))
        broker.client.submit("fail", b"so sad", retry=Retry(max_attempts=1))
        broker.run_until_idle()
        assert [event for event, _ in worker.notes] == ["session opened", "an attempt failed"]
        assert worker.notes[1][1]["error"] == "ValueError: so sad"
        assert repr(worker) == "<Worker worker-1 running, 0 running>"


def test_stopped_is_no_error_of_the_handler() -> None:
    caught: list[BaseException] = []
    found = Handlers()

    @found.handler("waits")
    def waits(payload: bytes, ctx: Context) -> None:
        try:
            ctx.wait_cancelled(1_000)
        except Stopped as stopped:
            caught.append(stopped)
            raise

    with memory_broker() as broker:
        broker.worker(found)
        submitted = broker.client.submit("waits", timeout=10, retry=Retry(max_attempts=1))
        info = broker.client.wait(submitted.id, 100)
        assert info.state == "dead"
        broker.advance(1)
        assert len(caught) == 1
        assert broker.errors == []
