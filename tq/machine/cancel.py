"""CANCEL: at once where the task does not run; otherwise its worker is told, and has until the grace is over."""

from __future__ import annotations

from typing import Any

from tq.errors import NotFound, to_wire
from tq.machine import task as t
from tq.machine.answers import EventKind
from tq.machine.commands import Cancel, Timer
from tq.machine.entry import Entry
from tq.machine.moves import IDLE, emit, load, save, to_end
from tq.machine.states import State
from tq.machine.task import Event, Task
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn


def cancel(entry: Entry, command: Cancel) -> list[Any]:
    """A CancelItem each: RUNNING means cancelling; an end is the one that came first."""
    return [_cancel(entry, id, command.grace_ms) for id in command.ids]


def _cancel(entry: Entry, id: bytes, grace_ms: int) -> list[Any]:
    task = load(entry, id)
    if task is None:
        return [None, to_wire(missing(entry.txn, id))]
    if task.state in IDLE:
        to_end(entry, task, Event.CANCEL, State.CANCELLED)
    elif task.state is State.RUNNING:
        _ask(entry, task, grace_ms)
    return [int(task.state), None]


def _ask(entry: Entry, task: Task, grace_ms: int) -> None:
    """A second cancel can only shorten the grace."""
    t.check(task.state, Event.CANCEL, State.RUNNING)
    until = entry.time_ms + grace_ms
    if task.is_cancelling:
        if until >= task.grace:
            return
        entry.txn.delete(Table.TIMERS, keys.timer(Timer.GRACE, task.grace, task.id))
    task.flags |= t.CANCELLING
    task.grace = until
    entry.txn.put(Table.TIMERS, keys.timer(Timer.GRACE, until, task.id), b"")
    save(entry, task)
    emit(entry, EventKind.CANCELLING, task, grace_ms)
    entry.cancels.append((task.id, task.fence, task.session, grace_ms))


def missing(txn: ReadTxn, id: bytes) -> NotFound:
    """The error for a task that is not there: never was, or is purged."""
    raw = txn.get(Table.TOMBSTONES, id)
    if raw is None:
        return NotFound(f"there is no task {id.hex()}", detail={"purged": False})
    return NotFound(f"task {id.hex()} has ended and was purged", detail={"purged": True})
