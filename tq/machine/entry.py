"""The work of one log entry: where it stands, what it may hand on, and the counters it has touched."""

from __future__ import annotations

from collections.abc import Sequence

from tq import limits
from tq.machine.counts import Counts
from tq.machine.event_runs import EventRuns
from tq.machine.names import Names
from tq.machine.queue_settings import QueueRules
from tq.machine.ready import Ready
from tq.machine.session import Session
from tq.machine.settings import Settings
from tq.store.txn import Txn


class Entry:
    """Made by ``Machine.apply``; everything that applies a command gets it.

    ``ordinal``: next number of a task that enters pending in this entry. ``grants``: leases begun in it. ``read_bytes``:
    of stored tasks that were read again; what touches many tasks stops when ``has_read_enough``.
    The lists below are those of ``Applied``.
    """

    __slots__ = (
        "cancels", "counts", "entered", "events", "granted_runs", "grants", "index", "ordinal", "queues", "read_bytes", "ready", "released",
        "rules", "sessions", "sessions_ended", "sessions_opened", "settings", "time_ms", "txn", "types",
    )  # fmt: skip

    def __init__(
        self,
        txn: Txn,
        settings: Settings,
        index: int,
        time_ms: int,
        queues: Names,
        types: Names,
        rules: QueueRules,
        counts: Counts,
        ready: Ready,
        sessions: dict[bytes, Session],
    ) -> None:
        self.txn = txn
        self.settings = settings
        self.index = index
        self.time_ms = time_ms
        self.queues = queues
        self.types = types
        self.rules = rules
        self.counts = counts
        self.ready = ready
        self.sessions = sessions
        self.ordinal = 0
        self.grants = 0
        self.read_bytes = 0
        self.events = EventRuns()
        self.entered: dict[tuple[int, int], int] = {}
        self.granted_runs: list[tuple[bytes, int, Sequence[bytes]]] = []
        self.released: list[tuple[bytes, int]] = []
        self.cancels: list[tuple[bytes, int, bytes, int]] = []
        self.sessions_opened: list[bytes] = []
        self.sessions_ended: list[bytes] = []

    @property
    def has_read_enough(self) -> bool:
        return self.read_bytes >= limits.ENTRY_READ_BYTES_MAX
