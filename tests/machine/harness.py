"""The real machine and the model side by side: what is applied to one is applied to the other and compared.

``Pair.apply`` is the only door. The answers must be alike at once, and in ``check`` everything that a user can see
of each task; ``indexes.check`` looks below, at the tables. Only what the contract leaves open is bent: the wait of a
backoff with jitter (inside its bounds), and which of several holders of a unique key is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import indexes
import queried
from model import Model

from tq.errors import TqError, from_wire
from tq.machine import commands as c
from tq.machine.answers import Applied, SubmitOutcome
from tq.machine.apply import Machine, encode_entry
from tq.machine.filters import Filter
from tq.machine.states import State
from tq.spec import parse
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore

START_MS = 1_700_000_000_000  # log time at which every test begins


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
        holders = [self._holders(command) for command in commands]
        wanted = self.model.apply(self.index, self.time_ms, commands)
        self._settle()
        self._finish(commands, applied.answers)
        assert applied.index == self.index
        assert applied.time_ms == self.model.time, "log time"
        self.time_ms = self.model.time
        for command, got, want, held in zip(commands, applied.answers, wanted, holders, strict=True):
            assert same(command, got, want, held), f"{command}\n  answers {plain(got)}\n  wanted  {plain(want)}"
        for _, fence, _ in applied.granted:
            assert fence > self.fence_last, "a fence fell"
            self.fence_last = fence
        return applied

    def restart(self) -> None:
        """The machine is made anew from the store, as after a crash."""
        self.machine = Machine(self.store.txn)

    def check(self) -> None:
        """Everything visible is as the model has it, and the tables agree with each other."""
        for id in self.model.tasks:
            got, want = indexes.seen(self.store.txn, id), self.wanted(id)
            assert got == want, f"{id!r}\n  shows  {got}\n  wanted {want}"
        indexes.check(self.store.txn, set(self.model.tasks), set(self.model.tombstones))
        indexes.check_sessions(self.store.txn, self.model)
        indexes.check_order(self.store.txn, self.model)
        queried.check(self.store.txn, self.model)

    def wanted(self, id: bytes) -> dict[str, Any]:
        task = self.model.tasks[id]
        return {
            "state": task.state,
            "attempt": task.attempt,
            "crashes": task.crashes,
            "snoozes": task.snoozes,
            "fence": task.fence,
            "cancelling": task.cancelling,
            "reason": task.reason,
            "due_ms": task.due,
            "deadline_ms": task.deadline,
            "expires_ms": task.expires,
            "ended_ms": task.ended,
            "result": task.result,
            "history": task.history,
            "checkpoint": None if task.kept is None else task.kept[2],
        }

    def count_lines(self) -> list[str]:
        return indexes.count_lines(self.store.txn, self.machine.queue_name)

    def digest(self) -> bytes:
        return state_digest(self.store.txn)

    def _settle(self) -> None:
        """Take over waits drawn with jitter, inside their bounds."""
        for id, task in self.model.tasks.items():
            if task.due_bounds is not None:
                least, most = task.due_bounds
                seen = indexes.seen(self.store.txn, id)
                assert seen is not None
                due = seen["due_ms"]
                assert due is not None, f"{id!r} does not wait"
                assert least <= due <= most, f"{id!r} waits until {due}, not {least} to {most}"
                self.model.settle(id, due)

    def _finish(self, commands: Sequence[c.Command], answers: list[Any]) -> None:
        for command, answer in zip(commands, answers, strict=True):
            is_finished = isinstance(answer, list) and isinstance(command, c.JobStep) and answer[4]
            if is_finished and command.operation in self.model.jobs:
                self.model.finish(command.operation)

    def _holders(self, command: c.Command) -> set[bytes]:
        """All that hold a unique key before the command."""
        if not isinstance(command, c.Submit):
            return set()
        return {id for id, task in self.model.tasks.items() if task.spec.unique is not None}


# ---- likeness of answers -----------------------------------------------------------------------------


def job_filter(fields: dict[str, Any]) -> list[object]:
    return Filter.of_map(fields).command()


def plain(answer: Any) -> Any:
    """An answer with its errors as codes, enums as numbers."""
    if isinstance(answer, TqError):
        return f"<{answer.code}>"
    if isinstance(answer, list | tuple):
        if len(answer) == 7 and isinstance(answer[0], str) and isinstance(answer[1], str):
            return f"<{from_wire(list(answer)).code}>"
        return [plain(item) for item in answer]
    return int(answer) if isinstance(answer, int) and not isinstance(answer, bool) else answer


def same(command: c.Command, got: Any, want: Any, held: set[bytes]) -> bool:
    if isinstance(command, c.Submit) and isinstance(got, list) and len(got) == len(want):
        return all(
            _same_item(raw, g, w, held) for raw, g, w in zip(command.specs, plain(got), plain(want), strict=True)
        )
    if isinstance(command, c.JobStep) and isinstance(got, list) and isinstance(want, list):
        return bool(plain(got[:4]) == plain(want[:4]))  # the rest is judged by Model.finish
    return bool(plain(got) == plain(want))


def _same_item(raw: bytes, got: Any, want: Any, held: set[bytes]) -> bool:
    if got == want:
        return True
    # Several tasks may hold one unique key (scope pending, in backoff): any of them may be named.
    if got != 0 and want != 0 and got[0] == want[0] == SubmitOutcome.DUPLICATE:
        unique = parse(raw).unique
        return unique is not None and got[2] in held and want[2] in held and got[2] != parse(raw).id
    return False


def state_of(pair: Pair, id: bytes) -> State | None:
    task = pair.model.tasks.get(id)
    return None if task is None else task.state
