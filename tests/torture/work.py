"""The tasks of the torture run: what a client asks for and what a worker shall do with it, decided by the payload."""

from __future__ import annotations

import hashlib
import json
import random
import time

import attrs

TYPES = ("work", "toil", "forge")
TYPE_WEIGHTS = (10, 10, 1)
QUEUES = ("left", "right")
PRIORITIES = (50, 150, 220)
PLANS = ("ok", "fail-once", "fail", "fatal", "slow", "release-once", "snooze-once", "stale", "crash-once")
WEIGHTS = (79, 5, 1, 1, 4, 3, 2, 3, 2)
ATTEMPTS_MAX = 4
RETRY_MS = 100
HOLD_SECONDS = 1.4  # so long the second holder of a "stale" task has it: the first one reports meanwhile


DELAY_MS = 1_000
EXPIRES_MS = 300
DEADLINE_MS = 1_500
CONTENT_CHARS_MAX = 4_000


@attrs.frozen
class Work:
    id: bytes
    type: str
    queue: str
    priority: int
    payload: bytes
    delay_ms: int = 0
    expires: bool = False
    deadline: bool = False
    key: str | None = None
    unique: str | None = None

    def row(self) -> list[object]:
        """As a submit record of the history has it."""
        more = {"delay_ms": self.delay_ms, "expires": self.expires, "deadline": self.deadline}
        more |= {"key": self.key, "unique": self.unique}
        content = self.payload.decode()
        if len(content) > CONTENT_CHARS_MAX:
            content = hashlib.sha256(self.payload).hexdigest()
        is_timed = bool(self.delay_ms)
        given = {name: value for name, value in more.items() if value}
        return [self.id.hex(), content, self.type, self.queue, self.priority, is_timed, given]


def draw_work(draw: random.Random, by: str, number: int) -> Work:
    """Most tasks are plain; one in ten has a time limit, a delay or a key, and a few are large."""
    plan = draw.choices(PLANS, WEIGHTS)[0]
    pad = "x" * draw.choices((0, 100, 2_000, 200_000), (50, 25, 25, 0.2))[0]
    payload = json.dumps({"by": by, "n": number, "plan": plan, "pad": pad}).encode()
    kind = draw.choices(("plain", "delay", "expires", "deadline", "key", "unique"), (90, 4, 1, 1, 2, 2))[0]
    return Work(
        new_id(draw),
        draw.choices(TYPES, TYPE_WEIGHTS)[0],
        draw.choice(QUEUES),
        draw.choice(PRIORITIES),
        payload,
        delay_ms=DELAY_MS if kind == "delay" else 0,
        expires=kind == "expires",
        deadline=kind == "deadline",
        key=f"{by}/{number}" if kind == "key" else None,
        unique=f"unique-{draw.randrange(5)}" if kind == "unique" else None,
    )


def new_id(draw: random.Random) -> bytes:
    """A UUIDv7: 48 bits of time, then chance."""
    value = (time.time_ns() // 1_000_000) << 80 | draw.getrandbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(3 << 62) | 2 << 62
    return value.to_bytes(16, "big")


def body_of(id: bytes, fence: int) -> str:
    """The result an attempt reports: it names its fence, so the end tells who made it."""
    return f"{id.hex()}:{fence}"
