"""ADVANCE: what is due by log time happens. One kind at a time, at most ``limit`` timers an entry, the earliest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tq import limits
from tq.errors import InvalidRequest, TqError
from tq.machine import history, retention
from tq.machine import task as t
from tq.machine.commands import Advance, Timer
from tq.machine.entry import Entry
from tq.machine.moves import load, result_ttl_ms, save, to_end, to_pending
from tq.machine.retries import fail
from tq.machine.states import State
from tq.machine.task import Event, Reason, Task
from tq.store import keys
from tq.store.tables import Table

_TIMED_OUT: Final = ["TimedOut", "the attempt ran longer than its timeout_ms", ""]


def advance(entry: Entry, command: Advance) -> int | TqError:
    """Answer how many timers rang."""
    if not 1 <= command.limit <= limits.ENTRY_OPERATIONS_MAX:
        return InvalidRequest.of("limit", command.limit, f"must be between 1 and {limits.ENTRY_OPERATIONS_MAX}")
    kind = command.kind
    if kind == Timer.RETENTION:
        return retention.retain(entry, command.limit)
    txn = entry.txn
    start, stop = keys.timers_until(kind, entry.time_ms)
    rows = txn.scan(Table.TIMERS, start, stop, command.limit)
    for place, (key, _) in enumerate(rows):
        if entry.has_read_enough:
            return place  # the next entry goes on
        id = key[9:]
        if kind == Timer.OPERATION:
            found = txn.delete(Table.OPERATIONS, id)
            assert found, f"timer of an operation that is not there: {id.hex()}"
            txn.delete(Table.TIMERS, key)
        elif kind == Timer.TOMBSTONE:
            retention.forget_tombstone(entry, id)
            txn.delete(Table.TIMERS, key)
        else:
            task = load(entry, id)
            assert task is not None, f"timer of a task that is not there: {id.hex()}"
            if kind == Timer.TIMEOUT:
                fail(entry, task, history.TIMED_OUT, None, _TIMED_OUT, command.draw, place)
            else:
                _ON_TASK[kind](entry, task)
    return len(rows)


def _due(entry: Entry, task: Task) -> None:
    to_pending(entry, task, Event.DUE)


def _expires(entry: Entry, task: Task) -> None:
    to_end(entry, task, Event.EXPIRE, State.EXPIRED)


def _deadline(entry: Entry, task: Task) -> None:
    if task.state is State.RUNNING:
        history.record(entry, task, history.DEADLINE, None, None)
    to_end(entry, task, Event.DEADLINE, State.DEAD, Reason.DEADLINE)


def _grace(entry: Entry, task: Task) -> None:
    history.record(entry, task, history.CANCELLED, None, None)
    to_end(entry, task, Event.GRACE, State.CANCELLED)


def _kept(entry: Entry, task: Task) -> None:
    retention.bury(entry, task)


def _result_ttl(entry: Entry, task: Task) -> None:
    txn = entry.txn
    txn.delete(Table.TIMERS, keys.timer(Timer.RESULT_TTL, task.ended + result_ttl_ms(entry, task), task.id))
    txn.delete(Table.RESULTS, task.id)
    task.flags &= ~t.HAS_RESULT_TIMER
    save(entry, task)


_ON_TASK: Final[dict[int, Callable[[Entry, Task], None]]] = {
    Timer.DUE: _due,
    Timer.EXPIRES: _expires,
    Timer.DEADLINE: _deadline,
    Timer.GRACE: _grace,
    Timer.RESULT_TTL: _result_ttl,
    Timer.KEPT: _kept,
}
