"""One client or worker at the other end of a socket: bytes out, bounded, and what must be undone when it goes.

The socket is non-blocking and written directly: after each entry, the replies of all commands it held leave in
one system call a connection. Only what the kernel does not take at once waits for a writer task.

Rules
- ``send`` never blocks and never fails; what it cannot deliver is found out at ``close``.
- A reply of grants that was not handed to the kernel when the connection closed is given to ``undelivered``:
  those grants go back at once, uncounted.
- ``on_close`` holds what to call then, by a key under which it is taken out again when it is moot.
- More than CONNECTION_OUT_BYTES_MAX unread bytes close the connection: a slow reader is cut off, not buffered.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from tq import limits
from tq.errors import PayloadTooLarge, TqError, to_wire
from tq.protocol import connection as protocol
from tq.protocol.messages import ClaimReply, ErrorReply, Message

WRITE_BYTES = limits.MIB
"""About how much is given to the kernel at once."""


class Connection:
    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        dirty: dict[Connection, None],
        undelivered: Callable[[bytes, list[Any]], None],
    ) -> None:
        self.socket = sock
        self.peer = peer
        self.protocol = protocol.BrokerConnection()
        self.is_closed = False
        self.is_relayed = False  # its client is at another node
        self.on_close: dict[object, Callable[[], object]] = {}
        self.wait_for_room: Callable[[Connection], None] | None = None
        self.closing: Callable[[socket.socket], None] | None = None
        self._dirty = dirty
        self._undelivered = undelivered
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._sent_bytes = 0  # in all
        self._grants: deque[tuple[int, bytes, list[Any]]] = deque()  # (sent_bytes when delivered, session, grants)

    # ---- out ---------------------------------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """Queue a message; it leaves at the next ``flush``. False: the connection is closed, nothing leaves any more."""
        if self.is_closed:
            return False
        if self._out_bytes > limits.CONNECTION_OUT_BYTES_MAX:
            self.close()  # not only in ``flush``: what one entry answers may be many times the bound
            return False
        try:
            data = self.protocol.send(message)
        except PayloadTooLarge as error:
            # The request is owed an answer: what it asked for does not fit one frame.
            data = self.protocol.send(ErrorReply(message.rid, to_wire(error)))  # type: ignore[attr-defined]
        if not data:
            return False
        self._out.append(data)
        self._out_bytes += len(data)
        self._dirty[self] = None
        return True

    def send_error(self, rid: int | None, error: TqError) -> None:
        self.send(ErrorReply(rid, to_wire(error)))

    def send_grants(self, rid: int, index: int, session: bytes, grants: list[Any]) -> None:
        """Reply to a claim; if it never gets to the kernel, the grants are released."""
        is_queued = self.send(ClaimReply(rid, index, grants))
        if grants and is_queued:
            self._grants.append((self._sent_bytes + self._out_bytes, session, grants))
        elif grants:
            self._undelivered(session, grants)

    def flush(self) -> None:
        """Hand to the kernel what it takes now. Closes the connection if the peer is gone or too slow."""
        if self.is_closed:
            return
        while self._out:
            data = self._next_write()
            try:
                sent = self.socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self.close()
                return
            self._sent_bytes += sent
            self._out_bytes -= sent
            if sent < len(data):
                self._out.appendleft(data[sent:])
                break
        while self._grants and self._grants[0][0] <= self._sent_bytes:
            self._grants.popleft()
        if self._out_bytes > limits.CONNECTION_OUT_BYTES_MAX:
            self.close()
        elif self._out and self.wait_for_room is not None:
            self.wait_for_room(self)

    def _next_write(self) -> bytes:
        """Small messages together, so that a thousand replies cost one system call; but not all that a slow reader has
        left, or each try would copy it."""
        data = self._out.popleft()
        if not self._out or len(data) >= WRITE_BYTES:
            return data
        parts = [data]
        size = len(data)
        while self._out and size < WRITE_BYTES:
            parts.append(self._out.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    @property
    def out_bytes(self) -> int:
        return self._out_bytes

    # ---- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket, release undelivered grants, tell whoever waits for this connection. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        self._dirty.pop(self, None)
        if self.closing is not None:
            self.closing(self.socket)
        self.socket.close()
        self._out.clear()
        self._out_bytes = 0
        while self._grants:
            _at, session, grants = self._grants.popleft()
            self._undelivered(session, grants)
        calls = list(self.on_close.values())
        self.on_close.clear()
        for call in calls:
            call()
