"""What follows the handshake: frames (4-byte length, 1-byte type, body), as between clients and brokers.

IDENT  CBOR            who the sender is; the first frame of each side, and no other before it
PING   8 bytes         is anybody there; answered by
PONG   8 bytes         the same bytes
WHOLE  channel, bytes  a message
CHUNK  channel, MORE or LAST, bytes   a piece of a message; pieces of one message come one behind the other, with other
                                      frames between them
BYE    text            why the sender closes
"""

from __future__ import annotations

from typing import Final

from tq import limits
from tq.errors import ProtocolError
from tq.protocol.frames import FrameReader

IDENT: Final = 1
PING: Final = 2
PONG: Final = 3
WHOLE: Final = 4
CHUNK: Final = 5
BYE: Final = 6

MORE: Final = 0
LAST: Final = 1

CHANNEL_RAFT: Final = 0
CHANNEL_FORWARD: Final = 1
CHANNEL_STATUS: Final = 2
CHANNELS: Final = frozenset({CHANNEL_RAFT, CHANNEL_FORWARD, CHANNEL_STATUS})

FRAME_BYTES_MAX: Final = limits.PEER_CHUNK_BYTES + 16
IDENT_BYTES_MAX: Final = 4 * limits.KIB
PING_BYTES: Final = 8


class Inbox:
    """Bytes of one peer in, ``(type, channel, body)`` out; pieces are put together, within a bound."""

    def __init__(self, message_bytes_max: int = limits.PEER_MESSAGE_BYTES_MAX) -> None:
        self._reader = FrameReader(IDENT_BYTES_MAX)
        self._message_bytes_max = message_bytes_max
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._pieces_channel = 0

    def identified(self) -> None:
        """The peer is known: from here on frames may have their full size."""
        self._reader.frame_bytes_max = FRAME_BYTES_MAX

    def receive(self, data: bytes) -> None:
        self._reader.receive(data)

    def next(self) -> tuple[int, int, bytes] | None:
        """The next frame or whole message; None until more bytes come. Raises ProtocolError."""
        while (frame := self._reader.next_frame()) is not None:
            type_, body = frame
            if type_ == WHOLE:
                return WHOLE, _channel(body), body[1:]
            if type_ == CHUNK:
                message = self._gather(body)
                if message is not None:
                    return WHOLE, self._pieces_channel, message
            elif type_ in (PING, PONG):
                if len(body) != PING_BYTES:
                    raise ProtocolError(f"a ping has {len(body)} bytes: it must have {PING_BYTES}")
                return type_, 0, body
            elif type_ in (IDENT, BYE):
                return type_, 0, body
            else:
                raise ProtocolError(f"a peer sent a frame of type {type_}")
        return None

    def _gather(self, body: bytes) -> bytes | None:
        channel = _channel(body)
        if len(body) < 2 or body[1] not in (MORE, LAST):
            raise ProtocolError("a piece does not say whether more come")
        if self._pieces and channel != self._pieces_channel:
            raise ProtocolError("a piece of another message came before the last of this one")
        self._pieces_channel = channel
        self._pieces.append(body[2:])
        self._pieces_bytes += len(body) - 2
        if self._pieces_bytes > self._message_bytes_max:
            raise ProtocolError(f"a peer's message has more than {self._message_bytes_max:,} bytes")
        if body[1] == MORE:
            return None
        message = b"".join(self._pieces)
        self._pieces = []
        self._pieces_bytes = 0
        return message


def _channel(body: bytes) -> int:
    if not body or body[0] not in CHANNELS:
        raise ProtocolError("a peer's message names no channel of ours")
    return body[0]
