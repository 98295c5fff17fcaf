"""A network that does what networks do: it delays, loses, repeats and reorders messages, and lets only some pass.

Every message draws its own delay, so two of them can overtake each other. A cut is one-way and hits what is under way
too. What was under way to a process that died can still reach the one that comes after it: harsher than TCP.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from tq.world import Random


class SimNetwork:
    """
    Attributes:
        delay_ms: bounds of the time a message takes.
        loss_permille, duplicate_permille: chances of each message.
        sent, lost: messages so far.
    """

    def __init__(self, random: Random) -> None:
        self.delay_ms = (1, 3)
        self.loss_permille = 0
        self.duplicate_permille = 0
        self.sent = 0
        self.lost = 0
        self._random = random
        self._cuts: set[tuple[str, str]] = set()
        self._under_way: list[tuple[int, int, str, str, bytes]] = []  # due, order, to, sender, message
        self._order = 0

    def send(self, now_ms: int, sender: str, to: str, message: bytes) -> None:
        self.sent += 1
        copies = 1 + self._chance(self.duplicate_permille)
        if self._chance(self.loss_permille):
            self.lost += 1
            copies -= 1
        for _ in range(copies):
            low, high = self.delay_ms
            self._order += 1
            due_ms = now_ms + low + self._random.below(high - low + 1)
            heappush(self._under_way, (due_ms, self._order, to, sender, message))

    def _chance(self, permille: int) -> int:
        return int(permille > 0 and self._random.below(1000) < permille)

    def take_due(self, now_ms: int) -> list[tuple[str, str, bytes]]:
        """(to, sender, message) that arrive by ``now_ms``, in order."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now_ms:
            _, _, to, sender, message = heappop(self._under_way)
            if (sender, to) in self._cuts:
                self.lost += 1
            else:
                arrived.append((to, sender, message))
        return arrived

    def next_due_ms(self) -> int | None:
        return self._under_way[0][0] if self._under_way else None

    # ---- what happens to it --------------------------------------------------------------------------

    def cut(self, sender: str, to: str) -> None:
        """Nothing passes from ``sender`` to ``to``; the other way still does."""
        self._cuts.add((sender, to))

    def is_cut(self, sender: str, to: str) -> bool:
        return (sender, to) in self._cuts

    def isolate(self, name: str, others: Iterable[str]) -> None:
        for other in others:
            if other != name:
                self.cut(name, other)
                self.cut(other, name)

    def partition(self, one_side: Iterable[str], other_side: Iterable[str]) -> None:
        right = list(other_side)
        for name in one_side:
            self.isolate(name, right)

    def heal(self) -> None:
        self._cuts.clear()

    def drop_all(self) -> None:
        """What is under way is lost."""
        self.lost += len(self._under_way)
        self._under_way.clear()
