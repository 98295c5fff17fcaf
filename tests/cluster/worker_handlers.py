"""Handlers for tests of real workers. What they do shows in files of the folder that ``TQ_TEST_FOLDER`` names."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import trio

from tq.verdicts import Stopped
from tq.worker.context import Context
from tq.worker.handlers import Handlers

HANDLERS = Handlers()


def mark(event: str, ctx: Context) -> None:
    """One line a call: what, which attempt, by which process."""
    with (Path(os.environ["TQ_TEST_FOLDER"]) / f"{event}-{ctx.id}").open("a") as file:
        file.write(f"{ctx.attempt} {ctx.crashes} {ctx.fence} {os.getpid()}\n")


@HANDLERS.handler("echo")
async def echo(payload: bytes, ctx: Context) -> bytes:
    return payload


@HANDLERS.handler("thread")
def thread(payload: bytes, ctx: Context) -> bytes:
    return payload


@HANDLERS.handler("hold")
def hold(payload: bytes, ctx: Context) -> bytes:
    """Hold on until the file "release" is there, or until told to stop."""
    mark("begun", ctx)
    try:
        while not (Path(os.environ["TQ_TEST_FOLDER"]) / "release").exists():
            time.sleep(0.01)  # a user's handler that polls; the sleep is where it can be interrupted
    except Stopped:
        mark("lost" if ctx.lost else "stopped", ctx)
        raise
    return b"released"


@HANDLERS.handler("hold-async")
async def hold_async(payload: bytes, ctx: Context) -> None:
    mark("begun", ctx)
    try:
        await trio.sleep_forever()
    finally:
        mark("stopped", ctx)


@HANDLERS.handler("asyncio", executor="asyncio")
async def on_asyncio(payload: bytes, ctx: Context) -> bytes:
    await asyncio.sleep(0)
    return payload


@HANDLERS.handler("hold-asyncio", executor="asyncio")
async def hold_asyncio(payload: bytes, ctx: Context) -> None:
    mark("begun", ctx)
    try:
        await asyncio.Event().wait()
    finally:
        mark("stopped", ctx)


@HANDLERS.handler("block-asyncio", executor="asyncio")
async def block_asyncio(payload: bytes, ctx: Context) -> bytes:
    """Hold the asyncio loop until the file "release" is there."""
    mark("begun", ctx)
    while not (Path(os.environ["TQ_TEST_FOLDER"]) / "release").exists():
        time.sleep(0.01)  # a user's mistake: a coroutine that blocks its loop
    return b"released"


@HANDLERS.handler("hold-process", executor="process")
def hold_process(payload: bytes, ctx: Context) -> None:
    """No exception ends it."""
    mark("begun", ctx)
    while True:
        try:
            time.sleep(1)  # a user's handler that is busy, without using a core here
        except Stopped:
            mark("stopped", ctx)


@HANDLERS.handler("deaf")
def deaf(payload: bytes, ctx: Context) -> None:
    """A thread that does not heed anybody."""
    mark("begun", ctx)
    while True:
        try:
            time.sleep(1)  # a user's handler that is busy, without using a core here
        except Stopped:
            continue


@HANDLERS.handler("block")
async def block(payload: bytes, ctx: Context) -> bytes:
    """What an async handler must not do: hold the event loop."""
    mark("begun", ctx)
    end = time.monotonic() + float(payload)
    while time.monotonic() < end:
        pass
    return b"done"


@HANDLERS.handler("segfault", executor="process")
def segfault(payload: bytes, ctx: Context) -> bytes:
    """Dies as often as the payload says."""
    mark("begun", ctx)
    if ctx.crashes < int(payload):
        os.kill(os.getpid(), signal.SIGSEGV)
    return b"survived"


@HANDLERS.handler("noisy-process", executor="process")
def noisy(payload: bytes, ctx: Context) -> bytes:
    sys.stdout.write("from a child\n")
    return payload
