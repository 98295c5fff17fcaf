"""From one state to another: every row that hangs on a state is written and removed here, and nowhere else but in the
hot paths of submit, claim and report, which do the same for the plain case in bulk.

| state              | rows beside header and spec                                  |
|--------------------|--------------------------------------------------------------|
| scheduled          | TIMERS due                                                   |
| pending            | READY                                                        |
| running            | HELD; TIMERS timeout, grace (while cancelling)               |
| an end             | ENDED; completed: RESULTS, TIMERS result_ttl; TIMERS kept    |
| never started      | TIMERS expires                                               |
| not ended          | TIMERS deadline                                              |
| while it counts    | KEYS unique                                                  |
| not ended          | HISTORY checkpoint                                           |

Timers go with their cause, so a timer that is due always means what it says.
"""

from __future__ import annotations

from typing import Final

from tq import limits
from tq.machine import checkpoint
from tq.machine import task as t
from tq.machine.answers import EventKind
from tq.machine.commands import Timer
from tq.machine.entry import Entry
from tq.machine.states import ENDS, State
from tq.machine.task import BAND, Event, Reason, Task
from tq.spec import Spec, parse
from tq.store import keys
from tq.store.tables import Table

IDLE: Final = frozenset({State.WAITING, State.SCHEDULED, State.PENDING})

_END_EVENTS: Final = {
    State.COMPLETED: int(EventKind.COMPLETED),
    State.CANCELLED: int(EventKind.CANCELLED),
    State.EXPIRED: int(EventKind.EXPIRED),
    State.DEAD: int(EventKind.DEAD),
}


def load(entry: Entry, id: bytes) -> Task | None:
    raw = entry.txn.get(Table.TASKS, id)
    return None if raw is None else t.unpack(id, raw)


def save(entry: Entry, task: Task) -> None:
    entry.txn.put(Table.TASKS, task.id, task.pack())


def emit(entry: Entry, kind: EventKind, task: Task, extra: object = None) -> None:
    entry.events.add(int(kind), task.id, task.queue, task.type, task.fence, extra)


# ---- the moves. Each saves the task -----------------------------------------------------------------


def to_pending(entry: Entry, task: Task, event: Event) -> None:
    """At the end of its line."""
    _change(entry, task, event, State.PENDING)
    task.due = entry.time_ms
    task.ready_index = entry.index
    task.ready_ordinal = entry.ordinal
    entry.ordinal += 1
    pair = (task.queue, task.type)
    key = keys.pack_ready(*pair, 255 - task.priority, task.ready_index, task.ready_ordinal)
    entry.txn.put(Table.READY, key, task.id)
    entry.ready.add(pair, 1, key[keys.READY_PAIR.size :])
    entry.entered[pair] = entry.entered.get(pair, 0) + 1
    save(entry, task)
    if event is not Event.SUBMIT:
        emit(entry, EventKind.READY, task)


def to_scheduled(entry: Entry, task: Task, event: Event, due_ms: int) -> None:
    _change(entry, task, event, State.SCHEDULED)
    task.due = due_ms
    entry.txn.put(Table.TIMERS, keys.timer(Timer.DUE, due_ms, task.id), b"")
    save(entry, task)
    emit(entry, EventKind.SCHEDULED, task, due_ms)


def to_running(entry: Entry, task: Task, session: bytes, worker: str, fence: int) -> None:
    """The general form of what ``claim.py`` does in bulk; the caller counts the lease and hands it on."""
    _change(entry, task, Event.CLAIM, State.RUNNING)
    task.attempt += 1
    task.fence = fence
    task.started = entry.time_ms
    task.session = session
    task.worker = worker
    if task.expires:
        entry.txn.delete(Table.TIMERS, keys.timer(Timer.EXPIRES, task.expires, task.id))
        task.expires = 0
    if task.timeout:
        entry.txn.put(Table.TIMERS, keys.timer(Timer.TIMEOUT, task.started + task.timeout, task.id), b"")
    entry.txn.put(Table.HELD, session + task.id, keys.pack_u64(fence))
    save(entry, task)
    emit(entry, EventKind.STARTED, task)


def to_end(entry: Entry, task: Task, event: Event, state: State, reason: Reason = Reason.NONE) -> None:
    _change(entry, task, event, state)
    txn = entry.txn
    if task.expires:
        txn.delete(Table.TIMERS, keys.timer(Timer.EXPIRES, task.expires, task.id))
    if task.deadline:
        txn.delete(Table.TIMERS, keys.timer(Timer.DEADLINE, task.deadline, task.id))
    task.expires = task.deadline = 0
    checkpoint.drop(txn, task)
    task.flags &= ~t.CANCELLING
    task.reason = reason
    task.ended = entry.time_ms
    txn.put(Table.ENDED, keys.pack_ended(state, task.ended, task.id), b"")
    own_keep_ms = entry.rules.of(task.queue).keep_ms(state)
    if own_keep_ms is not None:
        task.flags |= t.KEPT
        task.grace = entry.time_ms + own_keep_ms
        txn.put(Table.TIMERS, keys.timer(Timer.KEPT, task.grace, task.id), b"")
    elif state is not State.DEAD:
        entry.counts.add(keys.COUNT_FINISHED, 1)
    save(entry, task)
    entry.events.add(_END_EVENTS[state], task.id, task.queue, task.type, task.fence, t.REASON_TEXTS[reason])


