"""Handlers that child processes of the tests import; like a user's module."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path

from tq import limits
from tq.errors import StaleFence
from tq.verdicts import Stopped
from tq.worker.context import Context
from tq.worker.handlers import Handlers

HANDLERS = Handlers()


@HANDLERS.handler("pid", executor="process")
def pid(payload: bytes, ctx: Context) -> bytes:
    return str(os.getpid()).encode()


@HANDLERS.handler("context", executor="process")
def context(payload: bytes, ctx: Context) -> bytes:
    return repr((ctx.id, ctx.type, ctx.queue, ctx.attempt, ctx.crashes, ctx.fence, ctx.deadline, ctx.headers)).encode()


@HANDLERS.handler("keeps", executor="process")
def keeps(payload: bytes, ctx: Context) -> bytes:
    """Keeps its payload; what was kept before, and what is now."""
    global last
    last = ctx
    old = ctx.checkpoint_data
    ctx.progress(1, 2, "begins")
    ctx.checkpoint(payload)
    ctx.progress(2, 2)
    return (old or b"nothing") + b" " + (ctx.checkpoint_data or b"nothing")


last: Context | None = None


@HANDLERS.handler("talks-of-the-last", executor="process")
def talks_of_the_last(payload: bytes, ctx: Context) -> bytes:
    """What a thread might do that an earlier job has left behind."""
    assert last is not None
    last.progress(99)
    time.sleep(2 * limits.PROGRESS_MS / 1000)  # until that has left
    try:
        last.checkpoint(payload)
    except StaleFence as error:
        return type(error).__name__.encode()
    return b"kept"


@HANDLERS.handler("fail", executor="process")
def fail(payload: bytes, ctx: Context) -> bytes:
    raise ValueError("no luck")


@HANDLERS.handler("exit", executor="process")
def exit_(payload: bytes, ctx: Context) -> bytes:
    os._exit(int(payload))


@HANDLERS.handler("segfault", executor="process")
def segfault(payload: bytes, ctx: Context) -> bytes:
    ctypes.string_at(0)
    return b"survived"


@HANDLERS.handler("spin", executor="process")
def spin(payload: bytes, ctx: Context) -> bytes:
    """Pure Python without end; touches the file that the payload names first, and says when it was stopped."""
    path = Path(payload.decode())
    path.touch()
    try:
        while True:
            pass
    except Stopped:
        path.write_text(f"stopped cancelled={ctx.cancelled} lost={ctx.lost}")
        raise


@HANDLERS.handler("stubborn", executor="process")
def stubborn(payload: bytes, ctx: Context) -> bytes:
    """One that no exception ends."""
    Path(payload.decode()).touch()
    while True:
        try:
            time.sleep(60)
        except Stopped:
            continue


@HANDLERS.handler("hog", executor="process")
def hog(payload: bytes, ctx: Context) -> None:
    """Holds the interpreter for hours, in one call of C: no other thread of the process runs."""
    Path(payload.decode()).touch()
    re.match("(a+)+$", "a" * 60 + "b")


@HANDLERS.handler("signals", executor="process")
def signals(payload: bytes, ctx: Context) -> bytes:
    """A terminal's Ctrl-C reaches all processes of a group; here the worker decides."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    sys.stderr.flush()
    return b"lives"


@HANDLERS.handler("close", executor="process")
def close(payload: bytes, ctx: Context) -> bytes:
    """Closes every descriptor it finds, the worker's too."""
    os.closerange(3, 10_000)
    return b""
