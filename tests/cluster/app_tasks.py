"""Tasks of an app, for workers and submitters of the tests in test_app.py."""

from __future__ import annotations

import dataclasses
import os
import threading
from decimal import Decimal

import sniffio
import trio

from tq import App, Fatal, Retry, Snooze, current

app = App()


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal


class Busy(Exception):
    """Passes by itself."""


@app.task
def total(items: list[Item], discount: Decimal = Decimal(0)) -> Item:
    return Item("all", sum((item.price for item in items), -discount))


@app.task(executor="process")
def where() -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


@app.task
async def on_trio(n: int) -> str:
    await trio.sleep(0)
    return f"{sniffio.current_async_library()} {n}"


@app.task(runtime="asyncio")
async def on_asyncio(n: int) -> str:
    import asyncio

    await asyncio.sleep(0)
    return f"{sniffio.current_async_library()} {n}"


@app.task
def raw(data: bytes) -> bytes:
    return data[::-1]


@app.task(retry=Retry(max_attempts=5, backoff_base=0.01, jitter=0), retry_on=Busy, queue="verdicts")
def decide(what: str) -> int:
    attempt = current().attempt
    match what:
        case "again" if attempt < 3:
            raise Busy(what)
        case "after" if attempt < 2:
            raise Retry.after(0.01)
        case "fatal":
            raise Fatal("bad address")
        case "other":
            raise KeyError(what)
        case "snooze" if not os.path.exists(current().headers["mark"]):
            open(current().headers["mark"], "x").close()
            raise Snooze(0.01)
    return attempt


@app.task
async def fan_out(n: int) -> list[str]:
    """Submits more work from a handler, through the loop of the worker."""
    handles = await total.asubmit_many([([Item(str(number), Decimal(number))],) for number in range(n)])
    return [handle.id for handle in handles]


@app.task
def unfit() -> int:
    return {1}  # type: ignore[return-value]
