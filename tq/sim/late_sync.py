"""A sync thread that gets to run when it is told to: plays ``raft.sync.SyncStrategy`` without a thread."""

from __future__ import annotations

from collections.abc import Callable

from tq.errors import InternalError
from tq.raft.sync import Job, SyncDone, SyncStatistics


class LateSync:
    """A job waits from ``start`` until ``run``; ``close`` runs what waits, as a thread would before it ends."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] | None = None
        self._job: Job | None = None
        self._done: SyncDone | None = None
        self._syncs = 0

    def start(self, job: Job) -> None:
        if self.in_flight:
            raise InternalError("a sync is in flight")
        self._job = job

    def run(self) -> None:
        """Do the job that waits, if one does, and ring."""
        if self._job is None:
            return
        failure: OSError | None = None
        try:
            self._job()
        except OSError as error:
            failure = error
        self._job, self._done = None, SyncDone(failure, 0.0)
        self._syncs += 1
        if self.wake is not None:
            self.wake()

    def take(self) -> SyncDone | None:
        done, self._done = self._done, None
        return done

    @property
    def in_flight(self) -> bool:
        return self._job is not None or self._done is not None

    def statistics(self) -> SyncStatistics:
        return SyncStatistics("late", self._syncs, 0.0, 0.0, 0.0)

    def close(self) -> None:
        self.run()
