"""Progress and checkpoints of handlers in a simulated world."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tq import Context, Retry
from tq.testing import cluster, memory_broker
from tq.worker.handlers import Handlers

KINDS = ("plain", "on_trio", "on_asyncio")


def handlers(found: list[Any], simulation: list[Any]) -> Handlers:
    """Each goes on where the attempt before has got to, and fails at the third step of the first."""
    table = Handlers()

    def steps(ctx: Context) -> range:
        begun = int(ctx.checkpoint_data or b"0")
        found.append((ctx.attempt, begun))
        return range(begun, 5)

    @table.handler("plain")
    def plain(payload: bytes, ctx: Context) -> bytes:
        for step in steps(ctx):
            ctx.progress(step, 5, "plain")
            ctx.checkpoint(str(step + 1).encode())
            simulation[0].advance(2)
            if step == 2 and ctx.attempt == 1:
                raise ValueError("no")
        return b"done"

    @table.handler("on_trio")
    async def on_trio(payload: bytes, ctx: Context) -> bytes:
        for step in steps(ctx):
            ctx.progress(step, 5, "on_trio")
            await ctx.acheckpoint(str(step + 1).encode())
            await trio.sleep(2)
            if step == 2 and ctx.attempt == 1:
                raise ValueError("no")
        return b"done"

    @table.handler("on_asyncio", executor="asyncio")
    async def on_asyncio(payload: bytes, ctx: Context) -> bytes:
        import asyncio

        for step in steps(ctx):
            ctx.progress(step, 5, "on_asyncio")
            await ctx.acheckpoint(str(step + 1).encode())
            await asyncio.sleep(2)
            if step == 2 and ctx.attempt == 1:
                raise ValueError("no")
        return b"done"

    return table


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [memory_broker, cluster])
def test_the_next_attempt_goes_on_where_this_one_was(make: Any, kind: str) -> None:
    found: list[Any] = []
    with make() as simulation:
        simulation.worker(handlers(found, [simulation]))
        submitted = simulation.client.submit(kind, retry=Retry(max_attempts=2, backoff_base=1))
        assert simulation.client.wait(submitted.id, 100).result == b"done"
    assert found == [(1, 0), (2, 3)]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_progress_is_seen_from_outside(kind: str) -> None:
    with memory_broker() as broker:
        broker.worker(handlers([], []))
        submitted = broker.client.submit(kind)
        broker.advance(3)
        progress = broker.client.get(submitted.id).progress
        assert progress is not None
        assert (progress.done, progress.total, progress.note) == (1, 5, kind)


def test_a_checkpoint_of_who_lost_the_task_is_not_kept() -> None:
    lines: list[str] = []
    table = Handlers()

    @table.handler("late")
    def late(payload: bytes, ctx: Context) -> None:
        if ctx.crashes:
            lines.append("the second run")
            return
        worker.freeze()
        broker.worker(table)
        broker.advance(30)
        worker.thaw()
        ctx.checkpoint(b"too late")
        lines.append("kept")

    with memory_broker(lease=5) as broker:
        worker = broker.worker(table)
        submitted = broker.client.submit("late")
        assert broker.client.wait(submitted.id, 100).crashes == 1
        broker.run_until_idle()
    assert lines == ["the second run"]
