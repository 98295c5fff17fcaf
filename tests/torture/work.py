"""The tasks of the torture run: what a client asks for and what a worker shall do with it, decided by the payload."""

from __future__ import annotations

import json
import random
import time

import attrs

TYPES = ("work", "toil", "forge")
TYPE_WEIGHTS = (10, 10, 1)
QUEUES = ("left", "right")
PRIORITIES = (50, 150, 220)
PLANS = ("ok", "fail-once", "fail", "fatal", "slow", "release-once", "snooze-once", "stale", "crash-once")
WEIGHTS = (80, 5, 1, 1, 4, 3, 2, 2, 2)
ATTEMPTS_MAX = 4
RETRY_MS = 100


@attrs.frozen
class Work:
    id: bytes
    type: str
    queue: str
    priority: int
    payload: bytes
    timed: bool  # delayed: its place in line is not its submission's

    def row(self) -> list[object]:
        """As a submit record of the history has it."""
        return [self.id.hex(), self.payload.decode(), self.type, self.queue, self.priority, self.timed]


def draw_work(draw: random.Random, by: str, number: int) -> Work:
    plan = draw.choices(PLANS, WEIGHTS)[0]
    payload = json.dumps({"by": by, "n": number, "plan": plan, "pad": "x" * draw.choice((0, 0, 100, 2000))})
    timed = draw.random() < 0.05
    return Work(
        new_id(draw),
        draw.choices(TYPES, TYPE_WEIGHTS)[0],
        draw.choice(QUEUES),
        draw.choice(PRIORITIES),
        payload.encode(),
        timed,
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
