"""What waits to be sent to one peer: two lanes, so that a sign of life passes a large entry; bounded.

Theory. A message is sent whole if it is small, else in chunks, and between two chunks everything urgent goes first.
One large message is under way at a time, so chunks need no name. Raft bears loss and reordering, and the guard is told
when there is no room, so a full outbox drops what comes and says so: nothing waits without bound for a peer that does
not read. A message once begun is sent to its end.

``take`` gives the next bytes for the socket, some hundred KiB at most: what is urgent tomorrow must not stand behind
all of today in the kernel's buffer.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from tq import limits
from tq.protocol.frames import encode_frame
from tq.raft.transport.frames import CHUNK, LAST, MORE, WHOLE

TAKE_BYTES: Final = 512 * limits.KIB
URGENT_FRAMES_MAX: Final = 10_000


class Outbox:
    def __init__(self, bytes_max: int = limits.PEER_OUT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._urgent: deque[tuple[int, bytes]] = deque()  # bytes of the message, frame
        self._bulk: deque[tuple[int, bytes]] = deque()  # channel, message
        self._at = 0  # of the first in bulk: what is sent already
        self._waiting_bytes = 0
        self.dropped = 0

    def push(self, channel: int, message: bytes, *, urgent: bool = False) -> bool:
        """False: there is no room, nothing was taken."""
        size = len(message)
        # Room for signs of life is kept when the bulk lane is full.
        bytes_max = self._bytes_max if urgent else self._bytes_max - limits.PEER_URGENT_BYTES_MAX
        if self._waiting_bytes + size > bytes_max or (urgent and len(self._urgent) >= URGENT_FRAMES_MAX):
            self.dropped += 1
            return False
        self._waiting_bytes += size
        if urgent:
            assert size <= limits.PEER_CHUNK_BYTES, "what is urgent is small"
            self._urgent.append((size, encode_frame(WHOLE, bytes((channel,)) + message)))
        else:
            self._bulk.append((channel, message))
        return True

    def push_frame(self, type_: int, body: bytes) -> None:
        """A frame of the transport itself, ahead of all. Dropped if the peer reads none of them."""
        if len(self._urgent) < URGENT_FRAMES_MAX:
            self._urgent.append((0, encode_frame(type_, body)))

    @property
    def waiting_bytes(self) -> int:
        """Of messages not yet taken."""
        return self._waiting_bytes

    @property
    def is_empty(self) -> bool:
        return not self._urgent and not self._bulk

    def take(self) -> bytes:
        """The next bytes to send; empty if nothing waits."""
        if self.is_empty:
            return b""
        parts: list[bytes] = []
        size = 0
        while size < TAKE_BYTES:
            frame = self._next()
            if frame is None:
                break
            parts.append(frame)
            size += len(frame)
        return b"".join(parts)

    def _next(self) -> bytes | None:
        if self._urgent:
            size, frame = self._urgent.popleft()
            self._waiting_bytes -= size
            return frame
        if not self._bulk:
            return None
        channel, message = self._bulk[0]
        if len(message) <= limits.PEER_CHUNK_BYTES:
            self._bulk.popleft()
            self._waiting_bytes -= len(message)
            return encode_frame(WHOLE, bytes((channel,)) + message)
        piece = message[self._at : self._at + limits.PEER_CHUNK_BYTES]
        self._at += len(piece)
        is_last = self._at == len(message)
        if is_last:
            self._bulk.popleft()
            self._waiting_bytes -= len(message)
            self._at = 0
        return encode_frame(CHUNK, bytes((channel, LAST if is_last else MORE)) + piece)
