"""The borders of the house: who imports whom, and who may touch the world. ``python -m tests.test_layers`` reports sizes.

Theory. A file is read as a tree (``ast``), never imported. Of each we take what it *uses*: the modules of ours that it
imports, and every dotted name of another module, as far as it is written (``os.environ``, ``time.monotonic``, ``trio``).
What stands under TYPE_CHECKING counts too: to know a type is to know the module.

- ROOMS says which rooms a room may import; ROOMS_NARROW, through which doors only.
- PURE names what any file may use: it gives the same answer for the same arguments, always and everywhere.
- Everything else is a door to the world, and DOORS says which files stand at it. So a new file is pure until somebody
  opens a door for it here, and a new dependency cannot come in by the window.
- CORE may use no door at all, and is held to more: it decides the same on every node.

Rejected: a list of what is banned (what nobody thought of is allowed); regular expressions (blind to ``as``, and they
find comments); ruff alone (it bans calls, but knows no rooms).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tq").rglob("*.py"))

# ---- who imports whom --------------------------------------------------------------------------------

LEAVES = {"errors", "limits"}
BYTES = LEAVES | {"cbor", "spec"}

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "world": set(),
    "version": set(),
    "verdicts": set(),
    "metrics": set(),
    "cbor": {"limits"},
    "spec": LEAVES | {"cbor"},
    "config": LEAVES,
    "logs": {"errors"},
    "protocol": LEAVES | {"cbor"},
    "store": LEAVES | {"world"},
    "machine": BYTES | {"store"},
    "raft": LEAVES | {"cbor", "world", "protocol"},
    "client": BYTES | {"world", "protocol", "verdicts"},
    "worker": BYTES | {"world", "protocol", "verdicts", "logs", "version"},
    "app": LEAVES | {"client", "worker", "verdicts", "spec"},
    "samples": {"worker", "verdicts"},
    "broker": BYTES | {"world", "protocol", "store", "machine", "raft", "config", "logs", "metrics", "version"},
    "cli": LEAVES
    | {"protocol", "client", "config", "version", "world", "broker", "worker", "bench", "dev", "logs", "sim"},
    "dev": LEAVES,
    "sim": BYTES
    | {"world", "protocol", "store", "machine", "raft", "broker", "client", "worker", "config", "verdicts"},
    "testing": BYTES
    | {"world", "config", "logs", "verdicts", "protocol", "store", "machine", "broker", "client", "worker", "sim"},
    "bench": BYTES | {"world", "protocol", "store", "machine", "client", "worker", "version", "tq"},
    "contrib": LEAVES | {"app", "client", "worker", "verdicts", "version"},
    "tq": {"app", "client", "errors", "verdicts", "worker"},
}
"""Room -> rooms it may import, besides itself. A file right under tq/ is a room; ``tq`` is tq/__init__.py."""

ROOMS_NARROW: dict[tuple[str, str], set[str]] = {
    ("machine", "store"): {"tq.store.txn", "tq.store.tables", "tq.store.keys"},  # what is stored, never how
    ("raft", "protocol"): {"tq.protocol.frames"},
    ("cli", "protocol"): {"tq.protocol.addresses"},
    ("cli", "broker"): {"tq.broker.run", "tq.broker.rebuild"},
    ("cli", "dev"): {"tq.dev.run"},
    ("cli", "sim"): {"tq.sim.verify"},
    ("cli", "worker"): {"tq.worker.run"},
    ("samples", "worker"): {"tq.worker.handlers", "tq.worker.context"},  # as users' modules
    ("bench", "worker"): {"tq.worker.handlers", "tq.worker.context"},
}
"""(room, imported room) -> the only modules of it."""

# ---- what anybody may use ------------------------------------------------------------------------------

PURE = {
    "__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses", "decimal", "difflib", "enum",
    "errno", "fractions", "functools", "hashlib", "heapq", "hmac", "inspect", "io.BytesIO", "ipaddress", "itertools", "json",
    "math", "operator", "re", "statistics", "string", "struct", "sys.byteorder", "sys.maxsize", "tomllib", "traceback", "types", "typing",
    "uuid.UUID",
    "attrs", "cattrs", "crc32c", "sortedcontainers",
}  # fmt: skip
"""Names, or beginnings of dotted names."""

# ---- who stands at a door ------------------------------------------------------------------------------

BROKER_SHELL = ["tq/broker/run.py", "tq/broker/listen.py", "tq/broker/health.py", "tq/broker/peers.py"]
PEERS_SHELL = ["tq/raft/transport/shell.py", "tq/raft/transport/stream.py"]
WORKER_SHELL = ["tq/worker/run.py", "tq/worker/worker.py", "tq/worker/shell.py", "tq/worker/connection.py"]
CLIENT_SHELL = ["tq/client/shell.py", "tq/client/async_shell.py", "tq/client/wire.py", "tq/client/base.py"]
DEV = ["tq/dev/run.py"]
BENCH = ["tq/bench/*"]  # measures real processes by real clocks

DOORS: dict[str, list[str]] = {
    # time, chance
    "time.monotonic": ["tq/world.py"],
    "time.monotonic_ns": ["tq/world.py"],
    "time.time_ns": ["tq/world.py"],
    "time": BENCH,  # and polls them; all else waits for the event, with a time-out
    "random.SystemRandom": ["tq/world.py"],
    "random.Random": ["tq/sim/random.py", "tq/testing/trio_order.py"],  # seeded: plays the one above
    "os.urandom": ["tq/world.py"],
    "uuid.uuid4": BENCH,
    "datetime": ["tq/cli/times.py", "tq/client/specs.py", "tq/app/converters.py", "tq/app/options.py", "tq/app/unions.py", "tq/contrib/celery.py", "tq/testing/simulation.py", "tq/testing/clusters.py", "tq/testing/memory.py"],  # moments that users read and write; never now()
    # files, the process
    "os": ["tq/world.py", "tq/dev/child.py", *BENCH],
    "os.killpg": DEV,
    "os.register_at_fork": ["tq/client/forks.py"],
    "weakref.WeakSet": ["tq/client/forks.py"],  # told one by one, in no order that matters
    "fcntl": ["tq/world.py"],
    "fcntl.fcntl": ["tq/store/lmdb_copy.py"],
    "fcntl.F_SETPIPE_SZ": ["tq/store/lmdb_copy.py"],
    "pathlib": ["tq/config.py", "tq/cli/*", *DEV, *BENCH],
    "pathlib.Path": ["tq/app/names.py"],  # what the program is called
    "pathlib.PurePath": ["tq/app/unions.py"],  # a type, no file
    "tempfile": [*DEV, *BENCH],
    "textwrap": ["tq/cli/base.py"],
    "shutil": BENCH,
    "shutil.get_terminal_size": ["tq/cli/base.py"],
    "shutil.rmtree": ["tq/dev/child.py"],
    "atexit": ["tq/dev/child.py"],
    "os.pipe2": ["tq/store/lmdb_copy.py"],  # LMDB writes a copy of itself into a pipe
    "os.read": ["tq/store/lmdb_copy.py"],
    "os.close": ["tq/store/lmdb_copy.py"],
    "os.O_CLOEXEC": ["tq/store/lmdb_copy.py"],
    "os.environ": ["tq/cli/*", "tq/client/base.py", "tq/logs.py", "tq/app/app.py"],  # read once, at the start
    "os.getpid": ["tq/cli/base.py", "tq/client/shell.py", "tq/client/base.py", "tq/worker/run.py", "tq/worker/processes.py", "tq/app/app.py"],
    "os.getppid": ["tq/worker/child.py"],
    "os.strerror": ["tq/client/async_shell.py"],
    "os._exit": ["tq/worker/child.py", "tq/worker/signals.py"],  # when a handler holds the process
    "os.getcwd": ["tq/worker/handlers.py", "tq/worker/run.py", "tq/worker/reload.py"],  # users' modules are found there
    "os.chdir": ["tq/worker/reload.py"],  # a worker that begins anew is started as it was
    "os.execv": ["tq/worker/reload.py"],
    "os.path": ["tq/worker/reload.py"],  # the user's files, which are looked at only
    "os.stat": ["tq/worker/reload.py"],
    "os.listdir": ["tq/worker/reload.py"],
    "os.sep": ["tq/worker/reload.py"],
    "sysconfig": ["tq/worker/reload.py"],
    "sys.modules": ["tq/worker/reload.py", "tq/worker/saving.py", "tq/app/names.py", "tq/app/hints.py"],
    "sys.orig_argv": ["tq/worker/reload.py"],
    "os.devnull": ["tq/cli/base.py"],  # where output goes when its reader has gone
    "os.dup2": ["tq/cli/base.py"],
    "os.open": ["tq/cli/base.py"],
    "os.O_WRONLY": ["tq/cli/base.py"],
    "sys": BENCH,
    "sys.path": ["tq/worker/handlers.py"],
    "sys.argv": ["tq/worker/child.py", "tq/cli/reference.py", *BENCH],
    "sys.executable": [*DEV, "tq/worker/processes.py", "tq/worker/reload.py", *BENCH],
    "sys.platform": ["tq/worker/*"],
    "sys.stderr": ["tq/worker/child.py", "tq/worker/reload.py", "tq/logs.py", "tq/broker/run.py", "tq/cli/base.py"],
    "sys.stdin": ["tq/cli/*"],
    "sys.stdout": ["tq/worker/child.py", "tq/worker/reload.py", "tq/cli/*"],
    "builtins.print": ["tq/broker/run.py", *BENCH],
    "importlib.import_module": ["tq/__init__.py", "tq/worker/handlers.py", "tq/testing/__init__.py"],
    "importlib.__file__": ["tq/worker/loading.py"],  # to know its frames in a traceback
    "importlib.metadata": ["tq/version.py", *BENCH],
    "platform": ["tq/worker/run.py", *BENCH],
    "psutil": ["tq/worker/usage.py", *BENCH],
    "signal": ["tq/broker/run.py", "tq/worker/signals.py", "tq/worker/processes.py", "tq/worker/child.py", *BENCH],
    "signal.SIGTERM": ["tq/dev/child.py", *DEV],
    "signal.SIGINT": DEV,
    "signal.SIGHUP": DEV,
    "signal.SIGKILL": DEV,
    "gc": ["tq/broker/run.py", "tq/worker/run.py"],
    "subprocess": ["tq/worker/processes.py", *DEV, *BENCH],
    "ctypes": ["tq/worker/interrupt.py", "tq/worker/child.py"],
    # sockets, waiting
    "socket": [
        *BROKER_SHELL, *PEERS_SHELL, "tq/broker/connection.py", *CLIENT_SHELL, "tq/worker/connection.py", "tq/worker/processes.py",
        "tq/worker/child.py", "tq/worker/heartbeats.py", *BENCH,
    ],
    "socket.socket": DEV,  # asks for a free port
    "socket.SOL_SOCKET": DEV,
    "socket.SO_REUSEADDR": DEV,
    "select": ["tq/client/shell.py"],
    "selectors": ["tq/testing/asyncio_loop.py", *BENCH],
    "http": BENCH,
    "h11": ["tq/broker/health.py"],
    "starlette": ["tq/contrib/fastapi.py"],
    "django": ["tq/contrib/django.py"],
    "opentelemetry": ["tq/contrib/opentelemetry.py"],
    "anyio": ["tq/client/async_shell.py", "tq/client/asynchronous.py", "tq/app/loops.py", "tq/testing/shell.py", "tq/testing/async_shell.py"],  # trio and asyncio alike, for users' loops
    "ssl": [*PEERS_SHELL, "tq/broker/tls.py"],
    "trio": [*BROKER_SHELL, *DEV, *PEERS_SHELL, "tq/raft/driver.py", *WORKER_SHELL, "tq/worker/coroutines.py", "tq/worker/processes.py", "tq/worker/saving.py", "tq/bench/tasks.py", "tq/bench/ways.py", "tq/testing/trio_loop.py", "tq/testing/trio_order.py"],
    # threads: see docs/architecture.md
    "threading": [
        "tq/client/shell.py", "tq/raft/sync.py", "tq/worker/threads.py", "tq/worker/child.py", "tq/worker/heartbeats.py",
        "tq/worker/signals.py", "tq/worker/asyncio_loop.py", "tq/worker/reload.py", *BENCH,
    ],
    "threading.Lock": ["tq/client/ids.py", "tq/client/session.py", "tq/store/lmdb_store.py", "tq/store/lmdb_copy.py", "tq/app/app.py", "tq/testing/world.py"],
    "threading.Thread": ["tq/store/lmdb_copy.py", "tq/dev/child.py", "tq/testing/baton.py"],
    "contextvars": ["tq/worker/context.py", "tq/worker/frame.py", "tq/worker/coroutines.py"],  # a handler's own
    "asyncio": ["tq/worker/asyncio_loop.py", "tq/testing/asyncio_loop.py"],  # for users' handlers, on a thread of its own
    "asyncio.Event": ["tq/worker/saving.py"],  # for handlers that wait there
    "asyncio.get_running_loop": ["tq/worker/saving.py"],
    "threading.Semaphore": ["tq/testing/baton.py"],
    "threading.Event": ["tq/worker/context.py", "tq/worker/saving.py", "tq/worker/run.py", "tq/cli/base.py"],
    "threading.get_ident": ["tq/raft/driver.py", "tq/app/loops.py", "tq/testing/world.py"],
    "concurrent.futures": ["tq/broker/long_work.py"],
    "queue": ["tq/client/blocking.py", "tq/raft/sync.py", "tq/worker/threads.py", "tq/worker/child.py", "tq/testing/shell.py"],
    # libraries that have one home
    "cbor2": ["tq/cbor.py"],
    "lmdb": ["tq/store/lmdb_store.py", "tq/store/lmdb_file.py", "tq/store/lmdb_copy.py", "tq/store/lmdb_intake.py"],
    "pysyncobj": ["tq/raft/adapter.py"],
    "prometheus_client": ["tq/metrics.py"],
    "structlog": ["tq/logs.py"],
    "structlog.get_logger": [*BROKER_SHELL, *PEERS_SHELL, "tq/broker/broker.py", "tq/worker/*"],
    "logging": ["tq/logs.py"],
    "typer": ["tq/cli/*"],
    "rich": ["tq/cli/table.py", "tq/cli/depth.py"],
    "yaml": ["tq/cli/show.py"],
    "pytest": ["tq/testing/plugin.py"],  # which loads it
    # tools
    "argparse": BENCH,
    "cProfile": BENCH,
    "pstats": BENCH,
}  # fmt: skip
"""Name, or beginning of a dotted name -> files that may use it."""

NEVER = {
    "random.random": "use world.Random",
    "multiprocessing": "tq/worker/processes.py says why",
    "pickle": "runs whatever the bytes say",
    "marshal": "as pickle",
    "shelve": "as pickle",
    "secrets": "use world.Random",
    "builtins.eval": "no",
    "builtins.exec": "no",
    "builtins.__import__": "write an import",
    "tests": "the product does not know its tests",
    "cluster": "tools round the product use it, never the other way",
}
"""No file at all; why, or what instead."""

CORE = [
    "tq/errors.py", "tq/limits.py", "tq/cbor.py", "tq/spec.py", "tq/verdicts.py",
    "tq/machine/*", "tq/protocol/*",
    "tq/store/keys.py", "tq/store/tables.py", "tq/store/txn.py", "tq/store/store.py", "tq/store/dump.py", "tq/store/memory.py",
    "tq/raft/guard.py", "tq/raft/candidacy.py", "tq/raft/node.py", "tq/raft/journal.py", "tq/raft/records.py", "tq/raft/recovery.py",
    "tq/raft/segments.py", "tq/raft/term_store.py", "tq/raft/identity.py", "tq/raft/transport/handshake.py",
    "tq/raft/transport/frames.py", "tq/raft/transport/outbox.py", "tq/raft/transport/link.py",
    "tq/broker/relay.py", "tq/broker/gather.py",
    "tq/broker/applier.py", "tq/broker/proposer.py", "tq/broker/dispatch.py", "tq/broker/claims.py", "tq/broker/leases.py",
    "tq/broker/writes.py", "tq/broker/worker_requests.py", "tq/broker/holders.py", "tq/broker/reads.py", "tq/broker/operator_requests.py",
    "tq/broker/subscriptions.py", "tq/broker/replies.py", "tq/broker/bounds.py",
    "tq/broker/waits.py", "tq/broker/events.py", "tq/broker/deadlines.py", "tq/broker/log_time.py", "tq/broker/services.py",
    "tq/broker/expire_leases.py", "tq/broker/advance_timers.py", "tq/broker/bulk_jobs.py", "tq/broker/disk_watch.py",
    "tq/client/core.py", "tq/client/steps.py", "tq/client/asking.py", "tq/client/submits.py", "tq/client/verbs.py",
    "tq/client/middleware.py", "tq/client/records.py", "tq/client/models.py",
    "tq/worker/core.py", "tq/worker/jobs.py", "tq/worker/job.py", "tq/worker/outcomes.py", "tq/worker/pipe.py",
]  # fmt: skip
"""Deterministic: what comes out is decided by what goes in. No door, no coroutine, no order that differs by process."""

CORE_DOORS = {"cbor2": ["tq/cbor.py"]}
"""Libraries without a will of their own."""

COROUTINES = [
    "tq/contrib/*",
    *BROKER_SHELL,
    *DEV,
    *PEERS_SHELL,
    "tq/raft/driver.py",
    *WORKER_SHELL,
    "tq/worker/coroutines.py",
    "tq/worker/processes.py",
    "tq/worker/saving.py",
    "tq/worker/frame.py",
    "tq/worker/asyncio_loop.py",
    "tq/worker/middleware.py",
    "tq/worker/resources.py",
    "tq/client/asynchronous.py",
    "tq/client/async_shell.py",
    "tq/client/running.py",
    "tq/app/app.py",
    "tq/app/definition.py",
    "tq/app/handle.py",
    "tq/app/loops.py",
    "tq/app/task.py",
    "tq/testing/baton.py",
    "tq/testing/trio_loop.py",
    "tq/testing/asyncio_loop.py",
    "tq/testing/shell.py",
    "tq/testing/async_shell.py",
    "tq/testing/world.py",
    "tq/samples.py",
    "tq/bench/app_tasks.py",
    "tq/bench/tasks.py",
    "tq/bench/ways.py",
]
"""Where ``async`` and ``await`` may stand."""

USERS_CODE = [
    "tq/worker/frame.py",
    "tq/worker/outcomes.py",
    "tq/worker/child.py",
    "tq/worker/middleware.py",
    "tq/worker/resources.py",
    "tq/worker/asyncio_loop.py",
    "tq/worker/coroutines.py",  # the comparison of what handlers have set
    "tq/worker/reload.py",
    "tq/worker/loading.py",
]
"""Where everything may be caught, because it may be raised: round handlers and all else that is users' code."""

