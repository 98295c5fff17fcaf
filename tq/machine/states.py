"""Names and numbers of the states of a task. The table of transitions is in ``tq.machine.task``."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    """As on the wire and in the store; ``.name.lower()`` is what users read."""

    WAITING = 0
    SCHEDULED = 1
    PENDING = 2
    RUNNING = 3
    COMPLETED = 4
    CANCELLED = 5
    EXPIRED = 6
    SKIPPED = 7
    DEAD = 8


ENDS = frozenset({State.COMPLETED, State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD})

_LIVE = frozenset({State.WAITING, State.SCHEDULED, State.PENDING, State.RUNNING})
GROUPS = {
    "queued": _LIVE - {State.RUNNING},
    "live": _LIVE,
    "ended": ENDS,
    "failed": ENDS - {State.COMPLETED},
}
"""What a filter may name beside single states."""

assert set(State) == _LIVE | ENDS
