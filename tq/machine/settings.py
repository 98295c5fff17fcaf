"""What all nodes must agree on, beside the log: a different value on one node would make its state differ."""

from __future__ import annotations

import attrs

from tq import limits


@attrs.frozen
class Settings:
    """Durations in ms. ``finished``: completed, cancelled, expired and skipped tasks."""

    lease_ms: int = limits.LEASE_MS_DEFAULT
    crashes_max: int = limits.CRASHES_MAX_DEFAULT
    finished_keep_ms: int = limits.FINISHED_KEEP_MS_DEFAULT
    finished_keep_tasks: int = limits.FINISHED_KEEP_TASKS_DEFAULT
    dead_keep_ms: int = limits.DEAD_KEEP_MS_DEFAULT
    tombstone_keep_ms: int = limits.TOMBSTONE_KEEP_MS_DEFAULT
