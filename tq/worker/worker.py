"""One life of a worker: its parts are started top to bottom and stopped bottom to top.

SIGTERM or SIGINT: claim no more, let what runs end and report it, take leave of the cluster, end with 0. What has
not ended in time goes back to its queue. The second signal: tell the cluster, if it can be told at once, and end
with 130. Should a handler then still keep the loop or its scope, the process is ended around it.

A worker that has lived long enough (``recycling``), or whose code was changed (``reload``), drains in the same way, and
answers ANEW, unless a signal came: ``run`` then begins anew in the same process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Final

import attrs
import structlog
import trio

from tq import limits
from tq.errors import InternalError, SessionLost, TqError
from tq.protocol import messages as m
from tq.protocol.addresses import Address, Addresses
from tq.worker import resources
from tq.worker.core import Settings, State, WorkerCore
from tq.worker.coroutines import Coroutines
from tq.worker.handlers import Loaded
from tq.worker.heartbeats import Beat, Heartbeats
from tq.worker.job import Done, Executor, Job
from tq.worker.middleware import check, dressed
from tq.worker.outcomes import Said
from tq.worker.processes import Processes
from tq.worker.recycling import NEVER, Life, Recycling
from tq.worker.reload import Watcher
from tq.worker.shell import Shell
from tq.worker.signals import LastResort, stopping
from tq.worker.threads import Threads
from tq.worker.usage import Usage, rss_bytes
from tq.world import RealClock, RealRandom

if TYPE_CHECKING:
    from tq.worker.asyncio_loop import AsyncioLoop

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
ANEW: Final = -1  # no exit code: the program is to be run again
END_S: Final = 2.0  # for handlers that were told to stop, at the very end
CLOSE_S: Final = 10.0  # for resources
LOOK_S: Final = 1.0  # between two looks at the memory


class Worker:
    """``serve`` is called once."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        module: str,
        brokers: list[Address],
        *,
        recycling: Recycling = NEVER,
        reload_since_ms: int | None = None,
        last_resort: Callable[[float], LastResort] = LastResort,
    ) -> None:
        """module: what child processes import. reload_since_ms: begin anew when its code changes, which began to be loaded
        at this Unix time.

        Raises:
            ConfigError: resources or middleware do not fit the handlers.
        """
        check(loaded.middleware, loaded.handlers)
        self._plan = resources.plan(loaded.handlers, loaded.resources)
        self._settings = attrs.evolve(settings, has_others=len(brokers) > 1)
        self._loaded = loaded
        self._module = module
        self._brokers = brokers
        self._recycling = recycling
        self._reload_since_ms = reload_since_ms
        self._ending = last_resort(END_S)
        self._closing = last_resort(CLOSE_S)
        self._log = structlog.get_logger("tq.worker")
        self._clock = RealClock()
        self._random = RealRandom()
        self._code = DONE
        self._is_signalled = False
        self._core: WorkerCore | None = None  # these when they are there
        self._shell: Shell | None = None
        self._soon: _Soon | None = None
        self._done: Done | None = None

    async def serve(self) -> int:
        """From the resources to the sockets and back. The exit code, or ANEW.

        Raises:
            ResourceFailed: one could not be made; nothing was claimed.
            TqError: a broker refuses this worker for good.
        """
        self._soon = _Soon(trio.lowlevel.current_trio_token())
        with stopping(self._on_signal, self._on_second_signal):
            async with AsyncExitStack() as stack:
                stack.callback(self._closing.disarm)
                values = await self._make_resources(stack)
                loop = self._asyncio_loop(stack, values)
                stack.callback(lambda: self._closing.arm(self._exit_code))
                core, failure = await self._work(values, loop)
        self._log.info("stopped", worker=self._settings.name, **attrs.asdict(core.stats()))
        if failure is not None:
            raise failure
        return DONE if self._code == ANEW and self._is_signalled else self._code

    @property
    def _exit_code(self) -> int:
        """Of the process, should it be ended around something that hangs."""
        return FAILED if self._code == ANEW else self._code

    # ---- what comes from outside -------------------------------------------------------------------

    def _on_signal(self) -> None:
        self._is_signalled = True
        if self._soon is not None:
            self._soon(self._drain)

    def _on_second_signal(self) -> None:
        self._code = INTERRUPTED
        self._ending.arm(INTERRUPTED)
        if self._soon is not None:
            self._soon(self._quit)

    def _drain(self) -> None:
        if self._shell is not None:
            self._shell.drain()

    def _quit(self) -> None:
        if self._shell is not None:
            self._shell.quit()

    def _begin_anew(self, why: str) -> None:
        """After a drain, unless it is on its way out already."""
        if self._core is not None and self._core.state is State.RUNNING:
            self._code = ANEW
            self._log.info("begins anew when it has drained", why=why)
            self._drain()

    def _heard(self, session: bytes, answer: m.HeartbeatReply | SessionLost) -> None:
        assert self._core is not None and self._shell is not None  # noqa: PT018
        if isinstance(answer, SessionLost):
            self._core.session_lost(session)
        else:
            self._core.heard(session, answer)
        self._shell.poke()

    # ---- what handlers need ------------------------------------------------------------------------

    async def _make_resources(self, stack: AsyncExitStack) -> dict[str, Any]:
        factories = self._loaded.resources
        values = resources.make(self._plan.process, factories, stack.enter_context(ExitStack()))
        return values | await resources.make_async(self._plan.trio, factories, stack)

    def _asyncio_loop(self, stack: AsyncExitStack, values: dict[str, Any]) -> AsyncioLoop | None:
        """The loop with its resources, if there is something for it to do."""
        names = self._plan.asyncio
        if not names and all(handler.executor != "asyncio" for handler in self._loaded.handlers):
            return None
        from tq.worker.asyncio_loop import AsyncioLoop  # and with it asyncio, which most workers do without

        assert self._soon is not None
        loop = AsyncioLoop(self._finished, self._soon, self._asyncio_died)
        stack.callback(loop.close)
        values |= loop.open({name: self._loaded.resources[name] for name in names})
        return loop

    def _finished(self, job: Job, said: Said) -> None:
        assert self._done is not None
        self._done(job, said)

    def _asyncio_died(self, error: BaseException) -> None:
        if self._core is not None and self._shell is not None:
            what = f"{type(error).__name__}: {error}"
            self._core.give_up(InternalError(f"the asyncio loop ended, by something that a handler left on it: {what}"))
            self._shell.poke()

    # ---- the worker itself -------------------------------------------------------------------------

    async def _work(self, values: dict[str, Any], loop: AsyncioLoop | None) -> tuple[WorkerCore, TqError | None]:
        """All but the resources. How it was, and why it failed."""
        settings, clock, random, soon = self._settings, self._clock, self._random, self._soon
        assert soon is not None
        client = f"tq-worker/{settings.name}"
        handlers = dressed(self._loaded.handlers, self._loaded.middleware, values, child=False)
        core = self._core = WorkerCore(settings, handlers, clock, random)
        shell = self._shell = Shell(core, Addresses(self._brokers), client, clock, random)
        core.asides.wake = lambda: soon(shell.poke)
        if self._is_signalled:
            shell.drain()
        life = Life(self._recycling, random)
        done = self._counting(shell.finished, life) if self._recycling.is_on else shell.finished
        self._done = done
        async with trio.open_nursery() as nursery:
            threads = Threads(done, soon)
            processes = Processes(shell.finished, nursery, self._module, self._recycling, random)
            executors: dict[str, Executor] = {
                "thread": threads, "process": processes, "async": Coroutines(done, nursery),
            }  # fmt: skip
            if loop is not None:
                executors["asyncio"] = loop
            shell.executors = executors
            failure = await processes.warm() if self._plan.child else None
            if failure is None:
                await self._run(core, shell, nursery, life, processes)
                failure = core.failure
            self._ending.arm(self._exit_code)  # a handler that does not let itself be cancelled would keep us here
            nursery.cancel_scope.cancel()
        threads.close()
        if loop is not None:
            loop.end_handlers()
        self._ending.disarm()
        processes.close()
        return core, failure

    async def _run(
        self, core: WorkerCore, shell: Shell, nursery: trio.Nursery, life: Life, processes: Processes
    ) -> None:
        settings, soon, brokers = self._settings, self._soon, self._brokers
        assert soon is not None
        heartbeats = Heartbeats(
            Addresses(brokers),
            f"tq-worker/{settings.name}",
            self._clock,
            self._random,
            lambda: _beat(core),
            lambda session, answer: soon(lambda: self._heard(session, answer)),
            Usage(core, settings.concurrency, lambda: processes.pids),
        )
        shell.on_session = heartbeats.poke
        self._log.info(
            "starts",
            worker=settings.name,
            types=self._loaded.handlers.types,
            queues=settings.queues,
            slots=settings.concurrency,
            brokers=str(Addresses(brokers)),
        )
        watcher: Watcher | None = None
        if self._reload_since_ms is not None:
            watcher = Watcher(self._reload_since_ms, lambda path: soon(lambda: self._begin_anew(f"{path} has changed")))
            watcher.start()
        if self._recycling.memory_bytes_max is not None:
            nursery.start_soon(self._watch_memory, life)
        heartbeats.start()
        nursery.start_soon(shell.connect)
        await shell.run()
        heartbeats.stop()
        if watcher is not None:
            watcher.stop()

    def _counting(self, done: Done, life: Life) -> Done:
        def count(job: Job, said: Said) -> None:
            done(job, said)
            why = life.task_ended()
            if why is not None:
                self._begin_anew(why)

        return count

    async def _watch_memory(self, life: Life) -> None:
        while True:
            await trio.sleep(LOOK_S)
            why = life.grown(rss_bytes())
            if why is not None:
                self._begin_anew(why)


class _Soon:
    """Run a function on the loop's thread, soon; from any thread and from signal handlers. After its end: never."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token

    def __call__(self, function: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return


def _beat(core: WorkerCore) -> Beat | None:
    """What the next heartbeat says; called on the heartbeats' thread, which may find each part of another moment."""
    session, told = core.session, core.told
    if session is None or told is None:
        return None
    tasks = [[job.id, job.fence] for job in list(core.jobs.held.values())]
    running = sorted({job.handler.type for job in list(core.jobs.running.values())})
    return Beat(session, told.lease_ms, told.heartbeat_ms, tasks[: limits.SESSION_TASKS_MAX], running)
