"""Handlers in threads, with a loop that the test turns: ``Loop.until`` runs what the threads asked it to run."""

from __future__ import annotations

import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.unit.worker.jobs import Ends, a_job, tell
from tq.verdicts import Stopped
from tq.worker.context import Context
from tq.worker.handlers import Handlers
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED
from tq.worker.threads import Threads


class Loop:
    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.wakes = 0

    def soon(self, function: Callable[[], None]) -> None:
        self._calls.put(function)

    def until(self, look: Callable[[], bool]) -> None:
        while not look():
            self._calls.get(timeout=20)()
            self.wakes += 1


class Rig:
    def __init__(self) -> None:
        self.loop = Loop()
        self.ends = Ends()
        self.threads = Threads(self.ends, self.loop.soon)
        self.handlers = Handlers()
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def until_ended(self, count: int) -> None:
        self.loop.until(lambda: len(self.ends.said) >= count)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.go_on.set()
    rig.threads.close()


def spin(rig: Rig) -> Callable[[bytes, Context], bytes]:
    """A handler in pure Python that only an interrupt ends."""

    def handler(payload: bytes, ctx: Context) -> bytes:
        rig.entered.release()
        while not rig.go_on.is_set():
            pass
        return b"went on"

    return handler


def test_a_thread_runs_one_job_after_the_other(rig: Rig) -> None:
    names = set()

    def handler(payload: bytes, ctx: Context) -> bytes:
        names.add(threading.current_thread().name)
        return payload * 2

    rig.handlers.register("t", handler)
    for number in range(1, 6):
        rig.threads.start(a_job(rig.handlers, "t", b"%d" % number, number))
        rig.until_ended(number)
        assert rig.ends.of(number) == (COMPLETE, ["application/octet-stream", b"%d%d" % (number, number)])
    assert len(names) == 1


def test_jobs_run_side_by_side(rig: Rig) -> None:
    rig.handlers.register("t", spin(rig))
    for number in (1, 2, 3):
        rig.threads.start(a_job(rig.handlers, "t", number=number))
    for _ in range(3):
        assert rig.entered.acquire(timeout=20)
    rig.go_on.set()
    rig.until_ended(3)
    assert {said[0] for _, said in rig.ends.said} == {COMPLETE}


def test_a_burst_of_ends_wakes_the_loop_once(rig: Rig) -> None:
    rig.handlers.register("t", spin(rig))
    for number in (1, 2, 3):
        rig.threads.start(a_job(rig.handlers, "t", number=number))
    for _ in range(3):
        assert rig.entered.acquire(timeout=20)
    rig.go_on.set()
    while len(rig.threads._ended) < 3:  # the loop does not look meanwhile
        threading.Event().wait(0.001)
    rig.until_ended(3)
    assert rig.loop.wakes == 1


def test_what_a_handler_raises_is_its_outcome(rig: Rig) -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        raise SystemExit("not even this ends the thread")

    rig.handlers.register("t", handler)
    for number in (1, 2):
        rig.threads.start(a_job(rig.handlers, "t", number=number))
        rig.until_ended(number)
        outcome, (error, _permanent, _after) = rig.ends.of(number)
        assert (outcome, error[0], error[1]) == (FAIL, "SystemExit", "not even this ends the thread")
        assert "test_threads.py" in error[2]


def test_a_running_handler_is_interrupted_and_its_thread_goes_on(rig: Rig) -> None:
    rig.handlers.register("t", spin(rig))
    job = a_job(rig.handlers, "t")
    rig.threads.start(job)
    assert rig.entered.acquire(timeout=20)
    tell(job)
    rig.threads.stop(job)
    rig.until_ended(1)
    assert rig.ends.of(1) == SAID_STOPPED
    rig.go_on.set()
    rig.threads.start(a_job(rig.handlers, "t", number=2))
    rig.until_ended(2)
    assert rig.ends.of(2)[0] == COMPLETE
    assert rig.threads._count == 1


def test_a_handler_may_clean_up_when_it_is_stopped(rig: Rig) -> None:
    cleaned = []

    def handler(payload: bytes, ctx: Context) -> bytes:
        try:
            spin(rig)(payload, ctx)
        except Stopped:
            cleaned.append(ctx.cancelled)
            raise
        return b""

    rig.handlers.register("t", handler)
    job = a_job(rig.handlers, "t")
    rig.threads.start(job)
    assert rig.entered.acquire(timeout=20)
    tell(job)
    rig.threads.stop(job)
    rig.threads.stop(job)
    rig.until_ended(1)
    assert cleaned == [True]


def test_except_exception_does_not_catch_the_stop(rig: Rig) -> None:
    def handler(payload: bytes, ctx: Context) -> bytes:
        try:
            return spin(rig)(payload, ctx)
        except Exception:  # noqa: BLE001 - what users write
            return b"swallowed"

    rig.handlers.register("t", handler)
    job = a_job(rig.handlers, "t")
    rig.threads.start(job)
    assert rig.entered.acquire(timeout=20)
    tell(job)
    rig.threads.stop(job)
    rig.until_ended(1)
    assert rig.ends.of(1) == SAID_STOPPED


def test_a_job_that_is_cancelled_before_it_begins_is_not_run(rig: Rig) -> None:
    ran = []
    rig.handlers.register("t", lambda payload, ctx: ran.append(1))
    job = a_job(rig.handlers, "t")
    tell(job)
    rig.threads.start(job)
    rig.threads.stop(job)
    rig.until_ended(1)
    assert rig.ends.of(1) == SAID_STOPPED
    assert ran == []


def test_a_stop_that_comes_late_hits_nobody(rig: Rig) -> None:
    rig.handlers.register("t", lambda payload, ctx: payload)
    job = a_job(rig.handlers, "t")
    rig.threads.start(job)
    while not rig.threads._ended:
        threading.Event().wait(0.001)
    tell(job)
    rig.threads.stop(job)  # the handler is over, the loop does not know yet
    rig.until_ended(1)
    assert rig.ends.of(1)[0] == COMPLETE
    rig.threads.stop(job)
    rig.threads.start(a_job(rig.handlers, "t", number=2))
    rig.until_ended(2)
    assert rig.ends.of(2)[0] == COMPLETE


def test_stops_at_any_moment_lose_no_job_and_no_thread(rig: Rig) -> None:
    """Short handlers, each interrupted about when it ends: all end once, and the same thread runs them all."""

    def handler(payload: bytes, ctx: Context) -> bytes:
        for _ in range(20):
            pass
        return payload

    rig.handlers.register("t", handler)
    count = 4_000
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(1, count + 1):
            job = a_job(rig.handlers, "t", number=number)
            rig.threads.start(job)
            for _ in range(number % 100 * 10):
                pass  # shift the moment
            tell(job)
            rig.threads.stop(job)
            rig.until_ended(number)
    finally:
        sys.setswitchinterval(interval)
    outcomes = Counter(said[0] for _, said in rig.ends.said)
    assert outcomes.keys() == {COMPLETE, SAID_STOPPED[0]}, "the moments were not mixed"
    assert outcomes.total() == count
    assert rig.threads._count == 1
    assert all(thread.is_alive() for thread in rig.threads._idle)


def test_closing_ends_the_idle_threads(rig: Rig) -> None:
    rig.handlers.register("t", lambda payload, ctx: payload)
    rig.threads.start(a_job(rig.handlers, "t"))
    rig.until_ended(1)
    (thread,) = rig.threads._idle
    rig.threads.close()
    thread.join(20)
    assert not thread.is_alive()