def start_clocks(entry: Entry, task: Task, expires_in_ms: int | None, deadline_ms: int | None) -> None:
    """At submit and at a retry: relative times run from now."""
    if expires_in_ms is not None:
        task.expires = entry.time_ms + expires_in_ms
        entry.txn.put(Table.TIMERS, keys.timer(Timer.EXPIRES, task.expires, task.id), b"")
    if deadline_ms is not None:
        task.deadline = entry.time_ms + deadline_ms
        entry.txn.put(Table.TIMERS, keys.timer(Timer.DEADLINE, task.deadline, task.id), b"")


def bury_rows(entry: Entry, task: Task) -> None:
    """An ended task leaves: the rows of its state, and its count."""
    t.check(task.state, Event.PURGE, None)
    _leave(entry, task)
    entry.counts.add(keys.count_state(task.queue, task.state, BAND[task.priority]), -1)


# ---- inside -----------------------------------------------------------------------------------------


def _change(entry: Entry, task: Task, event: Event, new: State) -> None:
    old = None if event is Event.SUBMIT else task.state
    t.check(old, event, new)
    counted = old is not None and counts_unique(task.flags, old)
    if old is not None:
        _leave(entry, task)
        entry.counts.add(keys.count_state(task.queue, old, BAND[task.priority]), -1)
    if old is State.RUNNING and new is not State.COMPLETED:
        task.session, task.worker = b"", ""  # the history knows; of a completed attempt the header does
    task.state = new
    entry.counts.add(keys.count_state(task.queue, new, BAND[task.priority]), 1)
    counts = counts_unique(task.flags, new)
    if counts and not counted:
        entry.txn.put(Table.KEYS, keys.unique(task.unique_hash, task.id), b"")
    elif counted and not counts:
        entry.txn.delete(Table.KEYS, keys.unique(task.unique_hash, task.id))


def counts_unique(flags: int, state: State) -> bool:
    """Whether a task holds its unique key in this state."""
    return bool(flags & t.HAS_UNIQUE) and (
        state in IDLE or (state is State.RUNNING and bool(flags & t.UNIQUE_RUNNING))
    )  # fmt: skip


def _leave(entry: Entry, task: Task) -> None:
    txn = entry.txn
    state = task.state
    if state is State.PENDING:
        pair = (task.queue, task.type)
        key = keys.pack_ready(*pair, 255 - task.priority, task.ready_index, task.ready_ordinal)
        found = txn.delete(Table.READY, key)
        assert found, f"pending task {task.id.hex()} was not in line"
        entry.ready.remove(pair, 1)
    elif state is State.SCHEDULED:
        found = txn.delete(Table.TIMERS, keys.timer(Timer.DUE, task.due, task.id))
        assert found, f"scheduled task {task.id.hex()} had no timer"
    elif state is State.RUNNING:
        _let_go(entry, task)
    elif state in ENDS:
        _leave_end(entry, task)


def _let_go(entry: Entry, task: Task) -> None:
    """The grant is over."""
    txn = entry.txn
    found = txn.delete(Table.HELD, task.session + task.id)
    assert found, f"running task {task.id.hex()} was not held"
    entry.sessions[task.session].held -= 1
    entry.released.append((task.id, task.fence))
    if task.timeout:
        txn.delete(Table.TIMERS, keys.timer(Timer.TIMEOUT, task.started + task.timeout, task.id))
    if task.grace:
        txn.delete(Table.TIMERS, keys.timer(Timer.GRACE, task.grace, task.id))
        task.grace = 0


def _leave_end(entry: Entry, task: Task) -> None:
    txn = entry.txn
    found = txn.delete(Table.ENDED, keys.pack_ended(task.state, task.ended, task.id))
    assert found, f"ended task {task.id.hex()} was not among the ended"
    if task.flags & t.KEPT:
        txn.delete(Table.TIMERS, keys.timer(Timer.KEPT, task.grace, task.id))
        task.flags &= ~t.KEPT
        task.grace = 0
    elif task.state is not State.DEAD:
        entry.counts.add(keys.COUNT_FINISHED, -1)
    if task.state is State.COMPLETED:
        txn.delete(Table.RESULTS, task.id)
        if task.flags & t.HAS_RESULT_TIMER:
            txn.delete(Table.TIMERS, keys.timer(Timer.RESULT_TTL, task.ended + result_ttl_ms(entry, task), task.id))
    task.ended = 0


def result_ttl_ms(entry: Entry, task: Task) -> int:
    if task.given is not None:
        return task.given.result_ttl_ms
    own = bool(task.flags & t.OWN_RESULT_TTL)
    return spec_of(entry, task.id).result_ttl_ms if own else limits.RESULT_TTL_MS_DEFAULT


def spec_of(entry: Entry, id: bytes) -> Spec:
    raw = entry.txn.get(Table.SPECS, id)
    assert raw is not None, f"task {id.hex()} has no spec"
    entry.read_bytes += len(raw)
    return parse(raw)
