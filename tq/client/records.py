"""The maps of a reply made into records: names and units change here and nowhere else."""

from __future__ import annotations

from typing import Any

import attrs

from tq.client.ids import to_text
from tq.client.models import (
    Attempt,
    Explanation,
    Grant,
    Progress,
    QueueInfo,
    QueuePause,
    QueueSettings,
    TaskInfo,
    WorkerInfo,
    seconds,
    state_name,
)
from tq.client.specs import Retry
from tq.spec import parse

_TASK = {field.name for field in attrs.fields(TaskInfo)}
_ATTEMPT = {field.name for field in attrs.fields(Attempt)}
_SETTINGS = {field.name for field in attrs.fields(QueueSettings)}
_QUEUE = {field.name for field in attrs.fields(QueueInfo)}
_WORKER = {field.name for field in attrs.fields(WorkerInfo)}
_MOMENTS = {"created", "due", "started", "ended", "expires", "deadline", "opened", "heard", "oldest_ready"}


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """``x_at_ms`` and the moments ``x_ms`` become ``x_at``, durations ``x_ms`` become ``x``; all of them in seconds."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_ms"):
            stem = name[:-3]
            found[stem + "_at" if stem in _MOMENTS else stem] = seconds(value)
        else:
            found[name] = value
    return found


def _known(values: dict[str, Any], known: set[str]) -> dict[str, Any]:
    more = {name: values.pop(name) for name in list(values) if name not in known}
    values["more"] = more
    return values


def _error(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def task_info(row: dict[str, Any], index: int) -> TaskInfo:
    """A task map of GET, LIST or WAIT."""
    values = _known(_renamed(row), _TASK)
    values["id"] = to_text(values["id"])
    values["state"] = state_name(values["state"])
    values["error"] = _error(values.get("error"))
    values["history"] = tuple(attempt(item) for item in values.get("history") or ())
    values["tags"] = tuple(values.get("tags") or ())
    values["headers"] = dict(values.get("headers") or {})
    values["fence"] = values.get("fence") or 0
    values["progress"] = progress(values.get("progress"))
    values["index"] = index
    return TaskInfo(**values)


def progress(row: dict[str, Any] | None) -> Progress | None:
    return None if row is None else Progress(row["done"], row["total"], row["note"], row["at_ms"] / 1000)


def attempt(row: dict[str, Any]) -> Attempt:
    values = _known(_renamed(row), _ATTEMPT)
    values["error"] = _error(values.get("error"))
    return Attempt(**values)


def explanation(why: str, row: dict[str, Any]) -> Explanation:
    facts = _renamed(row)
    if "id" in facts:
        facts["id"] = to_text(facts["id"])
    facts["history"] = [attempt(item) for item in facts.get("history") or ()]
    return Explanation(why, facts)


def queue_info(row: dict[str, Any]) -> QueueInfo:
    values = _known(_renamed(row), _QUEUE)
    values["settings"] = queue_settings(values.get("settings") or {})
    return QueueInfo(**values)


def queue_settings(row: dict[str, Any]) -> QueueSettings:
    """The settings of a queue, of QUEUES or SET_QUEUE."""
    values = _known(_renamed(row), _SETTINGS)
    pause, retry = values.get("paused"), values.get("retry")
    if pause is not None:
        values["paused"] = QueuePause(pause["by"], pause["since_ms"] / 1000, pause["reason"])
    if retry is not None:
        attempts, *waits = retry[:5]
        values["retry"] = Retry(attempts, *[value / 1000 for value in waits])
    return QueueSettings(**values)


def worker_info(row: dict[str, Any]) -> WorkerInfo:
    values = _known(_renamed(row), _WORKER)
    values["session"] = to_text(values["session"])
    values["types"] = tuple(values["types"])
    values["queues"] = tuple(values["queues"])
    return WorkerInfo(**values)


def grant(row: list[Any]) -> Grant:
    raw, attempt_, crashes, fence, lease_ms, timeout_ms, deadline_ms, *more = row
    checkpoint = more[0] if more else None
    return Grant(
        parse(raw), attempt_, crashes, fence, lease_ms / 1000, seconds(timeout_ms), seconds(deadline_ms), checkpoint
    )