BEHIND_THE_WALL = ["tq/raft/adapter.py", "tq/sim/disk.py", "tq/testing/trio_order.py"]
"""Where private names of others are used: of PySyncObj, checked at import; of a second disk of the same class; a switch of
trio that tools for tests use."""

NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make"}

BROAD = {"Exception", "BaseException"}


# ---- reading a file ------------------------------------------------------------------------------------


@dataclass
class Source:
    """One file of tq, as far as the rules ask. Lists are of (line, name)."""

    path: str
    tree: ast.Module
    imports: list[tuple[int, str]] = field(default_factory=list)  # modules of ours
    uses: list[tuple[int, str]] = field(default_factory=list)  # names of other modules and of builtins

    @property
    def room(self) -> str:
        return room_of(module_of(self.path))


def module_of(path: str) -> str:
    """tq/a/b.py -> tq.a.b, tq/a/__init__.py -> tq.a"""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "tq"


MODULES = {module_of(path) for path in FILES}


def read(path: str, text: str) -> Source:
    source = Source(path, ast.parse(text, path))
    names: dict[str, str] = {}  # as written here -> as it is called
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                _take(source, node.lineno, alias.name, "")
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                above = module_of(path).split(".")[: -node.level]
                module = ".".join([*above, module]).rstrip(".")
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
                _take(source, node.lineno, module, alias.name)
    for node in ast.walk(source.tree):
        dotted = _dotted(node)
        if dotted is not None and dotted[0] in names:
            source.uses.append((node.lineno, ".".join([names[dotted[0]], *dotted[1:]])))
        elif isinstance(node, ast.Name) and node.id in BUILTINS and node.id not in names:
            source.uses.append((node.lineno, f"builtins.{node.id}"))
    source.uses = [(line, name) for line, name in source.uses if name.split(".")[0] != "tq"]
    return source


