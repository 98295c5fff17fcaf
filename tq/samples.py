"""Handlers to try tq with: ``tq worker tq.samples``.

echo      returns its payload
sleep     waits the seconds its payload says (text, 1 if empty), and returns them
compute   counts the primes below the number its payload says (text), in a process of its own
fail      raises, with its payload as the message; "fatal: ..." for good, "retry: ..." again after a second
"""

from __future__ import annotations

import math

from tq.verdicts import Fatal, RetryAfter, Stopped
from tq.worker.context import Context
from tq.worker.handlers import Handlers

SLEEP_SECONDS_MAX = 24 * 3600.0
COMPUTE_BELOW_MAX = 50_000_000

HANDLERS = Handlers()


class Failed(Exception):
    """What ``fail`` was asked for."""


@HANDLERS.handler("echo")
async def echo(payload: bytes, ctx: Context) -> bytes:
    return payload


@HANDLERS.handler("sleep", content_type="text/plain")
def sleep(payload: bytes, ctx: Context) -> bytes:
    seconds = float(payload or b"1")
    if not 0 <= seconds <= SLEEP_SECONDS_MAX:
        raise Fatal(f"cannot sleep {seconds:g} s: from 0 to {SLEEP_SECONDS_MAX:g}")
    if ctx.wait_cancelled(seconds):
        raise Stopped
    return b"%g" % seconds


@HANDLERS.handler("compute", executor="process", content_type="text/plain")
def compute(payload: bytes, ctx: Context) -> bytes:
    below = int(payload or b"100000")
    if not 0 <= below <= COMPUTE_BELOW_MAX:
        raise Fatal(f"cannot count primes below {below}: from 0 to {COMPUTE_BELOW_MAX}")
    return b"%d" % primes_below(below)


@HANDLERS.handler("fail")
def fail(payload: bytes, ctx: Context) -> bytes:
    text = payload.decode(errors="replace") or "asked to fail"
    verb, colon, rest = text.partition(":")
    if colon and verb == "fatal":
        raise Fatal(rest.strip())
    if colon and verb == "retry":
        raise RetryAfter(1, rest.strip())
    raise Failed(text)


def primes_below(bound: int) -> int:
    """How many primes are less than ``bound``: a sieve of odd numbers."""
    if bound <= 2:
        return 0
    sieve = bytearray([1]) * (bound // 2)  # sieve[i] stands for 2 i + 1; the place of 1 counts for 2
    for i in range(1, (math.isqrt(bound - 1) + 1) // 2 + 1):
        if i < len(sieve) and sieve[i]:
            prime = 2 * i + 1
            start = prime * prime // 2
            sieve[start::prime] = bytes(len(range(start, len(sieve), prime)))
    return sum(sieve)
