"""EXPLAIN: why a task is where it is, in one sentence, with the facts behind it.

The sentence is for people: it has their words (``expires_in``, the deadline) and lengths of time as one says them.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Final

from tq.machine import history, queue_settings
from tq.machine import task as t
from tq.machine.cancel import missing
from tq.machine.show import PART_HISTORY, names_of, show
from tq.machine.states import State
from tq.machine.task import Reason, Task
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

AHEAD_MAX: Final = 10_000  # counted; more is said to be more


def explain(
    txn: ReadTxn, id: bytes, now_ms: int, workers: AbstractSet[tuple[str, str]] | None
) -> tuple[str, dict[str, Any]]:
    """``(sentence, facts)``: facts are the task's fields with its history, and what its state adds.

    Args:
        now_ms: log time.
        workers: (queue, type) of all open sessions; None: nothing is said of them.

    Raises NotFound.
    """
    raw = txn.get(Table.TASKS, id)
    if raw is None:
        raise missing(txn, id)
    task = t.unpack(id, raw)
    facts = show(txn, task, PART_HISTORY)
    state = task.state
    if state is State.SCHEDULED:
        why = _scheduled(txn, task, now_ms, facts)
    elif state is State.PENDING:
        why = _pending(txn, task, workers, facts)
    elif state is State.RUNNING:
        why = _running(task, now_ms)
    else:
        why = _ended(task, facts)
    if state in queue_settings.LENGTH_STATES:
        why = _with_queue(txn, task, now_ms, why, facts)
    return why, facts


def _scheduled(txn: ReadTxn, task: Task, now_ms: int, facts: dict[str, Any]) -> str:
    facts["due_in_ms"] = max(0, task.due - now_ms)
    rows = [row for row in history.rows(txn, task) if row[0] != history.STALE]
    because = {
        history.FAILED: f"attempt {task.attempt} of {task.attempts_max} failed and the next one waits",
        history.TIMED_OUT: f"attempt {task.attempt} of {task.attempts_max} timed out and the next one waits",
        history.SNOOZED: "its worker put it off",
    }
    what = because.get(rows[-1][0]) if rows else None
    due = f"due in {_duration(facts['due_in_ms'])}" if facts["due_in_ms"] else "due now"
    return f"scheduled: {what or 'it was asked to start later'}; {due}"


def _pending(txn: ReadTxn, task: Task, workers: AbstractSet[tuple[str, str]] | None, facts: dict[str, Any]) -> str:
    pair = names_of(txn, task)
    if workers is not None:
        facts["has_worker"] = pair in workers
        if pair not in workers:
            return f"pending: no worker is connected that runs type {pair[1]!r} from queue {pair[0]!r}"
    prefix = keys.READY_PAIR.pack(task.queue, task.type)
    own = keys.pack_ready(task.queue, task.type, 255 - task.priority, task.ready_index, task.ready_ordinal)
    ahead = len(txn.scan(Table.READY, prefix, own, AHEAD_MAX + 1))
    facts["ahead"] = min(ahead, AHEAD_MAX)
    facts["ahead_is_more"] = ahead > AHEAD_MAX
    if not ahead:
        return f"pending: first in line of type {pair[1]!r} in queue {pair[0]!r}"
    many = f"more than {AHEAD_MAX}" if ahead > AHEAD_MAX else str(ahead)
    return f"pending: in line behind {many} of type {pair[1]!r} in queue {pair[0]!r}"


def _with_queue(txn: ReadTxn, task: Task, now_ms: int, why: str, facts: dict[str, Any]) -> str:
    """What was decided for the task's queue, as far as it is felt."""
    settings = queue_settings.of_queue(txn, task.queue)
    queue = facts["queue"]
    pause = settings.pause
    if pause is not None:
        facts["paused"] = settings.shown()["paused"]
        since = _duration(max(0, now_ms - pause.since_ms))
        paused = f"queue {queue!r} is paused by {pause.by}, for {since} now" + (
            f": {pause.reason}" if pause.reason else ""
        )
        why = f"pending: {paused}" if task.state is State.PENDING else f"{why}; {paused}"
    if settings.max_length is not None:
        length = sum(keys.unpack_u64(txn.get(Table.COUNTS, key)) for key in queue_settings.length_keys(task.queue))
        facts["queue_length"], facts["queue_max_length"] = length, settings.max_length
        if length >= settings.max_length:
            why += f"; queue {queue!r} is full, {length} of {settings.max_length}: it takes no more tasks"
    return why


def _running(task: Task, now_ms: int) -> str:
    since = _duration(max(0, now_ms - task.started))
    where = f"running on {task.worker} for {since} (attempt {task.attempt} of {task.attempts_max})"
    if task.is_cancelling:
        return f"{where}; a cancel was asked for, its grace ends in {_duration(max(0, task.grace - now_ms))}"
    return where


def _ended(task: Task, facts: dict[str, Any]) -> str:
    error = next((row["error"] for row in reversed(facts["history"]) if row["error"]), None)
    last = f"; last error: {error[0]}: {error[1][:200]}" if error else ""
    if task.state is State.COMPLETED:
        return f"completed by {task.worker} in attempt {task.attempt}"
    if task.state is State.DEAD:
        because = {
            Reason.ATTEMPTS: "its only attempt failed"
            if task.attempts_max == 1
            else f"all {task.attempts_max} attempts failed",
            Reason.PERMANENT: f"its handler said in attempt {task.attempt} that no retry can help",
            Reason.POISON: f"its worker was lost {'once' if task.crashes == 1 else f'{task.crashes} times'} while it ran",
            Reason.DEADLINE: f"its deadline passed {_when(task, facts, history.DEADLINE)}",
        }
        return f"dead: {because[Reason(task.reason)]}{last}"
    if task.state is State.EXPIRED:
        return f"expired: no worker had started it when its time for that, expires_in, was over{last}"
    if task.state is State.CANCELLED:
        return f"cancelled {_when(task, facts, history.CANCELLED)}{last}"
    return f"{task.state.name.lower()}{last}"


def _when(task: Task, facts: dict[str, Any], outcome: str) -> str:
    """Of an end that can come at any time. outcome: of the attempt that ran then, if one did."""
    for row in facts["history"]:
        if row["outcome"] == outcome and row["ended_ms"] == task.ended:
            return f"while attempt {row['attempt']} of {task.attempts_max} ran on {row['worker']}"
    if task.attempt:
        return f"after {task.attempt} of {task.attempts_max} attempts"
    return "before it was started"


UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def _duration(ms: int) -> str:
    """The two largest units: ``3 d 4 h``, ``2 min 30 s``, ``1.5 s``, ``20 ms``."""
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 10_000:
        return f"{ms / 1000:.1f}".removesuffix(".0") + " s"
    at = next(at for at, (size, _name) in enumerate(UNITS) if ms >= size)
    parts = []
    for size, name in UNITS[at : at + 2]:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts)
