"""Log matching: entries of the same index and term are the same, and so is everything before them, on all nodes."""

from __future__ import annotations

from tq.raft.journal import Journal
from tq.sim.checkers.breach import Breach


class RaftLogs:
    """Each entry is looked at once a node. (index, term) determines the payload and the term of the entry before; from
    that, all before it follows."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._terms: dict[str, dict[int, int]] = {}  # node, index, term: what was looked at

    def look(self, node_id: str, journal: Journal) -> None:
        terms = self._terms.setdefault(node_id, {})
        index = journal.last_index
        while index > journal.base_index and terms.get(index) != journal.term_at(index):
            index -= 1
        for news in range(index + 1, journal.last_index + 1):
            term, payload = journal.term_at(news), journal.payload(news)
            fact = (journal.term_at(news - 1), payload)
            known = self._known.setdefault((news, term), fact)
            if known != fact:
                raise Breach(
                    f"{node_id}: entry {news} of term {term} is {fact}, elsewhere {known} (term before, payload)"
                )
            if term < fact[0]:
                raise Breach(f"{node_id}: entry {news} of term {term} follows one of term {fact[0]}")
            terms[news] = term

    def forget(self, node_id: str) -> None:
        """It starts anew: look at all of it again."""
        self._terms.pop(node_id, None)
