"""SIGTERM and SIGINT: the first drains, the second quits; and what ends a process that a handler will not let end.

The handlers of signals run on the main thread between any two bytecodes, also within users' code that blocks the
event loop. They only leave word for the loop; and because the loop may never read it, the second one arms the last
resort: a thread that ends the process, whatever it is doing, unless it ends by itself before.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping(drain: Callable[[], None], quit: Callable[[], None]) -> Iterator[None]:
    """Call ``drain`` at the first signal and ``quit`` at each later one, as signal handlers are called."""
    count = 0

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            drain()
        else:
            quit()

    former = [(number, signal.signal(number, on_signal)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)


class LastResort:
    """``arm`` it, and the process ends with ``code`` after ``wait_s`` unless it is disarmed."""

    def __init__(self, wait_s: float, end: Callable[[int], object] = os._exit) -> None:
        self._wait_s = wait_s
        self._end = end
        self._disarmed = threading.Event()
        self._is_armed = False

    def arm(self, code: int) -> None:
        """Safe in a signal handler. The first one counts."""
        if self._is_armed:
            return
        self._is_armed = True
        threading.Thread(target=self._watch, args=(code,), name="tq-last-resort", daemon=True).start()

    def disarm(self) -> None:
        self._disarmed.set()

    def _watch(self, code: int) -> None:
        if not self._disarmed.wait(self._wait_s):
            structlog.get_logger("tq.worker").error("a handler does not end; the process is ended around it", code=code)
            self._end(code)
