"""What the tests of snapshots share: a node that is only what they see of one, and work that ends when it is told to."""

from __future__ import annotations

from typing import Any

from tq.broker.long_work import Job
from tq.raft.node import Installation
from tq.raft.snapshots import DIRECTORY, SnapshotSource
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.store.memory import MemoryStore
from tq.store.tables import Table


class HeldWork:
    """A job runs within ``take``, once it is let go."""

    def __init__(self) -> None:
        self.is_held = False
        self.job: Job | None = None
        self.closed = False

    def start(self, job: Job) -> None:
        assert self.job is None
        self.job = job

    def take(self) -> bool:
        if self.job is None or self.is_held:
            return False
        job, self.job = self.job, None
        job()
        return True

    def close(self) -> None:
        self.closed = True


class FakeNode:
    def __init__(self) -> None:
        self.wants_snapshot = False
        self.leads_term = 7
        self.base_index = 3
        self.offers: list[SnapshotSource | None] = []
        self.installation: Installation | None = None
        self.snapshot_refusal: str | None = None
        self.snapshot_arriving: tuple[int, int] | None = None
        self.log: list[str] = []

    @property
    def journal(self) -> FakeNode:
        return self

    def term_at(self, index: int) -> int:
        assert index >= self.base_index, "the log does not know it any more"
        return 5

    def offer_snapshot(self, source: SnapshotSource | None) -> None:
        self.offers.append(source)
        self.wants_snapshot = False

    def installed(self) -> None:
        assert self.installation is not None
        self.installation = None
        self.log.append("installed")


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append(f"{event} {facts}")

    warning = info


class Rig:
    def __init__(self) -> None:
        self.node: Any = FakeNode()
        self.disk = SimDisk()
        self.clock = VirtualClock()
        self.store = MemoryStore(clock=self.clock)
        self.work = HeldWork()
        self.log = Log()
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    def fill(self, index: int, rows: int = 100, store: MemoryStore | None = None) -> None:
        store = self.store if store is None else store
        for number in range(rows):
            store.txn.put(Table.TASKS, b"%d %d" % (index, number), bytes(100))
        store.checkpoint(index)

    def files(self) -> list[str]:
        return self.disk.list(DIRECTORY)
