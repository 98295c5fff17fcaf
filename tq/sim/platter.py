"""Which entries of a node's log are synced: what a power loss leaves of it. For the checkers of a simulated world."""

from __future__ import annotations

from tq.raft.journal import Journal
from tq.raft.node import Entry


class Platter:
    """Outlives the node's processes, as its disk does. ``note`` after each step that may have synced or cut."""

    def __init__(self) -> None:
        self._terms: dict[int, int] = {}  # by index
        self._last_index = 0  # of them

    def note(self, journal: Journal) -> None:
        terms, durable_index = self._terms, journal.durable_index
        for index in range(durable_index + 1, self._last_index + 1):
            terms.pop(index, None)
        self._last_index = index = durable_index
        while index > journal.base_index and terms.get(index) != (term := journal.term_at(index)):
            terms[index] = term
            index -= 1

    def has(self, entry: Entry) -> bool:
        return self._terms.get(entry.index) == entry.term
