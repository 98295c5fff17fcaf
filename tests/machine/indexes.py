"""Below the surface: what the tables of the store must have in common, read through ``tq/store/keys.py``.

Each task stands in exactly the rows that its state asks for, every row belongs to a task, and every count equals a
recount. The model's expectation of timers and order is compared with the rows, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from model import Model

from tq import cbor
from tq.machine import checkpoint, history
from tq.machine import task as t
from tq.machine.commands import Timer
from tq.machine.states import ENDS, State
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

IDLE = (State.WAITING, State.SCHEDULED, State.PENDING)


def rows(txn: ReadTxn, table: Table) -> list[tuple[bytes, bytes]]:
    return txn.scan(table, b"\x00", None, 1_000_000)


def seen(txn: ReadTxn, id: bytes) -> dict[str, Any] | None:
    """All that is visible of one task."""
    raw = txn.get(Table.TASKS, id)
    if raw is None:
        return None
    task = t.unpack(id, raw)
    result = txn.get(Table.RESULTS, id)
    past = [(row[1], row[2], row[0]) for row in history.rows(txn, task) if row[0] != history.STALE]
    if task.state is State.COMPLETED:
        past.append((task.fence, task.attempt, history.COMPLETED))
    return {
        "state": task.state,
        "attempt": task.attempt,
        "crashes": task.crashes,
        "snoozes": task.snoozes,
        "fence": task.fence,
        "cancelling": task.is_cancelling,
        "reason": t.REASON_TEXTS[task.reason],
        "due_ms": task.due if task.state is State.SCHEDULED else None,
        "deadline_ms": task.deadline or None,
        "expires_ms": task.expires or None,
        "ended_ms": task.ended or None,
        "result": None if result is None else tuple(cbor.loads(result)),
        "history": past,
        "checkpoint": checkpoint.kept(txn, task),
    }


def past(txn: ReadTxn, id: bytes) -> list[list[Any]]:
    """The rows of a task's history."""
    raw = txn.get(Table.TASKS, id)
    return [] if raw is None else history.rows(txn, t.unpack(id, raw))


def check(txn: ReadTxn, ids: set[bytes], tombstones: set[bytes]) -> None:
    tasks = {id: t.unpack(id, raw) for id, raw in rows(txn, Table.TASKS)}
    assert set(tasks) == ids
    assert {id for id, _ in rows(txn, Table.SPECS)} == ids
    assert {id for id, _ in rows(txn, Table.TOMBSTONES)} == tombstones

    ready = {id: key for key, id in rows(txn, Table.READY)}
    assert len(ready) == len(rows(txn, Table.READY))
    assert set(ready) == {id for id, task in tasks.items() if task.state is State.PENDING}
    for id, key in ready.items():
        task = tasks[id]
        place = (task.queue, task.type, 255 - task.priority, task.ready_index, task.ready_ordinal)
        assert keys.READY.unpack(key) == place

    held = [(key[16:], key[:16], keys.unpack_u64(fence)) for key, fence in rows(txn, Table.HELD)]
    running = [(id, task.session, task.fence) for id, task in tasks.items() if task.state is State.RUNNING]
    assert sorted(held) == sorted(running)

    for task in tasks.values():
        assert bool(task.session) == (task.state in (State.RUNNING, State.COMPLETED)), "whose session"

    ended = [keys.ENDED.unpack(key) for key, _ in rows(txn, Table.ENDED)]
    assert sorted(ended) == sorted(
        (int(task.state), task.ended, id) for id, task in tasks.items() if task.state in ENDS
    )
    assert {id for id, _ in rows(txn, Table.RESULTS)} <= {i for i, k in tasks.items() if k.state is State.COMPLETED}
    assert {key[:16] for key, _ in rows(txn, Table.HISTORY)} <= ids
    kept = {key[:16] for key, _ in rows(txn, Table.HISTORY) if key == keys.checkpoint(key[:16])}
    assert kept == {id for id, task in tasks.items() if task.flags & t.HAS_CHECKPOINT}
    assert not any(tasks[id].state in ENDS for id in kept), "a checkpoint outlived its task"
    _check_counts(txn, tasks)


def _check_counts(txn: ReadTxn, tasks: dict[bytes, t.Task]) -> None:
    wanted: Counter[bytes] = Counter()
    for task in tasks.values():
        band = 0 if task.priority < 100 else 1 if task.priority < 200 else 2
        wanted[keys.count_state(task.queue, task.state, band)] += 1
        if task.state is State.PENDING:
            wanted[keys.count_ready(task.queue, task.type)] += 1
        if task.state in ENDS and task.state is not State.DEAD and not task.flags & t.KEPT:
            wanted[keys.COUNT_FINISHED] += 1
    stored = {key: keys.unpack_u64(value) for key, value in rows(txn, Table.COUNTS)}
    assert {key: n for key, n in stored.items() if n} == dict(wanted), "counts differ from a recount"


def check_sessions(txn: ReadTxn, model: Model) -> None:
    found = {key: cbor.loads(value) for key, value in rows(txn, Table.SESSIONS) if len(key) == 16}
    assert {key[:16] for key, _ in rows(txn, Table.SESSIONS)} == set(found), "a row of a session that is over"
    wanted = {id: [s.name, list(s.types), list(s.queues)] for id, s in model.sessions.items()}
    assert found == wanted


def check_order(txn: ReadTxn, model: Model) -> None:
    """Every timer that should ring, and no other; unique and idempotency keys; the order of each queue."""
    timers = [keys.TIMER.unpack(key) for key, _ in rows(txn, Table.TIMERS)]
    wanted = [(int(kind), time, id) for kind in Timer if kind != Timer.RETENTION for time, id in model.timers(kind)]
    assert sorted(timers) == sorted(wanted), "timers"

    uniques = {key[1 + keys.HASH_BYTES :] for key, _ in rows(txn, Table.KEYS) if key[:1] == b"u"}
    named = {task.spec.unique[0] for task in model.tasks.values() if task.spec.unique is not None}
    assert uniques == {id for key in named for id in model.holders(key)}, "unique keys"
    known = {key: id for key, id in rows(txn, Table.KEYS) if key[:1] == b"i"}
    assert known == {keys.idempotency(key): id for key, id in model.idempotency.items()}, "idempotency keys"

    by_line: dict[bytes, list[bytes]] = {}
    for key, id in rows(txn, Table.READY):
        by_line.setdefault(key[: keys.READY_PAIR.size], []).append(id)
    pending = [(task.entered, id) for id, task in model.tasks.items() if task.state is State.PENDING]
    entered = sorted(pending)
    for line in by_line.values():
        want = [id for _, id in entered if id in line]
        want.sort(key=lambda id: -model.tasks[id].spec.priority)
        assert line == want, "order in a queue"


def count_lines(txn: ReadTxn, queue_name: Callable[[int], str]) -> list[str]:
    lines = []
    for key, value in rows(txn, Table.COUNTS):
        if key[:1] == b"s" and keys.unpack_u64(value):
            _, queue, state, band = keys.COUNT_STATE.unpack(key)
            band_text = ("low", "normal", "high")[band]
            lines.append(f"{queue_name(queue)} {State(state).name.lower()} {band_text} {keys.unpack_u64(value)}")
    return lines or ["none"]
