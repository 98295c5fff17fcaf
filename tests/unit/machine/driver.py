"""A machine on a store in memory, with the words that the tests need. ``digest`` tells whether anything was written."""

from __future__ import annotations

from typing import Any

from tq.machine import commands as c
from tq.machine import queries
from tq.machine.answers import Applied
from tq.machine.apply import Machine, encode_entry
from tq.machine.settings import Settings
from tq.spec import Spec, encode
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore

START_MS = 1_700_000_000_000
SESSION = b"session".ljust(16, b"-")


def id_of(n: int) -> bytes:
    return n.to_bytes(16, "big")


class Driver:
    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008  # frozen
        self.settings = settings
        self.store = MemoryStore()
        self.txn = self.store.txn
        self.machine = Machine(self.txn, settings)
        self.index = 0
        self.now_ms = START_MS
        self.operations = 0
        self.apply()  # so that the log time is there and a digest tells of commands alone

    def apply(self, *commands: c.Command) -> Applied:
        self.index += 1
        return self.machine.apply(self.index, encode_entry(self.now_ms, commands))

    def do(self, command: c.Command) -> Any:
        return self.apply(command).answers[0]

    def digest(self) -> bytes:
        return state_digest(self.txn)

    def restart(self) -> None:
        self.machine = Machine(self.txn, self.settings)

    def open(
        self, session: bytes = SESSION, types: tuple[str, ...] = ("echo",), queues: tuple[str, ...] = ("default",)
    ) -> None:
        assert self.do(c.SessionOpen(session, "worker", list(types), list(queues))) is None

    def submit(self, *ns: int, atomic: bool = False, **fields: Any) -> Any:
        fields = {"type": "echo", "payload": b"", **fields}
        return self.do(c.Submit([encode(Spec(id=id_of(n), **fields)) for n in ns], atomic))

    def claim(self, max_n: int = 1, queues: tuple[str, ...] = (), session: bytes = SESSION) -> list[tuple[bytes, int]]:
        """``(id, fence)`` of each grant."""
        applied = self.apply(c.Claim(session, self.index, list(queues), max_n))
        assert isinstance(applied.answers[0], list), applied.answers
        return [(id, fence) for id, fence, _ in applied.granted]

    def report(self, id: bytes, fence: int, outcome: c.Outcome, body: Any = None, draw: int = 7) -> Any:
        return self.do(c.Report(SESSION, [[id, fence, int(outcome), body]], draw))[0]

    def complete(self, id: bytes, fence: int, result: bytes = b"r") -> Any:
        return self.report(id, fence, c.Outcome.COMPLETE, ["text/plain", result])

    def fail(self, id: bytes, fence: int, *, permanent: bool = False, error: Any = None) -> Any:
        return self.report(id, fence, c.Outcome.FAIL, [error or ["E", "m", "t"], permanent, None])

    def operation(self) -> bytes:
        self.operations += 1
        return b"op" + self.operations.to_bytes(14, "big")

    def advance(self, kind: c.Timer, limit: int = 500) -> Any:
        return self.do(c.Advance(int(kind), limit, 7))

    def show(self, n: int, parts: int = 7) -> dict[str, Any]:
        return queries.get_task(self.txn, id_of(n), parts)

    def state(self, n: int) -> str:
        return self.show(n, 0)["state"]

    def dead(self, *ns: int, **fields: Any) -> None:
        """Submit, claim and fail for good."""
        self.submit(*ns, **fields)
        for id, fence in self.claim(len(ns)):
            self.fail(id, fence, permanent=True)
