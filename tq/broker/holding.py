"""Requests that wait for a leader: there was one a moment ago, and there will be one again soon.

An election takes less time than a client that is refused waits before it asks again, and a client that lost its leader comes
just then. So what needs the leader is held for up to HOLD_MS, here at a follower, and at the new leader that is not ready.
Then it is asked again, in the order it came, or refused as ever; what finds no leader then is held on, but not for longer.
Bounded in number and bytes; above that it is refused at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from tq import limits
from tq.broker.connection import Connection
from tq.errors import NotLeader
from tq.protocol import messages as m
from tq.protocol.codec import encode
from tq.world import Clock

HOLD_MS: Final = 1_000
HELD_MAX: Final = 10_000
HELD_BYTES_MAX: Final = 64 * limits.MIB


@attrs.frozen
class Held:
    connection: Connection
    message: m.Message
    size: int
    until_ms: int


class Holding:
    """
    Args:
        ask: asks for a request again, as if it came now.
    """

    def __init__(self, clock: Clock, ask: Callable[[Connection, m.Message], None]) -> None:
        self._clock = clock
        self._ask = ask
        self._held: deque[Held] = deque()
        self._bytes = 0
        self._until_ms: int | None = None  # of the one that is asked for again just now

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, connection: Connection, message: m.Message) -> None:
        """Raises NotLeader: there is no room."""
        size = len(encode(message))
        if len(self._held) >= HELD_MAX or self._bytes + size > HELD_BYTES_MAX:
            raise _refusal()
        self._bytes += size
        until_ms = self._clock.monotonic_ms() + HOLD_MS if self._until_ms is None else self._until_ms
        self._held.append(Held(connection, message, size, until_ms))

    def release(self) -> None:
        """Something has changed: ask for all again. What finds no leader still is held anew, or refused."""
        held, self._held, self._bytes = self._held, deque(), 0
        for one in held:
            if not one.connection.is_closed:
                self._until_ms = one.until_ms
                self._ask(one.connection, one.message)
        self._until_ms = None

    def look(self) -> None:
        """Refuse what was held long enough."""
        now_ms = self._clock.monotonic_ms()
        while self._held and self._held[0].until_ms <= now_ms:
            one = self._held.popleft()
            self._bytes -= one.size
            one.connection.send_error(one.message.rid, _refusal())  # type: ignore[attr-defined]  # every request has one


def _refusal() -> NotLeader:
    return NotLeader("no node leads the cluster now; nothing was done", retry_after=0.1)
