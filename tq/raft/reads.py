"""Linearizable reads: each waits until a majority has confirmed, after it came, that this node still leads."""

from __future__ import annotations

from collections import deque

import attrs


@attrs.frozen
class ReadEnd:
    """``index``: the read may be answered once that is applied. None: this node no more leads, ask again."""

    ticket: int
    index: int | None


class Reads:
    def __init__(self) -> None:
        self._tickets = 0
        self._waiting: deque[tuple[int, int, int]] = deque()  # ticket, index, round
        self._ends: list[ReadEnd] = []

    def add(self, index: int, round_: int, confirmed_round: int) -> int:
        """``index``: committed when the read came; ``round_``: that must be answered."""
        self._tickets += 1
        if round_ <= confirmed_round:
            self._ends.append(ReadEnd(self._tickets, index))
        else:
            self._waiting.append((self._tickets, index, round_))
        return self._tickets

    def confirm(self, confirmed_round: int) -> None:
        while self._waiting and self._waiting[0][2] <= confirmed_round:
            ticket, index, _ = self._waiting.popleft()
            self._ends.append(ReadEnd(ticket, index))

    def end_all(self) -> None:
        self._ends += [ReadEnd(ticket, None) for ticket, _, _ in self._waiting]
        self._waiting.clear()

    @property
    def has_ends(self) -> bool:
        return bool(self._ends)

    def take(self) -> list[ReadEnd]:
        ends, self._ends = self._ends, []
        return ends
