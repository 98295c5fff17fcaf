"""CHECKPOINT: what a running attempt keeps for the next one. The fence decides, as with outcomes.

A task has at most one. It lies with the task's history under a number that no row of it has, and begins with the fence and the
number of who wrote it, so that one which comes late (sent again over another connection, overtaken) does not take the place
of a later one. It goes when the task ends; a failed, crashed, released or snoozed attempt leaves it to the next grant.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tq.machine import task as t
from tq.machine.answers import ReportOutcome
from tq.machine.commands import Checkpoint
from tq.machine.entry import Entry
from tq.machine.states import State
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

_HEAD: Final = struct.Struct(">QQ?")
"""fence, number, whether anything is kept; the data stands behind it"""

_APPLIED: Final = int(ReportOutcome.APPLIED)
_ALREADY: Final = int(ReportOutcome.ALREADY)
_STALE: Final = int(ReportOutcome.STALE)


def checkpoint(entry: Entry, command: Checkpoint) -> list[Any]:
    return [_one(entry, *item) for item in command.items]  # type: ignore[arg-type]  # checked where it was decoded


def _one(entry: Entry, id: bytes, fence: int, number: int, data: bytes | None) -> Any:
    txn = entry.txn
    raw = txn.get(Table.TASKS, id)
    if raw is None:
        return [_STALE, None]
    task = t.unpack(id, raw)
    if task.state is not State.RUNNING or task.fence != fence:
        return [_STALE, int(task.state)]
    key = keys.checkpoint(id)
    if task.flags & t.HAS_CHECKPOINT:
        known = txn.get(Table.HISTORY, key)
        assert known is not None, f"the checkpoint of task {id.hex()} is not there"
        if _HEAD.unpack_from(known)[:2] >= (fence, number):
            return _ALREADY
    else:
        task.flags |= t.HAS_CHECKPOINT
        txn.put(Table.TASKS, id, task.pack())
    txn.put(Table.HISTORY, key, _HEAD.pack(fence, number, data is not None) + (data or b""))
    return _APPLIED


def kept(txn: ReadTxn, task: t.Task) -> bytes | None:
    """What the last checkpoint of the task has."""
    if not task.flags & t.HAS_CHECKPOINT:
        return None
    raw = txn.get(Table.HISTORY, keys.checkpoint(task.id))
    assert raw is not None, f"the checkpoint of task {task.id.hex()} is not there"
    return raw[_HEAD.size :] if _HEAD.unpack_from(raw)[2] else None


def drop(txn: Txn, task: t.Task) -> None:
    """The task has ended. The caller saves it."""
    if task.flags & t.HAS_CHECKPOINT:
        txn.delete(Table.HISTORY, keys.checkpoint(task.id))
        task.flags &= ~t.HAS_CHECKPOINT