BUILTINS = {"open", "print", "input", "eval", "exec", "__import__", "breakpoint"}


def _take(source: Source, line: int, module: str, name: str) -> None:
    """``from module import name``, or ``import module`` with an empty name."""
    full = f"{module}.{name}" if name else module
    if module.split(".")[0] != "tq":
        # ``import os`` alone is no use; ``from os import open`` is one, and ``import pysyncobj.syncobj`` runs it.
        if name or "." in module:
            source.uses.append((line, full))
    else:
        source.imports.append((line, full if full in MODULES else module))


def _dotted(node: ast.AST) -> list[str] | None:
    """``a.b.c`` as its names; None for what is not such a chain."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    if not chain or not isinstance(node, ast.Name):
        return None
    return [node.id, *reversed(chain)]


@cache
def sources() -> list[Source]:
    return [read(path, (ROOT / path).read_text(encoding="utf-8")) for path in FILES]


# ---- the rules -----------------------------------------------------------------------------------------


def borders(source: Source) -> Iterator[str]:
    room = source.room
    if room not in ROOMS:
        yield f"{source.path}: a new room: say in ROOMS what it may import"
        return
    for line, module in source.imports:
        other = room_of(module)
        if other == room:
            continue
        if other not in ROOMS[room]:
            yield f"{source.path}:{line}: {room} must not import {module}"
        elif (room, other) in ROOMS_NARROW and module not in ROOMS_NARROW[room, other]:
            doors = ", ".join(sorted(ROOMS_NARROW[room, other]))
            yield f"{source.path}:{line}: {room} must not import {module}; of {other} it has {doors}"


def doors(source: Source) -> Iterator[str]:
    for line, name in source.uses:
        for banned, instead in NEVER.items():
            if _under(name, banned):
                yield f"{source.path}:{line}: {name} is banned: {instead}"
        if any(_under(name, pure) for pure in PURE):
            continue
        allowed = [pattern for door, patterns in DOORS.items() if _under(name, door) for pattern in patterns]
        if not _matches(source.path, allowed):
            yield f"{source.path}:{line}: {name} is a door to the world; who may use it stands in DOORS"


def core(source: Source) -> Iterator[str]:
    if not _matches(source.path, CORE):
        return
    for line, name in source.uses:
        if any(_under(name, pure) for pure in PURE):
            continue
        if not any(_under(name, door) and source.path in files for door, files in CORE_DOORS.items()):
            yield f"{source.path}:{line}: {name} in the deterministic core"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash":
            yield f"{source.path}:{node.lineno}: hash() of text differs from process to process"
        if isinstance(node, (ast.For, ast.comprehension)) and _is_set(node.iter):
            yield f"{source.path}:{node.iter.lineno}: a set has no order to go by; sorted() gives it one"


def coroutines(source: Source) -> Iterator[str]:
    if _matches(source.path, COROUTINES):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)):
            yield f"{source.path}:{node.lineno}: async stands in the shells only"
            return


def handlers(source: Source) -> Iterator[str]:
    """Broad ``except``, and ``contextlib.suppress`` of the same."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            raises = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if not raises and source.path not in USERS_CODE:
                yield f"{source.path}:{node.lineno}: a broad except swallows bugs; name the error, or raise again"
        if isinstance(node, ast.Call) and _last_name(node.func) == "suppress" and any(map(_is_broad, node.args)):
            yield f"{source.path}:{node.lineno}: suppress of everything swallows bugs"


