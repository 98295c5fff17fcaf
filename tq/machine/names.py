"""Names of queues and types, as small numbers. A name gets its number at the first task that has it, for ever.

Write-once, so the object in memory is a cache of the table NAMES and never has to be taken back by anything but a
rollback of the store (which makes a new machine).
"""

from __future__ import annotations

from typing import Final

from tq import limits
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn


class Names:
    """One kind of names: ``keys.KIND_QUEUE`` or ``keys.KIND_TYPE``."""

    def __init__(self, txn: ReadTxn, kind: bytes) -> None:
        self._kind: Final = kind
        pairs = txn.scan(Table.NAMES, kind, keys.after(kind), limits.NAMES_MAX)
        self.texts: list[str] = [name.decode() for _, name in pairs]
        self.numbers: dict[str, int] = {name: number for number, name in enumerate(self.texts)}

    def number(self, txn: Txn, name: str) -> int:
        """The number of ``name``, a new one if it has none yet. Whether there is room was asked before."""
        known = self.numbers.get(name)
        if known is not None:
            return known
        number = len(self.texts)
        assert number < limits.NAMES_MAX
        self.texts.append(name)
        self.numbers[name] = number
        txn.put(Table.NAMES, keys.name_of_number(self._kind, number), name.encode())
        txn.put(Table.NAMES, keys.number_of_name(self._kind, name), keys.U32.pack(number))
        return number


def find_number(txn: ReadTxn, kind: bytes, name: str) -> int | None:
    """Without a machine."""
    raw = txn.get(Table.NAMES, keys.number_of_name(kind, name))
    return None if raw is None else int.from_bytes(raw, "big")


def find_name(txn: ReadTxn, kind: bytes, number: int) -> str:
    raw = txn.get(Table.NAMES, keys.name_of_number(kind, number))
    assert raw is not None, f"number {number} of kind {kind!r} has no name"
    return raw.decode()
