"""The bytes of one connection between nodes, plain or over TLS.

``send_now`` hands the kernel what it takes at once, from wherever the loop is: an entry shall be on its way to the others
before this node syncs its own copy, and no task switch stands between. What is left is for a task to ``send_all``.
Over TLS nothing can be sent like that, because the library's stream is a coroutine's affair: all is left.
"""

from __future__ import annotations

import socket
from ssl import SSLContext
from typing import Protocol

import trio

from tq import limits

Address = tuple[str, int]


class PeerStream(Protocol):
    """Errors of all: trio.BrokenResourceError, trio.ClosedResourceError, OSError, and over TLS SSLError."""

    def send_now(self, data: bytes) -> int:
        """How many bytes the kernel took. Not while ``send_all`` is under way."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Raises trio.BusyResourceError while another task does."""
        ...

    async def receive_some(self) -> bytes:
        """What is there; empty at the end. Nothing is lost when it is cancelled."""
        ...

    async def aclose(self) -> None: ...


class PlainStream:
    """
    Args:
        sock: connected and non-blocking; closed by ``aclose``.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._is_sending = False

    def send_now(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    async def send_all(self, data: bytes) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("another task sends")
        self._is_sending = True
        try:
            while data:
                data = data[self.send_now(data) :]
                if data:
                    await trio.lowlevel.wait_writable(self._socket)
        finally:
            self._is_sending = False

    async def receive_some(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(limits.SOCKET_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue

    async def aclose(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class TlsStream:
    """The same over any stream that encrypts."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    def send_now(self, data: bytes) -> int:
        return 0

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive_some(self) -> bytes:
        return bytes(await self._stream.receive_some(limits.SOCKET_READ_BYTES))

    async def aclose(self) -> None:
        await self._stream.aclose()


async def connect(address: Address, tls: SSLContext | None) -> PeerStream:
    """Raises OSError: of the last of the addresses that the name has."""
    host, port = address
    failure: OSError | None = None
    for family, kind, proto, _name, where in await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        try:
            await trio.socket.from_stdlib_socket(sock).connect(where)
        except OSError as error:
            failure = error
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        if tls is None:
            return plain(sock)
        return TlsStream(trio.SSLStream(_tuned(sock), tls, server_hostname=host, https_compatible=True))
    raise failure or OSError(f"{host} has no address")


def accepted(sock: socket.socket, tls: SSLContext | None) -> PeerStream:
    """Of a socket that a listener gave."""
    sock.setblocking(False)
    if tls is None:
        return plain(sock)
    return TlsStream(trio.SSLStream(_tuned(sock), tls, server_side=True, https_compatible=True))


def plain(sock: socket.socket) -> PlainStream:
    _tune(sock)
    return PlainStream(sock)


def _tuned(sock: socket.socket) -> trio.SocketStream:
    _tune(sock)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def _tune(sock: socket.socket) -> None:
    """Megabytes in the kernel: a large entry shall not wait for this process to be scheduled."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.PEER_SOCKET_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.PEER_SOCKET_BYTES)
