"""The asynchronous client of a simulated world, on trio and on asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import App, AsyncClient, BrokerUnavailable, Conflict, NotFound, WaitTimeout
from tq.testing import cluster, inline, memory_broker

Play = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["trio", "asyncio"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scenario, which must not take long: time is virtual."""

    async def in_time(scenario: Callable[[], Awaitable[None]]) -> None:
        with anyio.fail_after(30):
            await scenario()

    return lambda scenario: anyio.run(in_time, scenario, backend=request.param)


def test_its_verbs_are_those_of_the_product(play: Play) -> None:
    async def scenario() -> None:
        with memory_broker() as broker:
            client = broker.async_client
            assert isinstance(client, AsyncClient)
            task = await client.submit("t", b"1", idempotency_key="k")
            assert broker.client.get(task.id).state == "pending", "it is the same client"
            with pytest.raises(Conflict):
                await client.submit("t", b"2", idempotency_key="k")
            async with client.register_worker(["t"]) as session:
                (grant,) = await session.claim(1, 20)
                await session.progress(grant, 1, 2)
                assert await session.complete(grant, b"done") == "applied"
            assert (await client.wait(task.id)).result == b"done"
            await client.submit_many([grant.spec for _ in range(0)])
            assert [found.id async for found in client.list_all(state="completed")] == [task.id]
            with pytest.raises(NotFound):
                await client.get(bytes(16))

    play(scenario)


def test_others_run_before_time_passes(play: Play) -> None:
    """Two that wait drive one world, and a third one, which does not, is not left behind by the clock."""

    async def scenario() -> None:
        with memory_broker() as broker:
            broker.worker(handlers(Book()))
            began = broker.now
            ended: list[str] = []

            async def wait_for(name: str, id: str) -> None:
                await broker.async_client.wait(id, 3_600)
                ended.append(name)

            later = await broker.async_client.submit("echo", delay=600)
            sooner = await broker.async_client.submit("echo", delay=60)
            never = await broker.async_client.submit("nobody")
            async with anyio.create_task_group() as group:
                group.start_soon(wait_for, "later", later.id)
                group.start_soon(wait_for, "sooner", sooner.id)
                group.start_soon(wait_for, "never", never.id)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                assert await broker.async_client.cancel(never.id) == "cancelled"
                assert (broker.now - began).total_seconds() < 1
            assert ended == ["never", "sooner", "later"]
            assert 600 <= (broker.now - began).total_seconds() < 610

    play(scenario)


def test_each_wait_ends_at_its_own_time(play: Play) -> None:
    async def scenario() -> None:
        with memory_broker() as broker:
            task = await broker.async_client.submit("nobody")
            began, ends = broker.now, []

            async def wait_for(seconds: float) -> None:
                with pytest.raises(WaitTimeout):
                    await broker.async_client.wait(task.id, seconds)
                ends.append(round((broker.now - began).total_seconds()))

            async with anyio.create_task_group() as group:
                for seconds in (90, 10, 45):
                    group.start_soon(wait_for, seconds)
            assert ends == [10, 45, 90]
            with pytest.raises(WaitTimeout, match="nothing is going to"):
                await broker.async_client.wait(task.id)

    play(scenario)


def test_events_come_in_virtual_time(play: Play) -> None:
    async def scenario() -> None:
        with memory_broker() as broker:
            broker.worker(handlers(Book()))
            task = await broker.async_client.submit("echo", delay=120)
            async with broker.async_client.events(task.id) as events:
                assert [event.kind async for event in events] == ["ready", "started", "completed"]
            began = broker.now
            async with broker.async_client.events(timeout=7) as events:
                assert [event async for event in events] == []
            assert round((broker.now - began).total_seconds()) == 7

    play(scenario)


def test_a_cancelled_claim_leaves_nothing_behind(play: Play) -> None:
    async def scenario() -> None:
        with memory_broker() as broker:
            session = await broker.async_client.register_worker(["t"])
            async with anyio.create_task_group() as group:
                group.start_soon(session.claim, 1, 20)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            task = await broker.async_client.submit("t")
            assert (await broker.async_client.stats())["claims_parked"] == 0
            found = await broker.async_client.get(task.id)
            assert (found.state, found.attempt) == ("pending", 0)
            await session.close()

    play(scenario)


def test_another_one_has_its_own_connection_and_end(play: Play) -> None:
    async def scenario() -> None:
        with memory_broker() as broker:
            async with broker.new_async_client(timeout=5) as client:
                await client.submit("t")
            with pytest.raises(BrokerUnavailable, match="closed"):
                await client.submit("t")
            await broker.async_client.submit("t")

    play(scenario)


def test_an_app_uses_it(play: Play) -> None:
    app = App()

    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    async def scenario() -> None:
        with inline(app):
            handle = await double.asubmit(4)
            assert handle.status().state == "completed", "submit returns when it has ended"
            assert await handle.aresult() == 8
        with cluster(3) as nodes:
            nodes.run(app)
            handle = await double.options(delay=5).asubmit(5)
            async with handle.aevents(timeout=1) as events:
                nodes.kill("leader")
                assert await handle.aresult(600) == 10
                assert "completed" in [event.kind async for event in events]

    play(scenario)


def test_a_handler_that_is_a_coroutine_uses_it() -> None:
    app = App()

    @app.task(name="leaf", runtime="asyncio")
    async def leaf(n: int) -> int:
        return n

    @app.task(name="root")
    async def root() -> int:
        client = app.async_client
        handles = [await leaf.asubmit(n) for n in range(3)]
        for handle in handles:
            assert (await client.wait(handle.id, 60)).state == "completed"
        return sum([await handle.aresult() for handle in handles])

    with memory_broker() as broker:
        broker.run(app)
        assert root.submit().result(600) == 3
