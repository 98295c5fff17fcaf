"""The main loop of a worker: its parts, started top to bottom, stopped bottom to top.

SIGTERM or SIGINT: claim no more, let what runs end and report it, take leave of the cluster, end with 0. What has
not ended in time goes back to its queue. The second signal: tell the cluster, if it can be told at once, and end
with 130. Should a handler then still keep the loop or its scope, the process is ended around it.
"""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable
from typing import Final

import attrs
import structlog
import trio

from tq import limits, logs
from tq.errors import ConfigError, SessionLost
from tq.protocol import messages as m
from tq.protocol.addresses import Address, Addresses, parse
from tq.version import VERSION
from tq.worker.core import Settings, WorkerCore
from tq.worker.coroutines import Coroutines
from tq.worker.handlers import Handlers, load
from tq.worker.heartbeats import Beat, Heartbeats
from tq.worker.processes import Processes
from tq.worker.shell import Shell
from tq.worker.signals import LastResort, stopping
from tq.worker.threads import Threads
from tq.worker.usage import Usage
from tq.world import RealClock, RealRandom

DONE: Final = 0
INTERRUPTED: Final = 130
END_S: Final = 2.0  # for handlers that were told to stop, at the very end


def main(
    module: str,
    *,
    brokers: str,
    concurrency: int,
    queues: list[str],
    name: str | None,
    drain_seconds: float,
    log_level: str,
    log_format: str,
) -> int:
    """Run the handlers of ``module`` until a signal. Returns the exit code.

    Raises:
        TqError: the worker cannot begin or go on: no such module, a queue's name that is none, ...
    """
    if log_level not in logs.LEVELS:
        raise ConfigError(f"log level {log_level!r}: use one of {', '.join(logs.LEVELS)}")
    if log_format not in ("text", "json"):
        raise ConfigError(f'log format {log_format!r}: use "text" or "json"')
    if not queues:
        raise ConfigError('no queue is named: give at least one, as in "--queues default"')
    logs.configure(log_level, "json" if log_format == "json" else "text")
    handlers = load(module)
    random = RealRandom()
    settings = Settings(
        name=name or new_name(random.bytes(4).hex()),
        queues=queues,
        concurrency=concurrency,
        drain_ms=round(drain_seconds * 1000),
        info={
            "host": platform.node()[:200],
            "pid": os.getpid(),
            "version": VERSION,
            "python": platform.python_version(),
            "slots": concurrency,
            "module": module[:200],
        },
    )
    _freeze_garbage()
    return trio.run(serve, settings, handlers, module, parse(brokers), LastResort(END_S))


async def serve(
    settings: Settings, handlers: Handlers, module: str, brokers: list[Address], last_resort: LastResort
) -> int:
    """The worker, from its handlers to its sockets and back. The exit code."""
    log = structlog.get_logger("tq.worker")
    clock, random = RealClock(), RealRandom()
    client = f"tq-worker/{settings.name}"
    core = WorkerCore(attrs.evolve(settings, has_others=len(brokers) > 1), handlers, clock, random)
    shell = Shell(core, Addresses(brokers), client, clock, random)
    soon = _Soon(trio.lowlevel.current_trio_token())
    code = DONE

    def told(session: bytes, answer: m.HeartbeatReply | SessionLost) -> None:
        if isinstance(answer, SessionLost):
            core.session_lost(session)
        else:
            core.heard(session, answer)
        shell.poke()

    def force() -> None:
        nonlocal code
        code = INTERRUPTED
        last_resort.arm(INTERRUPTED)
        soon(shell.quit)

    async with trio.open_nursery() as nursery:
        threads = Threads(shell.finished, soon)
        processes = Processes(shell.finished, nursery, module)
        coroutines = Coroutines(shell.finished, nursery)
        shell.executors = {"thread": threads, "process": processes, "async": coroutines}
        heartbeats = Heartbeats(
            Addresses(brokers),
            client,
            clock,
            random,
            lambda: _beat(core),
            lambda session, answer: soon(lambda: told(session, answer)),
            Usage(core, settings.concurrency, lambda: processes.pids),
        )
        shell.on_session = heartbeats.poke
        log.info(
            "starts",
            worker=settings.name,
            types=handlers.types,
            queues=settings.queues,
            slots=settings.concurrency,
            brokers=str(Addresses(brokers)),
        )
        heartbeats.start()
        with stopping(lambda: soon(shell.drain), force):
            nursery.start_soon(shell.connect)
            await shell.run()
            heartbeats.stop()
            last_resort.arm(code)  # a handler that does not let itself be cancelled would keep us here
            nursery.cancel_scope.cancel()
    threads.close()
    processes.close()
    last_resort.disarm()
    log.info("stopped", worker=settings.name, **attrs.asdict(core.stats()))
    if core.failure is not None:
        raise core.failure
    return code


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
    tasks = [[job.id, job.fence] for job in list(core.held.values())]
    running = sorted({job.handler.type for job in list(core.running.values())})
    return Beat(session, told.heartbeat_ms, tasks[: limits.SESSION_TASKS_MAX], running)


def _freeze_garbage() -> None:
    """What is alive now lives as long as the process: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def new_name(chance: str) -> str:
    """``host-pid-random``."""
    tail = f"-{os.getpid()}-{chance}"
    return platform.node()[: limits.NAME_CHARS_MAX - len(tail)] + tail
