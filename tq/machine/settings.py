"""What all nodes must agree on: a different value on one node would make its state differ. So it stands in the log, and
in the state; a node's configuration counts only as far as it leads and says so (``SettingsSet``)."""

from __future__ import annotations

from typing import Final

import attrs

from tq import cbor, limits
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

CRASHES_BOUND: Final = 0xFFFF  # what a header can count


@attrs.frozen
class Settings:
    """Durations in ms. ``finished``: completed, cancelled, expired and skipped tasks."""

    def __attrs_post_init__(self) -> None:
        assert 1 <= self.crashes_max <= CRASHES_BOUND, f"crashes_max is {self.crashes_max}: 1 to {CRASHES_BOUND}"

    lease_ms: int = limits.LEASE_MS_DEFAULT
    crashes_max: int = limits.CRASHES_MAX_DEFAULT
    finished_keep_ms: int = limits.FINISHED_KEEP_MS_DEFAULT
    finished_keep_tasks: int = limits.FINISHED_KEEP_TASKS_DEFAULT
    dead_keep_ms: int = limits.DEAD_KEEP_MS_DEFAULT
    tombstone_keep_ms: int = limits.TOMBSTONE_KEEP_MS_DEFAULT


def stored(txn: ReadTxn) -> Settings | None:
    """As last set by the log; None if never."""
    raw = txn.get(Table.META, keys.SETTINGS)
    return None if raw is None else Settings(*cbor.loads(raw))


def store(txn: Txn, settings: Settings) -> None:
    txn.put(Table.META, keys.SETTINGS, cbor.dumps(list(attrs.astuple(settings))))
