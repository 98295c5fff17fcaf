"""A task as it is submitted: the one byte string that client, log, store and worker share.

A *spec* is the CBOR array ``[id, type, payload, queue, priority, options]``; ``queue``, ``priority`` and
``options`` may be left off from the right. ``options`` is a map from the small integers of ``Option`` to
values; what has its default is left out. The client encodes it once; broker, log, store and grant carry
those bytes unchanged, so nothing between the two ends decodes a payload or encodes a task again.

Rules
- ``parse`` is total: it returns a ``Spec`` or raises ``InvalidRequest``, ``PayloadTooLarge`` or
  ``Unsupported``, naming the field. Nothing is clamped, nothing unknown is kept.
- Two specs have the same content when their ``Spec`` are equal: the bytes may differ in how a default
  was written.
- Whole numbers only: durations in ms, factors in thousandths. No float enters the log by this door.

Rejected: a map with text keys (three times the size and time); arrays inlined in the request (cheaper to
decode, but they must be encoded again for the log, the store and the grant).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from tq import limits


class Option(enum.IntEnum):
    """Numbers of the optional fields. A number is never used again for something else."""

    CONTENT_TYPE = 1
    DELAY_MS = 2
    NOT_BEFORE_MS = 3  # absolute; DELAY_MS or this
    EXPIRES_IN_MS = 4
    TIMEOUT_MS = 5
    DEADLINE_MS = 6
    RETRY = 7  # [attempts_max, base_ms, factor_milli, cap_ms, jitter_milli]
    UNIQUE = 8  # [key, during]; during: UNIQUE_PENDING | UNIQUE_RUNNING
    IDEMPOTENCY_KEY = 9
    TAGS = 10  # array of text, no two alike
    HEADERS = 11  # map of text to text
    RESULT_TTL_MS = 12
    # Reserved, refused by name until they exist:
    DEPENDS_ON = 13
    ORDER_KEY = 14
    CONCURRENCY_KEY = 15
    TENANT = 16


UNIQUE_PENDING = 0  # while waiting, scheduled or pending
UNIQUE_RUNNING = 1  # while pending or running (the default of the client)


class Retry(NamedTuple):
    """When a failed attempt runs again; see ``tq.machine.retries``."""

    attempts_max: int = limits.ATTEMPTS_DEFAULT
    base_ms: int = limits.BACKOFF_BASE_MS_DEFAULT
    factor_milli: int = limits.BACKOFF_FACTOR_MILLI_DEFAULT
    cap_ms: int = limits.BACKOFF_CAP_MS_DEFAULT
    jitter_milli: int = limits.BACKOFF_JITTER_MILLI_DEFAULT


class Spec(NamedTuple):
    """A valid task, defaults filled in."""

    id: bytes
    type: str
    payload: bytes
    queue: str = "default"
    priority: int = limits.PRIORITY_DEFAULT
    content_type: str = "application/octet-stream"
    delay_ms: int = 0
    not_before_ms: int | None = None
    expires_in_ms: int | None = None
    timeout_ms: int | None = None
    deadline_ms: int | None = None
    retry: Retry = Retry()
    unique: tuple[str, int] | None = None
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # sorted by name
    result_ttl_ms: int = limits.RESULT_TTL_MS_DEFAULT


def encode(spec: Spec) -> bytes:
    """The bytes of ``spec``, defaults left out. Does not check; ``parse`` does."""
    raise AssertionError("the spec/protocol package writes this")


def parse(raw: bytes) -> Spec:
    """Decode and check the bytes of one task.

    Raises:
        InvalidRequest: not a spec, or a field out of bounds.
        PayloadTooLarge: payload or headers above their bound.
        Unsupported: an option that does not exist yet.
    """
    raise AssertionError("the spec/protocol package writes this")