def state(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield f"{source.path}:{node.lineno}: state of a module: {', '.join(node.names)}; give it to an object"


def privates(source: Source) -> Iterator[str]:
    """``other._name``: what another object keeps to itself. ``x._y`` of a module that a door leads to is that door's."""
    if source.path in BEHIND_THE_WALL:
        return
    modules = {name.split(".")[0] for _, name in source.uses}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Attribute) or not re.match(r"_[a-z]", node.attr) or node.attr in NAMED_TUPLES:
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ast.unparse(node.value)
        if owner not in {"self", "cls", "super()"} | modules:
            yield f"{source.path}:{node.lineno}: {ast.unparse(node)} is private to its object"


RULES = (borders, doors, core, coroutines, handlers, state, privates)


def _under(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(beginning + ".")


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _is_broad(node: ast.expr | None) -> bool:
    if node is None:
        return True
    kinds = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(_last_name(kind) in BROAD for kind in kinds)


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, (ast.Set, ast.SetComp))


# ---- the tests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Callable[[Source], Iterator[str]]) -> None:
    breaches = [breach for source in sources() for breach in rule(source)]
    assert not breaches, "\n" + "\n".join(breaches)


def test_rooms_form_no_circle() -> None:
    order = tuple(TopologicalSorter(ROOMS).static_order())
    assert set(order) == set(ROOMS)


