"""What users and the leader's services read of the state (``tq/machine/queries.py``) against the model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from model import Model, Task

from tq.errors import NotFound
from tq.machine import queries
from tq.machine.commands import Timer
from tq.machine.settings import Settings
from tq.machine.states import State
from tq.store.txn import ReadTxn

ALL_PARTS = 7


def check(txn: ReadTxn, model: Model) -> None:
    for id, task in model.tasks.items():
        _check_task(queries.get_task(txn, id, ALL_PARTS), task)
    for id in model.tombstones:
        with pytest.raises(NotFound) as error:
            queries.get_task(txn, id, ALL_PARTS)
        assert error.value.detail["purged"] is True
    for kind in Timer:
        waits = model.timers(kind)
        assert queries.next_due_ms(txn, kind, Settings()) == (waits[0][0] if waits else None), kind
    assert queries.log_time_ms(txn) == model.time
    _check_sessions(txn, model)
    _check_numbers(txn, model)


def _check_task(shown: dict[str, Any], task: Task) -> None:
    assert shown["state"] == task.state.name.lower()
    assert shown["payload"] == task.spec.payload
    assert (shown["queue"], shown["type"], shown["priority"]) == (task.spec.queue, task.spec.type, task.spec.priority)
    assert (shown["attempt"], shown["crashes"], shown["fence"]) == (task.attempt, task.crashes, task.fence)
    assert (shown["due_ms"], shown["created_ms"], shown["ended_ms"]) == (task.due, task.created, task.ended)
    assert shown["timeout_ms"] == task.rules.timeout_ms
    assert shown["attempts_max"] == task.rules.retry.attempts_max
    result = None if shown["result"] is None else (shown["result_content_type"], shown["result"])
    assert result == task.result
    assert (shown["worker"] is not None) == (task.state in (State.RUNNING, State.COMPLETED))
    kept = None if task.kept is None else task.kept[2]
    assert shown["checkpoint_bytes"] == (None if kept is None else len(kept))
    past = [(row["fence"], row["attempt"], row["outcome"]) for row in shown["history"] if row["outcome"] != "stale"]
    assert past == task.history


def _check_sessions(txn: ReadTxn, model: Model) -> None:
    assert {row[0] for row in queries.sessions(txn)} == set(model.sessions)
    for id, session in model.sessions.items():
        assert queries.last_seq(txn, id) == (-1 if session.seq is None else session.seq)
    running = {id: task for id, task in model.tasks.items() if task.state is State.RUNNING}
    assert {(session, id, fence) for session, id, fence, _ in queries.held(txn)} == {
        (task.session, id, task.fence) for id, task in running.items()
    }
    for _, id, _, grace_ms in queries.held(txn):
        grace = running[id].grace
        assert grace_ms == (None if grace is None else max(0, grace - model.time))


def _check_numbers(txn: ReadTxn, model: Model) -> None:
    states = Counter(task.state.name.lower() for task in model.tasks.values())
    assert {name: n for name, n in queries.counts(txn).items() if n} == dict(states)
    pending = [task.spec for task in model.tasks.values() if task.state is State.PENDING]
    assert {pair: n for pair, n in queries.ready(txn).items() if n} == dict(Counter((s.queue, s.type) for s in pending))
    rows = queries.queues(txn, queries.log_time_ms(txn))
    assert {row["name"] for row in rows} == {task.spec.queue for task in model.tasks.values()} | model.queues.keys()
    for row in rows:
        assert row["settings"] == model.shown(row["name"])
        mine = [task for task in model.tasks.values() if task.spec.queue == row["name"]]
        assert row["running"] == sum(task.state is State.RUNNING for task in mine)
        assert sum(row["pending"].values()) == sum(task.state is State.PENDING for task in mine)
        ready = [task.ready_since for task in mine if task.state is State.PENDING]
        assert row["oldest_ready_ms"] == min(ready, default=None)
