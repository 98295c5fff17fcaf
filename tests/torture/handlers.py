"""Handlers of the torture run for ``tq worker tests.torture.handlers``: they do what the payload says, and write it down.

Each process that runs handlers (the worker, and the children of its process executor) is a writer of its own in
the history: ``run`` when a handler begins, its return when it is about to say how it ended.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import trio

from tests.torture import work
from tests.torture.recorder import Recorder
from tq.verdicts import Fatal, RetryAfter, Snooze, Stopped
from tq.worker.context import Context
from tq.worker.handlers import Handlers

SLOW_SECONDS = 0.3

HANDLERS = Handlers()


class Asked(Exception):
    """The payload asked for a failure."""


# Of this process: a worker and each of its children import this module, and each has a file of its own.
RECORDER = Recorder(Path(os.environ["TQ_TORTURE_HISTORY"]), f"handler-{os.getpid()}-{time.monotonic_ns()}")
DRAW = random.Random(f"{os.environ['TQ_TORTURE_SEED']}-{os.getpid()}")


@HANDLERS.handler("work")
def in_thread(payload: bytes, ctx: Context) -> bytes:
    key = begin(ctx)
    if ctx.wait_cancelled(pause_seconds(payload, ctx)):
        raise Stopped
    return end(payload, ctx, key)


@HANDLERS.handler("forge", executor="process")
def in_process(payload: bytes, ctx: Context) -> bytes:
    key = begin(ctx)
    if plan_of(payload) == "crash-once" and is_first(ctx):
        os.kill(os.getpid(), signal.SIGKILL)
    if ctx.wait_cancelled(pause_seconds(payload, ctx)):
        raise Stopped
    return end(payload, ctx, key)


@HANDLERS.handler("toil")
async def in_loop(payload: bytes, ctx: Context) -> bytes:
    key = begin(ctx)
    await trio.sleep(pause_seconds(payload, ctx))
    return end(payload, ctx, key)


def plan_of(payload: bytes) -> str:
    plan: str = json.loads(payload)["plan"]
    return plan


def is_first(ctx: Context) -> bool:
    return ctx.attempt == 1 and ctx.crashes == 0


def pause_seconds(payload: bytes, ctx: Context) -> float:
    plan = plan_of(payload)
    if plan == "stale" and ctx.crashes == 1:
        return work.HOLD_SECONDS
    return SLOW_SECONDS if plan == "slow" else 0


def begin(ctx: Context) -> tuple[str, int]:
    return RECORDER.call("run", id=ctx.id_bytes.hex(), fence=ctx.fence, attempt=ctx.attempt, crashes=ctx.crashes)


def end(payload: bytes, ctx: Context, key: tuple[str, int]) -> bytes:
    """Written first, then said: an outcome that nobody wrote down would be one that nobody reported."""
    plan = plan_of(payload)
    if plan == "snooze-once" and DRAW.random() < 0.5:
        RECORDER.answered(key, outcome="snooze", body="snooze")
        raise Snooze(0.1)
    if plan == "fatal":
        RECORDER.answered(key, outcome="fail", body="fatal")
        raise Fatal("asked to fail for good")
    if plan == "fail" or (plan == "fail-once" and is_first(ctx)):
        RECORDER.answered(key, outcome="fail", body="fail")
        raise Asked(plan) if DRAW.random() < 0.5 else RetryAfter(0.1, plan)
    body = work.body_of(ctx.id_bytes, ctx.fence)
    RECORDER.answered(key, outcome="complete", body=body)
    return body.encode()
