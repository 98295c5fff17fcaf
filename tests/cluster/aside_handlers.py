"""Handlers that say how far they are, and keep something for the next attempt; one of each kind."""

from __future__ import annotations

import asyncio

import trio

from tq.worker.context import Context
from tq.worker.handlers import Handlers

HANDLERS = Handlers()


@HANDLERS.handler("steps-thread")
def in_thread(payload: bytes, ctx: Context) -> bytes:
    if ctx.checkpoint_data is not None:
        return ctx.checkpoint_data
    ctx.progress(1, 3, "first")
    ctx.checkpoint(payload)
    ctx.progress(2, 3)
    ctx.wait_cancelled(600)
    return b"not this one"


@HANDLERS.handler("steps-process", executor="process")
def in_process(payload: bytes, ctx: Context) -> bytes:
    return in_thread(payload, ctx)


async def begin(payload: bytes, ctx: Context) -> None:
    ctx.progress(1, 3, "first")
    await ctx.acheckpoint(payload)
    ctx.progress(2, 3)


@HANDLERS.handler("steps-trio")
async def on_trio(payload: bytes, ctx: Context) -> bytes:
    if ctx.checkpoint_data is None:
        await begin(payload, ctx)
        await trio.sleep_forever()
    return ctx.checkpoint_data or b""


@HANDLERS.handler("steps-asyncio", executor="asyncio")
async def on_asyncio(payload: bytes, ctx: Context) -> bytes:
    if ctx.checkpoint_data is None:
        await begin(payload, ctx)
        await asyncio.Event().wait()
    return ctx.checkpoint_data or b""
