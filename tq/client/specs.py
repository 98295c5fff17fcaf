"""What a caller submits, and its bytes. Seconds become milliseconds here; the broker judges all else.

A TaskSpec keeps its fields in a dictionary (``slots=False``): attrs then makes a frozen record in half the
time, and making it is a third of what a submitted task costs the client.

What is checked here is only what cannot be put into bytes, or would be changed by it: kinds, and numbers
that are not finite. Bounds are the broker's, so that there is one place that knows them.
"""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Literal, TypedDict

import attrs

from tq import limits
from tq.cbor import dumps
from tq.client.ids import TaskId
from tq.errors import InvalidRequest
from tq.spec import JSON, JSON_OPTIONS, SMALL_BYTES_MAX, UNIQUE_PENDING, UNIQUE_RUNNING, Option
from tq.verdicts import RetryAfter

CONTENT_TYPE_DEFAULT = "application/octet-stream"
Moment = datetime.datetime | float
"""An absolute time: an aware datetime, or epoch seconds."""


class Priority(enum.IntEnum):
    """A name in each band; any whole number from 0 to 255 is a priority."""

    LOW = 50
    NORMAL = 150
    HIGH = 225


@attrs.frozen
class Retry:
    """When a failed attempt runs again.

    Attributes:
        max_attempts: counted attempts in all, the first one included.
        backoff_base: seconds before the second attempt.
        factor: each wait is so many times the one before.
        cap: no wait is longer, in seconds.
        jitter: share of the wait that chance adds or takes, 0.2 = 20 % either way.
    """

    max_attempts: int = limits.ATTEMPTS_DEFAULT
    backoff_base: float = limits.BACKOFF_BASE_MS_DEFAULT / 1000
    factor: float = limits.BACKOFF_FACTOR_MILLI_DEFAULT / 1000
    cap: float = limits.BACKOFF_CAP_MS_DEFAULT / 1000
    jitter: float = limits.BACKOFF_JITTER_MILLI_DEFAULT / 1000

    @staticmethod
    def after(seconds: float, message: str = "") -> RetryAfter:
        """For handlers, ``raise Retry.after(30)``: this attempt failed, and the next begins after so many seconds."""
        return RetryAfter(seconds, message)


@attrs.frozen
class Unique:
    """At most one live task has this key.

    during: ``"running"`` = while it waits or runs; ``"pending"`` = until it is started.
    """

    key: str
    during: Literal["pending", "running"] = "running"


@attrs.frozen(slots=False)
class TaskSpec:
    """A task to submit. Times are seconds; None or empty: the broker's default.

    Attributes:
        type: names the handler.
        payload: the bytes it gets.
        queue: where the task waits.
        priority: 0 (last) to 255 (first).
        delay: seconds before it may start.
        not_before: absolute time before which it does not start: aware datetime or epoch seconds.
        expires_in: given up, state ``expired``, if it has not started by then.
        timeout: seconds one attempt may take.
        deadline: seconds from the submit until the task must have ended, all attempts together.
        retry: when failed attempts run again.
        unique: a key (while pending or running) or a ``Unique``; a hit answers ``duplicate`` with the holder's id.
        idempotency_key: the same key again answers ``duplicate`` with the first task's id.
        tags: texts to find it by.
        headers: texts for the handler.
        content_type: of the payload.
        result_ttl: seconds the result is kept.
        id: UUID; made by the client unless given.
    """

    type: str
    payload: bytes = b""
    queue: str = "default"
    priority: int = limits.PRIORITY_DEFAULT
    delay: float | None = None
    not_before: Moment | None = None
    expires_in: float | None = None
    timeout: float | None = None
    deadline: float | None = None
    retry: Retry | None = None
    unique: Unique | str | None = None
    idempotency_key: str | None = None
    tags: Iterable[str] = ()
    headers: Mapping[str, str] | None = None
    content_type: str = CONTENT_TYPE_DEFAULT
    result_ttl: float | None = None
    id: TaskId | None = None


