"""The worker with sockets and time: moves messages and jobs between the core, the broker and the executors.

Whatever happens ends in a *turn*: let the core step, send what it says, start and stop what it wants. A burst (one
read of the socket, one batch of handlers that ended) is one turn, so that its outcomes leave in one message and one
system call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
import trio

from tq.errors import TqError
from tq.protocol.addresses import Addresses, backoff_ms
from tq.worker.connection import Connection, ConnectionLost, dial
from tq.worker.core import State, WorkerCore
from tq.worker.doubts import UNKNOWN
from tq.worker.job import Executor, Job
from tq.worker.outcomes import Said
from tq.world import Clock, Random

FAILURES_TOLD: Final = 20  # every so many failures to connect, after the first

LOUD: Final = frozenset({
    "a handler does not stop; it keeps its slot", "a task's process crashed", "an attempt failed", "an outcome was refused",
    "could not take leave of the cluster", "gave back what did not end in time",
    "granted a type that was not registered", "granted a task that this version cannot read", "session lost", "the broker is silent",
    UNKNOWN,
})  # fmt: skip
QUIET: Final = frozenset({"the broker asks to wait"})


class Shell:
    """``run`` and ``connect`` are tasks; all else is called on the loop's thread."""

    def __init__(self, core: WorkerCore, addresses: Addresses, client: str, clock: Clock, random: Random) -> None:
        self.executors: Mapping[str, Executor] = {}
        self.on_session: Callable[[], None] = lambda: None  # called when one was opened
        self._core = core
        self._addresses = addresses
        self._client = client
        self._clock = clock
        self._random = random
        self._log = structlog.get_logger("tq.worker")
        self._connection: Connection | None = None
        self._talk = trio.CancelScope()  # of the present connection
        self._alarm = trio.CancelScope()  # of the sleep until something happens
        self._is_poked = False
        self._sleeper: trio.lowlevel.Task | None = None
        self._wakes_ms = math.inf
        self._session: bytes | None = None

    # ---- turns -------------------------------------------------------------------------------------

    def finished(self, job: Job, said: Said) -> None:
        """A handler is over: the executors call this."""
        self._core.finished(job, said)
        self.poke()

    def poke(self) -> None:
        """Have a turn soon."""
        self._is_poked = True
        if self._sleeper is not None:
            sleeper, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(sleeper)

    def drain(self) -> None:
        self._core.drain()
        self.poke()

    def quit(self) -> None:
        """Say good-bye without waiting for an answer."""
        out = self._core.farewell()
        if out and self._connection is not None:
            self._connection.send(out)
        self.poke()

    async def run(self) -> None:
        """Turns, until the worker is over."""
        core = self._core
        task = trio.lowlevel.current_task()

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            self._is_poked = False
            self._turn()
            if core.state is State.OVER:
                self._talk.cancel()
                return
            wake_ms = core.wake_ms()
            self._wakes_ms = math.inf if wake_ms is None else wake_ms
            if self._is_poked:
                await trio.lowlevel.checkpoint()
                continue
            with trio.CancelScope(deadline=self._deadline()) as self._alarm:
                self._sleeper = task
                await trio.lowlevel.wait_task_rescheduled(abort)

    def _turn(self) -> None:
        core = self._core
        out = core.step()
        if out and self._connection is not None:
            self._connection.send(out)
        jobs = core.jobs
        if jobs.to_start:
            orders, jobs.to_start = jobs.to_start, []
            executors = self.executors
            for job in orders:
                executors[job.handler.executor].start(job)
        if jobs.to_stop:
            orders, jobs.to_stop = jobs.to_stop, []
            for job in orders:
                self.executors[job.handler.executor].stop(job)
        if jobs.to_kill:
            orders, jobs.to_kill = jobs.to_kill, []
            for job in orders:
                self.executors[job.handler.executor].kill(job)
        if core.session is not self._session:
            self._session = core.session
            if self._session is not None:
                self.on_session()
        if core.notes:
            self._tell_notes()
        if core.wants_reconnect:
            self._talk.cancel()

    def _turn_now(self) -> None:
        """A turn within another task than ``run``, which may have to wake earlier for it."""
        core = self._core
        self._turn()
        if core.state is State.OVER:
            self.poke()
            return
        wake_ms = core.wake_ms()
        if wake_ms is not None and wake_ms < self._wakes_ms:
            self._wakes_ms = wake_ms
            self._alarm.deadline = self._deadline()

    def _deadline(self) -> float:
        if self._wakes_ms == math.inf:
            return math.inf
        return trio.current_time() + max(0, self._wakes_ms - self._clock.monotonic_ms()) / 1000

    def _tell_notes(self) -> None:
        notes, self._core.notes = self._core.notes, []
        for event, values in notes:
            if event in LOUD:
                self._log.warning(event, **values)
            elif event in QUIET:
                self._log.debug(event, **values)
            else:
                self._log.info(event, **values)

    # ---- connections -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Have a connection, again and again, with backoff while none of them serves us."""
        core = self._core
        failures = 0
        while True:
            answers = core.answers
            reason = await self._serve_one()
            failures = 1 if core.answers > answers else failures + 1
            if failures == 1 or failures % FAILURES_TOLD == 0:
                brokers = str(self._addresses)
                self._log.warning("not connected", reason=reason, brokers=brokers, failures=failures)
            self._addresses.prefer(core.leader)
            await trio.sleep(backoff_ms(failures, self._random.below(1 << 16)) / 1000)

    async def _serve_one(self) -> str:
        """One connection, from its beginning to its end. Why it ended."""
        try:
            connection = await dial(self._addresses.take())
        except ConnectionLost as lost:
            return str(lost)
        try:
            return await self._talk_with(connection)
        finally:
            if self._connection is connection:
                self._connection = None
                self._core.disconnected()
            connection.close()

    async def _talk_with(self, connection: Connection) -> str:
        core = self._core
        try:
            hello = await connection.greet(self._client)
        except ConnectionLost as lost:
            return str(lost)
        except TqError as error:
            if not error.retryable:
                core.give_up(error)
                self.poke()
            return error.message
        self._log.info("connected", broker=connection.address, node=hello.node, server=hello.server)
        self._connection = connection
        core.connected(hello)
        reason = "given up"
        try:
            async with trio.open_nursery() as nursery:
                self._talk = nursery.cancel_scope
                nursery.start_soon(connection.drain_output)
                self._turn_now()
                while True:
                    for message in await connection.read():
                        core.received(message)
                    self._turn_now()
        except* ConnectionLost as group:
            reason = _first(group)
        return reason


def _first(group: BaseExceptionGroup[Any]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error)
