"""A broker of one thread a connection on the loopback, whose answers a test gives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, BrokerConnection, ConnectionClosed

CLOSE = object()
"""An answer that closes the connection instead."""
Answer = Callable[[Any], Any]


class FakeBroker:
    """``answer(request)`` gives a message, a list of them, None for silence, or CLOSE. It runs on the connection's thread.

    ``requests`` has all that was asked, HELLO left out, ``given_up`` what nobody waits for; ``connections`` how many there were.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Any] = []
        self.given_up: list[m.GiveUp] = []
        self.connections = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[tuple[socket.socket, BrokerConnection]] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def push(self, message: m.Message) -> None:
        """Send it on the newest connection."""
        with self._lock:
            sock, connection = self._sockets[-1]
            sock.sendall(connection.send(message))

    def drop(self) -> None:
        """Close all connections that are open."""
        with self._lock:
            for sock, _connection in self._sockets:
                _end(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._listener)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(10)
        for sock, _connection in self._sockets:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._listener.accept()
            except OSError:
                return
            connection = BrokerConnection()
            with self._lock:
                self.connections += 1
                self._sockets.append((sock, connection))
            thread = threading.Thread(target=self._serve, args=(sock, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, connection: BrokerConnection) -> None:
        try:
            while True:
                data = sock.recv(1 << 20)
                with self._lock:
                    connection.receive_data(data)
                if not self._answer_all(sock, connection):
                    return
        except OSError:
            return
        finally:
            _end(sock)

    def _answer_all(self, sock: socket.socket, connection: BrokerConnection) -> bool:
        while True:
            with self._lock:
                event = connection.next_event()
            if event is NEED_DATA:
                return True
            if isinstance(event, ConnectionClosed):
                return False
            if isinstance(event, m.Hello):
                said: Any = m.HelloReply(event.rid, 1, [], {}, 1_000, b"C" * 16, "n1", None, "tq/fake", 0)
            elif isinstance(event, m.GiveUp):
                self.given_up.append(event)
                said = m.GiveUpReply(event.rid)
            else:
                self.requests.append(event)
                said = self._answer(event)
            if said is CLOSE:
                return False
            for message in said if isinstance(said, list) else [] if said is None else [said]:
                with self._lock:
                    sock.sendall(connection.send(message))


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def created(request: m.SubmitTask) -> m.SubmitReply:
    return m.SubmitReply(request.rid, 10, [0] * len(request.specs))
