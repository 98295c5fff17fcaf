"""A socket of the worker that speaks the protocol: opened with HELLO, written at once, read in batches.

What the kernel does not take at once waits for ``drain_output``; a claim and its outcomes leave in one system call.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

from tq import limits
from tq.errors import ProtocolError, from_wire
from tq.protocol import messages as m
from tq.protocol.addresses import Address, show
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed, State

CONNECT_S: Final = 5.0
HELLO_S: Final = 5.0
HELLO_RID: Final = 0


class ConnectionLost(Exception):
    """The connection is over; the message says why."""


class Connection:
    """Open one with ``dial``. The owner closes it."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.address = show(address)
        self._socket = sock
        self._protocol = ClientConnection()
        self._out = bytearray()
        self._has_output = trio.Event()

    async def greet(self, name: str) -> m.HelloReply:
        """Say HELLO. Raises ConnectionLost, or the broker's refusal."""
        self.send([m.Hello(HELLO_RID, m.PROTOCOL_VERSION, m.PROTOCOL_VERSION, name)])
        with trio.move_on_after(HELLO_S):
            while True:
                for message in await self.read():
                    if isinstance(message, m.HelloReply):
                        return message
                    if isinstance(message, m.ErrorReply):
                        raise from_wire(message.error)
                    if isinstance(message, m.GoAway):
                        raise ConnectionLost("the broker stops")
        raise ConnectionLost(f"HELLO was not answered within {HELLO_S:g} s")

    def send(self, messages: list[m.Message]) -> None:
        """Write now what the kernel takes. A connection that is over takes nothing, and ``read`` says so.

        Raises:
            PayloadTooLarge: a message above the bound of frames; nothing of it was written.
        """
        if self._protocol.state is State.LEAVING:
            return  # GOAWAY came in the same batch that led here; the core sends them again elsewhere
        data = b"".join([self._protocol.send(message) for message in messages])
        if self._out:
            self._out += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self._out += memoryview(data)[sent:]
            self._has_output.set()

    async def read(self) -> list[m.Message]:
        """At least one message. Raises ConnectionLost."""
        protocol = self._protocol
        messages: list[m.Message] = []
        while not messages:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(limits.SOCKET_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(error.strerror or str(error)) from error
            try:
                protocol.receive_data(data)
                while True:
                    event = protocol.next_event()
                    if event is NEED_DATA:
                        break
                    if isinstance(event, ConnectionClosed):
                        if messages:
                            return messages  # the next read finds the end again
                        raise ConnectionLost("the broker closed the connection")
                    messages.append(event)
            except ProtocolError as error:
                raise ConnectionLost(f"the peer does not speak our protocol: {error.message}") from error
        return messages

    async def drain_output(self) -> None:
        """Write what waits, for ever. Raises ConnectionLost."""
        while True:
            await self._has_output.wait()
            await trio.lowlevel.wait_writable(self._socket)
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(error.strerror or str(error)) from error
            del self._out[:sent]
            if not self._out:
                self._has_output = trio.Event()

    def close(self) -> None:
        self._socket.close()


async def dial(address: Address) -> Connection:
    """A TCP connection. Raises ConnectionLost."""
    host, port = address
    with trio.move_on_after(CONNECT_S):
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error
        # The bare socket from here on: a stream costs a lock and a checkpoint for each message.
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Connection(sock, address)
    raise ConnectionLost(f"no connection within {CONNECT_S:g} s")


def _reason(error: OSError) -> str:
    causes = getattr(error.__cause__, "exceptions", None) or [error.__cause__ or error]
    first = causes[0]
    return getattr(first, "strerror", None) or str(first)
