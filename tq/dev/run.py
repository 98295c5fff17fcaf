"""The main loop of ``tq dev``: a broker and a worker as children of this process, started in this order, stopped in the other.

Each child is the program ``tq`` as a user would start it, in a session of its own: a Ctrl-C in the terminal reaches this
process alone, which lets the worker give back what it holds before the broker goes. If one of them ends by itself, the other
is stopped too, and this fails. Nothing outlives it: ``child.py`` sees to that, and a temporary data folder is removed.

What the children write is passed on line by line, under the name of who wrote it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Final

import attrs
import trio

from tq import limits
from tq.dev.child import PROGRAM, TEMPORARY
from tq.errors import ConfigError

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
HOST: Final = "127.0.0.1"
READY_S: Final = 30.0
POLL_S: Final = 0.05
DRAIN_S: Final = 5.0  # for what the worker runs when it is stopped
STOP_S: Final = 15.0  # a child that takes longer is killed; a broker takes 10 at most
OUTPUT_END_S: Final = 1.0  # whoever a child started may hold its output open
LINE_BYTES_MAX: Final = 64 << 10
METRICS: Final = "TQ_NODE__METRICS_LISTEN"
DISK_FREE_MIN: Final = "TQ_LIMITS__DISK_FREE_MIN_BYTES"
DISK_FREE_MIN_BYTES: Final = 32 << 20  # temporary folders are often small
SAMPLES: Final = "tq.samples"

Say = Callable[[str, str], None]
"""Print a line of who wrote it: ``dev``, ``broker`` or ``worker``."""


@attrs.frozen
class Plan:
    """What is to be run.

    Attributes:
        module: MODULE[:NAME] of the handlers.
        queues: names with commas between; None: those of the app's tasks.
        listen: ``host:port`` of the broker; None: the default port, or a free one if that is taken.
        data: folder that is kept; None: a temporary one.
        reload: start the worker again when a file of its modules changes.
    """

    module: str = SAMPLES
    listen: str | None = None
    data: Path | None = None
    concurrency: int = limits.WORKER_CONCURRENCY_DEFAULT
    queues: str | None = None
    reload: bool = True
    log_level: str = "info"


def main(plan: Plan, environ: Mapping[str, str], say: Say) -> int:
    """Run both until a signal. The exit code: 0, or that of the child that ended by itself; 130 after a second signal.

    Raises ConfigError: no folder, or no port.
    """
    with _folder(plan.data) as folder:
        return trio.run(serve, plan, folder, environ, say)


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data.resolve()  # the broker makes it, and says what is wrong with it
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="tq-dev-")
    except OSError as error:
        raise ConfigError(f"no temporary folder can be made ({error.strerror}): name one with --data DIR") from error
    with folder as name:
        yield Path(name)


async def serve(plan: Plan, folder: Path, environ: Mapping[str, str], say: Say) -> int:
    """Both children, from their start to their end. The exit code."""
    places = choose_places(plan, environ)
    end = End()
    temporary = {} if plan.data is not None else {TEMPORARY: str(folder)}
    of_broker = {**broker_environ(environ, places), **temporary}
    broker = Child("broker", broker_command(plan, places, folder), of_broker, end, say)
    worker = Child("worker", worker_command(plan, places), {**environ, "PYTHONUNBUFFERED": "1"}, end, say)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_signals, signals, end, (worker, broker))
            await broker.start(nursery)
            if await _is_ready(places.metrics, end):
                for line in banner(plan, places, folder, environ):
                    say("dev", line)
                await worker.start(nursery)
                await end.came.wait()
            for child in (worker, broker):
                await child.stop()
            nursery.cancel_scope.cancel()
    if end.by is not None:
        return end.by.exit_code
    if not end.came.is_set():
        say("dev", f"the broker was not ready within {READY_S:g} s")
        return FAILED
    return INTERRUPTED if end.is_forced else DONE


async def _until_signals(signals: AsyncIterator[int], end: End, children: Sequence[Child]) -> None:
    """The first one asks, each further one kills."""
    async for _signal in signals:
        if end.came.is_set():
            end.is_forced = True
            for child in children:
                child.kill()
        end.came.set()


async def _is_ready(metrics: str, end: End) -> bool:
    """Wait for the broker to serve; False if it does not come to that."""
    with trio.move_on_after(READY_S):
        while not end.came.is_set():
            if await _answers(metrics):
                return True
            await trio.sleep(POLL_S)
    return False


async def _answers(metrics: str) -> bool:
    host, _colon, port = metrics.rpartition(":")
    try:
        stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
        async with stream:
            await stream.send_all(b"GET /health/ready HTTP/1.1\r\nHost: dev\r\nConnection: close\r\n\r\n")
            return (await stream.receive_some(64)).startswith(b"HTTP/1.1 200")
    except (OSError, trio.BrokenResourceError):
        return False


# ---- a child -------------------------------------------------------------------------------------------


@attrs.define
class End:
    """Why this comes to its end. by: the child that ended first, without being asked."""

    came: trio.Event = attrs.field(factory=trio.Event)
    by: Child | None = None
    is_forced: bool = False


class Child:
    """One of the two processes."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], end: End, say: Say) -> None:
        self.name = name
        self._command = list(command)
        self._environ = dict(environ)
        self._end = end
        self._say = say
        self._process: trio.Process | None = None
        self._is_asked = False
        self._said_all = trio.Event()

    @property
    def exit_code(self) -> int:
        """As this command's own: that of a process that was killed is none of ours."""
        code = None if self._process is None else self._process.returncode
        return code if code is not None and 0 < code < 5 else FAILED

    async def start(self, nursery: trio.Nursery) -> None:
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-c", PROGRAM, *self._command],
            env=self._environ,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        nursery.start_soon(self._pass_on, self._process)
        nursery.start_soon(self._watch, self._process)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough; until all that it wrote is passed on."""
        process = self._process
        if process is None:
            return
        self._is_asked = True
        process.terminate()
        with trio.move_on_after(STOP_S) as patience:
            await process.wait()
        if patience.cancelled_caught:
            self._say("dev", f"the {self.name} did not end within {STOP_S:g} s: kill -9")
        self.kill()
        await process.wait()
        with trio.move_on_after(OUTPUT_END_S):
            await self._said_all.wait()

    def kill(self) -> None:
        """With all that it started."""
        self._is_asked = True
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # nobody of them is left

    async def _watch(self, process: trio.Process) -> None:
        code = await process.wait()
        if not self._is_asked and self._end.by is None:
            how = f"was killed by signal {-code}" if code < 0 else f"has ended with exit code {code}"
            self._say("dev", f"the {self.name} {how}; what it said stands above. All of it is stopped")
            self._end.by = self
            self._end.came.set()

    async def _pass_on(self, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._say(self.name, line.decode("utf-8", "replace"))
        if rest:
            self._say(self.name, rest.decode("utf-8", "replace"))
        self._said_all.set()


# ---- what is run -----------------------------------------------------------------------------------------


@attrs.frozen
class Places:
    """Addresses of the broker: for clients, and for metrics and health."""

    listen: str
    metrics: str


def choose_places(plan: Plan, environ: Mapping[str, str]) -> Places:
    """What was asked for; else the usual ports, or free ones if these are taken. Raises ConfigError."""
    return Places(
        plan.listen or f"{HOST}:{usable_port(limits.PORT_CLIENT)}",
        environ.get(METRICS) or f"{HOST}:{usable_port(limits.PORT_METRICS)}",
    )


def usable_port(wished: int) -> int:
    """The wished port of 127.0.0.1, or any that nobody listens on now. Raises ConfigError."""
    for port in (wished, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise ConfigError(f"no port of {HOST} is free: end something, or say --listen HOST:PORT")


def broker_command(plan: Plan, places: Places, folder: Path) -> list[str]:
    return ["broker", "--listen", places.listen, "--data-dir", str(folder), "--log-level", plan.log_level]


def broker_environ(environ: Mapping[str, str], places: Places) -> dict[str, str]:
    """What there is no flag for; what the environment says already goes before."""
    return {DISK_FREE_MIN: str(DISK_FREE_MIN_BYTES), **environ, METRICS: places.metrics, "PYTHONUNBUFFERED": "1"}


def worker_command(plan: Plan, places: Places) -> list[str]:
    command = [
        "worker", plan.module, "--brokers", places.listen, "--concurrency", str(plan.concurrency),
        "--drain", f"{DRAIN_S:g}", "--log-level", plan.log_level,
    ]  # fmt: skip
    if plan.queues is not None:
        command += ["--queues", plan.queues]
    return [*command, "--reload"] if plan.reload else command


def banner(plan: Plan, places: Places, folder: Path, environ: Mapping[str, str]) -> list[str]:
    """What was started, and what to type next."""
    again = ", and starts again when its files change" if plan.reload else ""
    kept = "kept" if plan.data is not None else "removed at the end; --data DIR keeps it"
    lines = [
        f"broker at {places.listen}, metrics at http://{places.metrics}/metrics",
        f"data in {folder} ({kept})",
        f"worker runs {plan.module}{again}",
    ]
    default = f"{HOST}:{limits.PORT_CLIENT}"
    lines.append("in another terminal:")
    if environ.get("TQ_BROKERS", default) != places.listen:
        lines.append(f"  export TQ_BROKERS={places.listen}")
    is_samples = plan.module.partition(":")[0] == SAMPLES
    lines.append(
        "  tq submit --type echo --payload hello --wait" if is_samples else "  tq workers; tq queue-depth --watch"
    )
    lines.append("Ctrl-C stops both")
    return lines
