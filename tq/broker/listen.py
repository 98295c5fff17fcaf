"""The sockets of clients and workers: accept, read, feed requests to the broker, write what it could not write at once.

One task a connection reads; replies are written where they arise (``Connection.flush``), and a second task lives
only while the kernel's buffer is full. Plain non-blocking sockets and trio's readiness, not streams: a stream costs
a task and a checkpoint a message.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Protocol

import structlog
import trio

from tq import limits
from tq.broker import requests
from tq.broker.connection import Connection
from tq.config import Config, parse_address
from tq.errors import Backpressure, ConfigError, ProtocolError, to_wire
from tq.protocol.connection import State
from tq.protocol.messages import ErrorReply, Message

BACKLOG = 1_024
ACCEPTS_MAX = 64  # before the loop goes on
DEADLINE_MOVE_S = 1.0  # to move a deadline at each read would cost more than the read
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
NO_DESCRIPTORS_PAUSE_S = 0.1


class Owner(Protocol):
    """Who answers those that connect: ``Broker``, or ``Waiting`` before there is one."""

    config: Config
    connections: set[Connection]
    dirty: dict[Connection, None]

    def request(self, connection: Connection, message: Message) -> None: ...
    def flush(self) -> None: ...
    def release_undelivered(self, session: bytes, grants: list[Any]) -> None: ...
    def connection_refused(self) -> None: ...


def open_listener(field: str, address: str, *, is_authenticated: bool = False) -> socket.socket:
    """A listening, non-blocking TCP socket. Only loopback, unless who connects has to prove itself.

    Raises:
        ConfigError: not loopback, or the address cannot be bound; says what to do.
    """
    host, port = parse_address(field, address)
    try:
        family, kind, proto, _name, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(f'{field} = "{address}": {error.strerror}; write an IP address or a known host') from error
    ip = str(where[0])
    if not (is_authenticated or ip.startswith("127.") or ip == "::1"):
        raise ConfigError(
            f'{field} = "{address}" can be reached from other machines, and this broker has no authentication: '
            "listen on 127.0.0.1, and bring remote clients in over an SSH tunnel or a private proxy"
        )
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f'{field} = "{address}" cannot be used: {error.strerror}; is another broker running there?'
        ) from error
    return listener


async def accept_clients(owner: Owner, listener: socket.socket, nursery: trio.Nursery) -> None:
    """Accept until cancelled. The connections live on in ``nursery``."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        for _ in range(ACCEPTS_MAX):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in NO_DESCRIPTORS:
                    # Wait for a connection to end; the others in the backlog wait with us.
                    await trio.sleep(NO_DESCRIPTORS_PAUSE_S)
                    break
                if error.errno == errno.ECONNABORTED:
                    continue
                raise
            _accept(owner, nursery, sock, f"{address[0]}:{address[1]}")


def _accept(owner: Owner, nursery: trio.Nursery, sock: socket.socket, peer: str) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(sock, peer, owner.dirty, owner.release_undelivered)
    if len(owner.connections) >= owner.config.limits.connections_max:
        owner.connection_refused()
        full = Backpressure("this broker has as many connections as it takes", retry_after=1)
        connection.send_error(None, full)
        connection.flush()
        connection.close()
        return
    owner.connections.add(connection)
    writer = _Writer(nursery, connection)
    connection.wait_for_room = writer.start
    connection.closing = trio.lowlevel.notify_closing
    nursery.start_soon(_serve, owner, connection, writer)


async def _serve(owner: Owner, connection: Connection, writer: _Writer) -> None:
    log = structlog.get_logger("tq.connection").bind(node=owner.config.node.id, peer=connection.peer)
    try:
        next_move_s = 0.0
        with trio.move_on_after(limits.HELLO_TIMEOUT_MS / 1000) as deadline:
            while not connection.is_closed:
                if connection.out_bytes > requests.READ_PAUSE_BYTES:
                    await writer.idle.wait()
                    if not requests.answer_requests(owner, connection):
                        break
                    continue
                await trio.lowlevel.wait_readable(connection.socket)
                if not requests.read_requests(owner, connection):
                    break
                now_s = trio.current_time()
                if now_s >= next_move_s and connection.protocol.state is State.OPEN:
                    next_move_s = now_s + DEADLINE_MOVE_S
                    deadline.deadline = now_s + limits.IDLE_TIMEOUT_MS / 1000
        if deadline.cancelled_caught:
            log.info("closed an idle connection")
    except ProtocolError as error:
        log.warning("closed a connection that broke the protocol", error=error.message)
        connection.send(ErrorReply(None, to_wire(error)))
        connection.flush()
    except (trio.ClosedResourceError, ConnectionError, OSError):
        pass  # the peer is gone, or the broker closed this connection; both end it the same way
    finally:
        connection.close()
        owner.connections.discard(connection)


class _Writer:
    """Writes what the kernel did not take at once: one task, which lives only while there is something.

    It alone waits for the socket to be writable; the reader waits for ``idle``. Two tasks cannot wait for one socket.
    """

    def __init__(self, nursery: trio.Nursery, connection: Connection) -> None:
        self.idle = trio.Event()
        self.idle.set()
        self._nursery = nursery
        self._connection = connection

    def start(self, _connection: Connection) -> None:
        if self.idle.is_set():
            self.idle = trio.Event()
            self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        connection = self._connection
        try:
            while not connection.is_closed and connection.out_bytes:
                await trio.lowlevel.wait_writable(connection.socket)
                connection.flush()
        except (trio.ClosedResourceError, OSError):
            connection.close()
        finally:
            self.idle.set()
