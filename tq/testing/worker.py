"""A worker in a simulated world: the product's core, its middleware and resources; handlers run where ``world.py`` says.

It has two lines to the cluster, as a real one: one for claims and outcomes, one for heartbeats. Handlers that ask for a
process of their own run as plain ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Final, Literal

import attrs

from tq import limits
from tq.errors import ConfigError, NotLeader, SessionLost, from_wire
from tq.machine.apply import Machine
from tq.protocol import messages as m
from tq.protocol.addresses import Addresses, parse
from tq.testing.asyncio_loop import AsyncioLoop
from tq.testing.baton import BatonLoop, Held
from tq.testing.history import History
from tq.testing.trio_loop import TrioLoop
from tq.testing.wire import Line
from tq.testing.world import KEEP_ALIVE_MS, MONOTONIC_START_MS, World
from tq.verdicts import Stopped
from tq.worker.core import Settings, State, WorkerCore
from tq.worker.handlers import Handlers
from tq.worker.job import Job
from tq.worker.middleware import check, dressed
from tq.worker.outcomes import Said
from tq.worker.resources import make, plan

DRAIN_S: Final = 30.0
LAST_WORDS_S: Final = 60.0
END_S: Final = 2.0  # for handlers that were told to stop
NOTES_KEPT: Final = 1_000
LOOPS: Final[dict[str, Callable[[World], BatonLoop]]] = {"async": TrioLoop, "asyncio": AsyncioLoop}
HEARTBEAT_RID: Final = 1


class Worker:
    """Made by ``worker()`` of a simulated broker or cluster, and running until then or until it is told to end.

    Attributes:
        name: also for ``partition``.
        is_up: False once it was killed or has stopped.
        notes: what a real worker logs: ``(event, values)``, the newest last.
    """

    def __init__(
        self, world: World, history: History, app: Any, *, queues: Iterable[str], concurrency: int, name: str
    ) -> None:
        self.name = name
        self.is_up = True
        self.notes: deque[tuple[str, dict[str, Any]]] = deque(maxlen=NOTES_KEPT)
        self._world = world
        self._history = history
        self._is_frozen = False
        self._dies_with: str | None = None
        self._stack = ExitStack()
        self._held: list[tuple[BatonLoop, Held]] = []
        handlers = self._dress(*parts_of(app))
        self._types = handlers.types
        self._queues = list(queues)
        brokers = parse(world.addresses)
        settings = Settings(
            name=name, queues=self._queues, concurrency=concurrency, drain_ms=round(DRAIN_S * 1000),
            info={"host": "simulated", "pid": 1, "slots": concurrency}, has_others=len(brokers) > 1,
        )  # fmt: skip
        random = world.random.fork()
        self.core = WorkerCore(settings, handlers, world.clock, random)
        self._line = Line(
            world, name, f"tq-worker/{name}", Addresses(brokers), random.fork(),
            self.core.connected, self.core.received, self.core.disconnected,
        )  # fmt: skip
        self._beats = Line(
            world, name, f"tq-worker/{name}", Addresses(brokers), random.fork(),
            lambda _hello: self._beat_now(), self._beat_answered, self._beat_lost,
        )  # fmt: skip
        self._beat_ms: int | None = None  # when the next is due; None: no session
        self._beat_session: bytes | None = None  # of the one that is not answered
        world.actors.append(self)

    def __repr__(self) -> str:
        how = "frozen" if self._is_frozen else self.core.state.value if self.is_up else "gone"
        return f"<Worker {self.name} {how}, {len(self.core.jobs.running)} running>"

    # ---- for tests --------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        """Ids of the tasks whose handlers run."""
        return [job.context.id for job in self.core.jobs.running.values()]

    @property
    def stats(self) -> dict[str, int]:
        """Counts since it began: claimed, completed, failed, stopped, stale ..."""
        return attrs.asdict(self.core.stats())

    def kill(self, when: Literal["now", "handled"] = "now") -> None:
        """As kill -9: what it held is given to another worker when its lease is over, and counts as a crash.

        when: "now", from within one of its handlers too, which is left at this point; "handled": when its next handler has
        ended, before the broker hears of it. So all that the handler did is done, and will be done again.
        """
        if when == "handled":
            self._dies_with = "handled"
            return
        is_within = any(job in self.core.jobs.running.values() for job in self._world.plain.stack)
        self._die()
        if is_within:
            raise Stopped

    def freeze(self) -> None:
        """As kill -STOP: nothing leaves it and nothing is read, until ``thaw``. Handlers begin no more."""
        self._is_frozen = True

    def thaw(self) -> None:
        self._is_frozen = False

    def stop(self) -> None:
        """As SIGTERM: claim no more, end what runs (DRAIN_S seconds at most), say good-bye."""
        if not self.is_up:
            return
        self.core.drain()
        self._world.drive(lambda: self.core.state is State.OVER, DRAIN_S + LAST_WORDS_S)
        self._world.drive(lambda: not self.core.jobs.running, END_S)
        self._end()

    def close(self) -> None:
        """Be gone, without a word."""
        if self.is_up:
            self._die()
        for loop, held in self._held:
            loop.let_go(held)
        self._held.clear()
        self._stack.close()

    # ---- an actor of the world ----------------------------------------------------------------------------------

    @property
    def sessions(self) -> dict[bytes, int]:
        if not self.is_up or self._is_frozen or self.core.session is None:
            return {}
        return {self.core.session: len(self.core.jobs.held)}

    @property
    def is_idle(self) -> bool:
        """Nothing runs, nothing is to be reported, and it waits for more; or it is none that ever will."""
        if not self.is_up or self._is_frozen:
            return True
        return self.core.session is not None and not self.core.jobs.running and not self.core.stats().unreported

    def could_take(self, machine: Machine) -> bool:
        """A task is ready for it."""
        return self.is_up and not self._is_frozen and machine.has_ready(self._queues, self._types)

    def has_leases(self, held: Mapping[bytes, int]) -> bool:
        """The leader has given it tasks; it may not know it yet."""
        if not self.is_up or self._is_frozen or self.core.session is None:
            return False
        return bool(held.get(self.core.session))

    def due_ms(self) -> int | None:
        if not self.is_up or self._is_frozen:
            return None
        wake_ms = self.core.wake_ms()
        due = [self._line.due_ms(), self._beats.due_ms(), self._beat_ms]
        if wake_ms is not None:
            due.append(wake_ms - MONOTONIC_START_MS)
        if self._world.is_alone and self._is_parked:
            # Nothing depends on its signs of life: a node alone does not let it age (see World), and time may jump over them.
            soon_ms = self._world.now_ms + KEEP_ALIVE_MS
            due = [at_ms for at_ms in due if at_ms is not None and at_ms < soon_ms]
        return min((at_ms for at_ms in due if at_ms is not None), default=None)

    @property
    def _is_parked(self) -> bool:
        """It waits for work, and holds nothing."""
        return self._line.is_open and self.is_idle and self.core.state is State.RUNNING and not self.core.jobs.held

    def pump(self) -> bool:
        if not self.is_up or self._is_frozen:
            return False
        core, line = self.core, self._line
        moved = line.pump()
        if line.refusal is not None:
            raise line.refusal
        out = core.step()
        if out:
            line.send(out)
        self._carry_out()
        if core.wants_reconnect:
            line.addresses.prefer(core.leader)
            line.hang_up()
        if core.failure is not None:
            self.is_up = False
            raise core.failure
        moved |= bool(out)
        return self._pump_beats() or moved

    def _carry_out(self) -> None:
        jobs = self.core.jobs
        while jobs.to_start:
            job = jobs.to_start.pop(0)
            self._history.ran(self.name, job)
            if job.handler.is_async:
                self._loop(job.handler.executor).start(job, self._ended)
            else:
                self._world.plain.start(job, self._ended, lambda: self._is_frozen and self.is_up)
        while jobs.to_stop:
            self._stop_job(jobs.to_stop.pop(0))
        jobs.to_kill.clear()  # what does not stop keeps its slot
        self.notes.extend(self.core.notes)
        self.core.notes.clear()

    def _stop_job(self, job: Job) -> None:
        if job.handler.is_async:
            self._loop(job.handler.executor).stop(job)
        else:
            self._world.plain.stop(job)

    def _ended(self, job: Job, said: Said) -> None:
        """A handler is over."""
        self._history.said(job, said)
        if self._dies_with == "handled":
            self._die()
        if self.is_up:
            self.core.finished(job, said)

    # ---- heartbeats ---------------------------------------------------------------------------------------------

    def _pump_beats(self) -> bool:
        core, session = self.core, self.core.session
        moved = self._beats.pump()
        if session is None or core.told is None or core.state is State.OVER:
            self._beat_ms = None
            return moved
        if self._beat_ms is None:
            self._beat_ms = self._world.now_ms
        if not self._beats.is_open or self._world.now_ms < self._beat_ms:
            return moved
        self._beat_ms = self._world.now_ms + core.told.heartbeat_ms
        if self._beat_session is None:
            self._beat_session = session
            tasks = [[job.id, job.fence] for job in core.jobs.held.values()]
            self._beats.send([m.Heartbeat(HEARTBEAT_RID, session, tasks[: limits.SESSION_TASKS_MAX], {})])
        return True

    def _beat_now(self) -> None:
        self._beat_session = None
        if self._beat_ms is not None:
            self._beat_ms = self._world.now_ms

    def _beat_lost(self) -> None:
        self._beat_session = None

    def _beat_answered(self, message: m.Message) -> None:
        session, self._beat_session = self._beat_session, None
        if session is None:
            return
        if isinstance(message, m.HeartbeatReply):
            self.core.heard(session, message)
        elif isinstance(message, m.ErrorReply):
            error = from_wire(message.error)
            if isinstance(error, SessionLost):
                self.core.session_lost(session)
                return
            if isinstance(error, NotLeader):
                self._beats.addresses.prefer(error.leader)
            self._beats.hang_up()
        else:
            self._beat_session = session  # GOAWAY, or a push

    # ---- beginning and end --------------------------------------------------------------------------------------

    def _dress(self, handlers: Handlers, layers: list[Any], factories: dict[str, Callable[..., Any]]) -> Handlers:
        """What the worker's start does with them: middleware round the functions, resources made and handed in."""
        here = Handlers()
        for handler in handlers:
            here.add(attrs.evolve(handler, executor="thread") if handler.executor == "process" else handler)
        check(layers, here)
        places = plan(here, factories)
        values = make(places.process, factories, self._stack)
        for executor, names in (("async", places.trio), ("asyncio", places.asyncio)):
            if names:
                loop = self._loop(executor)
                held = loop.hold(names, factories)
                self._held.append((loop, held))
                values |= held.values
        return dressed(here, layers, values, child=False)

    def _loop(self, executor: str) -> BatonLoop:
        loop = self._world.loops.get(executor)
        if loop is None:
            loop = self._world.loops[executor] = LOOPS[executor](self._world)
        assert isinstance(loop, BatonLoop)
        return loop

    def _die(self) -> None:
        self._line.vanish()
        self._beats.vanish()
        for job in self.core.jobs.running.values():
            job.context.cancel()
            if job.handler.is_async:
                self._stop_job(job)
        self._end()

    def _end(self) -> None:
        self.is_up = False
        self._line.hang_up()
        self._beats.hang_up()
        if self in self._world.actors:
            self._world.actors.remove(self)


def parts_of(app: Any) -> tuple[Handlers, list[Any], dict[str, Callable[..., Any]]]:
    """Handlers, middleware and resources of an ``App`` or a ``Handlers``. Raises ConfigError."""
    handlers = app if isinstance(app, Handlers) else getattr(app, "handlers", None)
    if not isinstance(handlers, Handlers):
        raise ConfigError(f"{app!r} has no handlers: give a tq.App, or a tq.worker.handlers.Handlers")
    if not len(handlers):
        raise ConfigError(f"{app!r} has no tasks yet: import the modules that define them first")
    return handlers, list(getattr(app, "worker_middleware", ())), dict(getattr(app, "resources", {}))
