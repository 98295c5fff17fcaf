"""The handlers of the benchmark's workers: ``tq worker tq.bench.tasks``."""

from __future__ import annotations

import time

import trio

from tq.worker.context import Context
from tq.worker.handlers import Handlers

HANDLERS = Handlers()
NOOP = "bench.noop"
NOOP_THREAD = "bench.noop-thread"
MILLISECOND = "bench.millisecond"


@HANDLERS.handler(NOOP)
async def noop(payload: bytes, ctx: Context) -> None:
    return None


@HANDLERS.handler(NOOP_THREAD)
def noop_thread(payload: bytes, ctx: Context) -> None:
    return None


@HANDLERS.handler(MILLISECOND, content_type="text/plain")
async def millisecond(payload: bytes, ctx: Context) -> bytes:
    """Takes 1 ms; returns when it began, in seconds of the clock that all processes of a machine share."""
    begun = time.monotonic()
    await trio.sleep(0.001)
    return repr(begun).encode()
