"""Handlers for the tests of ``tq.testing``: each writes down that it ran."""

from __future__ import annotations

from typing import Any

import trio

from tq.verdicts import Fatal, Snooze
from tq.worker.context import Context
from tq.worker.handlers import Handlers


class Book:
    """What has happened, in order."""

    def __init__(self) -> None:
        self.lines: list[Any] = []


def handlers(book: Book) -> Handlers:
    """Types: echo, fail, fatal, snooze, nap (trio), doze (asyncio); the payload of the last two is how long."""
    found = Handlers()

    @found.handler("echo")
    def echo(payload: bytes, ctx: Context) -> bytes:
        book.lines.append(("echo", payload, ctx.attempt, ctx.crashes))
        return payload

    @found.handler("fail")
    def fail(payload: bytes, ctx: Context) -> None:
        book.lines.append(("fail", ctx.attempt))
        raise ValueError(payload.decode())

    @found.handler("fatal")
    def fatal(payload: bytes, ctx: Context) -> None:
        raise Fatal(payload.decode())

    @found.handler("snooze")
    def snooze(payload: bytes, ctx: Context) -> bytes:
        book.lines.append("snooze")
        if len(book.lines) < 4:
            raise Snooze(60)
        return b"awake"

    @found.handler("nap")
    async def nap(payload: bytes, ctx: Context) -> bytes:
        book.lines.append(("nap", payload))
        try:
            await trio.sleep(float(payload))
        except trio.Cancelled:
            book.lines.append(("cancelled", payload))
            raise
        book.lines.append(("woke", payload))
        return payload

    @found.handler("doze", executor="asyncio")
    async def doze(payload: bytes, ctx: Context) -> bytes:
        import asyncio

        book.lines.append(("doze", payload))
        try:
            await asyncio.sleep(float(payload))
        except asyncio.CancelledError:
            book.lines.append(("cancelled", payload))
            raise
        book.lines.append(("woke", payload))
        return payload

    return found
