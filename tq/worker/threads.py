"""Plain handlers in threads, and how a thread is stopped that cannot be killed.

Theory. Each thread has an inbox and runs one job at a time; the loop hands a job to a thread that is idle. What
ended is put on one list, and only the first of a burst wakes the loop, which takes all.

A thread is interrupted by Stopped, which is raised in it wherever it is (see ``interrupt``): in the handler, in our
frame around it, or behind it. So that it never hits another job:
- only the loop sets it, once a job, on a thread that it believes to run that job;
- when the loop takes the thread's result it clears what is still pending, before it gives out the next job;
- until then the thread has nothing but its empty inbox to be interrupted in, and goes on from there;
- a result may be put on the list twice, when the interrupt comes in just that moment: the second is dropped.

Rejected: one inbox for all threads (the thread goes on to its next job by itself, so an interrupt needs a lock
around every job); to_thread of trio (a new coroutine and a wake-up of the loop for each job).
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
        thread.job = job
        thread.inbox.put(job)

    def stop(self, job: Job) -> None:
        thread: HandlerThread = job.handle
        if thread.job is job and not thread.is_interrupted:
            thread.is_interrupted = True
            assert thread.ident is not None
            interrupt(thread.ident)

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
            if thread.job is not job:
                continue
            if thread.is_interrupted:
                assert thread.ident is not None
                take_back(thread.ident)
                thread.is_interrupted = False
            thread.job = None
            job.handle = None
            self._idle.append(thread)
            self._done(job, said)


class HandlerThread(threading.Thread):
    def __init__(self, name: str, put: Callable[[HandlerThread, Job, Said], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.inbox: SimpleQueue[Job | None] = SimpleQueue()
        self.job: Job | None = None  # the loop's view, like the next
        self.is_interrupted = False
        self._put = put

    def run(self) -> None:
        while True:
            job: Job | None = None
            said = SAID_STOPPED
            try:
                job = self.inbox.get()
                if job is None:
                    return
                handler = job.handler
                said = call(handler.function, job.payload, job.context, handler.content_type)
                self._put(self, job, said)
            except Stopped:
                if job is not None:
                    self._put(self, job, said)
