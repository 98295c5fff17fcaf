"""What worker and child process say to each other: frames of 4 bytes length and CBOR, over one socket pair.

worker  [JOB, id, type, queue, attempt, crashes, fence, deadline | null, headers, payload, checkpoint | null,
         content type]                                                                        run this
        [STOP, lost]                                                                          end it
        [SAVED, number, error | null]                                                         what became of a checkpoint
child   [READY, error | null]                                                                 handlers are imported
        [TOLD, fence, done, total | null, note | null]                                        how far it is
        [SAVE, fence, number, data | null]                                                    keep a checkpoint
        [SAID, outcome, body]                                                                 it ended
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tq import cbor, limits

JOB: Final = 0
STOP: Final = 1
READY: Final = 2
SAID: Final = 3
TOLD: Final = 4
SAVE: Final = 5
SAVED: Final = 6

READ_BYTES: Final = limits.SOCKET_READ_BYTES
_LENGTH: Final = struct.Struct(">I")


def pack(fields: list[Any]) -> bytes:
    body = cbor.dumps(fields)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Bytes in, frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[list[Any]]:
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            frames.append(cbor.loads(bytes(buffer[start + _LENGTH.size : end])))
            start = end
        if start:
            del buffer[:start]
        return frames
