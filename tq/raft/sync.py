"""Where the journal's sync runs: on the loop, on a thread, or by the measured speed of the disk.

On a fast disk a sync takes 0.3 ms and a hop to a thread half of that: **inline** wins. On a slow one the loop must
go on (signs of life, reads), so a **thread** syncs and tells the loop when it is done. **auto** is inline until the
last syncs are slow as a rule (their median), or long now and then (their p99); it comes back at half of that, so that it
does not flutter. The p99 alone would follow every stall of a busy processor, and the thread makes those worse.

One job at a time. The thread touches nothing but the job; what it hands over is the job's end, through ``take``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Literal, Protocol

import attrs

from tq import limits
from tq.errors import InternalError
from tq.world import Clock

SyncMode = Literal["inline", "thread", "auto"]
Job = Callable[[], None]
_P99_EVERY = 32  # syncs between two looks at the percentiles


@attrs.frozen
class SyncDone:
    """How a job ended: with the disk's error, or well."""

    error: OSError | None
    took_ms: float


@attrs.frozen
class SyncStatistics:
    """``syncs`` since the start; percentiles of the last SYNC_SAMPLES."""

    mode: str
    syncs: int
    last_ms: float
    p50_ms: float
    p99_ms: float


class SyncStrategy(Protocol):
    """``wake`` is called, from any thread, when ``take`` has something that ``start`` did not leave there."""

    wake: Callable[[], None] | None

    def start(self, job: Job) -> None:
        """Run the job, now or on a thread. Not while another is in flight."""
        ...

    def take(self) -> SyncDone | None:
        """The end of the job, once."""
        ...

    @property
    def in_flight(self) -> bool: ...
    def statistics(self) -> SyncStatistics: ...
    def close(self) -> None:
        """Wait until no job runs."""
        ...


class Durations:
    """The last SYNC_SAMPLES durations."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=limits.SYNC_SAMPLES)
        self.count = 0

    def add(self, took_ms: float) -> None:
        self._last.append(took_ms)
        self.count += 1

    @property
    def last_ms(self) -> float:
        return self._last[-1] if self._last else 0.0

    def percentile(self, percent: int) -> float:
        """0 without samples."""
        if not self._last:
            return 0.0
        return sorted(self._last)[(len(self._last) - 1) * percent // 100]

    def statistics(self, mode: str) -> SyncStatistics:
        return SyncStatistics(mode, self.count, self.last_ms, self.percentile(50), self.percentile(99))


class InlineSync:
    def __init__(self, clock: Clock, durations: Durations | None = None) -> None:
        self.wake: Callable[[], None] | None = None
        self.durations = Durations() if durations is None else durations
        self._clock = clock
        self._done: SyncDone | None = None

    def start(self, job: Job) -> None:
        if self._done is not None:
            raise InternalError("a sync is in flight")
        self._done = _run(job, self._clock)
        self.durations.add(self._done.took_ms)

    def take(self) -> SyncDone | None:
        done, self._done = self._done, None
        return done

    @property
    def in_flight(self) -> bool:
        return self._done is not None

    def statistics(self) -> SyncStatistics:
        return self.durations.statistics("inline")

    def close(self) -> None:
        pass


class ThreadSync:
    """The thread is started with the first job and lives until ``close``."""

    def __init__(self, clock: Clock, durations: Durations | None = None) -> None:
        self.wake: Callable[[], None] | None = None
        self.durations = Durations() if durations is None else durations
        self._clock = clock
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._ends: deque[SyncDone] = deque()  # its append and popleft are atomic
        self._thread: Thread | None = None
        self._in_flight = False

    def start(self, job: Job) -> None:
        if self._in_flight:
            raise InternalError("a sync is in flight")
        if self._thread is None:
            self._thread = Thread(target=self._work, name="tq-journal-sync", daemon=True)
            self._thread.start()
        self._in_flight = True
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._ends.append(_run(job, self._clock))
            wake = self.wake
            if wake is not None:
                wake()

    def take(self) -> SyncDone | None:
        if not self._ends:
            return None
        done = self._ends.popleft()
        self._in_flight = False
        self.durations.add(done.took_ms)
        return done

    @property
    def in_flight(self) -> bool:
        return self._in_flight

    def statistics(self) -> SyncStatistics:
        return self.durations.statistics("thread")

    def close(self) -> None:
        self.wake = None
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None


class AutoSync:
    def __init__(self, clock: Clock) -> None:
        self._durations = Durations()
        self._inline = InlineSync(clock, self._durations)
        self._thread = ThreadSync(clock, self._durations)
        self._current: InlineSync | ThreadSync = self._inline
        self._looked_at = 0

    @property
    def wake(self) -> Callable[[], None] | None:
        return self._thread.wake

    @wake.setter
    def wake(self, wake: Callable[[], None] | None) -> None:
        self._thread.wake = wake

    def start(self, job: Job) -> None:
        self._choose()
        self._current.start(job)

    def _choose(self) -> None:
        if self._current.in_flight or self._durations.count < self._looked_at + _P99_EVERY:
            return
        self._looked_at = self._durations.count
        p50_ms, p99_ms = self._durations.percentile(50), self._durations.percentile(99)
        if p50_ms > limits.SYNC_MEDIAN_SLOW_MS or p99_ms > limits.SYNC_P99_SLOW_MS:
            self._current = self._thread
        elif p50_ms < limits.SYNC_MEDIAN_SLOW_MS / 2 and p99_ms < limits.SYNC_P99_SLOW_MS / 2:
            self._current = self._inline

    def take(self) -> SyncDone | None:
        return self._current.take()

    @property
    def in_flight(self) -> bool:
        return self._current.in_flight

    def statistics(self) -> SyncStatistics:
        mode = "thread" if self._current is self._thread else "inline"
        return self._durations.statistics(f"auto: {mode}")

    def close(self) -> None:
        self._thread.close()


def new_sync(mode: SyncMode, clock: Clock) -> SyncStrategy:
    match mode:
        case "inline":
            return InlineSync(clock)
        case "thread":
            return ThreadSync(clock)
        case "auto":
            return AutoSync(clock)


def _run(job: Job, clock: Clock) -> SyncDone:
    began_s = clock.monotonic_s()
    failure: OSError | None = None
    try:
        job()
    except OSError as error:
        failure = error
    return SyncDone(failure, (clock.monotonic_s() - began_s) * 1000)
