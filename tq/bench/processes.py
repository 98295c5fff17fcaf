"""Real processes on this machine: a broker and workers as a user starts them, that always end.

Used by the benchmark, the demo, the torture run and the tests of real processes. ``Ground`` is one temporary
folder with all that runs in it; leaving its ``with`` block kills what still runs (each process has a process
group of its own, so its children go with it) and removes the folder, unless ``keep`` was called.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from tq.bench.ways import Ways
from tq.world import RealRandom

TQ = [sys.executable, "-c", "import sys; from tq.cli.main import main; sys.exit(main())"]
READY_SECONDS_MAX = 30.0
END_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02
PORTS = range(10_000, 32_768)

Settings = Mapping[str, Mapping[str, Any]]


class ProcessFailed(Exception):
    """A process ended, or did not become ready; the message has the end of its log."""


class Process:
    """One process that can be started again after its end. Its output goes to one log, over all its lives.

    Attributes:
        environ: of its next life.
    """

    def __init__(self, name: str, argv: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = folder / f"{name}.log"
        self.starts = 0
        self._folder = folder
        self.environ = {**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int:
        """Of the present or last life. AssertionError before the first start."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        assert not self.alive, f"{self.name} runs already"
        with self.log.open("ab") as log, signals_held():
            self._process = subprocess.Popen(
                self.argv,
                cwd=self._folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._paused = False
        self.starts += 1

    def kill(self) -> None:
        """kill -9, and wait for the end. Its children are left to notice by themselves, as after a real crash."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(END_SECONDS_MAX)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def terminate(self) -> None:
        """SIGTERM: ask for a graceful end; does not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Exit code. Raises ProcessFailed if it still runs after ``timeout`` seconds."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self.name} (pid {self.pid}) did not end in {timeout:g} s\n{self.tail()}") from None

    def stop(self, timeout: float = END_SECONDS_MAX) -> int:
        """SIGTERM and wait; the exit code."""
        if self._paused:
            self.resume()
        if self.alive:
            self.terminate()
        return self.wait(timeout)

    def end(self) -> None:
        """Kill it and its children, whatever they do."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the whole group is gone
        self._process.wait(END_SECONDS_MAX)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        if not self.log.exists():
            return f"({self.name} wrote no log)"
        text = self.log.read_text("utf-8", "replace").splitlines()[-lines:]
        return "\n".join(f"{self.name} | {line}" for line in text)


class Broker(Process):
    """``tq broker`` on free ports of 127.0.0.1 with a data folder that outlives its processes."""

    def __init__(
        self, folder: Path, settings: Settings, name: str = "broker", ports: tuple[int, int, int] | None = None
    ) -> None:
        """ports: for clients, other nodes and metrics; free ones if not given."""
        client, peer, metrics = ports or free_ports(3)
        self.address = f"127.0.0.1:{client}"
        self.peer_address = f"127.0.0.1:{peer}"
        self.metrics_address = f"127.0.0.1:{metrics}"
        self.data = folder / f"{name}-data"
        node = {
            "id": name,
            "data_dir": str(self.data),
            "listen": self.address,
            "peer_listen": self.peer_address,
            "metrics_listen": self.metrics_address,
        }
        config = folder / f"{name}.toml"
        merged = {"node": node, **{key: value for key, value in settings.items() if key != "node"}}
        merged["node"] = {**node, **settings.get("node", {})}
        config.write_text(toml(merged), "utf-8")
        super().__init__(name, [*TQ, "broker", "--config", str(config)], folder)

    def start_ready(self, timeout: float = READY_SECONDS_MAX) -> float:
        """Start and wait until it serves. Returns the seconds that took. Raises ProcessFailed."""
        begun = time.perf_counter()
        self.start()
        self.wait_ready(timeout)
        return time.perf_counter() - begun

    def wait_ready(self, timeout: float = READY_SECONDS_MAX) -> None:
        end = time.perf_counter() + timeout
        while not self.ready():
            if not self.alive:
                raise ProcessFailed(f"{self.name} ended with {self.exit_code} before it was ready\n{self.tail()}")
            if time.perf_counter() > end:
                raise ProcessFailed(f"{self.name} was not ready in {timeout:g} s\n{self.tail()}")
            pause_while_alive(self)

    def ready(self) -> bool:
        return self.http("/health/ready")[0] == 200

    def leads(self) -> bool:
        status, body = self.http("/health/ready")
        return status == 200 and json.loads(body)["role"] == "leader"

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of a GET at the metrics listener; (0, reason) when it cannot be reached."""
        connection = http.client.HTTPConnection(self.metrics_address, timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()


def pause_while_alive(process: Process) -> None:
    """Wait a moment, or less if the process ends."""
    try:
        process.wait(POLL_SECONDS)
    except ProcessFailed:
        pass  # it runs on, which is what the caller hopes for


class Ground:
    """A temporary folder and the processes in it."""

    def __init__(self, prefix: str = "tq-") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        self.processes: list[Process] = []
        self._keep = False

    def broker(self, settings: Settings | None = None, name: str = "broker") -> Broker:
        """A broker, not yet started. settings: section -> key -> value, over the defaults."""
        broker = Broker(self.folder, settings or {}, name)
        self.processes.append(broker)
        return broker

    def brokers(self, count: int, settings: Settings | None = None, ways: Ways | None = None) -> list[Broker]:
        """The nodes n1, n2 ... of one cluster, not yet started. ways: between them, to be cut; else they are direct."""
        numbers = free_ports(3 * count)
        ports = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
        names = [f"n{number}" for number in range(1, count + 1)]
        secret = self.folder / "secret"
        secret.touch(0o600)
        secret.write_text(uuid.uuid4().hex + uuid.uuid4().hex)
        given = settings or {}
        brokers = []
        for name, own in zip(names, ports, strict=True):
            peers = []
            for peer, (client, port, _metrics) in zip(names, ports, strict=True):
                address = f"127.0.0.1:{port}"
                if ways is not None and peer != name:
                    address = ways.add(name, peer, address)
                peers.append({"id": peer, "peer": address, "client": f"127.0.0.1:{client}"})
            cluster = {"secret_file": str(secret), "peers": peers, **given.get("cluster", {})}
            brokers.append(Broker(self.folder, {**given, "cluster": cluster}, name, own))
        self.processes.extend(brokers)
        return brokers

    def worker(
        self,
        broker: Broker | str,
        module: str,
        *arguments: str,
        name: str = "worker",
        path: Sequence[Path] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Process:
        """``tq worker module ...``, not yet started. broker: or addresses. path: where its modules are found."""
        brokers = broker if isinstance(broker, str) else broker.address
        argv = [*TQ, "worker", module, "--brokers", brokers, *arguments]
        return self.process(name, argv, path, environ)

    def process(
        self, name: str, argv: Sequence[str], path: Sequence[Path] = (), environ: Mapping[str, str] | None = None
    ) -> Process:
        """Any other process, not yet started."""
        paths = os.pathsep.join([*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = Process(name, argv, self.folder, {"PYTHONPATH": paths, **(environ or {})})
        self.processes.append(process)
        return process

    def keep(self) -> Path:
        """Leave the folder (logs, data) when the ground is left."""
        self._keep = True
        return self.folder

    def close(self) -> None:
        for process in reversed(self.processes):
            process.end()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect behind the block: a process must be known before an exception lets it be ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    came: list[int] = []
    held = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, _frame: came.append(number)) for number in held]
    try:
        yield
    finally:
        for number, handler in zip(held, handlers, strict=True):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])


def end_on_sigterm() -> None:
    """Let SIGTERM do as Ctrl-C does: without this nothing that a ``Ground`` started would be ended."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different.

    They are drawn below those that kernels give to whoever names none: such a one is free now, and taken by some
    connection before the process that it was meant for listens on it.
    """
    random = RealRandom()
    ports: list[int] = []
    while len(ports) < count:
        port = PORTS[random.below(len(PORTS))]
        if port not in ports and _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def start_all(brokers: Sequence[Broker], timeout: float = READY_SECONDS_MAX) -> None:
    """Start them at once, and wait until each serves: alone, a node of a cluster does not. Raises ProcessFailed."""
    for broker in brokers:
        broker.start()
    for broker in brokers:
        broker.wait_ready(timeout)


def toml(settings: Settings) -> str:
    """Sections of numbers, booleans, texts, lists and tables."""
    lines = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines.extend(f"{key} = {_value(value)}" for key, value in values.items())
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _quoted(value)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
