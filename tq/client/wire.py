"""The socket of the present connection, which never blocks, and the bytes it did not take yet. Both shells write by it."""

from __future__ import annotations

import socket

from tq import limits
from tq.client.core import ClientCore

READ_BYTES = limits.SOCKET_READ_BYTES


class Wire:
    def __init__(self, core: ClientCore) -> None:
        self.socket: socket.socket | None = None
        self.unsent: bytes | memoryview = b""
        self._core = core

    def open(self, sock: socket.socket) -> None:
        """It is connected; the core says HELLO."""
        sock.setblocking(False)
        self.socket = sock
        self._core.connected()

    def drop(self) -> socket.socket | None:
        """Have no socket any more; the caller closes it."""
        sock, self.socket = self.socket, None
        self.unsent = b""
        return sock

    def flush(self) -> bool:
        """Hand the socket what it takes now; keep the rest, in order. False: the connection is lost."""
        sock = self.socket
        if sock is None:
            return True
        if self._core.has_output:
            data = self._core.take_output()
            self.unsent = b"".join((self.unsent, data)) if self.unsent else data
        if not self.unsent:
            return True
        try:
            sent = sock.send(self.unsent)
        except BlockingIOError:
            return True
        except OSError as error:
            self.unsent = b""
            self._core.lost(reason(error))
            return False
        self.unsent = memoryview(self.unsent)[sent:] if sent < len(self.unsent) else b""
        return True


def reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
