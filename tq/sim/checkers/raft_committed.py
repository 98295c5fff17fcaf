"""What was committed anywhere is the same everywhere, is never lost, and every later leader has it."""

from __future__ import annotations

from collections.abc import Iterable

from tq.raft.journal import Journal
from tq.raft.node import Entry
from tq.sim.checkers.breach import Breach


class RaftCommitted:
    """
    Attributes:
        entries: by index, as first handed out.
        last_index: of them.
    """

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.last_index = 0

    def handed_out(self, node_id: str, entry: Entry) -> bool:
        """Returns whether it is the first to be handed out of its index."""
        known = self.entries.get(entry.index)
        if known is None:
            if entry.index != self.last_index + 1:
                raise Breach(f"{node_id} handed out {entry}, but {self.last_index + 1} never was")
            self.entries[entry.index] = entry
            self.last_index = entry.index
            return True
        if known != entry:
            raise Breach(f"{node_id} handed out {entry}, before that it was {known}")
        return False

    def new_leader(self, node_id: str, term: int, journal: Journal) -> None:
        """Leader completeness. By log matching it is enough to look at the last. Who was elected before that was committed, and is
        seen late (it was paused), need not have it."""
        last = self.entries.get(self.last_index)
        if last is None or last.term > term or self.last_index < journal.base_index:
            return
        if last.index > journal.last_index or journal.term_at(last.index) != last.term:
            raise Breach(
                f"{node_id} leads term {term} without entry {last.index} of term {last.term}, which is committed"
            )

    def on_majority(self, entry: Entry, holders: Iterable[str], voters: int) -> None:
        """``holders``: on whose platter the entry is when it is handed out first."""
        names = sorted(holders)
        if len(names) <= voters // 2:
            raise Breach(f"entry {entry.index} of term {entry.term} is handed out, but only {names} have it synced")