class TaskFields(TypedDict, total=False):
    """The fields of ``TaskSpec`` that are given by name, for type checkers."""

    queue: str
    priority: int
    delay: float | None
    not_before: datetime.datetime | float | None
    expires_in: float | None
    timeout: float | None
    deadline: float | None
    retry: Retry | None
    unique: Unique | str | None
    idempotency_key: str | None
    tags: Iterable[str]
    headers: Mapping[str, str] | None
    content_type: str
    result_ttl: float | None
    id: TaskId | None


_options = attrgetter(
    "delay", "not_before", "expires_in", "timeout", "deadline", "retry", "unique", "idempotency_key", "tags",
    "headers", "content_type", "result_ttl",
)  # fmt: skip
_NO_OPTIONS = (None, None, None, None, None, None, None, None, (), None, CONTENT_TYPE_DEFAULT, None)
_ONLY_JSON = (*_NO_OPTIONS[:10], JSON, None)


def encode(spec: TaskSpec, id: bytes) -> bytes:
    """The bytes of ``spec`` under ``id``. Raises InvalidRequest for what has no bytes, naming the field."""
    payload = spec.payload
    if payload.__class__ is not bytes:
        payload = _payload(payload)
    around = spec.__dict__.get(_AROUND)
    if around is not None:
        return b"".join((around[0], id, around[1], dumps(payload), around[2]))
    queue = spec.queue
    priority = spec.priority
    options = _options(spec)
    if options == _ONLY_JSON and spec.type.__class__ is queue.__class__ is str and priority.__class__ is int:
        if len(payload) <= SMALL_BYTES_MAX:  # as below, in a third of the time; the head says six instead of five
            return b"\x86" + dumps([id, spec.type, payload, queue, priority])[1:] + JSON_OPTIONS
    elif options == _NO_OPTIONS and spec.type.__class__ is str:
        if queue == "default" and priority == limits.PRIORITY_DEFAULT:
            return dumps([id, spec.type, payload])
        if queue.__class__ is str and priority.__class__ is int:
            return dumps([id, spec.type, payload, queue, priority])
    return dumps(
        [id, _text("type", spec.type), payload, _text("queue", queue), _whole("priority", priority), _encoded(spec)]
    )


class Mould:
    """Makes tasks that differ in nothing but payload and id, as the calls of one function do.

    Each of them is equal to a TaskSpec that was made as others are, and has the same bytes; what stands around id and
    payload is made once. A task made of one of them with other fields (``attrs.evolve``) knows nothing of it.

    Raises:
        InvalidRequest: as ``encode``.
    """

    def __init__(self, spec: TaskSpec) -> None:
        raw = encode(attrs.evolve(spec, payload=b"", id=None), bytes(limits.ID_BYTES))
        id_at = 2  # behind the heads of the array and of the id
        type_at = id_at + limits.ID_BYTES
        payload_at = type_at + len(dumps(spec.type))
        self._fields = {**vars(spec), _AROUND: (raw[:id_at], raw[type_at:payload_at], raw[payload_at + 1 :])}

    def spec(self, payload: bytes) -> TaskSpec:
        made = _new(TaskSpec)
        made.__dict__.update(self._fields, payload=payload)
        return made


_new = object.__new__
_AROUND = "_around"  # in the dictionary of a TaskSpec beside its fields: what a mould knows of its bytes


def _encoded(spec: TaskSpec) -> dict[int, Any]:
    """The options map: what has its default is left out."""
    options: dict[int, Any] = {}
    if spec.content_type != CONTENT_TYPE_DEFAULT:
        options[Option.CONTENT_TYPE] = _text("content_type", spec.content_type)
    if spec.not_before is not None:
        options[Option.NOT_BEFORE_MS] = absolute_ms("not_before", spec.not_before)
    for option, name, least_ms in _DURATIONS:
        seconds = getattr(spec, name)
        if seconds is not None:
            options[option] = _milli(name, seconds, least_ms, limits.DURATION_MS_MAX)
    if spec.retry is not None:
        options[Option.RETRY] = retry_fields(spec.retry)
    if spec.unique is not None:
        options[Option.UNIQUE] = _unique(spec.unique)
    if spec.idempotency_key is not None:
        options[Option.IDEMPOTENCY_KEY] = _text("idempotency_key", spec.idempotency_key)
    if isinstance(spec.tags, str):
        raise InvalidRequest.of("tags", spec.tags, "must be a list of texts, not one text")
    tags = [_text("tags", tag) for tag in spec.tags]
    if tags:
        options[Option.TAGS] = tags
    if spec.headers:
        options[Option.HEADERS] = {_text("headers", n): _text("headers", v) for n, v in spec.headers.items()}
    return {int(option): value for option, value in options.items()}


