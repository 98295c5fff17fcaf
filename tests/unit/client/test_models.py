"""Replies made into records."""

from __future__ import annotations

import pytest

from tq.client import models, records
from tq.client.models import Submitted
from tq.client.specs import TaskSpec, encode
from tq.errors import Conflict, NotFound, to_wire
from tq.machine.answers import EventKind, SubmitOutcome
from tq.machine.commands import Outcome
from tq.machine.history import COMPLETED
from tq.machine.show import HISTORY_FIELDS, TASK_FIELDS
from tq.machine.states import ENDS, State

ID = bytes(range(16))
TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
TASK = {
    "id": ID, "type": "echo", "queue": "default", "priority": 150, "state": "completed", "attempt": 1, "attempts_max": 5,
    "crashes": 0, "snoozes": 0, "stale": 0, "fence": 2048, "created_ms": 1500, "due_ms": None, "started_ms": 2000,
    "ended_ms": 3000, "expires_ms": None, "deadline_ms": 9000, "timeout_ms": 250, "reason": None, "cancelling": False,
    "worker": "w", "checkpoint_bytes": 3, "content_type": "text/plain", "tags": ["a"], "headers": {"n": "v"}, "payload": b"p", "result": b"r",
    "result_content_type": "text/plain", "error": ["E", "m", "t"], "history_dropped": 0,
    "history": [
        {"outcome": COMPLETED, "fence": 2048, "attempt": 1, "started_ms": 2000, "ended_ms": 3000, "worker": "w",
         "error": None, "times": 1}
    ],
}  # fmt: skip


def test_names_and_numbers_are_those_of_the_machine() -> None:
    assert tuple(state.name.lower() for state in State) == models.STATES
    assert {State[name.upper()] for name in models.ENDS} == ENDS
    assert tuple(kind.name.lower() for kind in EventKind) == models.EVENT_KINDS
    assert tuple(outcome.name.lower() for outcome in SubmitOutcome) == models.SUBMIT_OUTCOMES
    from tq.client import session

    for outcome in Outcome:
        assert getattr(session, outcome.name) == outcome


def test_every_field_of_a_task_has_its_place() -> None:
    assert set(TASK) == set(TASK_FIELDS)
    assert set(TASK["history"][0]) == set(HISTORY_FIELDS)  # type: ignore[index]
    info = records.task_info(TASK, 77)
    assert info.more == {}
    assert info.history[0].more == {}
    assert (info.id, info.index, info.fence, info.ended) == (TEXT, 77, 2048, True)
    assert (info.created_at, info.started_at, info.ended_at, info.deadline_at) == (1.5, 2.0, 3.0, 9.0)
    assert info.timeout == 0.25
    assert (info.progress, info.progress_known, info.checkpoint_bytes) == (None, True, 3)
    assert info.error == ("E", "m", "t")
    assert info.history[0].started_at == 2.0


def test_progress_of_a_running_task() -> None:
    said = {"done": 1.5, "total": None, "note": "n", "at_ms": 2500}
    info = records.task_info({**TASK, "state": "running", "progress": said, "progress_known": True}, 1)
    assert info.progress == models.Progress(1.5, None, "n", 2.5)
    unknown = records.task_info({**TASK, "state": "running", "progress": None, "progress_known": False}, 1)
    assert (unknown.progress, unknown.progress_known) == (None, False)


def test_unknown_fields_are_kept_aside() -> None:
    info = records.task_info({**TASK, "colour": "red"}, 1)
    assert info.more == {"colour": "red"}


def test_a_task_without_its_parts() -> None:
    row = {name: value for name, value in TASK.items() if name not in ("payload", "result", "history", "error")}
    info = records.task_info({**row, "state": "pending", "fence": 0}, 1)
    assert (info.payload, info.result, info.history, info.error, info.ended) == (None, None, (), None, False)


def test_queues_and_workers() -> None:
    queue = records.queue_info(
        {
            **dict.fromkeys((state.name.lower() for state in State), 0),
            "name": "mail", "pending": {"low": 1, "normal": 2, "high": 3},
            "oldest_ready_ms": 4000, "oldest_ready_age_ms": 1500,
        }
    )  # fmt: skip
    assert (queue.pending_total, queue.oldest_ready_at, queue.oldest_ready_age, queue.more) == (6, 4.0, 1.5, {})
    worker = records.worker_info(
        {
            "session": ID, "name": "w", "types": ["echo"], "queues": ["default"], "running": 1, "opened_ms": 1000,
            "heard_ms": 2000, "draining": False, "info": {}, "stats": {"cpu_percent": 5},
        }
    )  # fmt: skip
    assert (worker.session, worker.opened_at, worker.heard_at, worker.more) == (TEXT, 1.0, 2.0, {})


@pytest.mark.parametrize(
    ("item", "outcome", "state", "error"),
    [
        (0, "created", "pending", None),
        ([0, 1, ID, None], "created", "scheduled", None),
        ([1, 4, b"o" * 16, None], "duplicate", "completed", None),
        ([2, 3, ID, to_wire(Conflict("taken"))], "conflict", "running", Conflict),
    ],
)
def test_submit_items(item: object, outcome: str, state: str, error: type | None) -> None:
    done = Submitted.of(item, ID)
    assert (done.outcome, done.state) == (outcome, state)
    assert done.error is None if error is None else isinstance(done.error, error)
    assert done.raw_id == (b"o" * 16 if outcome == "duplicate" else ID)


def test_a_conflict_says_which_task_is_there() -> None:
    error = Submitted.of([2, 4, b"o" * 16, to_wire(Conflict("this key is taken"))], ID).error
    assert error is not None
    there = models.to_text(b"o" * 16)
    assert error.message == f"this key is taken: {there}, completed"
    assert error.detail == {"id": there, "state": "completed"}


def test_changes_jobs_and_events() -> None:
    assert models.Changed.of(ID, [5, None]) == models.Changed(TEXT, "cancelled")
    assert isinstance(models.Changed.of(ID, [None, to_wire(NotFound("no"))]).error, NotFound)
    assert models.Job.of([ID, 1, 3, 4, True]) == models.Job(TEXT, "purge", 3, 4, True)
    event = models.TaskEvent.of([9, 2, 4, ID, 1500, "default", "echo", 5, None])
    assert (event.kind, event.position, event.time, event.id) == ("completed", (9, 2), 1.5, TEXT)


def test_a_grant_gives_the_task_as_it_was_submitted() -> None:
    raw = encode(TaskSpec("echo", b"p", headers={"a": "b"}, tags=["t"]), ID)
    grant = records.grant([raw, 2, 1, 4096, 30_000, None, 5000])
    assert (grant.id, grant.type, grant.payload, grant.queue, grant.priority) == (TEXT, "echo", b"p", "default", 150)
    assert (grant.attempt, grant.crashes, grant.fence, grant.lease) == (2, 1, 4096, 30.0)
    assert (grant.timeout, grant.deadline, grant.headers, grant.tags) == (None, 5.0, {"a": "b"}, ("t",))
