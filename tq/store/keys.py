"""Keys of the store's tables: the only place that packs or unpacks their bytes.

All numbers are big-endian, so the order of the bytes is the order of the numbers. Ids (tasks, sessions, operations)
are 16 bytes. A key of any length that a user picked is kept as a hash of fixed length, because LMDB's keys are bounded.

| table      | key                                                              | value                              |
|------------|------------------------------------------------------------------|------------------------------------|
| META       | text                                                             | see the constants below            |
| NAMES      | kind, number u32 · or kind (upper case), name or its hash        | name, UTF-8 · number u32           |
| TASKS      | id                                                               | header, `tq/machine/task.py`       |
| SPECS      | id                                                               | the task as submitted              |
| READY      | queue u32, type u32, 255 − priority u8, index u64, ordinal u32   | id                                 |
| TIMERS     | kind u8, time u64, id                                            | empty                              |
| HELD       | session, id                                                      | fence u64                          |
| ENDED      | state u8, time u64, id                                           | empty                              |
| RESULTS    | id                                                               | CBOR [content type, bytes]         |
| HISTORY    | id, number u32 · id, 0xFFFFFFFF                                  | CBOR, `tq/machine/history.py` · checkpoint of a handler, `tq/machine/checkpoint.py` |
| SESSIONS   | session · session, 0x01                                          | CBOR · seq u64, fence u64, n u32   |
| KEYS       | "i", hash · "u", hash, id                                        | id · empty                         |
| TOMBSTONES | id                                                               | CBOR, `tq/machine/retention.py`    |
| OPERATIONS | operation id                                                     | CBOR [kind, answer]                |
| JOBS       | operation id                                                     | CBOR, `tq/machine/jobs.py`         |
| COUNTS     | "s", queue u32, state u8, band u8 · "r", queue u32, type u32 · "f" | u64                              |
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

LOG_TIME: Final = b"machine.log_time_ms"  # META: u64
SETTINGS: Final = b"machine.settings"  # META: CBOR, the fields of Settings in order
CLUSTER: Final = b"machine.cluster"  # META: CBOR [cluster id, name]
FORMAT: Final = b"machine.format"  # META: u64, the highest format of an entry applied; absent: 1
QUEUE_SETTINGS: Final = b"machine.queue."  # META: and the queue's number u32: CBOR, `tq/machine/queue_settings.py`
RETAINED: Final = b"machine.retained."  # META: and a state u8: key of ENDED, how far retention has passed over tasks

KIND_QUEUE: Final = b"q"
KIND_TYPE: Final = b"t"
HASH_BYTES: Final = 20
NAME_PLAIN_BYTES_MAX: Final = 256

U64: Final = struct.Struct(">Q")
U32: Final = struct.Struct(">I")
READY: Final = struct.Struct(">IIBQI")
READY_PAIR: Final = struct.Struct(">II")
READY_PLACE: Final = struct.Struct(">BQI")
TIMER: Final = struct.Struct(">BQ16s")
ENDED: Final = struct.Struct(">BQ16s")
COUNT_STATE: Final = struct.Struct(">cIBB")
COUNT_READY: Final = struct.Struct(">cII")
LAST_CLAIM: Final = struct.Struct(">QQI")

pack_u64 = U64.pack
pack_ready = READY.pack
pack_ended = ENDED.pack
COUNT_FINISHED: Final = b"f"
LAST_CLAIM_MARK: Final = b"\x01"


def unpack_u64(value: bytes | None) -> int:
    """0 where there is nothing."""
    return 0 if value is None else int(U64.unpack(value)[0])


def after(prefix: bytes) -> bytes | None:
    """The least key above all that begin with ``prefix``; None where there is none."""
    short = prefix.rstrip(b"\xff")
    return short[:-1] + bytes((short[-1] + 1,)) if short else None


def hashed(key: str) -> bytes:
    """A user's key, in fixed length."""
    return blake2b(key.encode(), digest_size=HASH_BYTES).digest()


def idempotency(key: str) -> bytes:
    return b"i" + hashed(key)


def unique_prefix(key_hash: bytes) -> bytes:
    return b"u" + key_hash


def unique(key_hash: bytes, id: bytes) -> bytes:
    return b"u" + key_hash + id


def name_of_number(kind: bytes, number: int) -> bytes:
    return kind + U32.pack(number)


def number_of_name(kind: bytes, name: str) -> bytes:
    raw = name.encode()
    if len(raw) > NAME_PLAIN_BYTES_MAX:
        raw = b"\xff" + blake2b(raw, digest_size=HASH_BYTES).digest()
    return kind.upper() + raw


def timer(kind: int, time_ms: int, id: bytes) -> bytes:
    return TIMER.pack(kind, time_ms, id)


def timers_until(kind: int, time_ms: int) -> tuple[bytes, bytes]:
    """Range of the timers of ``kind`` that are due at ``time_ms``."""
    return bytes((kind,)), struct.pack(">BQ", kind, time_ms + 1)


def history(id: bytes, number: int) -> bytes:
    return id + U32.pack(number)


def checkpoint(id: bytes) -> bytes:
    return id + b"\xff\xff\xff\xff"


def count_state(queue: int, state: int, band: int) -> bytes:
    return COUNT_STATE.pack(b"s", queue, state, band)


def count_ready(queue: int, type_: int) -> bytes:
    return COUNT_READY.pack(b"r", queue, type_)
