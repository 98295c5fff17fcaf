"""When a peer is dialed again. Decides and waits for nothing: the shell and the simulator ask it.

- A connection that served for a while and ended is made anew at once: a process that was started anew is there already,
  and the first try costs nothing.
- Who cannot be reached, or refuses, is tried less and less often, up to once in PEER_DIAL_MS_MAX; a draw keeps the nodes
  of a cluster from knocking in step.
- **A peer that dials us is there**: however long the pause was going to be, it is over, and a try that has been under way
  for a while is made anew: what it sent went to a machine that was off. Else a node that came back would be heard, and
  hear nothing, for a second or for five.

A peer whose connections end as soon as they are made does not make this node dial without pause: that is what "for a
while" is about, and its own calls are as rare as its own pauses make them.
"""

from __future__ import annotations

from tq import limits
from tq.world import Clock, Random

SERVED_MS = limits.PEER_DIAL_MS_MAX
"""So long a connection must have been of use to be made anew at once."""
STUCK_MS = 250
"""A try that takes longer is slow, or lost."""


class Redial:
    """
    Attributes:
        due_ms: when to dial, by the monotonic clock, while there is no connection.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self.due_ms = clock.monotonic_ms()
        self._clock = clock
        self._random = random
        self._pause_ms = limits.PEER_DIAL_MS_MIN
        self._began_ms = self.due_ms
        self._usable_ms: int | None = None

    def begins(self) -> None:
        """The peer is dialed now."""
        self._began_ms = self._clock.monotonic_ms()

    def is_usable(self) -> None:
        """The peer is known: the connection can be used from now on."""
        self._usable_ms = self._clock.monotonic_ms()

    def ended(self) -> None:
        """The connection is over, or there was none to be had."""
        now_ms = self._clock.monotonic_ms()
        served_ms = 0 if self._usable_ms is None else now_ms - self._usable_ms
        self._usable_ms = None
        if served_ms >= SERVED_MS:
            self._pause_ms = limits.PEER_DIAL_MS_MIN
            self.due_ms = now_ms
            return
        self.due_ms = now_ms + self._pause_ms // 2 + self._random.below(self._pause_ms)
        self._pause_ms = min(self._pause_ms * 2, limits.PEER_DIAL_MS_MAX)

    def begin_anew(self) -> None:
        """It is this node that ends the connection or the try, to make it anew: no pause has grown."""
        self._pause_ms = limits.PEER_DIAL_MS_MIN

    def peer_is_there(self) -> bool:
        """It has dialed us, and said who it is. Returns whether a try that is under way should be given up."""
        now_ms = self._clock.monotonic_ms()
        self._pause_ms = limits.PEER_DIAL_MS_MIN
        self.due_ms = min(self.due_ms, now_ms)
        return self._usable_ms is None and now_ms - self._began_ms >= STUCK_MS
