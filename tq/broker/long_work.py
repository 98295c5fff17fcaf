"""Work that takes longer than the loop may stand still: one job at a time, somewhere else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

Job = Callable[[], None]


class LongWork(Protocol):
    def start(self, job: Job) -> None:
        """Not while another is in flight."""
        ...

    def take(self) -> bool:
        """Whether the job has ended; told once. Raises what the job raised."""
        ...

    def close(self) -> None:
        """Wait until no job runs: have it end first."""
        ...


class ThreadWork:
    """In a thread, which is started with the first job."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._future: Future[None] | None = None

    def start(self, job: Job) -> None:
        assert self._future is None, "a job is in flight"
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "tq-long-work")
        self._future = self._pool.submit(job)

    def take(self) -> bool:
        if self._future is None or not self._future.done():
            return False
        future, self._future = self._future, None
        future.result()
        return True

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class InlineWork:
    """When it is asked for: for simulated worlds."""

    def __init__(self) -> None:
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        assert self._job is None, "a job is in flight"
        self._job = job

    def take(self) -> bool:
        if self._job is None:
            return False
        job, self._job = self._job, None
        job()
        return True

    def close(self) -> None:
        self._job = None
