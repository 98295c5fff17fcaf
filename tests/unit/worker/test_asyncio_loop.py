"""``async def`` handlers on asyncio: a real loop on its thread, and the worker's loop turned by the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing

from tests.unit.worker.jobs import Ends, a_job, tell
from tests.unit.worker.test_threads import Loop
from tq.errors import ResourceFailed
from tq.worker.asyncio_loop import AsyncioLoop
from tq.worker.context import Context, current
from tq.worker.handlers import Handlers
from tq.worker.job import Job
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED


class Rig:
    def __init__(self) -> None:
        self.loop = Loop()
        self.ends = Ends()
        self.died: list[BaseException] = []
        self.asyncio = AsyncioLoop(self.ends, self.loop.soon, self.died.append)
        self.handlers = Handlers()
        self.entered = threading.Semaphore(0)

    def start(self, function: Callable[[bytes, Context], Any], number: int = 1, payload: bytes = b"") -> Job:
        name = f"{function.__qualname__}-{number}"
        self.handlers.register(name, function, executor="asyncio")
        job = a_job(self.handlers, name, payload, number)
        self.asyncio.start(job)
        return job

    def until_entered(self) -> None:
        assert self.entered.acquire(timeout=20)

    def until_ended(self, count: int) -> None:
        self.loop.until(lambda: len(self.ends.said) >= count)

    async def for_ever(self, payload: bytes, ctx: Context) -> None:
        self.entered.release()
        await asyncio.Event().wait()

    async def quick(self, payload: bytes, ctx: Context) -> bytes:
        await asyncio.sleep(0)
        return payload


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.asyncio.open({})
    yield rig
    rig.asyncio.close()


def test_handlers_wait_side_by_side_on_one_thread_that_is_not_ours(rig: Rig) -> None:
    threads = set()
    gate: list[asyncio.Event] = []

    async def meet(payload: bytes, ctx: Context) -> bytes:
        threads.add(threading.current_thread().name)
        if not gate:
            gate.append(asyncio.Event())
        if ctx.fence == 1_003:
            gate[0].set()
        await gate[0].wait()
        return payload

    for number in (1, 2, 3):
        rig.start(meet, number, b"%d" % number)
    rig.until_ended(3)
    assert [rig.ends.of(number)[1][1] for number in (1, 2, 3)] == [b"1", b"2", b"3"]
    assert threads == {"tq-asyncio"}


def test_a_burst_wakes_each_side_once(rig: Rig) -> None:
    held = threading.Event()

    async def block(payload: bytes, ctx: Context) -> None:
        rig.entered.release()
        assert held.wait(20)

    rig.start(block, 1)
    rig.until_entered()
    for number in range(2, 102):
        rig.start(rig.quick, number)
    assert len(rig.asyncio._orders) == 100
    held.set()
    while len(rig.asyncio._ended) < 101:
        threading.Event().wait(0.001)
    rig.until_ended(101)
    assert rig.loop.wakes == 1


def test_what_a_handler_raises_is_its_outcome_and_the_loop_goes_on(rig: Rig) -> None:
    async def bad(payload: bytes, ctx: Context) -> None:
        await asyncio.sleep(0)
        raise SystemExit("not even this")

    rig.start(bad)
    rig.start(rig.quick, 2, b"on")
    rig.until_ended(2)
    outcome, (error, _permanent, _after) = rig.ends.of(1)
    assert (outcome, error[:2]) == (FAIL, ["SystemExit", "not even this"])
    assert "in bad" in error[2]
    assert rig.ends.of(2) == (COMPLETE, ["application/octet-stream", b"on"])


def test_a_cancel_ends_the_handler_where_it_waits(rig: Rig) -> None:
    cleaned = []

    async def cleans(payload: bytes, ctx: Context) -> None:
        try:
            await rig.for_ever(payload, ctx)
        finally:
            await asyncio.sleep(0)  # asyncio cancels once: what cleans up may wait
            cleaned.append(ctx.cancelled)

    job = rig.start(cleans)
    rig.until_entered()
    tell(job)
    rig.asyncio.stop(job)
    rig.until_ended(1)
    assert rig.ends.of(1) == SAID_STOPPED
    assert cleaned == [True]
    rig.asyncio.stop(job)  # late: it hits nobody
    rig.start(rig.quick, 2)
    rig.until_ended(2)


def test_one_that_catches_the_cancel_is_cancelled_again_after_its_grace(rig: Rig) -> None:
    async def stubborn(payload: bytes, ctx: Context) -> None:
        for _ in range(2):
            try:
                await rig.for_ever(payload, ctx)
            except asyncio.CancelledError:
                if ctx.fence == 0:
                    raise

    job = rig.start(stubborn)
    rig.until_entered()
    tell(job)
    rig.asyncio.stop(job)
    rig.until_entered()
    assert rig.ends.said == []
    rig.asyncio.kill(job)
    rig.until_ended(1)
    assert rig.ends.of(1)[0] == COMPLETE, "it returned, in spite of all"


def test_a_job_stopped_before_it_begins_is_not_run(rig: Rig) -> None:
    held, ran = threading.Event(), []

    async def block(payload: bytes, ctx: Context) -> None:
        rig.entered.release()
        assert held.wait(20)

    async def runs(payload: bytes, ctx: Context) -> None:
        ran.append(1)

    rig.start(block, 1)
    rig.until_entered()
    early = rig.start(runs, 2)
    tell(early)
    rig.asyncio.stop(early)
    held.set()
    rig.until_ended(2)
    assert rig.ends.of(2) == SAID_STOPPED
    assert ran == []


def test_a_task_cancelled_before_its_first_step_ends(rig: Rig) -> None:
    """The stop is done in the same turn as the start, behind it; nothing of the handler runs."""
    held, ran = threading.Event(), []

    async def block(payload: bytes, ctx: Context) -> None:
        rig.entered.release()
        assert held.wait(20)

    async def runs(payload: bytes, ctx: Context) -> None:
        ran.append(1)

    rig.start(block, 1)
    rig.until_entered()
    job = rig.start(runs, 2)
    rig.asyncio.stop(job)  # the context says nothing yet
    held.set()
    rig.until_ended(2)
    assert rig.ends.of(2) == SAID_STOPPED
    assert ran == []


def test_cancelled_by_somebody_else_is_a_failure(rig: Rig) -> None:
    async def other() -> None:
        await asyncio.Event().wait()

    async def awaits_another(payload: bytes, ctx: Context) -> None:
        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        task.cancel()
        await task

    async def in_group(payload: bytes, ctx: Context) -> None:
        raise BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError("x")])

    rig.start(awaits_another, 1)
    rig.start(in_group, 2)
    rig.until_ended(2)
    outcome, (error, permanent, _after) = rig.ends.of(1)
    assert (outcome, error[0], permanent) == (FAIL, "asyncio.exceptions.CancelledError", False)
    assert "in awaits_another" in error[2]
    assert rig.ends.of(2)[1][0][0] == "ExceptionGroup"  # of what is left without the CancelledError


def test_current_goes_with_the_handler_and_its_tasks(rig: Rig) -> None:
    async def child(ctx: Context) -> bool:
        await asyncio.sleep(0)
        return current() is ctx

    async def handler(payload: bytes, ctx: Context) -> bytes:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(child(ctx))
        found = [current() is ctx, task.result(), await asyncio.to_thread(lambda: current() is ctx)]
        return repr(found).encode()

    for number in (1, 2):
        rig.start(handler, number)
    rig.until_ended(2)
    assert {rig.ends.of(number)[1][1] for number in (1, 2)} == {b"[True, True, True]"}


def test_what_nobody_looked_at_is_logged(rig: Rig) -> None:
    async def leaves(payload: bytes, ctx: Context) -> None:
        async def bad() -> None:
            raise ValueError("left behind")

        task = asyncio.create_task(bad())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    with structlog.testing.capture_logs() as logs:
        rig.start(leaves)
        rig.until_ended(1)
        rig.start(rig.quick, 2)
        rig.until_ended(2)
    (entry,) = [entry for entry in logs if "nobody looked at it" in entry["event"]]
    assert entry["log_level"] == "error"
    assert str(entry["exc_info"]) == "left behind"


def test_a_loop_that_ends_by_itself_is_told_and_takes_no_more() -> None:
    rig = Rig()
    rig.asyncio.open({})

    async def poison(payload: bytes, ctx: Context) -> None:
        async def ends() -> None:
            raise SystemExit(3)

        asyncio.get_running_loop().create_task(ends(), name="left behind")
        await asyncio.Event().wait()

    rig.start(poison)
    rig.loop.until(lambda: len(rig.died) == 1)
    assert repr(rig.died[0]) == "SystemExit(3)"
    rig.asyncio.close()
    rig.start(rig.quick, 2)


def test_closing_cancels_what_still_runs() -> None:
    rig = Rig()
    rig.asyncio.open({})
    ended = []

    async def handler(payload: bytes, ctx: Context) -> None:
        try:
            await rig.for_ever(payload, ctx)
        finally:
            ended.append("handler")

    rig.start(handler)
    rig.until_entered()
    rig.asyncio.end_handlers()
    assert ended == ["handler"]
    rig.asyncio.close()
    assert not rig.asyncio._thread.is_alive()


# ---- resources -------------------------------------------------------------------------------------------


def test_resources_live_on_the_loop_and_go_after_the_handlers() -> None:
    rig = Rig()
    log: list[Any] = []

    @asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        log.append(asyncio.get_running_loop())
        yield "pool"
        await asyncio.sleep(0)
        log.append("pool closed")

    async def handler(payload: bytes, ctx: Context) -> None:
        assert asyncio.get_running_loop() is log[0]
        try:
            await rig.for_ever(payload, ctx)
        finally:
            log.append("handler ended")

    assert rig.asyncio.open({"pool": pool}) == {"pool": "pool"}
    rig.start(handler)
    rig.until_entered()
    rig.asyncio.close()
    assert log[1:] == ["handler ended", "pool closed"]


def test_one_that_ends_the_loop_is_told_where_the_worker_begins() -> None:
    rig = Rig()

    async def exits() -> int:
        raise SystemExit("no licence")

    with pytest.raises(ResourceFailed, match="ended while it made its resources, by SystemExit: no licence"):
        rig.asyncio.open({"db": exits})
    rig.asyncio.close()


def test_one_that_cannot_be_made_is_raised_where_the_worker_begins() -> None:
    rig = Rig()
    closed = []

    async def first() -> AsyncIterator[int]:
        yield 1
        closed.append(1)

    async def failing() -> int:
        raise OSError("refused")

    with pytest.raises(ResourceFailed, match="resource 'db' could not be made: OSError: refused"):
        rig.asyncio.open({"first": first, "db": failing})
    rig.asyncio.close()
    assert closed == [1]
    assert rig.died == []
