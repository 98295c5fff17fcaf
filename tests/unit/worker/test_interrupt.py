"""Raising Stopped in another thread."""

from __future__ import annotations

import threading

from tq.verdicts import Stopped
from tq.worker.interrupt import interrupt, take_back


def test_a_thread_in_python_code_is_interrupted() -> None:
    entered = threading.Event()
    seen = []

    def run() -> None:
        try:
            entered.set()
            while True:
                pass
        except Stopped as stopped:
            seen.append(stopped)

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(20)
    assert thread.ident is not None
    interrupt(thread.ident)
    thread.join(20)
    assert not thread.is_alive()
    assert len(seen) == 1


def test_what_was_not_raised_yet_can_be_taken_back() -> None:
    entered, go_on = threading.Event(), threading.Lock()
    go_on.acquire()
    seen = []

    def run() -> None:
        entered.set()
        go_on.acquire()  # inside one call of C: nothing is raised here
        seen.append("went on")

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(20)
    while thread.ident is None:
        pass
    interrupt(thread.ident)
    take_back(thread.ident)
    go_on.release()
    thread.join(20)
    assert seen == ["went on"]


def test_a_thread_that_has_ended_is_left_alone() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join(20)
    assert thread.ident is not None
    interrupt(thread.ident)
    take_back(thread.ident)
