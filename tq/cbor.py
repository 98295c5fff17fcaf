"""CBOR as tq speaks it: definite lengths, no tags, no NaN, no duplicate keys, nothing behind the end.

Two readers; both raise ``ValueError`` and nothing else, whatever the bytes are.

- ``loads`` accepts None, booleans, integers of 64 bits (-2**63 .. 2**64 - 1), finite floats, text, bytes,
  arrays and maps with text keys, to a bounded depth. What comes out needs no further look at its kinds.
- ``loads_shaped`` is for a caller that compares the exact type of each item that it uses, as ``spec.parse``
  and ``messages.decode`` do. It saves the walk over the values, so four things get by: floats that are not
  finite, ``undefined`` and simple values, byte strings as keys, integers down to -2**64. ``require_plain``
  is that walk, for the one item of a message that has no fixed shape.

``dumps`` is the plain encoder of the library; what it writes from those types, ``loads`` reads back. What is written a
hundred times a call of ours and has one shape is put together by hand, to the same bytes.

How the end is found: the library stops behind the first value and does not say where. For small data we
decode an array of two, the data and a *tail*: a byte string of zeros that is longer than the data. Only if
the first value ends where the data ends is the second one that string: anything else inside the data that
claimed to be it would have to contain the tail's own head, which is not zero. Large data goes through a
decoder on a file, which tells its position; it costs half a microsecond more, but copies nothing.

Keys are text because other kinds (arrays, integers, floats) have hashes that a stranger can make collide;
a frame of such keys would hold the broker for minutes.

Rejected: the library's defaults, which skip trailing bytes, take duplicate keys and build regular
expressions, big integers and shared references from tags; comparing with the value encoded again (refuses
heads that are longer than they must be, which is plain CBOR).
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import cbor2

from tq.limits import CBOR_DEPTH_MAX, ENTRY_DEPTH_MAX

dumps = cbor2.dumps


def dumps_bytes(data: bytes) -> bytes:
    """``dumps`` of a byte string. A short one takes a tenth of the time: the encoder costs a microsecond a call."""
    size = len(data)
    return _BYTES_HEADS[size] + data if size < 256 else dumps(data)


def dumps_whole(number: int) -> bytes:
    """``dumps`` of a whole number below 2**64. A large one takes a fifth of the time."""
    if number > 0xFFFF_FFFF:
        return _pack_u64(0x1B, number)
    return _pack_u32(0x1A, number) if number > 0xFFFF else dumps(number)


def head_of_array(count: int) -> bytes:
    """What stands before ``count`` items, below 2**16 of them."""
    if count < 24:
        return bytes((0x80 | count,))
    return bytes((0x98, count)) if count < 256 else b"\x99" + count.to_bytes(2, "big")


_pack_u32 = struct.Struct(">BI").pack
_pack_u64 = struct.Struct(">BQ").pack
_BYTES_HEADS = [dumps(bytes(size))[: 1 if size < 24 else 2] for size in range(256)]


def loads(data: bytes) -> Any:
    """Decode exactly one value that fills ``data``. Raises ValueError, whatever the bytes are."""
    value = loads_shaped(data)
    require_plain(value)
    return value


def loads_shaped(data: bytes) -> Any:
    """As ``loads``, for a caller that checks the exact type of every item it takes from the value."""
    try:
        if len(data) < _TAIL_BYTES:
            value, tail = _loads_small(b"\x82" + data + _TAIL)
            if tail != _TAIL_VALUE:
                raise ValueError("CBOR goes on behind its value")
            return value
        file = io.BytesIO(data)
        value = _decoder(file).decode()
        if file.tell() != len(data):
            raise ValueError("CBOR goes on behind its value")
        return value
    except cbor2.CBORError as error:
        raise ValueError(f"not the CBOR we speak: {error.__cause__ or error}") from error


def loads_joined(datas: Sequence[bytes]) -> list[Any]:
    """What ``loads_shaped`` makes of each, in a third of the time, if each is one value. That is for the caller to see: here
    they are read as one array, and one that is too long takes from its neighbour."""
    file = io.BytesIO(head_of_array(len(datas)) + b"".join(datas))
    try:
        values: list[Any] = _decoder(file).decode()
    except cbor2.CBORError as error:
        raise ValueError(f"not the CBOR we speak: {error.__cause__ or error}") from error
    if file.read(1):
        raise ValueError("CBOR goes on behind its value")
    return values


def loads_entry(data: bytes) -> Any:
    """As ``loads_shaped``, for an entry of the log: whatever a message could hold must be read back from there."""
    try:
        file = io.BytesIO(data)
        value = _entry_decoder(file).decode()
    except cbor2.CBORError as error:
        raise ValueError(f"not the CBOR we speak: {error.__cause__ or error}") from error
    if file.tell() != len(data):
        raise ValueError("CBOR goes on behind its value")
    return value


def require_plain(value: object) -> None:
    """Raise ValueError if ``value`` holds what ``loads_shaped`` lets by."""
    if type(value) in _PLAIN_AT_SIGHT:
        return
    rest = [value]
    while rest:
        item = rest.pop()
        kind = type(item)
        if kind in _PLAIN_AT_SIGHT:
            continue
        if kind is list:
            rest.extend(item)  # type: ignore[arg-type]
        elif kind is dict:
            for key in item:  # type: ignore[attr-defined]
                if type(key) is not str:
                    raise ValueError("a map has a key that is not text")
            rest.extend(item.values())  # type: ignore[attr-defined]
        elif kind is int:
            if not INT_MIN <= item <= INT_MAX:  # type: ignore[operator]
                raise ValueError("an integer is beyond 64 bits")
        elif kind is float:
            if not math.isfinite(item):  # type: ignore[arg-type]
                raise ValueError("a float is not finite")
        else:
            raise ValueError(f"a value is {item!r}")


INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1

_PLAIN_AT_SIGHT = frozenset({str, bytes, bool, type(None)})

_TAIL_VALUE = bytes(1024)
_TAIL = b"\x59\x04\x00" + _TAIL_VALUE
_TAIL_BYTES = len(_TAIL_VALUE)


def _refuse(*_args: Any) -> NoReturn:
    raise ValueError("tags are not used")


# The library's own tags can be overridden, not switched off; a test tries every number.
_TAGS_BUILT_IN = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 43000, 52, 54, 100, 256, 258, 260, 261, 1004, 55799)
_STRICT: dict[str, Any] = {
    "tag_hook": _refuse,
    "semantic_decoders": dict.fromkeys(_TAGS_BUILT_IN, _refuse),
    "allow_indefinite": False,
    "allow_duplicate_keys": False,
    "strict_hashable_types": True,
}
# The array of two is one level more.
_loads_small: Callable[[bytes], Any] = partial(cbor2.loads, max_depth=CBOR_DEPTH_MAX + 1, **_STRICT)
_decoder: Callable[[io.BytesIO], cbor2.CBORDecoder] = partial(cbor2.CBORDecoder, max_depth=CBOR_DEPTH_MAX, **_STRICT)
_entry_decoder: Callable[[io.BytesIO], cbor2.CBORDecoder] = partial(
    cbor2.CBORDecoder, max_depth=ENTRY_DEPTH_MAX, **_STRICT
)  # fmt: skip