_DURATIONS = (
    (Option.DELAY_MS, "delay", 0),
    (Option.EXPIRES_IN_MS, "expires_in", 1),
    (Option.TIMEOUT_MS, "timeout", 1),
    (Option.DEADLINE_MS, "deadline", 1),
    (Option.RESULT_TTL_MS, "result_ttl", 0),
)
"""With the least that the broker takes, in ms."""


def retry_fields(retry: Retry) -> list[int]:
    """As on the wire. Raises InvalidRequest for what is no number, or out of bounds: here, where fields have users' names and units."""
    if not isinstance(retry, Retry):
        raise InvalidRequest.of("retry", retry, "must be a Retry, for example Retry(max_attempts=3)")
    attempts = _whole("retry.max_attempts", retry.max_attempts)
    if not 1 <= attempts <= limits.ATTEMPTS_MAX:
        raise InvalidRequest.of("retry.max_attempts", attempts, f"must be 1 to {limits.ATTEMPTS_MAX:,}")
    return [
        attempts,
        _milli("retry.backoff_base", retry.backoff_base, 0, limits.DURATION_MS_MAX),
        _milli("retry.factor", retry.factor, 1_000, limits.BACKOFF_FACTOR_MILLI_MAX, "a number"),
        _milli("retry.cap", retry.cap, 0, limits.DURATION_MS_MAX),
        _milli("retry.jitter", retry.jitter, 0, 1_000, "a number"),
    ]


def _unique(unique: Unique | str) -> list[Any]:
    if isinstance(unique, str):
        return [unique, UNIQUE_RUNNING]
    if not isinstance(unique, Unique):
        raise InvalidRequest.of("unique", unique, "must be a text, or a Unique")
    match unique.during:
        case "running":
            during = UNIQUE_RUNNING
        case "pending":
            during = UNIQUE_PENDING
        case _:
            raise InvalidRequest.of("unique.during", unique.during, 'must be "pending" or "running"')
    return [_text("unique.key", unique.key), during]


def to_ms(field: str, seconds: float, what: str = "a number of seconds") -> int:
    """Seconds to whole milliseconds, rounded. Raises InvalidRequest for what is not a finite number."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        raise InvalidRequest.of(field, seconds, f"must be {what}")
    return round(seconds * 1000)


def _milli(field: str, value: float, least: int, most: int, what: str = "a number of seconds") -> int:
    """Thousandths, rounded, and within bounds. Raises InvalidRequest."""
    milli = to_ms(field, value, what)
    if not least <= milli <= most:
        raise InvalidRequest.of(field, value, f"must be {what}, {least / 1000:g} to {most // 1000:,}")
    return milli


def absolute_ms(field: str, moment: Moment) -> int:
    """An aware datetime or epoch seconds to Unix milliseconds. Raises InvalidRequest."""
    if not isinstance(moment, datetime.datetime):
        return to_ms(field, moment, "an aware datetime, or epoch seconds")
    if moment.tzinfo is None:
        raise InvalidRequest.of(field, moment, "must have a time zone, for example datetime.UTC")
    return round(moment.timestamp() * 1000)


def as_bytes(field: str, value: Any) -> bytes:
    """Bytes of any bytes-like object. Raises InvalidRequest."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise InvalidRequest.of(field, value, "must be bytes; encode text first, for example with .encode()")


def _payload(value: Any) -> bytes:
    return as_bytes("payload", value)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest.of(field, value, "must be text")
    return str(value)


def _whole(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest.of(field, value, "must be a whole number")
    return int(value)
