"""From coroutines, on trio and on asyncio: by the loop's own client, or by a thread where there is none."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.unit.app.rig import Worker
from tq import App, TaskFailed, WaitTimeout
from tq.client.asynchronous import AsyncClient
from tq.errors import InvalidState


def double(n: int) -> int:
    return 2 * n


async def fails(n: int) -> int:
    raise ValueError(n)


def run(backend: str, function: Any, *args: Any) -> Any:
    return anyio.run(function, *args, backend=backend)


@pytest.mark.parametrize("is_open", [True, False], ids=["async with app", "threads"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_whole_way(app: App, worker: Worker, backend: str, is_open: bool) -> None:
    task = app.task(name="t")(double)
    bad = app.task(name="f", give_up_on=Exception)(fails)

    async def all_of_it() -> None:
        handle = await task.asubmit(21)
        many = await task.options(queue="q").asubmit_many([(1,), {"n": 2}])
        broken = await bad.asubmit(1)
        cancelled = await task.options(delay=60).asubmit(1)
        with pytest.raises(WaitTimeout):
            await handle.aresult(0)
        await anyio.to_thread.run_sync(worker.run)
        assert await handle.aresult(5) == 42
        assert [await one.aresult(5) for one in many] == [2, 4]
        assert (await handle.astatus()).state == "completed"
        assert (await many[0].aexplain()).facts["queue"] == "q"
        assert await cancelled.acancel(wait=5) == "cancelled"
        assert await cancelled.aretry(delay=5) == "scheduled"
        with pytest.raises(TaskFailed, match="ValueError: 1"):
            await broken.aresult(5)

    async def opened() -> None:
        async with app:
            assert isinstance(app.async_client, AsyncClient)
            await all_of_it()
        with pytest.raises(InvalidState):
            _ = app.async_client

    run(backend, opened if is_open else all_of_it)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_blocks_may_be_nested(app: App, backend: str) -> None:
    async def nested() -> None:
        async with app:
            outer = app.async_client
            async with app:
                assert app.async_client is not outer
            assert app.async_client is outer
            await app.task(name="t")(double).asubmit(1)

    run(backend, nested)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_two_tasks_of_a_loop_enter_and_leave_in_any_order(app: App, backend: str) -> None:
    """Each leaves what it has entered, and requests go on as long as one is open."""
    task = app.task(name="t")(double)

    async def hold(entered: anyio.Event, until: anyio.Event, left: anyio.Event) -> None:
        async with app:
            entered.set()
            await until.wait()
            await task.asubmit(1)
        left.set()

    async def both() -> None:
        events = [[anyio.Event() for _ in range(3)] for _ in range(2)]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for mine in events:
                    group.start_soon(hold, *mine)
                    await mine[0].wait()
                for _, until, left in events:  # the first one leaves first
                    until.set()
                    await left.wait()
        with pytest.raises(InvalidState):
            _ = app.async_client

    run(backend, both)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_wait_takes_no_thread_that_others_need(app: App, worker: Worker, backend: str) -> None:
    task = app.task(name="t")(double)

    async def wait() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        handle = await task.asubmit(1)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(handle.aresult)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                await anyio.to_thread.run_sync(worker.run)

    run(backend, wait)


def test_a_loop_in_another_thread_has_no_part_in_it(app: App) -> None:
    async def outer() -> None:
        async with app:
            assert await anyio.to_thread.run_sync(is_open) is False

    def is_open() -> bool:
        try:
            return isinstance(app.async_client, AsyncClient)
        except InvalidState:
            return False

    run("trio", outer)
