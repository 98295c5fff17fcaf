"""Connections between nodes as TCP makes them: bytes in order, delayed, held back by a cut, lost only with the connection.

A cut is one-way. What was sent across it waits, as the kernel sends it again and again, and arrives when the cut is
healed; who hears nothing meanwhile may give the connection up. A process that dies leaves its peers an end (FIN or RST);
a machine that loses power leaves them nothing until it is up again and answers for the connection it does not know.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable

import attrs

from tq.world import Random

KERNEL_BYTES = 256 << 10  # of one direction that the receiver has not read


class Sign(enum.Enum):
    CALL = "call"  # to the listener
    ACCEPT = "accept"  # to the caller
    DATA = "data"
    END = "end"  # no more bytes come
    REFUSE = "refuse"  # there is no such connection (any more)


@attrs.define(eq=False)
class Wire:
    """One connection. ``unread``: bytes on their way to an end, or there and not read."""

    caller: str
    listener: str
    number: int
    under_way: dict[str, deque[tuple[int, Sign, bytes]]] = attrs.field(factory=dict)  # by whom they go to
    unread: dict[str, int] = attrs.field(factory=dict)
    closed: set[str] = attrs.field(factory=set)  # ends that do not care any more

    def other(self, name: str) -> str:
        return self.listener if name == self.caller else self.caller


@attrs.frozen
class Arrival:
    to: str
    wire: Wire
    sign: Sign
    data: bytes


class SimStreams:
    """
    Attributes:
        delay_ms: bounds of the time that bytes take.
        powered, listening: which machines run, and which of them have a process that listens.
    """

    def __init__(self, random: Random) -> None:
        self.delay_ms = (1, 3)
        self.powered: set[str] = set()
        self.listening: set[str] = set()
        self._random = random
        self._cuts: set[tuple[str, str]] = set()
        self._wires: dict[Wire, None] = {}
        self._count = 0
        self._due_ms: int | None = None  # when something arrives next
        self._is_due_known = True

    # ---- what a process does ------------------------------------------------------------------------

    def connect(self, now_ms: int, caller: str, listener: str) -> Wire:
        self._count += 1
        wire = Wire(caller, listener, self._count, {caller: deque(), listener: deque()}, {caller: 0, listener: 0})
        self._wires[wire] = None
        self._put(now_ms, wire, listener, Sign.CALL, b"")
        return wire

    def send(self, now_ms: int, wire: Wire, sender: str, data: bytes) -> None:
        """The caller has looked at ``room`` before."""
        to = wire.other(sender)
        wire.unread[to] += len(data)
        self._put(now_ms, wire, to, Sign.DATA, data)

    def room(self, wire: Wire, sender: str) -> int:
        return KERNEL_BYTES - wire.unread[wire.other(sender)]

    def close(self, now_ms: int, wire: Wire, name: str) -> None:
        """What was sent arrives, then the end."""
        if name not in wire.closed:
            wire.closed.add(name)
            self._put(now_ms, wire, wire.other(name), Sign.END, b"")

    # ---- what happens -------------------------------------------------------------------------------

    def take_due(self, now_ms: int) -> list[Arrival]:
        arrived: list[Arrival] = []
        due_ms = self.next_due_ms()
        if due_ms is None or due_ms > now_ms:
            return arrived
        self._is_due_known = False
        for wire in list(self._wires):
            for to, queue in wire.under_way.items():
                sender = wire.other(to)
                while queue and queue[0][0] <= now_ms and (sender, to) not in self._cuts:
                    _due, sign, data = queue.popleft()
                    arrived += self._arrive(now_ms, wire, to, sign, data)
            if len(wire.closed) == 2 and not any(wire.under_way.values()):
                del self._wires[wire]
        return arrived

    def _arrive(self, now_ms: int, wire: Wire, to: str, sign: Sign, data: bytes) -> list[Arrival]:
        if to not in self.powered:
            return []
        if sign is Sign.CALL:
            if to not in self.listening:
                wire.closed.add(to)
                self._put(now_ms, wire, wire.caller, Sign.REFUSE, b"")
                return []
            self._put(now_ms, wire, wire.caller, Sign.ACCEPT, b"")
        elif to in wire.closed:
            if sign is not Sign.REFUSE and sign is not Sign.END:
                self._put(now_ms, wire, wire.other(to), Sign.REFUSE, b"")
            return []
        return [Arrival(to, wire, sign, data)]

    def next_due_ms(self) -> int | None:
        if not self._is_due_known:
            self._is_due_known = True
            due = [
                queue[0][0]
                for wire in self._wires
                for to, queue in wire.under_way.items()
                if queue and (wire.other(to), to) not in self._cuts
            ]
            self._due_ms = min(due, default=None)
        return self._due_ms

    def _put(self, now_ms: int, wire: Wire, to: str, sign: Sign, data: bytes) -> None:
        low, high = self.delay_ms
        due_ms = now_ms + low + self._random.below(high - low + 1)
        queue = wire.under_way[to]
        if queue:
            due_ms = max(due_ms, queue[-1][0])
        elif (wire.other(to), to) not in self._cuts and (self._due_ms is None or due_ms < self._due_ms):
            self._due_ms = due_ms
        queue.append((due_ms, sign, data))

    # ---- what happens to it ---------------------------------------------------------------------------

    def died(self, now_ms: int, name: str) -> None:
        """The process of ``name`` is gone, its kernel is not."""
        self._is_due_known = False
        for wire in self._of(name):
            if name not in wire.closed:
                wire.closed.add(name)
                if self._random.below(2):
                    self._lose_tail(wire, wire.other(name))
                    self._put(now_ms, wire, wire.other(name), Sign.REFUSE, b"")
                else:
                    self._put(now_ms, wire, wire.other(name), Sign.END, b"")
            wire.under_way[name].clear()

    def lost_power(self, name: str) -> None:
        """Some of what it had sent is under way, nothing else comes."""
        self.powered.discard(name)
        self._is_due_known = False
        for wire in self._of(name):
            wire.closed.add(name)
            wire.under_way[name].clear()
            self._lose_tail(wire, wire.other(name))

    def reset(self, now_ms: int, wire: Wire) -> None:
        """Some router has forgotten it: both ends hear so, and lose what was under way."""
        for name in (wire.caller, wire.listener):
            self._lose_tail(wire, name)
            self._put(now_ms, wire, name, Sign.REFUSE, b"")

    def wires(self) -> list[Wire]:
        return list(self._wires)

    def cut(self, sender: str, to: str) -> None:
        """Nothing passes from ``sender`` to ``to``; the other way still does."""
        self._cuts.add((sender, to))
        self._is_due_known = False

    def isolate(self, name: str, others: Iterable[str]) -> None:
        for other in others:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def heal(self) -> None:
        self._cuts.clear()
        self._is_due_known = False

    def _of(self, name: str) -> list[Wire]:
        return [wire for wire in self._wires if name in (wire.caller, wire.listener)]

    def lose(self, wire: Wire) -> None:
        """All that is under way is lost. The connection must not live on."""
        for name in (wire.caller, wire.listener):
            self._lose_tail(wire, name, 0)

    def _lose_tail(self, wire: Wire, to: str, keep: int | None = None) -> None:
        self._is_due_known = False
        queue = wire.under_way[to]
        keep = self._random.below(len(queue) + 1) if keep is None else keep
        while len(queue) > keep:
            _due, _sign, data = queue.pop()
            wire.unread[to] -= len(data)
