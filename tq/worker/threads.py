"""Plain handlers in threads, and how a thread is stopped that cannot be killed.

Theory. Each thread has an inbox and runs one job at a time; the loop hands a job to a thread that is idle. What
ended is put on one list, and only the first of a burst wakes the loop, which takes all.

A thread is interrupted by Stopped, raised in it at any bytecode (see ``interrupt``). So that it hits nothing but the
job it is meant for, a thread says under its lock when it enters and leaves the region around a handler:
- the loop interrupts only within the region, under the lock, once a job;
- who leaves takes back, under the lock, what was set and not raised yet;
- all code of the region stands in a ``try`` that expects Stopped, so it never reaches the code around.
A job that is cancelled before its thread enters is not run.

Rejected: to_thread of trio (a new coroutine and a wake-up of the loop for each job); one inbox for all threads (the
order in which idle threads wake is the kernel's, and each wake-up finds a cold one).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from tq.verdicts import Stopped
from tq.worker.frame import call
from tq.worker.interrupt import interrupt, take_back
from tq.worker.job import Done, Job
from tq.worker.outcomes import SAID_STOPPED, Said

Wake = Callable[[Callable[[], None]], None]
"""Run a function on the loop's thread, soon; safe from any thread. Raises nothing."""


class Threads:
    """An executor. ``collect`` runs on the loop's thread."""

    def __init__(self, done: Done, wake: Wake) -> None:
        self._done = done
        self._wake = wake
        self._idle: list[HandlerThread] = []  # the last one used is the warmest
        self._count = 0
        self._ended: deque[tuple[HandlerThread, Job, Said]] = deque()
        self._is_woken = False

    def start(self, job: Job) -> None:
        """There are as many threads as jobs ran at once; the core bounds those."""
        if self._idle:
            thread = self._idle.pop()
        else:
            self._count += 1
            thread = HandlerThread(f"tq-handler-{self._count}", self._put)
            thread.start()
        job.handle = thread
        thread.inbox.put(job)

    def stop(self, job: Job) -> None:
        thread: HandlerThread | None = job.handle
        if thread is not None:
            thread.interrupt(job)

    def kill(self, job: Job) -> None:
        """A thread cannot be killed."""

    def close(self) -> None:
        """Idle threads end; those that run a handler die with the process."""
        for thread in self._idle:
            thread.inbox.put(None)
        self._idle.clear()

    def _put(self, thread: HandlerThread, job: Job, said: Said) -> None:
        """From the threads."""
        self._ended.append((thread, job, said))
        if not self._is_woken:
            self._is_woken = True
            self._wake(self.collect)

    def collect(self) -> None:
        """Take what ended."""
        self._is_woken = False  # before looking: who puts after the look wakes us again
        ended = self._ended
        while ended:
            thread, job, said = ended.popleft()
            job.handle = None
            self._idle.append(thread)
            self._done(job, said)


class HandlerThread(threading.Thread):
    def __init__(self, name: str, put: Callable[[HandlerThread, Job, Said], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._put = put
        self._lock = threading.Lock()  # of the next two
        self._inside: Job | None = None  # the region around its handler
        self._is_interrupted = False

    def run(self) -> None:
        while True:
            job = self.inbox.get()
            if job is None:
                return
            said = SAID_STOPPED
            try:
                if self._enter(job):
                    said = call(job.handler, job.payload, job.context)
                self._leave()
            except Stopped:
                self._leave()  # it came between the handler and the end of the region; a second one does not
            self._put(self, job, said)

    def _enter(self, job: Job) -> bool:
        with self._lock:
            if job.context.cancelled:
                return False
            self._inside = job
        return True

    def _leave(self) -> None:
        with self._lock:
            self._inside = None
            if self._is_interrupted:
                assert self.ident is not None
                take_back(self.ident)
                self._is_interrupted = False

    def interrupt(self, job: Job) -> None:
        """From the loop: raise Stopped in the handler of ``job``, if it is still that one."""
        with self._lock:
            if self._inside is job and not self._is_interrupted:
                assert self.ident is not None
                self._is_interrupted = True
                interrupt(self.ident)
