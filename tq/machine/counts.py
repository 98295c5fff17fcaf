"""How many tasks are in which state, by queue and band. Kept in memory, written once per entry where changed."""

from __future__ import annotations

from tq.machine.session import scan_all
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn


class Counts:
    def __init__(self, txn: ReadTxn) -> None:
        self._values = {key: keys.unpack_u64(value) for key, value in scan_all(txn, Table.COUNTS)}
        self._changed: dict[bytes, None] = {}  # in order of first change

    def add(self, key: bytes, n: int) -> None:
        """``key`` as packed by ``keys.count_…``."""
        value = self._values.get(key, 0) + n
        assert value >= 0, f"count {key!r} fell below zero"
        self._values[key] = value
        self._changed[key] = None

    def value(self, key: bytes) -> int:
        return self._values.get(key, 0)

    def flush(self, txn: Txn) -> None:
        if not self._changed:
            return
        values = self._values
        for key in self._changed:
            value = values[key]
            if value:
                txn.put(Table.COUNTS, key, keys.pack_u64(value))
            else:
                txn.delete(Table.COUNTS, key)
                del values[key]
        self._changed.clear()
