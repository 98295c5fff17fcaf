"""Ids: UUIDv7, made here so that a repeated submit names the same task; text for people, 16 bytes for the wire.

The store keeps tasks in order of their ids, so ids that rise with time keep its writes together. One maker
gives strictly rising ids: within a millisecond it counts up from a random start, and when the clock steps
back it goes on from its last id.
"""

from __future__ import annotations

import threading
import uuid

from tq.client.forks import told_of_forks
from tq.errors import InvalidRequest
from tq.world import Clock, Random

TaskId = str | bytes | uuid.UUID
"""What callers may give: the text of a UUID, its 16 bytes, or the object."""

_TAIL_BITS = 62
_TAIL_MAX = 1 << _TAIL_BITS
_VERSION = 7 << 76
_VARIANT = 2 << 62


class IdMaker:
    """Safe for threads: those of one client share it."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._ms = -1
        self._head = 0  # all but the tail: time, version, 12 random bits, variant
        self._tail = _TAIL_MAX
        told_of_forks(self)

    def begin_anew(self) -> None:
        """In the child of a fork: the ids to come are the parent's."""
        self._lock = threading.Lock()
        self._tail = _TAIL_MAX

    def take(self, count: int) -> range:
        """``count`` ids as whole numbers, rising; ``n.to_bytes(16, "big")`` is the id."""
        ms = self._clock.wall_ms()
        with self._lock:
            if ms > self._ms:
                self._begin(ms)
            elif self._tail + count >= _TAIL_MAX:
                self._begin(self._ms + 1)
            first = self._head | self._tail
            self._tail += count
        return range(first, first + count)

    def _begin(self, ms: int) -> None:
        self._ms = ms
        chance = int.from_bytes(self._random.bytes(10), "big")
        self._head = ms << 80 | _VERSION | (chance & 0xFFF) << 64 | _VARIANT
        self._tail = (chance >> 12) % (_TAIL_MAX >> 1)  # the upper half is room to count


def to_bytes(field: str, value: TaskId) -> bytes:
    """The 16 bytes of an id. Raises InvalidRequest naming ``field``."""
    if value.__class__ is str:
        try:
            return uuid.UUID(value).bytes
        except ValueError:
            pass
    elif isinstance(value, uuid.UUID):
        return value.bytes
    elif isinstance(value, (bytes, bytearray, memoryview)) and len(value) == 16:
        return bytes(value)
    raise InvalidRequest.of(field, value, "must be a UUID: as text, as 16 bytes, or as uuid.UUID")


def to_text(raw: bytes) -> str:
    """``8-4-4-4-12`` hexadecimal digits."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
