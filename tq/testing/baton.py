"""Coroutines under the virtual clock: a trio loop and an asyncio loop, each in a thread that runs only while the world stands.

Theory. A *baton* goes between the world and a loop: who has it runs, the other waits for it. The world hands it over when
the loop was given a job or one of its deadlines has come; the loop hands it back when all its tasks wait. So ``sleep`` in a
handler costs no time, and two runs with the same seed are one run.

The loops are the libraries' own, with a clock of ours. Where a loop would go to sleep it comes to us first: trio through
``Clock.deadline_to_sleep_time``, asyncio through ``select``. The first time we let it look for news without waiting; when
it comes again and no task has run since, it is idle.

Real work that a handler waits for (a socket, ``to_thread``) is waited for too, while it lasts and at most REAL_S: only
then does the virtual time go on without it.

Rejected: trio's guest mode and running the loop in the test's thread (tests that are coroutines have a loop there
already); trio's MockClock (it jumps by itself, past what the cluster does).
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import attrs

from tq.errors import InternalError, ResourceFailed
from tq.testing.channels import PostingChannel
from tq.testing.world import MONOTONIC_START_MS, World
from tq.worker.job import Job
from tq.worker.outcomes import Said
from tq.worker.resources import Factory, make_async

REAL_S: Final = 5.0  # how long real work is waited for, in all, without anything coming of it
REAL_STEP_S: Final = 0.005
ENDINGS_MAX: Final = 100  # turns that a loop has to end
Done = Callable[[Job, Said], None]


@attrs.define(eq=False)
class Held:
    """Resources that live on a loop. ``over``: the loop's event that ends them."""

    values: dict[str, Any] = attrs.field(factory=dict)
    is_made: bool = False
    failure: ResourceFailed | None = None
    over: Any = None


class BatonLoop(ABC):
    """What both have in common. Methods without a note are called by the world, with the baton."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.busy = 0
        self._todo: deque[Callable[[], None]] = deque()
        self._ended: deque[tuple[Job, Said]] = deque()
        self._done: dict[Job, Done] = {}
        self._deadline_ms: int | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._is_here = False  # the loop has the baton
        self.is_over = False
        self._failure: BaseException | None = None
        self._waited_s = 0.0
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        self._hand_over()

    def start(self, job: Job, done: Done) -> None:
        self.busy += 1
        self._done[job] = done
        if job.context.channel is not None:
            job.context.channel = PostingChannel(job.context.channel, self.post)
        job = self._watched(job)
        self._todo.append(lambda: self._start(job))

    def stop(self, job: Job) -> None:
        self._todo.append(lambda: self._stop(job))

    def post(self, function: Callable[[], None]) -> None:
        """Have it called within the loop, soon."""
        self._todo.append(function)

    @property
    def thread(self) -> int | None:
        return self._thread.ident

    def hold(self, names: Iterable[str], factories: Mapping[str, Factory]) -> Held:
        """Make resources. Raises ResourceFailed."""
        held = Held()
        self._todo.append(lambda: self._spawn(self._keep(tuple(names), factories, held)))
        self.world.drive(lambda: held.is_made or held.failure is not None, None)
        if held.failure is not None:
            raise held.failure
        return held

    def let_go(self, held: Held) -> None:
        """Close them."""
        self._todo.append(held.over.set)
        self._hand_over()

    def pump(self) -> bool:
        if self._is_here or not (self._todo or self._is_due()):
            return False
        self._hand_over()
        while self._ended:
            job, said = self._ended.popleft()
            self.busy -= 1
            self._done.pop(job)(job, said)
        return True

    def due_ms(self) -> int | None:
        return None if self._is_here else self._deadline_ms

    def close(self) -> None:
        """Cancel what runs. One that does not let itself be cancelled is left where it is."""
        if self.is_over:
            self._thread.join()
            return
        self._todo.append(self._end)
        for _ in range(ENDINGS_MAX):
            self._hand_over()
            if self._has_ended():
                self._thread.join()
                return

    def _has_ended(self) -> bool:
        return self.is_over

    def _is_due(self) -> bool:
        return self._deadline_ms is not None and self._deadline_ms <= self.world.now_ms

    def _hand_over(self) -> None:
        before = self.world.lend(self._thread.ident or 0)
        self._is_here = True
        self._go.release()
        self._back.acquire()
        self._is_here = False
        self.world.lend(before)
        if self._failure is not None:
            raise InternalError(f"the loop of {self._thread.name} has ended: {self._failure!r}") from self._failure

    def _watched(self, job: Job) -> Job:
        """The job, with a handler that remembers what it raises."""
        function, id = job.handler.function, job.context.id

        async def run(*args: Any, **more: Any) -> Any:
            try:
                return await function(*args, **more)
            except Exception as error:
                self.world.errors.append((id, error))
                raise

        job.handler = attrs.evolve(job.handler, function=run)
        return job

    async def _keep(self, names: tuple[str, ...], factories: Mapping[str, Factory], held: Held) -> None:
        held.over = self.event()
        async with AsyncExitStack() as stack:
            try:
                held.values |= await make_async(names, factories, stack)
            except ResourceFailed as failure:
                held.failure = failure
                return
            held.is_made = True
            await held.over.wait()

    # ---- in the loop's thread ---------------------------------------------------------------------------

    def time_s(self) -> float:
        return (MONOTONIC_START_MS + self.world.now_ms) / 1000

    def idle(self, deadline_s: float) -> float:
        """All tasks wait. Returns when there may be news: how long the loop may look for it, in real seconds."""
        if self.waits_for_real() and self._waited_s < REAL_S:
            self._waited_s += REAL_STEP_S
            return REAL_STEP_S
        self._waited_s = 0.0
        self._deadline_ms = None if deadline_s == math.inf else ms_behind(deadline_s) - MONOTONIC_START_MS
        self._back.release()
        self._go.acquire()
        self._deadline_ms = None
        while self._todo:
            self.soon(self._todo.popleft())
        return 0

    def ended(self, job: Job, said: Said) -> None:
        self._waited_s = 0.0
        self._ended.append((job, said))

    def _main(self) -> None:
        self._go.acquire()
        try:
            self.run()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self.is_over = True
            self._back.release()

    # ---- each loop has its own ----------------------------------------------------------------------------

    @abstractmethod
    def run(self) -> None:
        """The loop, until ``_end``."""

    @abstractmethod
    def soon(self, function: Callable[[], None]) -> None:
        """Call it within the loop."""

    @abstractmethod
    def waits_for_real(self) -> bool:
        """Something outside is under way: a thread, a socket."""

    @abstractmethod
    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """A task of its own."""

    @abstractmethod
    def event(self) -> Any: ...
    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...
    @abstractmethod
    def _start(self, job: Job) -> None: ...
    @abstractmethod
    def _stop(self, job: Job) -> None: ...
    @abstractmethod
    def _end(self) -> None: ...


def ms_behind(moment_s: float) -> int:
    """The first millisecond at which a loop sees that ``moment_s`` has come."""
    at_ms = round(moment_s * 1000)
    return at_ms if at_ms / 1000 >= moment_s else at_ms + 1
