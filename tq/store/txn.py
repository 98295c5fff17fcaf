"""What a transaction of the store can do: the type that the state machine sees. See tq/store/lmdb_store.py and
tq/store/memory.py for the two that exist; tests/conformance runs one suite on both.

All tables are ordered by bytes. Scans return lists, bounded by ``limit``: nothing is lazy, so a caller may
change the table while it walks the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tq.store.tables import Table

Pair = tuple[bytes, bytes]


class ReadTxn(Protocol):
    def get(self, table: Table, key: bytes) -> bytes | None: ...

    def get_many(self, table: Table, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The pairs that exist, of ``keys``."""
        ...

    def first(self, table: Table, start: bytes, stop: bytes) -> Pair | None:
        """The first pair with ``start <= key < stop``."""
        ...

    def scan(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        """Up to ``limit`` pairs with ``start <= key < stop``, rising (``stop`` None: to the end of the table)."""
        ...

    def scan_back(self, table: Table, start: bytes, stop: bytes | None, limit: int) -> list[Pair]:
        """The same range, falling: the highest keys first."""
        ...

    def count(self, table: Table) -> int: ...


class Txn(ReadTxn, Protocol):
    """Also writes. Changes are seen at once by this transaction, and durable at the next checkpoint."""

    def put(self, table: Table, key: bytes, value: bytes) -> None: ...
    def put_many(self, table: Table, pairs: Iterable[Pair]) -> None: ...
    def delete(self, table: Table, key: bytes) -> bool:
        """Whether it was there."""
        ...

    def delete_many(self, table: Table, keys: Iterable[bytes]) -> int:
        """How many of ``keys`` were there. Quickest if they stand side by side, in order."""
        ...
