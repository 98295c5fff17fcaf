"""Signals, and the last resort."""

from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from tq.worker.signals import LastResort, stopping


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_the_first_signal_drains_and_each_later_one_quits(numbers: tuple[signal.Signals, ...]) -> None:
    calls: list[str] = []
    former = signal.getsignal(signal.SIGTERM)
    with stopping(lambda: calls.append("drain"), lambda: calls.append("quit")):
        for number in numbers:
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)
    assert calls == ["drain", "quit", "quit"]
    assert signal.getsignal(signal.SIGTERM) is former


def test_the_last_resort_ends_the_process_with_the_first_code() -> None:
    codes: queue.SimpleQueue[int] = queue.SimpleQueue()
    resort = LastResort(0.001, codes.put)
    resort.arm(130)
    resort.arm(0)
    assert codes.get(timeout=20) == 130
    assert codes.empty()


def test_it_does_nothing_to_a_process_that_ends_by_itself() -> None:
    codes: queue.SimpleQueue[int] = queue.SimpleQueue()
    resort = LastResort(20, codes.put)
    resort.disarm()
    resort.arm(1)
    for thread in threading.enumerate():
        if thread.name == "tq-last-resort":
            thread.join(20)
    assert codes.empty()
