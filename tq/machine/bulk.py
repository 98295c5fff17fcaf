"""RETRY and PURGE by id, and the memory of operations: the same operation id again answers the same.

The answer is kept for the memory window, with the kind of command it belongs to; the id in a command of another kind
is a Conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tq import cbor
from tq.errors import Backpressure, Conflict, InvalidState, TqError, to_wire
from tq.machine.answers import EventKind
from tq.machine.cancel import missing
from tq.machine.commands import Op, Purge, Retry, Timer
from tq.machine.entry import Entry
from tq.machine.moves import emit, load, spec_of
from tq.machine.retention import bury
from tq.machine.states import ENDS, State
from tq.machine.submit import begin
from tq.machine.task import Event, Reason, Task
from tq.store import keys
from tq.store.tables import Table

RETRYABLE: Final = (State.CANCELLED, State.EXPIRED, State.SKIPPED, State.DEAD)


def retry(entry: Entry, command: Retry) -> object:
    return _once(
        entry, command.operation, Op.RETRY, lambda: [_retry(entry, id, command.delay_ms) for id in command.ids]
    )  # fmt: skip


def purge(entry: Entry, command: Purge) -> object:
    return _once(entry, command.operation, Op.PURGE, lambda: [_purge(entry, id) for id in command.ids])


def retry_task(entry: Entry, task: Task, delay_ms: int) -> None:
    """An ended task that did not complete begins anew; its history and its last fence stay."""
    emit(entry, EventKind.RETRIED, task)
    task.attempt = task.crashes = task.snoozes = 0
    task.reason = Reason.NONE
    spec = spec_of(entry, task.id)
    expires_in_ms = spec.expires_in_ms if task.given is None else task.given.expires_in_ms or None
    begin(entry, task, expires_in_ms, spec.deadline_ms, Event.RETRY, entry.time_ms + delay_ms)


# ---- operations ---------------------------------------------------------------------------------------


def remember(entry: Entry, operation: bytes, op: Op, answer: object) -> None:
    entry.txn.put(Table.OPERATIONS, operation, cbor.dumps([int(op), answer]))
    until_ms = entry.time_ms + entry.settings.tombstone_keep_ms
    entry.txn.put(Table.TIMERS, keys.timer(Timer.OPERATION, until_ms, operation), b"")


def remembered(entry: Entry, operation: bytes, op: Op) -> object | None:
    """The answer that was given, a Conflict if another kind of command has this id, None if it is new."""
    raw = entry.txn.get(Table.OPERATIONS, operation)
    if raw is not None:
        kind, answer = cbor.loads(raw)
        return answer if kind == op else taken(operation)
    if op is not Op.JOB_START and entry.txn.get(Table.JOBS, operation) is not None:
        return taken(operation)
    return None


def taken(operation: bytes) -> TqError:
    return Conflict(f"operation id {operation.hex()} belongs to another kind of request")


def _once(entry: Entry, operation: bytes, op: Op, do: Callable[[], list[Any]]) -> object:
    known = remembered(entry, operation, op)
    if known is not None:
        return known
    answer = do()
    remember(entry, operation, op, answer)
    return answer


# ---- one task -----------------------------------------------------------------------------------------


def _too_much(task: Task) -> list[Any]:
    error = Backpressure(
        "the tasks before this one were as much as one request may read: send the rest again as another operation",
        retry_after=0,
    )
    return [int(task.state), to_wire(error)]


def _retry(entry: Entry, id: bytes, delay_ms: int) -> list[Any]:
    task = load(entry, id)
    if task is None:
        return [None, to_wire(missing(entry.txn, id))]
    if task.state not in RETRYABLE:
        return [int(task.state), to_wire(InvalidState(f"a {task.state.name.lower()} task cannot be retried"))]
    if entry.has_read_enough:
        return _too_much(task)
    retry_task(entry, task, delay_ms)
    return [int(task.state), None]


def _purge(entry: Entry, id: bytes) -> list[Any]:
    task = load(entry, id)
    if task is None:
        return [None, to_wire(missing(entry.txn, id))]
    if task.state not in ENDS:
        return [
            int(task.state),
            to_wire(InvalidState(f"a {task.state.name.lower()} task cannot be purged: cancel it first")),
        ]
    if entry.has_read_enough:
        return _too_much(task)
    bury(entry, task)
    return [int(task.state), None]
