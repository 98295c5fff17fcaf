"""A client or worker at a simulated broker: it speaks the protocol through ``ClientConnection``, over a socket that fills up.

So whoever answers a request twice, or with the wrong reply, is found out by the protocol itself. Nothing moves until the
owner of the broker serves the connection (``serve``) and the client reads (``take``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq.broker import requests
from tq.broker.broker import Broker
from tq.broker.connection import Connection
from tq.errors import ProtocolError, TqError, from_wire, to_wire
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed

KERNEL_BYTES = 1 << 20


class SimSocket:
    """The broker's end of a socket. ``room``: how much the kernel takes before the client has read it."""

    def __init__(self, room: int = KERNEL_BYTES, on_send: Callable[[], None] = lambda: None) -> None:
        self.room = room
        self.to_broker = bytearray()
        self.to_peer = bytearray()
        self.at_end = False  # the client has shut down its side
        self.is_broken = False  # the client is gone: writing fails
        self.is_closed = False
        self.on_send = on_send

    def send(self, data: bytes) -> int:
        assert not self.is_closed, "written after close"
        self.on_send()
        if self.is_broken:
            raise BrokenPipeError
        fits = min(len(data), self.room - len(self.to_peer))
        if fits <= 0:
            raise BlockingIOError
        self.to_peer += data[:fits]
        return fits

    def recv(self, count: int) -> bytes:
        assert not self.is_closed, "read after close"
        if self.is_broken:
            raise ConnectionResetError
        if not self.to_broker and not self.at_end:
            raise BlockingIOError
        data = bytes(self.to_broker[:count])
        del self.to_broker[:count]
        return data

    def close(self) -> None:
        self.is_closed = True


class SimClient:
    """
    Args:
        node: of the broker, for people.
        on_send: called when the broker writes; a power loss may come out of it.

    Attributes:
        answers: by request id. pushes: in order.
        fatal: the last word of a broker that ended the connection.
        reads: False: it lets bytes pile up.
        asked: requests without an answer.
    """

    def __init__(
        self, broker: Broker, node: str, on_send: Callable[[], None] = lambda: None, room: int = KERNEL_BYTES
    ) -> None:
        self.node = node
        self.broker = broker
        self.socket = SimSocket(room, on_send)
        self.protocol = ClientConnection()
        self.answers: dict[int, m.Message] = {}
        self.pushes: list[m.Message] = []
        self.fatal: TqError | None = None
        self.reads = True
        self.rid = 0
        self.asked: dict[int, m.Message] = {}
        self.asked_ms: dict[int, int] = {}  # when that was noticed, for a checker
        self._was_paused = False  # requests were read and wait, because the broker's answers are unread
        self.connection = Connection(
            self.socket,  # type: ignore[arg-type]
            "client",
            broker.dirty,
            broker.release_undelivered,
        )
        broker.connections.add(self.connection)

    # ---- the client ---------------------------------------------------------------------------------

    def ask(self, kind: type[m.Message], *fields: Any, **more: Any) -> int:
        """Send a request; its id."""
        self.rid += 1
        message = kind(self.rid, *fields, **more)  # type: ignore[call-arg]  # every request begins with its id
        self.socket.to_broker += self.protocol.send(message)
        self.asked[self.rid] = message
        return self.rid

    def take(self) -> bool:
        """Read what the kernel holds for this client. Whether there was anything."""
        if not self.socket.to_peer and not self.socket.is_closed:
            return False
        data = bytes(self.socket.to_peer)
        self.socket.to_peer.clear()
        if data:
            self.protocol.receive_data(data)
        if self.socket.is_closed:
            self.protocol.receive_data(b"")
        while True:
            event = self.protocol.next_event()
            if event is NEED_DATA or isinstance(event, ConnectionClosed):
                return bool(data)
            rid = getattr(event, "rid", None)
            if isinstance(event, m.ErrorReply) and rid is None:
                self.fatal = from_wire(event.error)
            elif rid is None:
                self.pushes.append(event)
            else:
                assert rid not in self.answers, f"request {rid} is answered twice"
                self.answers[rid] = event
                self.asked.pop(rid, None)
                self.asked_ms.pop(rid, None)

    def close(self) -> None:
        """An orderly end: the broker reads the end of the stream."""
        self.socket.at_end = True

    def vanish(self) -> None:
        """Reset: what the broker writes from now on is lost, and what the kernel held."""
        self.socket.is_broken = True
        self.socket.to_peer.clear()
        self.reads = False

    @property
    def is_closed(self) -> bool:
        return self.connection.is_closed

    # ---- what the broker's shell does for one connection ---------------------------------------------

    @property
    def has_news(self) -> bool:
        """The broker has something to read."""
        socket = self.socket
        if self.connection.is_closed:
            return False
        if self.connection.out_bytes > requests.READ_PAUSE_BYTES and not socket.is_broken:
            return False
        return bool(socket.to_broker or socket.at_end or socket.is_broken or self._was_paused)

    def serve(self) -> None:
        """As ``listen.py`` does, without waiting."""
        connection = self.connection
        read = requests.answer_requests if self._was_paused else requests.read_requests
        try:
            if not read(self.broker, connection):
                connection.close()
            self._was_paused = connection.out_bytes > requests.READ_PAUSE_BYTES
        except ProtocolError as error:
            connection.send(m.ErrorReply(None, to_wire(error)))
            connection.flush()
            connection.close()
        except OSError:
            connection.close()
        if connection.is_closed:
            self.broker.connections.discard(connection)
