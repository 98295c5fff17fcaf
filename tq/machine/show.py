"""A task as users see it: one map, equal in GET, LIST and WAIT.

Times are log time in ms, durations in ms; null: not (yet) so. ``state`` is the lower-case name.
"""

from __future__ import annotations

from typing import Any, Final

from tq import cbor
from tq.machine import checkpoint, history
from tq.machine import task as t
from tq.machine.names import find_name
from tq.machine.states import State
from tq.machine.task import Task
from tq.spec import parse
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

PART_PAYLOAD: Final = 1
PART_RESULT: Final = 2
PART_HISTORY: Final = 4

TASK_FIELDS: Final = (
    "id",
    "type",
    "queue",
    "priority",
    "state",
    "attempt",  # counted attempts, the running one included
    "attempts_max",
    "crashes",
    "snoozes",
    "stale",  # outcomes that were refused
    "fence",  # of the last grant; 0: none yet
    "created_ms",
    "due_ms",  # while scheduled: when it becomes pending
    "started_ms",  # the last attempt's
    "ended_ms",
    "expires_ms",  # must have started by then
    "deadline_ms",
    "timeout_ms",  # of one attempt; a duration
    "reason",  # of a dead task: attempts, permanent, poison, deadline
    "cancelling",
    "worker",  # name, while it runs and if it completed
    "checkpoint_bytes",  # of what its attempts have kept for the next one
    "content_type",
    "tags",
    "headers",
    "payload",  # with PART_PAYLOAD
    "result",  # with PART_RESULT; null: no result, or its time to live is over
    "result_content_type",
    "error",  # with PART_HISTORY or PART_RESULT: [type, message, traceback] of the last attempt that failed
    "history",  # with PART_HISTORY: past attempts, oldest first, each a map of HISTORY_FIELDS
    "history_dropped",  # how many older ones are not kept
)

HISTORY_FIELDS: Final = ("outcome", "fence", "attempt", "started_ms", "ended_ms", "worker", "error", "times")
"""``outcome``: completed, failed, timed_out, released, snoozed, crashed, cancelled, deadline, or stale (a refused one)."""


def show(txn: ReadTxn, task: Task, parts: int) -> dict[str, Any]:
    """TASK_FIELDS, those of the parts asked for."""
    raw = txn.get(Table.SPECS, task.id)
    assert raw is not None, f"task {task.id.hex()} has no spec"
    spec = parse(raw)
    kept = checkpoint.kept(txn, task)
    shown: dict[str, Any] = {
        "id": task.id,
        "type": spec.type,
        "queue": spec.queue,
        "priority": task.priority,
        "state": task.state.name.lower(),
        "attempt": task.attempt,
        "attempts_max": task.attempts_max,
        "crashes": task.crashes,
        "snoozes": task.snoozes,
        "stale": task.stale,
        "fence": task.fence,
        "created_ms": task.created,
        "due_ms": task.due if task.state is State.SCHEDULED else None,
        "started_ms": task.started or None,
        "ended_ms": task.ended or None,
        "expires_ms": task.expires or None,
        "deadline_ms": task.deadline or None,
        "timeout_ms": task.timeout or None,
        "reason": t.REASON_TEXTS[task.reason],
        "cancelling": task.is_cancelling,
        "worker": task.worker or None,
        "checkpoint_bytes": None if kept is None else len(kept),
        "content_type": spec.content_type,
        "tags": list(spec.tags),
        "headers": dict(spec.headers),
    }
    if parts & PART_PAYLOAD:
        shown["payload"] = spec.payload
    if parts & PART_RESULT:
        result = txn.get(Table.RESULTS, task.id)
        shown["result_content_type"], shown["result"] = (None, None) if result is None else cbor.loads(result)
    if parts & (PART_RESULT | PART_HISTORY):
        rows = history.rows(txn, task)
        shown["error"] = next((row[7] for row in reversed(rows) if row[7] is not None), None)
        if parts & PART_HISTORY:
            shown["history"] = past(task, rows)
            shown["history_dropped"] = history.dropped(task)
    return shown


def past(task: Task, rows: list[list[Any]]) -> list[dict[str, Any]]:
    """HISTORY_FIELDS of each row, and of the attempt that completed, in the order of their ends."""
    found = [
        {
            "outcome": what,
            "fence": fence,
            "attempt": attempt,
            "started_ms": started or None,
            "ended_ms": ended,
            "worker": worker or None,
            "error": error,
            "times": times,
        }
        for what, fence, attempt, started, ended, worker, _, error, times in rows
    ]
    if task.state is State.COMPLETED:
        found.append(
            {
                "outcome": history.COMPLETED,
                "fence": task.fence,
                "attempt": task.attempt,
                "started_ms": task.started,
                "ended_ms": task.ended,
                "worker": task.worker,
                "error": None,
                "times": 1,
            }
        )
        found.sort(key=lambda row: row["ended_ms"])  # stable: outcomes refused after the end stay behind it
    return found


def names_of(txn: ReadTxn, task: Task) -> tuple[str, str]:
    """Queue and type."""
    return find_name(txn, keys.KIND_QUEUE, task.queue), find_name(txn, keys.KIND_TYPE, task.type)
