"""The sample handlers."""

from __future__ import annotations

import threading

import pytest
import trio

from tests.unit.worker.jobs import a_context
from tq.samples import COMPUTE_BELOW_MAX, HANDLERS, Failed, compute, echo, fail, primes_below, sleep
from tq.verdicts import Fatal, RetryAfter, Stopped


def test_they_are_four_and_run_in_all_ways() -> None:
    assert {handler.type: handler.executor for handler in HANDLERS} == {
        "echo": "async",
        "sleep": "thread",
        "compute": "process",
        "fail": "thread",
    }


def test_echo() -> None:
    assert trio.run(echo, b"\x00hi", a_context()) == b"\x00hi"


def test_sleep() -> None:
    assert sleep(b"0.001", a_context()) == b"0.001"
    for wrong in (b"-1", b"nan", b"1e9"):
        with pytest.raises(Fatal, match="cannot sleep"):
            sleep(wrong, a_context())


def test_sleep_ends_with_its_cancel() -> None:
    context = a_context()
    timer = threading.Timer(0.01, context.cancel)
    timer.start()
    with pytest.raises(Stopped):
        sleep(b"60", context)
    timer.join()


@pytest.mark.parametrize("bound", [*range(60), 100, 1_000, 7_919, 7_920])
def test_compute_counts_primes(bound: int) -> None:
    slow = sum(1 for n in range(2, bound) if all(n % d for d in range(2, int(n**0.5) + 1)))
    assert primes_below(bound) == slow


def test_compute() -> None:
    assert compute(b"1000000", a_context()) == b"78498"
    assert compute(b"", a_context()) == b"9592"
    for wrong in (b"-1", b"%d" % (COMPUTE_BELOW_MAX + 1)):
        with pytest.raises(Fatal, match="cannot count"):
            compute(wrong, a_context())


def test_fail() -> None:
    with pytest.raises(Failed, match="no luck"):
        fail(b"no luck", a_context())
    with pytest.raises(Failed, match="asked to fail"):
        fail(b"", a_context())
    with pytest.raises(Fatal, match="for good"):
        fail(b"fatal: for good", a_context())
    with pytest.raises(RetryAfter, match="later"):
        fail(b"retry: later", a_context())
    with pytest.raises(Failed, match="other: x"):
        fail(b"other: x", a_context())
