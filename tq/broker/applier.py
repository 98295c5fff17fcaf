"""Committed entries become state, answers and effects, in the order of the log.

Rules
- Every node, the leader too, applies the bytes of the entry. Nothing is answered before the entry is applied here.
- The applied index is what reads see; the checkpointed index is what the store has made durable. They are moved
  apart by entries and together by a checkpoint.
- An exception out of the machine is a bug or damage: it leaves this object and stops the node, before anybody is
  answered for that entry.
- A full map of the store is not an error of the entry: the store falls back to its checkpoint, grows, and the
  entries since then are applied again with their effects muted, because they were answered already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

from tq import limits
from tq.machine.answers import Applied
from tq.machine.apply import Machine
from tq.store.store import Store, StoreFull


class LogEntry(Protocol):
    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def data(self) -> bytes: ...


@attrs.frozen
class ApplierStatistics:
    applied_index: int
    checkpointed_index: int
    entries: int
    checkpoints: int
    checkpoint_last_ms: float
    checkpoint_max_ms: float
    replays: int


class Applier:
    def __init__(
        self,
        store: Store,
        new_machine: Callable[[], Machine],
        read_log: Callable[[int, int], Iterable[LogEntry]],
        monotonic_s: Callable[[], float],
        on_applied: Callable[[LogEntry, Applied | None], None],
    ) -> None:
        """
        Args:
            new_machine: a machine on the store's open transaction.
            read_log: entries from the first to before the second index.
            on_applied: called after each entry; with None for one that carries no commands of ours.
        """
        self.store = store
        self.machine = new_machine()
        self.applied_index = store.checkpointed_index
        self._new_machine = new_machine
        self._read_log = read_log
        self._monotonic_s = monotonic_s
        self._on_applied = on_applied
        self._entries = 0
        self._checkpoints = 0
        self._checkpoint_last_ms = 0.0
        self._checkpoint_max_ms = 0.0
        self._replays = 0

    def apply(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            index = entry.index
            if index <= self.applied_index:
                continue
            assert index == self.applied_index + 1, f"entry {index} follows {self.applied_index}"
            applied = self._apply(entry)
            self.applied_index = index
            self._entries += 1
            self._on_applied(entry, applied)
            if self.store.dirty_bytes >= limits.CHECKPOINT_DIRTY_BYTES_MAX:
                self.checkpoint()

    def checkpoint(self) -> bool:
        """Make the store durable at the applied index. False if it already is."""
        if self.applied_index == self.store.checkpointed_index:
            return False
        began_s = self._monotonic_s()
        try:
            self.store.checkpoint(self.applied_index)
        except StoreFull:  # a commit needs pages of its own
            self._replay()
            self.store.checkpoint(self.applied_index)
        took_ms = (self._monotonic_s() - began_s) * 1000
        self._checkpoints += 1
        self._checkpoint_last_ms = took_ms
        self._checkpoint_max_ms = max(self._checkpoint_max_ms, took_ms)
        return True

    def begin_anew(self) -> None:
        """The store holds another state, which is of a later index than was applied here."""
        assert self.store.checkpointed_index >= self.applied_index, "the state of a snapshot is older than ours"
        self.machine = self._new_machine()
        self.applied_index = self.store.checkpointed_index

    def statistics(self) -> ApplierStatistics:
        return ApplierStatistics(
            self.applied_index,
            self.store.checkpointed_index,
            self._entries,
            self._checkpoints,
            self._checkpoint_last_ms,
            self._checkpoint_max_ms,
            self._replays,
        )

    def _apply(self, entry: LogEntry) -> Applied | None:
        if not entry.data:
            return None
        try:
            return self.machine.apply(entry.index, entry.data)
        except StoreFull:
            self._replay()
            return self.machine.apply(entry.index, entry.data)

    def _replay(self) -> None:
        """Back to the checkpoint, a larger map, and forward again to where we were."""
        self._replays += 1
        self.store.rollback()
        self.store.grow()
        self.machine = self._new_machine()
        for entry in self._read_log(self.store.checkpointed_index + 1, self.applied_index + 1):
            if entry.data:
                self.machine.apply(entry.index, entry.data)
