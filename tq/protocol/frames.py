"""Frames: a 4-byte big-endian length of what follows, a 1-byte type, a body.

The reader holds what has arrived and no more: a length is judged when its four bytes are there, and memory
grows with the bytes that really come. A frame that lies within one read is cut out of it with a single copy;
a larger one is gathered.
"""

from __future__ import annotations

import struct

from tq import limits
from tq.errors import PayloadTooLarge, ProtocolError

HEAD_BYTES = 5
_LENGTH_BYTES = 4
_HEAD = struct.Struct(">IB")
_pack_head = _HEAD.pack
_unpack_head = _HEAD.unpack_from


def encode_frame(type_: int, body: bytes) -> bytes:
    """The whole frame. Raises PayloadTooLarge where a peer would refuse its length."""
    length = 1 + len(body)
    if length > limits.FRAME_BYTES_MAX:
        detail = {"field": "frame", "value": length, "bound": limits.FRAME_BYTES_MAX}
        raise PayloadTooLarge(f"a message has {length:,} bytes: at most {limits.FRAME_BYTES_MAX:,}", detail=detail)
    return _pack_head(length, type_) + body


class FrameReader:
    """Bytes in as they come, frames out.

    Call ``next_frame`` until it returns None before the next ``receive``, else what is unread is copied again.
    After a ProtocolError the reader stays where it is: each further call raises the same.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        """Of type and body. May be changed between frames."""
        self._data = b""  # arrived; unread from _at on
        self._at = 0
        self._body = bytearray()  # of a frame that needs more than one read
        self._body_type = 0
        self._missing_bytes = 0

    def receive(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next_frame(self) -> tuple[int, bytes] | None:
        """Type and body of the next frame, or None until more bytes come. Raises ProtocolError for a bad length."""
        if self._missing_bytes:
            return self._gather()
        data, at = self._data, self._at
        here = len(data) - at
        if here < HEAD_BYTES:
            if here == _LENGTH_BYTES:
                self._check_length(int.from_bytes(data[at:]))
            return None
        length, type_ = _unpack_head(data, at)
        if not 0 < length <= self.frame_bytes_max:
            self._check_length(length)
        end = at + _LENGTH_BYTES + length
        if end <= len(data):
            self._at = end
            return type_, data[at + HEAD_BYTES : end]
        self._body += memoryview(data)[at + HEAD_BYTES :]
        self._body_type = type_
        self._missing_bytes = end - len(data)
        self._data, self._at = b"", 0
        return None

    @property
    def is_at_border(self) -> bool:
        """No frame has begun that is not complete."""
        return self._missing_bytes == 0 and self._at == len(self._data)

    def _gather(self) -> tuple[int, bytes] | None:
        piece = memoryview(self._data)[self._at : self._at + self._missing_bytes]
        self._body += piece
        self._at += len(piece)
        self._missing_bytes -= len(piece)
        if self._missing_bytes:
            return None
        body = bytes(self._body)
        self._body = bytearray()
        return self._body_type, body

    def _check_length(self, length: int) -> None:
        if length == 0:
            raise ProtocolError("a frame has length 0: it must have a type at least")
        if length > self.frame_bytes_max:
            raise ProtocolError(f"a frame has {length:,} bytes: at most {self.frame_bytes_max:,}")
