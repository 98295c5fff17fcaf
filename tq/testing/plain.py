"""Plain handlers in a simulated world: they run in the thread that drives it, on a stack, and take no time of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from tq.testing.channels import Drive, DrivingChannel
from tq.verdicts import Stopped
from tq.worker.frame import call
from tq.worker.handlers import Handler
from tq.worker.job import Job
from tq.worker.outcomes import SAID_STOPPED, Said

Done = Callable[[Job, Said], None]


class Event:
    """Plays ``threading.Event`` for a handler that waits to be cancelled."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        self._drive(timeout, self.is_set)
        return self._is_set


@attrs.define(eq=False)
class Frame:
    """A handler that runs. ``stops``: Stopped is to be raised in it."""

    job: Job
    thread: int
    stops: bool = False


@attrs.frozen(eq=False)
class Waiting:
    """A handler that is to run."""

    job: Job
    done: Done
    is_held: Callable[[], bool]


class PlainHandlers:
    """
    Args:
        errors: what handlers raise is put there, with the ids of their tasks.
    """

    def __init__(self, drive: Drive, errors: Any) -> None:
        self.queued: list[Waiting] = []
        self._drive = drive
        self._errors = errors
        self._stack: list[Frame] = []

    def start(self, job: Job, done: Done, is_held: Callable[[], bool]) -> None:
        """Run it soon, but not while ``is_held``."""
        self.queued.append(Waiting(job, done, is_held))

    def stop(self, job: Job) -> None:
        """Tell it to end, when it lets anything happen."""
        for frame in self._stack:
            if frame.job is job:
                frame.stops = True

    @property
    def stack(self) -> list[Job]:
        """Those that run, the innermost last."""
        return [frame.job for frame in self._stack]

    def run_one(self, thread: int) -> bool:
        """Run the next to its end, in this thread. False: there is none."""
        waiting = next((one for one in self.queued if not one.is_held()), None)
        if waiting is None:
            return False
        self.queued.remove(waiting)
        waiting.done(waiting.job, self._run(waiting.job, thread))
        return True

    def raise_stopped(self, thread: int) -> None:
        """Raise Stopped if the innermost was told to end, and runs in this thread."""
        if self._stack and self._stack[-1].stops and self._stack[-1].thread == thread:
            self._stack[-1].stops = False
            raise Stopped

    def _run(self, job: Job, thread: int) -> Said:
        if job.context.cancelled:
            return SAID_STOPPED
        job.context.wait_by(Event(self._drive))
        if job.context.channel is not None:
            job.context.channel = DrivingChannel(job.context.channel, self._drive)
        self._stack.append(Frame(job, thread))
        try:
            said = call(self._watched(job), job.payload, job.context)
        except Stopped:
            return SAID_STOPPED
        finally:
            self._stack.pop()
        if self._errors and isinstance(self._errors[-1][1], KeyboardInterrupt):
            raise self._errors.pop()[1]  # it is for the test, not for the handler
        return said

    def _watched(self, job: Job) -> Handler:
        """The handler, which remembers what it raises."""
        function, id, errors = job.handler.function, job.context.id, self._errors

        def run(payload: bytes, context: Any) -> Any:
            try:
                return function(payload, context)
            except Stopped:
                raise
            except BaseException as error:
                errors.append((id, error))
                raise

        return attrs.evolve(job.handler, function=run)
