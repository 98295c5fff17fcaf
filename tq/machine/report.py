"""REPORT: what workers say became of their attempts. The fence alone decides whether it counts.

- the task runs under this fence: the outcome is applied;
- it does not, but this fence's worker said the same before: ALREADY;
- anything else is STALE: dropped, counted, and written in the history.

The plain case (complete, nothing special about the task) is done in bulk; all else goes an item at a time.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from tq import cbor, limits
from tq.machine import history
from tq.machine import task as t
from tq.machine.answers import EventKind, ReportOutcome
from tq.machine.commands import Outcome, Report, Timer
from tq.machine.entry import Entry
from tq.machine.moves import emit, load, result_ttl_ms, save, to_end, to_pending, to_scheduled
from tq.machine.retries import fail
from tq.machine.states import State
from tq.machine.task import BAND, FRONT_BYTES, HEADER_BYTES, KIND, PARTS, RECORD_VERSION, Event, Task
from tq.store import keys
from tq.store.tables import Table

Item = Any  # ReportItem, see answers.py

_COMPLETE: Final = int(Outcome.COMPLETE)
_COMPLETED_EVENT: Final = int(EventKind.COMPLETED)
_RUNNING: Final = int(State.RUNNING)
_COMPLETED: Final = int(State.COMPLETED)
_APPLIED: Final = int(ReportOutcome.APPLIED)
_ALREADY: Final = int(ReportOutcome.ALREADY)
_STALE: Final = int(ReportOutcome.STALE)


def report(entry: Entry, command: Report) -> list[Item]:
    items: list[list[Any]] = command.items
    session, draw = command.session, command.draw
    ids = [item[0] for item in items]
    kept = entry.rules.kept
    general = len(set(ids)) < len(ids) or entry.settings.finished_keep_ms > limits.RESULT_TTL_MS_DEFAULT
    headers: dict[Any, bytes] = {} if general else entry.txn.get_many(Table.TASKS, ids)
    unpack, pack, pack_ended = PARTS.unpack_from, PARTS.pack, keys.pack_ended
    dumps_bytes = cbor.dumps_bytes
    time_ms = entry.time_ms
    begin_events, released = entry.events.begin, entry.released
    puts: list[tuple[bytes, bytes]] = []
    results: list[tuple[bytes, bytes]] = []
    ended: list[tuple[bytes, bytes]] = []
    heads: dict[str, bytes] = {}  # of results, by content type
    held: list[bytes] = []  # keys in HELD
    known: dict[bytes, _Kind | None] = {}  # by the first part of the header; None: not plain
    ended_at = keys.pack_u64(time_ms)
    sessions: dict[bytes, int] = {}
    answers: list[Item] = []
    here: _Kind | None = None  # whose run of events goes on
    completed: list[bytes] = []
    fences: list[int] = []
    for place, (id, fence, outcome, body) in enumerate(items):
        raw = headers.get(id)
        if raw is None or outcome != _COMPLETE:
            here = None
            answers.append(_one(entry, session, id, fence, outcome, body, draw, place))
            continue
        first, attempt, crashes, counts, current, started, _, size = unpack(raw)
        if first not in known:
            known[first] = _kind(first, kept)
        kind = known[first]
        if kind is None or current != fence:
            here = None
            answers.append(_one(entry, session, id, fence, outcome, body, draw, place))
            continue
        front = pack(kind.completed, attempt, crashes, counts, fence, started, ended_at, size)
        kind.n += 1
        holder = raw[HEADER_BYTES : HEADER_BYTES + 16]
        puts.append((id, front + raw[FRONT_BYTES:]))
        content_type, result = body
        head = heads.get(content_type)
        if head is None:
            head = heads[content_type] = cbor.head_of_array(2) + cbor.dumps(content_type)
        results.append((id, head + dumps_bytes(result)))
        ended.append((pack_ended(_COMPLETED, time_ms, id), b""))
        held.append(holder + id)
        if kind is not here:
            here = kind
            completed, fences = begin_events(_COMPLETED_EVENT, kind.queue, kind.type)
        completed.append(id)
        fences.append(fence)
        released.append((id, fence))
        sessions[holder] = sessions.get(holder, 0) + 1
        answers.append(_APPLIED)
    if puts:
        t.check(State.RUNNING, Event.COMPLETE, State.COMPLETED)
        txn = entry.txn
        txn.put_many(Table.TASKS, puts)
        txn.put_many(Table.RESULTS, results)
        txn.put_many(Table.ENDED, ended)
        txn.delete_many(Table.HELD, held)
        for holder, n in sessions.items():
            entry.sessions[holder].held -= n
        add = entry.counts.add
        for kind in known.values():
            if kind is not None and kind.n:
                add(keys.count_state(kind.queue, _RUNNING, kind.band), -kind.n)
                add(keys.count_state(kind.queue, _COMPLETED, kind.band), kind.n)
        add(keys.COUNT_FINISHED, len(puts))
    return answers


class _Kind:
    """Running tasks that are alike. ``completed``: the first part of their headers, when they are; ``n``: how many are now."""

    __slots__ = ("band", "completed", "n", "queue", "type")

    def __init__(self, completed: bytes, queue: int, type_: int, band: int) -> None:
        self.completed = completed
        self.queue = queue
        self.type = type_
        self.band = band
        self.n = 0


def _kind(first: bytes, kept: Container[int]) -> _Kind | None:
    version, state, flags, reason, priority, queue, type_ = KIND.unpack(first)
    if state != _RUNNING or flags & t.SPECIAL or queue in kept or version != RECORD_VERSION:
        return None
    return _Kind(KIND.pack(version, _COMPLETED, flags, reason, priority, queue, type_), queue, type_, BAND[priority])


# ---- one at a time ------------------------------------------------------------------------------------


def _one(entry: Entry, session: bytes, id: bytes, fence: int, outcome: int, body: Any, draw: int, place: int) -> Item:
    task = load(entry, id)
    if task is None:
        return [_STALE, None]
    if task.state is State.RUNNING and task.fence == fence:
        _apply(entry, task, Outcome(outcome), body, draw, place)
        return _APPLIED
    if task.state is State.COMPLETED and task.fence == fence:
        is_known = outcome == Outcome.COMPLETE
    else:
        is_known = history.is_known(entry.txn, task, fence, outcome)
    if is_known:
        return _ALREADY
    history.record_stale(entry, task, session, fence, outcome)
    save(entry, task)
    emit(entry, EventKind.STALE_REFUSED, task, fence)
    return [_STALE, int(task.state)]


def _apply(entry: Entry, task: Task, outcome: Outcome, body: Any, draw: int, place: int) -> None:
    if outcome is Outcome.COMPLETE:
        _complete(entry, task, body)
    elif outcome is Outcome.FAIL:
        error, permanent, retry_after_ms = body
        fail(
            entry, task, history.FAILED, outcome, history.cut_error(error), draw, place,
            permanent=permanent, retry_after_ms=retry_after_ms,
        )  # fmt: skip
    elif outcome is Outcome.SNOOZE:
        _snooze(entry, task, body, draw, place)
    else:
        release(entry, task, outcome)


def _complete(entry: Entry, task: Task, body: list[Any]) -> None:
    ttl_ms = result_ttl_ms(entry, task)
    keep_ms = entry.rules.of(task.queue).finished_keep_ms
    has_timer = ttl_ms < (
        entry.settings.finished_keep_ms if keep_ms is None else keep_ms
    )  # else the task goes no later than its result
    if has_timer:
        task.flags |= t.HAS_RESULT_TIMER
    to_end(entry, task, Event.COMPLETE, State.COMPLETED)
    entry.txn.put(Table.RESULTS, task.id, cbor.dumps(body))
    if has_timer:
        entry.txn.put(Table.TIMERS, keys.timer(Timer.RESULT_TTL, task.ended + ttl_ms, task.id), b"")


def release(entry: Entry, task: Task, outcome: Outcome | None) -> None:
    """Given back: the attempt is not counted. Also how a session's close (outcome None) and the answer to a cancel end."""
    answers_cancel = outcome is Outcome.CANCELLED and task.is_cancelling
    history.record(entry, task, history.CANCELLED if answers_cancel else history.RELEASED, outcome, None)
    task.attempt -= 1
    if not answers_cancel:
        emit(entry, EventKind.RELEASED, task)
    if task.is_cancelling:
        to_end(entry, task, Event.RELEASE, State.CANCELLED)
    else:
        to_pending(entry, task, Event.RELEASE)


def _snooze(entry: Entry, task: Task, delay_ms: int, draw: int, place: int) -> None:
    if task.snoozes >= limits.SNOOZES_MAX and not task.is_cancelling:
        error = ["TooManySnoozes", f"snoozed {limits.SNOOZES_MAX} times already", ""]
        fail(entry, task, history.FAILED, Outcome.SNOOZE, error, draw, place)
        return
    history.record(entry, task, history.SNOOZED, Outcome.SNOOZE, None)
    task.attempt -= 1
    emit(entry, EventKind.SNOOZED, task, delay_ms)
    if task.is_cancelling:
        to_end(entry, task, Event.SNOOZE, State.CANCELLED)
    else:
        task.snoozes += 1
        to_scheduled(entry, task, Event.SNOOZE, entry.time_ms + delay_ms)
