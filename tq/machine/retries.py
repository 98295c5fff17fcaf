"""When a failed attempt runs again, or that it does not. Whole numbers only, so every node gets the same.

The wait before attempt n + 1 is ``min(cap, base × factor^(n − 1))``, give or take the jitter: a part of it, drawn by
the leader (``draw`` in the command) and mixed with the item's place in the command, so that the items of a batch do
not come back together.
"""

from __future__ import annotations

from typing import Final

from tq.machine import history
from tq.machine import task as t
from tq.machine.answers import EventKind
from tq.machine.entry import Entry
from tq.machine.moves import emit, spec_of, to_end, to_scheduled
from tq.machine.states import State
from tq.machine.task import Event, Reason, Task
from tq.spec import Retry

EVENT_TEXT_CHARS_MAX: Final = 200  # of an error in an event; the history has it whole
_FRACTION_BITS: Final = 32
_MASK64: Final = (1 << 64) - 1
_DEFAULT: Final = Retry()


def fail(
    entry: Entry,
    task: Task,
    what: str,
    outcome: int | None,
    error: list[str],
    draw: int,
    place: int,
    *,
    permanent: bool = False,
    retry_after_ms: int | None = None,
) -> None:
    """A running attempt failed: again later, or dead. ``retry_after_ms`` is taken as it is, without jitter."""
    history.record(entry, task, what, outcome, error)
    kind = EventKind.TIMED_OUT if what == history.TIMED_OUT else EventKind.FAILED
    emit(entry, kind, task, [error[0][:EVENT_TEXT_CHARS_MAX], error[1][:EVENT_TEXT_CHARS_MAX]])
    if task.is_cancelling:
        to_end(entry, task, Event.FAIL, State.CANCELLED)
    elif permanent:
        to_end(entry, task, Event.FAIL, State.DEAD, Reason.PERMANENT)
    elif task.attempt >= task.attempts_max:
        to_end(entry, task, Event.FAIL, State.DEAD, Reason.ATTEMPTS)
    else:
        if retry_after_ms is None:
            retry = _rules(entry, task)
            retry_after_ms = jittered_ms(backoff_ms(retry, task.attempt), retry.jitter_milli, draw, place)
        to_scheduled(entry, task, Event.FAIL, entry.time_ms + retry_after_ms)


def _rules(entry: Entry, task: Task) -> Retry:
    if task.given is not None:
        return task.given.retry
    return spec_of(entry, task.id).retry if task.flags & t.OWN_RETRY else _DEFAULT


def backoff_ms(retry: Retry, attempt: int) -> int:
    """The wait after the given counted attempt failed, without jitter."""
    cap = retry.cap_ms << _FRACTION_BITS
    wait = retry.base_ms << _FRACTION_BITS
    factor = retry.factor_milli
    for _ in range(attempt - 1):
        if wait >= cap:
            break
        longer = wait * factor // 1000
        if longer == wait:
            break
        wait = longer
    return min(wait, cap) >> _FRACTION_BITS


def jittered_ms(wait_ms: int, jitter_milli: int, draw: int, place: int) -> int:
    """``wait_ms`` ± up to ``jitter_milli`` thousandths of it."""
    spread = wait_ms * jitter_milli // 1000
    if not spread:
        return wait_ms
    return wait_ms - spread + mixed(draw, place) % (2 * spread + 1)


def mixed(draw: int, place: int) -> int:
    """64 bits that look unlike those of the next place (a multiply-and-shift finaliser)."""
    x = (draw + (place + 1) * 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)
