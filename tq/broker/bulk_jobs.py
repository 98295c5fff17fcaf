"""Leader only: drain bulk retries and purges, one bounded slice an entry, until the log says that they are finished."""

from __future__ import annotations

from collections.abc import Callable

from tq import limits
from tq.broker.services import Propose
from tq.errors import Backpressure, NotLeader, TqError
from tq.machine.commands import JobStep

COMMAND_BYTES = 32


class BulkJobs:
    def __init__(self, unfinished: Callable[[], list[bytes]], propose: Propose) -> None:
        """unfinished: operation ids of the jobs under way in the store, oldest first."""
        self._unfinished = unfinished
        self._propose = propose
        self._under_way: bytes | None = None

    def run_once(self) -> None:
        """One job at a time, the oldest first: slices of several would only slow each other."""
        if self._under_way is not None:
            return
        for operation in self._unfinished()[:1]:
            try:
                self._propose(
                    JobStep(operation, limits.JOB_SLICE_TASKS), limits.JOB_SLICE_TASKS, COMMAND_BYTES, self._stepped
                )  # fmt: skip
            except (Backpressure, NotLeader):
                return
            self._under_way = operation

    def _stepped(self, answer: object, _index: int) -> None:
        self._under_way = None
        if not isinstance(answer, TqError):
            self.run_once()  # at once; others get their turn, because an entry holds all that waits
