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
    return run(payload, ctx, in_child=False)


@HANDLERS.handler("forge", executor="process")
def in_process(payload: bytes, ctx: Context) -> bytes:
    return run(payload, ctx, in_child=True)


@HANDLERS.handler("toil")
async def in_loop(payload: bytes, ctx: Context) -> bytes:
    return run(payload, ctx, in_child=False)


def run(payload: bytes, ctx: Context, *, in_child: bool) -> bytes:
    plan = json.loads(payload)["plan"]
    first = ctx.attempt == 1 and ctx.crashes == 0
    key = RECORDER.call("run", id=ctx.id_bytes.hex(), fence=ctx.fence, attempt=ctx.attempt, crashes=ctx.crashes)
    if plan == "slow" and ctx.type != "toil" and ctx.wait_cancelled(SLOW_SECONDS):
        raise Stopped
    if plan == "crash-once" and first and in_child:
        os.kill(os.getpid(), signal.SIGKILL)
    if plan == "snooze-once" and DRAW.random() < 0.5:
        RECORDER.answered(key, outcome="snooze", body="snooze")
        raise Snooze(0.1)
    if plan == "fatal":
        RECORDER.answered(key, outcome="fail", body="fatal")
        raise Fatal("asked to fail for good")
    if plan == "fail" or (plan == "fail-once" and first):
        RECORDER.answered(key, outcome="fail", body="fail")
        raise Asked(plan) if DRAW.random() < 0.5 else RetryAfter(0.1, plan)
    body = work.body_of(ctx.id_bytes, ctx.fence)
    RECORDER.answered(key, outcome="complete", body=body)
    return body.encode()
