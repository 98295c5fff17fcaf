"""What a handler raises to say what shall become of its attempt, other than by failing; and what stops a handler.

Any other exception is a failure: the attempt counts, and the task runs again after its backoff while it has
attempts left.
"""

from __future__ import annotations

import math


class Verdict(Exception):
    """Base of what handlers raise on purpose. Raise one of its subclasses."""


class RetryAfter(Verdict):
    """The attempt failed and counts; the next one begins after ``seconds``, whatever the task's backoff says."""

    def __init__(self, seconds: float, message: str = "") -> None:
        self.seconds = _seconds("RetryAfter", seconds)
        super().__init__(message or f"asked to be tried again after {seconds:g} s")


class Snooze(Verdict):
    """Not now: the task runs again after ``seconds``, and this attempt is not counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = _seconds("Snooze", seconds)
        super().__init__(f"snoozed for {seconds:g} s")


class Fatal(Verdict):
    """The attempt failed and no other can succeed: the task goes to the dead letters at once."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class Stopped(BaseException):
    """Raised inside a handler that runs in a thread or a process when its task was cancelled, timed out, or is lost.

    It is no ``Exception``, so that ``except Exception`` in a handler lets it pass. A handler may catch it to clean
    up, and should raise it again.
    """


def _seconds(name: str, seconds: float) -> float:
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name}({seconds!r}): seconds must be a finite number, 0 or more")
    return seconds
