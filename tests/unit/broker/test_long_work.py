from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tq.broker.long_work import InlineWork, LongWork, ThreadWork


@pytest.fixture(params=[ThreadWork, InlineWork])
def work(request) -> Iterator[LongWork]:
    work = request.param()
    yield work
    work.close()


def until_taken(work: LongWork) -> None:
    """A thread ends when it ends."""
    waiter = threading.Event()
    for _ in range(10_000):
        if work.take():
            return
        waiter.wait(0.001)
    raise AssertionError("the job never ends")


def test_a_job_is_done_and_told_once(work):
    done: list[int] = []
    assert not work.take()
    for number in range(3):
        work.start(lambda number=number: done.append(number))
        until_taken(work)
        assert not work.take()
    assert done == [0, 1, 2]


def test_what_the_job_raised_is_raised_once(work):
    def fail() -> None:
        raise OSError(28, "no space left on device")

    work.start(fail)
    with pytest.raises(OSError, match="no space"):
        until_taken(work)
    assert not work.take()
    work.start(lambda: None)
    until_taken(work)


def test_one_at_a_time(work):
    work.start(lambda: None)
    with pytest.raises(AssertionError, match="in flight"):
        work.start(lambda: None)


def test_the_loop_goes_on_while_a_thread_works():
    work = ThreadWork()
    gate = threading.Event()
    seen: list[int] = []
    work.start(lambda: seen.append(threading.get_ident()) if gate.wait(10) else None)
    assert not work.take()
    gate.set()
    until_taken(work)
    assert seen != [threading.get_ident()]
    work.close()
    work.close()


def test_close_waits_for_the_job():
    work = ThreadWork()
    gate, done = threading.Event(), threading.Event()
    work.start(lambda: done.set() if gate.wait(10) else None)
    gate.set()
    work.close()
    assert done.is_set()
    before = threading.active_count()
    ThreadWork().close()
    assert threading.active_count() == before
