"""The real machine and the model side by side: what is applied to one is applied to the other and compared.

``Pair.apply`` is the only door. After each entry the answers must be alike and after ``check`` everything that a
user can see: each task, each queue's order and counts. Only what the contract leaves open is bent: the exact wait
of a backoff with jitter (inside its bounds), and which of several holders of a unique key is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from model import Model

from tq.errors import TqError, from_wire
from tq.machine import commands as c
from tq.machine import queries
from tq.machine.answers import Applied, SubmitOutcome
from tq.machine.apply import Machine, encode_entry
from tq.machine.states import State
from tq.store.memory import MemoryStore
from tq.store.tables import Table

START_MS = 1_700_000_000_000  # log time at which every test begins
SEEN = ("state", "attempt", "crashes", "fence", "cancelling", "reason", "due_ms", "result", "history")


class Pair:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.machine = Machine(self.store.txn)
        self.model = Model()
        self.index = 0
        self.time_ms = START_MS
        self.entries: list[tuple[int, bytes]] = []
        self.fence_last = -1

    def apply(self, commands: Sequence[c.Command]) -> Applied:
        """One entry at ``time_ms``, on both; their answers must be alike."""
        self.index += 1
        raw = encode_entry(self.time_ms, list(commands))
        self.entries.append((self.index, raw))
        applied = self.machine.apply(self.index, raw)
        wanted = self.model.apply(self.index, self.time_ms, commands)
        self.time_ms = max(self.time_ms, self.model.time)
        self._settle()
        assert applied.index == self.index
        assert applied.time_ms == self.model.time, "log time"
        assert len(applied.answers) == len(wanted)
        for command, got, want in zip(commands, applied.answers, wanted, strict=True):
            assert self._same(command, got, want), f"{command}\n  answers {plain(got)}\n  wanted  {plain(want)}"
        for _, fence, _ in applied.granted:
            assert fence > self.fence_last, "a fence fell"
            self.fence_last = fence
        return applied

    def check(self) -> None:
        """Everything visible is as the model has it."""
        for id in self.model.tasks:
            got, want = self.seen(id), self.wanted(id)
            assert got == want, f"{id!r}\n  shows  {got}\n  wanted {want}"
        for id in self.model.tombstones:
            assert self.seen(id) is None, f"{id!r} is purged"
        self._check_indexes()

    # ---- one task ----------------------------------------------------------------------------------

    def seen(self, id: bytes) -> dict[str, Any] | None:
        raise NotImplementedError

    def wanted(self, id: bytes) -> dict[str, Any]:
        raise NotImplementedError

    def _settle(self) -> None:
        """Take over waits drawn with jitter, inside their bounds."""
        for id, task in self.model.tasks.items():
            if task.due_bounds is not None:
                least, most = task.due_bounds
                seen = self.seen(id)
                assert seen is not None
                assert least <= seen["due_ms"] <= most, f"{id!r} waits {seen['due_ms'] - self.time_ms} ms"
                self.model.settle(id, seen["due_ms"])
