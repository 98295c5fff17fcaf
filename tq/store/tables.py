"""The tables of the store: one ordered map of bytes to bytes each (in LMDB, a named database each)."""

from __future__ import annotations

import enum


class Table(enum.IntEnum):
    """What is kept where. Key layouts are in ``tq/store/keys.py``, the only place that packs key bytes."""

    META = 0  # format, cluster id, applied index, log time, counters
    NAMES = 1  # queue and type names to small numbers, and back
    TASKS = 2  # id -> packed header (state, attempt, fence, times ...)
    SPECS = 3  # id -> the task as submitted, payload and all; never changes
    READY = 4  # (queue, type, priority falling, index, ordinal) -> id
    TIMERS = 5  # (kind, time, id) -> what is due then
    HELD = 6  # (session, id) -> fence: tasks that a session is running
    ENDED = 7  # (state, end time, id): finished tasks, oldest first
    RESULTS = 8  # id -> result
    HISTORY = 9  # (id, number) -> one past attempt, its times, worker and error
    SESSIONS = 10  # session -> worker name, types, queues, last claim
    KEYS = 11  # unique and idempotency keys -> id
    TOMBSTONES = 12  # id -> what is left of a purged task
    OPERATIONS = 13  # operation id -> its answer, for the memory window
    JOBS = 14  # bulk retry and purge under way
    COUNTS = 15  # (queue, state, band) -> number of tasks
