"""A worker session as the machine keeps it in memory: the table SESSIONS, and what is held (the table HELD)."""

from __future__ import annotations

from tq import cbor
from tq.machine.names import Names
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

SESSIONS_SCAN = 1_000


class Session:
    """``seq``, ``first`` and ``n``: the last claim that granted something, its first fence and how many; -1: none yet."""

    __slots__ = ("_resolved", "_resolved_at", "first", "held", "id", "n", "name", "queues", "seq", "tail", "types")

    def __init__(self, id: bytes, name: str, types: list[str], queues: list[str]) -> None:
        self.id = id
        self.name = name
        self.types = types
        self.queues = queues
        self.tail = id + name.encode()  # as it stands in the header of a task that runs here
        self.seq = -1
        self.first = 0
        self.n = 0
        self.held = 0
        self._resolved: set[int] = set()
        self._resolved_at = 0

    def type_numbers(self, names: Names) -> set[int]:
        """Those of its types that any task ever had."""
        if self._resolved_at != len(names.texts):
            numbers = names.numbers
            self._resolved = {numbers[name] for name in self.types if name in numbers}
            self._resolved_at = len(names.texts)
        return self._resolved

    def put(self, txn: Txn) -> None:
        txn.put(Table.SESSIONS, self.id, cbor.dumps([self.name, self.types, self.queues]))

    def put_claim(self, txn: Txn) -> None:
        txn.put(
            Table.SESSIONS, self.id + keys.LAST_CLAIM_MARK, keys.LAST_CLAIM.pack(self.seq, self.first, self.n)
        )  # fmt: skip


def load_sessions(txn: ReadTxn) -> dict[bytes, Session]:
    """All open sessions, with how much each one holds."""
    sessions: dict[bytes, Session] = {}
    for key, value in scan_all(txn, Table.SESSIONS):
        if len(key) == 16:
            name, types, queues = cbor.loads(value)
            sessions[key] = Session(key, name, types, queues)
        else:
            session = sessions[key[:16]]
            session.seq, session.first, session.n = keys.LAST_CLAIM.unpack(value)
    for key, _ in scan_all(txn, Table.HELD):
        sessions[key[:16]].held += 1
    return sessions


def session_name(txn: ReadTxn, session: bytes) -> str | None:
    """Of its worker; None: it is not open."""
    raw = txn.get(Table.SESSIONS, session)
    return None if raw is None else str(cbor.loads(raw)[0])


def scan_all(txn: ReadTxn, table: Table, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
    """Every pair of a table that is bounded elsewhere."""
    start, stop = prefix or b"\x00", keys.after(prefix) if prefix else None
    found: list[tuple[bytes, bytes]] = []
    while True:
        page = txn.scan(table, start, stop, SESSIONS_SCAN)
        found += page
        if len(page) < SESSIONS_SCAN:
            return found
        start = page[-1][0] + b"\x00"