def test_each_room_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("\n## Rooms\n")[1].split("\n## ")[0]
    shown = set(re.findall(r"`tq/(\w+)(?:\.py|/)`", "\n".join(row.split(" | ")[0] for row in table.splitlines())))
    assert shown == set(ROOMS) - {"tq"}
    assert {room_of(module_of(path)) for path in FILES} == set(ROOMS)


def test_the_core_is_there() -> None:
    """A pattern that matches nothing protects nothing."""
    for pattern in [*CORE, *COROUTINES, *USERS_CODE, *(path for files in DOORS.values() for path in files)]:
        assert any(fnmatch(path, pattern) for path in FILES), pattern


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        # borders
        ("tq/machine/x.py", "from tq.raft.node import Node", "machine must not import tq.raft.node"),
        ("tq/machine/x.py", "from tq import world", "machine must not import tq.world"),
        ("tq/machine/x.py", "import tq.broker.run as r", "machine must not import tq.broker.run"),
        ("tq/machine/x.py", "from tq.store.lmdb_store import LmdbStore", "of store it has tq.store.keys"),
        ("tq/machine/x.py", "def f():\n    from tq.store import store", "machine must not import tq.store.store"),
        ("tq/machine/x.py", "from ..client import core", "machine must not import tq.client.core"),
        (
            "tq/machine/x.py",
            "if TYPE_CHECKING:\n    from tq.sim.disk import SimDisk",
            "machine must not import tq.sim.disk",
        ),
        ("tq/broker/x.py", "from tq.client.core import Core", "broker must not import tq.client.core"),
        ("tq/broker/x.py", "from tq import Client", "broker must not import tq"),
        ("tq/client/x.py", "from tq.machine.states import State", "client must not import tq.machine.states"),
        ("tq/raft/x.py", "from tq.protocol import messages", "of protocol it has tq.protocol.frames"),
        ("tq/cli/x.py", "from tq.broker.broker import Broker", "of broker it has tq.broker.rebuild, tq.broker.run"),
        ("tq/errors.py", "from tq import limits", "errors must not import tq.limits"),
        ("tq/attic/x.py", "", "a new room"),
        # doors
        ("tq/machine/x.py", "import time\ntime.time()", "time.time is a door"),
        ("tq/broker/x.py", "import time as t\nt.monotonic()", "time.monotonic is a door"),
        ("tq/broker/x.py", "from time import monotonic", "time.monotonic is a door"),
        ("tq/world.py", "from time import sleep", "time.sleep is a door"),
        ("tq/broker/x.py", "import datetime\ndatetime.datetime.now()", "datetime.datetime.now is a door"),
        ("tq/raft/x.py", "import random\nrandom.randrange(5)", "random.randrange is a door"),
        ("tq/raft/x.py", "import os\nx = os.urandom", "os.urandom is a door"),
        ("tq/raft/x.py", "import uuid\nuuid.uuid4()", "uuid.uuid4 is a door"),
        ("tq/broker/x.py", "import socket\nsocket.socket()", "socket.socket is a door"),
        ("tq/raft/x.py", "open('f')", "builtins.open is a door"),
        ("tq/raft/x.py", "f = open", "builtins.open is a door"),
        ("tq/raft/x.py", "from pathlib import Path", "pathlib.Path is a door"),
        ("tq/machine/x.py", "print('here')", "builtins.print is a door"),
        ("tq/broker/x.py", "import pysyncobj.syncobj", "pysyncobj.syncobj is a door"),
        ("tq/store/x.py", "import lmdb\nlmdb.open('f')", "lmdb.open is a door"),
        ("tq/broker/dispatch.py", "import trio\ntrio.sleep", "trio.sleep is a door"),
        ("tq/client/x.py", "import pickle\npickle.loads(b'')", "pickle.loads is banned"),
        ("tq/cli/x.py", "import time\ntime.sleep(1)", "time.sleep is a door"),
        ("tq/sim/x.py", "from tests.unit.machine.driver import Driver", "tests.unit.machine.driver.Driver is banned"),
        ("tq/store/x.py", "import requests\nrequests.get('x')", "requests.get is a door"),
        # core
        ("tq/machine/x.py", "import threading\nthreading.Lock()", "threading.Lock in the deterministic core"),
        ("tq/protocol/x.py", "hash('x')", "hash() of text differs"),
        ("tq/machine/x.py", "for x in {1, 2}: pass", "a set has no order"),
        ("tq/machine/x.py", "[x for x in set(y)]", "a set has no order"),
        # coroutines
        ("tq/broker/dispatch.py", "async def f(): pass", "async stands in the shells only"),
        # handlers
        ("tq/broker/x.py", "try: f()\nexcept: pass", "a broad except swallows bugs"),
        ("tq/broker/x.py", "try: f()\nexcept Exception as e: g(e)", "a broad except swallows bugs"),
        ("tq/broker/x.py", "try: f()\nexcept (ValueError, BaseException): pass", "a broad except swallows bugs"),
        (
            "tq/broker/x.py",
            "import builtins\ntry: f()\nexcept builtins.Exception: pass",
            "a broad except swallows bugs",
        ),
        (
            "tq/broker/x.py",
            "try: f()\nexcept BaseException as e: raise ValueError from e",
            "a broad except swallows bugs",
        ),
        ("tq/broker/x.py", "import contextlib\nwith contextlib.suppress(Exception): f()", "suppress of everything"),
        # privates
        ("tq/broker/x.py", "node._guard.tick()", "node._guard is private"),
        ("tq/broker/x.py", "self.node._guard", "self.node._guard is private"),
        # state
        ("tq/broker/x.py", "def f():\n    global n\n    n = 1", "state of a module: n"),
    ],
)
def test_each_rule_is_seen_to_fail(path: str, text: str, told: str) -> None:
    source = read(path, text)
    breaches = [breach for rule in RULES for breach in rule(source)]
    assert any(told in breach for breach in breaches), breaches


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tq/machine/x.py", "from tq.store.txn import Txn\nfrom tq import limits, cbor\nfrom tq.machine import task"),
        ("tq/machine/x.py", "import struct, hashlib\nfrom collections.abc import Mapping\nstruct.pack('B', 1)"),
        ("tq/machine/x.py", "for x in sorted({1, 2}): pass"),
        ("tq/machine/x.py", "def f(open, time): return time.sleep, store.open()"),
        ("tq/world.py", "import time, os\ntime.monotonic(); os.urandom(3)"),
        ("tq/broker/run.py", "import trio\nasync def f(): await trio.sleep(1)"),
        ("tq/client/shell.py", "try: f()\nexcept BaseException:\n    undo()\n    raise"),
        ("tq/worker/frame.py", "try: f()\nexcept BaseException as e: g(e)"),
        ("tq/worker/child.py", "import os\nos._exit(1)"),
        ("tq/machine/x.py", "self._x; cls._y; spec._replace(a=1); x.__class__"),
    ],
)
def test_what_is_right_is_let_pass(path: str, text: str) -> None:
    source = read(path, text)
    assert [breach for rule in RULES for breach in rule(source)] == []


