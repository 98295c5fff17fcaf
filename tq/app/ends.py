"""The ends of a task other than completed, as errors for who waits for its result."""

from __future__ import annotations

from typing import Final

from tq.client.models import TaskInfo
from tq.errors import TaskCancelled, TaskExpired, TaskFailed, TaskSkipped, TqError


class RemoteError(Exception):
    """The error of the last attempt, as its worker saw it: the cause of a ``TaskFailed``.

    Attributes:
        type: name of its class, with its module.
        message, traceback: as texts.
    """

    def __init__(self, type: str, message: str, traceback: str) -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback


def outcome_error(info: TaskInfo) -> TqError | None:
    """Of an ended task; None if it completed."""
    detail: dict[str, object] = {"id": info.id, "type": info.type, "state": info.state, "reason": info.reason}
    name = f"task {info.id} ({info.type})"
    why = f": {info.reason}" if info.reason else ""
    match info.state:
        case "completed":
            return None
        case "cancelled":
            return TaskCancelled(f"{name} was cancelled{why}", detail=detail)
        case "expired":
            return TaskExpired(f"{name} expired: it had not started in time", detail=detail)
        case "skipped":
            return TaskSkipped(f"{name} was skipped{why}", detail=detail)
        case _:
            return _failed(info, name, detail)


_REASONS: Final = {
    "attempts": "it has no attempts left",
    "permanent": "another attempt would not help",
    "poison": "its worker was lost again and again while it ran",
    "deadline": "its deadline has passed",
}
"""Why a task is dead."""


def _failed(info: TaskInfo, name: str, detail: dict[str, object]) -> TaskFailed:
    """The message has all there is, for logs that know nothing of causes."""
    why = f": {_REASONS.get(info.reason, info.reason)}" if info.reason else ""
    text = f"{name} failed, {_times(info)}{why}"
    remote = None
    if info.error is not None:
        type_, message, trace = (*info.error, "", "", "")[:3]
        remote = RemoteError(type_, message, trace)
        detail |= {"error_type": type_, "error_message": message, "traceback": trace}
        text += f"\n{remote}"
        if trace:
            text += "\n\nAt the worker:\n" + "".join(f"  {line}\n" for line in trace.splitlines())
    error = TaskFailed(text.rstrip("\n"), detail=detail)
    error.remote = remote
    return error


def _times(info: TaskInfo) -> str:
    counts = [f"{info.attempt} attempt{'' if info.attempt == 1 else 's'}"]
    if info.crashes:
        counts.append(f"{info.crashes} crash{'' if info.crashes == 1 else 'es'}")
    return " and ".join(counts)
