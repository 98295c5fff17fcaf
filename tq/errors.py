"""Every error a user can meet: its code, whether a retry can help, and whose fault it is.

Codes are part of the protocol and never change their meaning. An error travels as
``[code, message, retryable, retry_after_ms, leader, fault, detail]`` (see docs/protocol.md) and
comes out of the client as the class registered here for its code.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Fault = Literal["caller", "broker", "cluster"]

ERRORS: dict[str, type[TqError]] = {}
"""Code -> class; filled as the classes below are made."""


class TqError(Exception):
    """Base of every error of tq.

    Attributes:
        code: stable, upper case, the same on the wire, in JSON and in Python.
        retryable: the same request may succeed later, unchanged.
        fault: who has to act: the caller, the broker's operator, or nobody (the cluster is busy with itself).
        retry_after: seconds to wait before a retry, or None.
        leader: client address of the node to ask instead, or None.
        detail: facts a program can use (field, value, bound ...); never needed to understand the message.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: bool = False
    fault: Fault = "broker"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        leader: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.leader = leader
        self.detail: dict[str, Any] = detail or {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            if cls.code in ERRORS:
                raise TypeError(f"error code {cls.code} is registered twice")
            ERRORS[cls.code] = cls


class InternalError(TqError):
    """A bug or a broken invariant at the broker; its log says more."""

    code = "INTERNAL"


class ProtocolError(TqError):
    """The peer sent bytes that are not our protocol; the connection is closed."""

    code = "PROTOCOL"
    fault = "caller"


class InvalidRequest(TqError):
    """A field has a value that is out of bounds or of the wrong kind; ``detail`` has field, value and bound."""

    code = "INVALID"
    fault = "caller"

    @classmethod
    def of(cls, field: str, value: object, bound: str) -> InvalidRequest:
        """Name the field, what it was (shortened to 80 characters) and what it may be."""
        shown = repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        return cls(f"{field} is {shown}: {bound}", detail={"field": field, "value": shown, "bound": bound})


class Unsupported(TqError):
    """The broker does not know this message, field or feature (yet)."""

    code = "UNSUPPORTED"
    fault = "caller"


class PayloadTooLarge(TqError):
    """A payload, result or frame is above its bound."""

    code = "TOO_LARGE"
    fault = "caller"


class NotFound(TqError):
    """No such task, session or queue; ``detail["purged"]`` is true where a tombstone is left."""

    code = "NOT_FOUND"
    fault = "caller"


class Conflict(TqError):
    """The id or the idempotency key is taken by a task with other content."""

    code = "CONFLICT"
    fault = "caller"


class InvalidState(TqError):
    """The task is in a state in which this cannot be done."""

    code = "INVALID_STATE"
    fault = "caller"


class StaleFence(TqError):
    """The outcome belongs to a grant that is no longer current; it was dropped."""

    code = "STALE"
    fault = "caller"


class SessionLost(TqError):
    """The worker session has ended at the cluster; open a new one."""

    code = "SESSION_LOST"
    fault = "caller"


class NotDone(TqError):
    """An item that was fine, in an atomic batch that was refused because of another."""

    code = "NOT_DONE"
    fault = "caller"


class BatchRefused(TqError):
    """An atomic batch was refused as a whole, or ``submit_many`` of a task in part; ``items`` has the outcome of each."""

    code = "BATCH_REFUSED"
    fault = "caller"

    def __init__(self, message: str, *, items: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.items: list[Any] = items or []


class Unauthenticated(TqError):
    code = "UNAUTHENTICATED"
    fault = "caller"


class PermissionDenied(TqError):
    code = "PERMISSION_DENIED"
    fault = "caller"


class Backpressure(TqError):
    """A bound of the broker is reached; nothing was taken. Try again after ``retry_after``."""

    code = "BACKPRESSURE"
    retryable = True


class QueueFull(Backpressure):
    """The queue has its maximum length."""

    code = "QUEUE_FULL"


class DiskFull(Backpressure):
    """Below the free-disk watermark: submissions are refused, all that frees space goes on."""

    code = "DISK_FULL"


class RateLimited(Backpressure):
    code = "RATE_LIMITED"


class NotLeader(TqError):
    """This node cannot answer that; ``leader`` says who can, if anyone is known."""

    code = "NOT_LEADER"
    retryable = True
    fault = "cluster"


class BrokerUnavailable(TqError):
    """No broker could be reached, or none answered in time: whether the request was done is unknown."""

    code = "UNAVAILABLE"
    retryable = True
    fault = "cluster"


class WaitTimeout(TqError):
    """The task has not ended within the time given; it goes on."""

    code = "WAIT_TIMEOUT"
    retryable = True
    fault = "caller"


class TaskFailed(TqError):
    """Whoever waits for its result: the task is dead. ``str()`` has the error of its last attempt with the traceback of
    the worker; so has the cause, ``remote``, in parts (a ``tq.RemoteError``; None if no attempt failed by an error)."""

    code = "TASK_FAILED"
    fault = "caller"
    remote: Exception | None = None


class TaskCancelled(TqError):
    """Whoever waits for its result: the task was cancelled."""

    code = "TASK_CANCELLED"
    fault = "caller"


class TaskExpired(TqError):
    """Whoever waits for its result: the task had not started when its ``expires_in`` was over."""

    code = "TASK_EXPIRED"
    fault = "caller"


class TaskSkipped(TqError):
    """Whoever waits for its result: what the task depends on did not come to pass."""

    code = "TASK_SKIPPED"
    fault = "caller"


class NotInHandler(TqError):
    """``current()`` was called where no handler runs."""

    code = "NOT_IN_HANDLER"
    fault = "caller"


class ResourceFailed(TqError):
    """Something that handlers ask their worker for could not be made; nothing was claimed."""

    code = "RESOURCE_FAILED"
    fault = "caller"


class ConfigError(TqError):
    """The configuration cannot be used; the message names the key and says what to write."""

    code = "CONFIG"
    fault = "caller"


class DataDamaged(TqError):
    """Stored bytes fail their check: the node does not start, and says file, offset and what to run."""

    code = "DATA_DAMAGED"


class StorageFailed(TqError):
    """A write or a sync failed (disk full, device error): the node stops before it acknowledges anything."""

    code = "STORAGE_FAILED"


ERRORS.setdefault(TqError.code, InternalError)


def to_wire(error: TqError) -> list[Any]:
    """``[code, message, retryable, retry_after_ms | None, leader | None, fault, detail]``."""
    after_ms = None if error.retry_after is None else round(error.retry_after * 1000)
    return [error.code, error.message, error.retryable, after_ms, error.leader, error.fault, error.detail]


def from_wire(fields: list[Any]) -> TqError:
    """The error a peer sent. A code that this version does not know becomes a plain ``TqError``, which says what the
    peer said of retries and fault."""
    code, message, retryable, after_ms, leader, fault, detail = fields
    after = None if after_ms is None else after_ms / 1000
    cls = ERRORS.get(code)
    if cls is not None:
        return cls(message, retry_after=after, leader=leader, detail=detail)
    error = TqError(f"{code}: {message}", retry_after=after, leader=leader, detail=detail)
    error.retryable = retryable
    error.fault = fault
    return error