# ---- the report ----------------------------------------------------------------------------------------


def largest_files(count: int = 5) -> list[tuple[int, str]]:
    lines = [(len((ROOT / path).read_text(encoding="utf-8").splitlines()), path) for path in FILES]
    return sorted(lines, reverse=True)[:count]


def largest_functions(count: int = 5) -> list[tuple[int, str]]:
    found = []
    for source in sources():
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.append(
                    ((node.end_lineno or node.lineno) - node.lineno + 1, f"{source.path}:{node.lineno} {node.name}")
                )
    return sorted(found, reverse=True)[:count]


def doors_unused() -> list[str]:
    return [
        f"{door}: {pattern}"
        for door, patterns in DOORS.items()
        for pattern in patterns
        if not any(fnmatch(s.path, pattern) and any(_under(name, door) for _, name in s.uses) for s in sources())
    ]


def report() -> str:
    rows = ["largest files, lines:", *(f"  {lines:5} {path}" for lines, path in largest_files())]
    rows += ["largest functions, lines:", *(f"  {lines:5} {name}" for lines, name in largest_functions())]
    return "\n".join(rows)


def test_sizes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a rule: a look. When one of them grows, ask which second idea moved in."""
    text = report()
    assert text.count("\n") == 11
    with capsys.disabled():
        print(f"\n{text}")


if __name__ == "__main__":
    print(report())
    print("doors that nobody uses:", *(doors_unused() or ["none"]), sep="\n  ")
