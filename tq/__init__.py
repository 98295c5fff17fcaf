"""tq, a distributed task queue whose broker is its own replicated database.

The names below are loaded when they are first used, so that a broker does not load the client, and
``tq --help`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tq.app.app import App
    from tq.app.codecs import Codec, JsonCodec
    from tq.app.ends import RemoteError
    from tq.app.handle import TaskHandle
    from tq.app.task import AsyncTask, BoundTask, Task
    from tq.client.asynchronous import AsyncClient, AsyncEvents, AsyncSession
    from tq.client.blocking import Client, Events, Session
    from tq.client.middleware import ClientMiddleware
    from tq.client.models import (
        Attempt,
        Beat,
        CancelRequest,
        Changed,
        Explanation,
        Grant,
        Job,
        Page,
        QueueInfo,
        Submitted,
        TaskEvent,
        TaskInfo,
        WorkerInfo,
    )
    from tq.client.specs import Priority, Retry, TaskSpec, Unique
    from tq.errors import (
        Backpressure,
        BatchRefused,
        BrokerUnavailable,
        Conflict,
        DiskFull,
        InvalidRequest,
        InvalidState,
        NotDone,
        NotFound,
        NotInHandler,
        NotLeader,
        PayloadTooLarge,
        PermissionDenied,
        ProtocolError,
        QueueFull,
        RateLimited,
        ResourceFailed,
        SessionLost,
        StaleFence,
        TaskCancelled,
        TaskExpired,
        TaskFailed,
        TaskSkipped,
        TqError,
        Unauthenticated,
        Unsupported,
        WaitTimeout,
    )
    from tq.verdicts import Fatal, RetryAfter, Snooze, Stopped
    from tq.worker.asked import resource
    from tq.worker.context import Context, current
    from tq.worker.middleware import Middleware, Outcome

__all__ = [
    "App",
    "AsyncClient",
    "AsyncEvents",
    "AsyncSession",
    "AsyncTask",
    "Attempt",
    "Backpressure",
    "BatchRefused",
    "Beat",
    "BoundTask",
    "BrokerUnavailable",
    "CancelRequest",
    "Changed",
    "Client",
    "ClientMiddleware",
    "Codec",
    "Conflict",
    "Context",
    "DiskFull",
    "Events",
    "Explanation",
    "Fatal",
    "Grant",
    "InvalidRequest",
    "InvalidState",
    "Job",
    "JsonCodec",
    "Middleware",
    "NotDone",
    "NotFound",
    "NotInHandler",
    "NotLeader",
    "Outcome",
    "Page",
    "PayloadTooLarge",
    "PermissionDenied",
    "Priority",
    "ProtocolError",
    "QueueFull",
    "QueueInfo",
    "RateLimited",
    "RemoteError",
    "ResourceFailed",
    "Retry",
    "RetryAfter",
    "Session",
    "SessionLost",
    "Snooze",
    "StaleFence",
    "Stopped",
    "Submitted",
    "Task",
    "TaskCancelled",
    "TaskEvent",
    "TaskExpired",
    "TaskFailed",
    "TaskHandle",
    "TaskInfo",
    "TaskSkipped",
    "TaskSpec",
    "TqError",
    "Unauthenticated",
    "Unique",
    "Unsupported",
    "WaitTimeout",
    "WorkerInfo",
    "current",
    "resource",
]

_HOMES = {
    "tq.app.app": ("App",),
    "tq.app.codecs": (
        "Codec",
        "JsonCodec",
    ),
    "tq.app.ends": ("RemoteError",),
    "tq.app.handle": ("TaskHandle",),
    "tq.app.task": (
        "AsyncTask",
        "BoundTask",
        "Task",
    ),
    "tq.client.asynchronous": (
        "AsyncClient",
        "AsyncEvents",
        "AsyncSession",
    ),
    "tq.client.blocking": (
        "Client",
        "Events",
        "Session",
    ),
    "tq.client.middleware": ("ClientMiddleware",),
    "tq.client.models": (
        "Attempt",
        "Beat",
        "CancelRequest",
        "Changed",
        "Explanation",
        "Grant",
        "Job",
        "Page",
        "QueueInfo",
        "Submitted",
        "TaskEvent",
        "TaskInfo",
        "WorkerInfo",
    ),
    "tq.client.specs": (
        "Priority",
        "Retry",
        "TaskSpec",
        "Unique",
    ),
    "tq.errors": (
        "Backpressure",
        "BatchRefused",
        "BrokerUnavailable",
        "Conflict",
        "DiskFull",
        "InvalidRequest",
        "InvalidState",
        "NotDone",
        "NotFound",
        "NotInHandler",
        "NotLeader",
        "PayloadTooLarge",
        "PermissionDenied",
        "ProtocolError",
        "QueueFull",
        "RateLimited",
        "ResourceFailed",
        "SessionLost",
        "StaleFence",
        "TaskCancelled",
        "TaskExpired",
        "TaskFailed",
        "TaskSkipped",
        "TqError",
        "Unauthenticated",
        "Unsupported",
        "WaitTimeout",
    ),
    "tq.verdicts": (
        "Fatal",
        "RetryAfter",
        "Snooze",
        "Stopped",
    ),
    "tq.worker.asked": ("resource",),
    "tq.worker.context": (
        "Context",
        "current",
    ),
    "tq.worker.middleware": (
        "Middleware",
        "Outcome",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'tq' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
