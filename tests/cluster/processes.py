"""Brokers and workers as processes, for tests: settings with short times, and waits that look instead of sleeping."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tq.bench.processes import TQ, Broker, Ground, Process, ProcessFailed, free_ports, start_all
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed

__all__ = [
    "ROOT",
    "SHORT_LEASES",
    "Broker",
    "Ground",
    "Process",
    "ProcessFailed",
    "Wire",
    "eventually",
    "free_ports",
    "start_all",
    "tq",
]

ROOT = Path(__file__).resolve().parents[2]
SHORT_LEASES: Mapping[str, Mapping[str, Any]] = {
    "leases": {"lease_ms": 1_500, "heartbeat_ms": 400, "session_ms": 1_500},
    "limits": {"disk_free_min_bytes": 0},
}


def eventually(what: str, look: Callable[[], bool], process: Process, timeout: float = 30.0) -> None:
    """Wait until ``look()`` is true, while ``process`` lives. AssertionError with its log otherwise."""
    end = time.monotonic() + timeout
    while not look():
        assert process.alive, f"{process.name} ended while waiting for: {what}\n{process.tail()}"
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}\n{process.tail()}"
        try:
            process.wait(0.02)
        except ProcessFailed:
            pass  # it lives: look again


def tq(
    *arguments: str, brokers: str | None = None, text: str = "", cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """One run of the command line to its end. ``brokers`` goes into TQ_BROKERS."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TQ_")} | environ
    if brokers is not None:
        env["TQ_BROKERS"] = brokers
    return subprocess.run(
        [*TQ, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=cwd
    )


class Wire:
    """A client that is nothing but the protocol: what is sent when is the test's to say. HELLO is said at once."""

    def __init__(self, address: str, timeout: float = 20.0, receive_bytes: int | None = None) -> None:
        """receive_bytes: of the kernel's buffer, for a peer that reads slowly."""
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((host, int(port)))
        self.protocol = ClientConnection()
        self.is_closed = False
        self.send(m.Hello(0, m.PROTOCOL_VERSION, m.PROTOCOL_VERSION, "wire"))
        self.hello = self.receive(1)[0]

    def send(self, *messages: m.Message) -> None:
        self.socket.sendall(b"".join(self.protocol.send(message) for message in messages))

    def receive(self, count: int) -> Sequence[Any]:
        """The next ``count`` messages; fewer if the stream ends. TimeoutError after the time-out of the socket."""
        found: list[Any] = []
        while len(found) < count and not self.is_closed:
            event = self.protocol.next_event()
            if event is NEED_DATA:
                self.protocol.receive_data(self._read())
            elif isinstance(event, ConnectionClosed):
                self.is_closed = True
            else:
                found.append(event)
        return found

    def rest(self) -> Sequence[Any]:
        """All messages to the end of the stream."""
        return self.receive(1 << 30)

    def _read(self) -> bytes:
        try:
            return self.socket.recv(1 << 20)
        except ConnectionResetError:
            return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
