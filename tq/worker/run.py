"""``tq worker``: what it is told, what it loads, and how one life of it follows another in the same process."""

from __future__ import annotations

import gc
import os
import platform
import threading
from typing import Final

import attrs
import trio

from tq import limits, logs
from tq.errors import ConfigError
from tq.protocol.addresses import parse
from tq.version import VERSION
from tq.worker import reload
from tq.worker.core import Settings
from tq.worker.handlers import Loaded, load
from tq.worker.loading import load_told
from tq.worker.recycling import Recycling
from tq.worker.worker import ANEW, Worker
from tq.world import RealClock, RealRandom

QUEUE_DEFAULT: Final = "default"


@attrs.frozen
class Options:
    """What a worker is told.

    brokers: addresses, as the command line takes them; are_brokers_said: by the caller himself, so that they go before
    those of the app. queues: in this order; None: those of the app's tasks. tasks_max, memory_bytes_max: when it has
    lived long enough. is_reloading: it begins anew when its code changes.
    """

    module: str
    brokers: str
    concurrency: int
    queues: list[str] | None
    name: str | None
    drain_seconds: float
    log_level: str
    log_format: str
    are_brokers_said: bool = True
    tasks_max: int | None = None
    memory_bytes_max: int | None = None
    is_reloading: bool = False


def main(options: Options) -> int:
    """Run the handlers of a module until a signal. Returns the exit code.

    Raises:
        TqError: the worker cannot begin or go on: no such module, a queue's name that is none, ...
    """
    if options.log_level not in logs.LEVELS:
        raise ConfigError(f"log level {options.log_level!r}: use one of {', '.join(logs.LEVELS)}")
    if options.log_format not in ("text", "json"):
        raise ConfigError(f'log format {options.log_format!r}: use "text" or "json"')
    if options.queues == []:
        raise ConfigError('no queue is named: give at least one, as in "--queues default"')
    logs.configure(options.log_level, "json" if options.log_format == "json" else "text")
    folder = os.getcwd()
    if options.is_reloading:
        now_ms = RealClock().wall_ms()
        code = reload.until_it_begins(lambda: live(options, now_ms), now_ms, threading.Event().wait, ANEW)
    else:
        code = live(options)
    if code == ANEW:
        reload.begin_anew(folder)
    return code


def queues_of(app: object | None) -> list[str]:
    """Those that tasks of the app are submitted to unless they say otherwise; of bare handlers nobody knows them."""
    return list(getattr(app, "queues", ())) or [QUEUE_DEFAULT]


def live(options: Options, since_ms: int | None = None) -> int:
    """One life of a worker. The exit code, or ANEW. since_ms: the Unix time now, to begin anew when its code changes."""
    loaded = load(options.module) if options.is_reloading else load_told(options.module)
    random = RealRandom()
    known = queues_of(loaded.app)
    settings = Settings(
        name=options.name or new_name(random.bytes(4).hex()),
        queues=known if options.queues is None else options.queues,
        concurrency=options.concurrency,
        drain_ms=round(options.drain_seconds * 1000),
        info={
            "host": platform.node()[:200],
            "pid": os.getpid(),
            "version": VERSION,
            "python": platform.python_version(),
            "slots": options.concurrency,
            "module": options.module[:200],
        },
        queues_typed=tuple(options.queues or ()),
        queues_known=tuple(known),
    )
    worker = Worker(
        settings,
        loaded,
        options.module,
        parse(_brokers(options, loaded)),
        recycling=Recycling(options.tasks_max, options.memory_bytes_max),
        reload_since_ms=since_ms,
    )
    _freeze_garbage()
    return trio.run(worker.serve)


def _brokers(options: Options, loaded: Loaded) -> str:
    """Tasks that its handlers submit go to the cluster that the worker's own come from."""
    if loaded.app is None:
        return options.brokers
    if options.are_brokers_said or not loaded.app.brokers:
        loaded.app.brokers = options.brokers
    brokers: str = loaded.app.brokers
    return brokers


def _freeze_garbage() -> None:
    """What is alive now lives as long as the process: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def new_name(chance: str) -> str:
    """``host-pid-random``."""
    tail = f"-{os.getpid()}-{chance}"
    return platform.node()[: limits.NAME_CHARS_MAX - len(tail)] + tail
