"""What all nodes must agree on, beside the log: a different value on one node would make its state differ."""

from __future__ import annotations

from typing import Final

import attrs

from tq import limits

CRASHES_BOUND: Final = 0xFFFF  # what a header can count


@attrs.frozen
class Settings:
    """Durations in ms. ``finished``: completed, cancelled, expired and skipped tasks."""

    def __attrs_post_init__(self) -> None:
        assert 1 <= self.crashes_max <= CRASHES_BOUND, f"crashes_max is {self.crashes_max}: 1 to {CRASHES_BOUND}"

    lease_ms: int = limits.LEASE_MS_DEFAULT
    crashes_max: int = limits.CRASHES_MAX_DEFAULT
    finished_keep_ms: int = limits.FINISHED_KEEP_MS_DEFAULT
    finished_keep_tasks: int = limits.FINISHED_KEEP_TASKS_DEFAULT
    dead_keep_ms: int = limits.DEAD_KEEP_MS_DEFAULT
    tombstone_keep_ms: int = limits.TOMBSTONE_KEEP_MS_DEFAULT
