"""Exactly our subset of CBOR gets through; everything else is a ValueError."""

from __future__ import annotations

import io
import math
import os
import struct
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tq import cbor
from tq.limits import CBOR_DEPTH_MAX

EXAMPLES_MAX = 20_000 if os.environ.get("TQ_LONG") else 300

GOOD: list[Any] = [
    None, True, False, 0, 23, 24, -1, cbor.INT_MIN, cbor.INT_MAX, 1.5, -0.0, 1e308, "", "é✓𝄞", b"", bytes(255),
    [], [[]], {}, {"a": [1, {"b": b"c"}], "d": None},
    bytes(1021), bytes(1022), bytes(1023), bytes(1024), bytes(5000), ["x" * 3000, 7],
]  # fmt: skip


@pytest.mark.parametrize("value", GOOD, ids=lambda value: repr(value)[:40])
def test_what_dumps_writes_loads_reads(value: Any) -> None:
    for read in (cbor.loads, cbor.loads_shaped):
        got = read(cbor.dumps(value))
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize("value", GOOD, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("tail", [b"\x00", b"\xf6", b"\xff", b"\x40", bytes(2000), b"\x59\x04\x00" + bytes(1024)])
def test_nothing_may_follow(value: Any, tail: bytes) -> None:
    for read in (cbor.loads, cbor.loads_shaped):
        with pytest.raises(ValueError):
            read(cbor.dumps(value) + tail)


@pytest.mark.parametrize("value", GOOD, ids=lambda value: repr(value)[:40])
def test_nothing_may_lack(value: Any) -> None:
    raw = cbor.dumps(value)
    for end in range(max(0, len(raw) - 30), len(raw)):
        with pytest.raises(ValueError):
            cbor.loads(raw[:end])


def _fills(data: bytes) -> bool:
    """Whether data is one value and no more, by the library's own count."""
    file = io.BytesIO(data)
    try:
        cbor2.CBORDecoder(file, allow_indefinite=False).decode()
    except cbor2.CBORError:
        return False
    return file.tell() == len(data)


def test_no_tail_can_be_taken_for_ours() -> None:
    """Whatever follows the value within our own data, the string that we append is not read in its place."""
    begins = [b"\x58", b"\x59", b"\x5a", b"\x5b", b"\x59\x04", b"\x59\x04\x00", b"\x5a\x00", b"\x5a\x00\x00",
              b"\x5a\x00\x00\x04", b"\x5b" + bytes(6) + b"\x04", b"\x5b" + bytes(5), b"\x99\x00\x02", b"\x40"]  # fmt: skip
    for begin in begins:
        for zeros in range(1040):
            for data in (begin + bytes(zeros), b"\x00" + begin + bytes(zeros), begin + bytes(zeros) + begin):
                try:
                    cbor.loads_shaped(data)
                    got = True
                except ValueError:
                    got = False
                assert got == _fills(data), data


def _tag(number: int) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(number, 0))[:-1]


@pytest.mark.parametrize("padding", [0, 2000], ids=["small", "large"])
def test_every_tag_is_refused(padding: int) -> None:
    end = cbor.dumps(bytes(padding))
    numbers = [*range(300 if padding else 66_000), 43_000, 55_799, 1 << 31, 1 << 32, (1 << 64) - 1]
    for number in numbers:
        for content in (b"\x00", b"\x41a", b"\x61a", b"\x82\x00\x01", b"\x80"):
            with pytest.raises(ValueError, match="tags"):
                cbor.loads(b"\x82" + _tag(number) + content + end)
            if number > 300:
                break


REFUSED = {
    "empty": b"",
    "indefinite bytes": b"\x5f\x41a\xff",
    "indefinite text": b"\x7f\x61a\xff",
    "indefinite array": b"\x9f\x00\xff",
    "indefinite map": b"\xbf\x61a\x00\xff",
    "break alone": b"\xff",
    "duplicate keys": b"\xa2\x61a\x00\x61a\x01",
    "duplicate keys, longer head": b"\xa2\x61a\x00\x78\x01a\x01",
    "integer key": b"\xa1\x01\x02",
    "null key": b"\xa1\xf6\x02",
    "bytes key": b"\xa1\x41a\x02",
    "float key": b"\xa1\xf9\x3c\x00\x02",
    "array key": b"\xa1\x81\x00\x02",
    "NaN 16": b"\xf9\x7e\x00",
    "NaN 32": b"\xfa\x7f\xc0\x00\x00",
    "NaN 64": b"\xfb" + struct.pack(">d", math.nan),
    "infinity 16": b"\xf9\x7c\x00",
    "-infinity 64": b"\xfb" + struct.pack(">d", -math.inf),
    "undefined": b"\xf7",
    "simple 0": b"\xe0",
    "simple 255": b"\xf8\xff",
    "simple below 32 in two bytes": b"\xf8\x14",
    "reserved 28": b"\x1c",
    "below -2**63": b"\x3b\x80" + bytes(7),
    "-2**64": b"\x3b" + b"\xff" * 8,
    "bad UTF-8": b"\x61\xff",
    "surrogate in UTF-8": b"\x63\xed\xa0\x80",
    "overlong UTF-8": b"\x62\xc0\x80",
    "array that lies": b"\x9b" + b"\xff" * 8,
    "map that lies": b"\xbb" + b"\xff" * 8,
    "bytes that lie": b"\x5b\x7f" + b"\xff" * 7,
    "text that lies": b"\x7a\xff\xff\xff\xff",
}
SHAPED_LETS_BY = {"NaN 16", "NaN 32", "NaN 64", "infinity 16", "-infinity 64", "undefined", "simple 0", "simple 255",
                  "below -2**63", "-2**64", "bytes key"}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("where", ["alone", "deep", "in a map", "large"])
def test_refused(name: str, where: str) -> None:
    raw = REFUSED[name]
    raw = {
        "alone": raw,
        "deep": b"\x82\x00\x81" + raw,
        "in a map": b"\xa1\x61k" + raw,
        "large": b"\x82" + cbor.dumps(bytes(2000)) + raw,
    }[where]
    with pytest.raises(ValueError):
        cbor.loads(raw)
    if name in SHAPED_LETS_BY:
        cbor.loads_shaped(raw)  # said in its theory
    else:
        with pytest.raises(ValueError):
            cbor.loads_shaped(raw)


@pytest.mark.parametrize("padding", [b"", cbor.dumps(bytes(2000))], ids=["small", "large"])
@pytest.mark.parametrize("nest", [b"\x81", b"\xa1\x61k"], ids=["array", "map"])
def test_depth_is_bounded(padding: bytes, nest: bytes) -> None:
    outer = b"\x82" + padding if padding else b"\x81"
    for read in (cbor.loads, cbor.loads_shaped):
        read(outer + nest * (CBOR_DEPTH_MAX - 1) + b"\x00")
        for depth in (CBOR_DEPTH_MAX, 1_000, 1_000_000):
            with pytest.raises(ValueError):
                read(outer + nest * depth + b"\x00")


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xd8\x1c" * 3000)
@example(b"\xc4\x82\x1b" + b"\xff" * 8 + b"\x01")
def test_any_bytes_give_a_value_of_ours_or_value_error(raw: bytes) -> None:
    try:
        value = cbor.loads(raw)
    except ValueError:
        return
    assert cbor.loads(cbor.dumps(value)) == value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(cbor.INT_MIN, cbor.INT_MAX) | st.text() | st.binary(max_size=2000)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(VALUES, st.binary(min_size=1, max_size=2000))
def test_round_trip_and_tail(value: Any, tail: bytes) -> None:
    raw = cbor.dumps([value])
    assert cbor.loads(raw) == [value]
    for read in (cbor.loads, cbor.loads_shaped):
        with pytest.raises(ValueError):
            read(raw + tail)


@given(st.lists(st.binary(max_size=12), max_size=4))
def test_what_is_joined_is_read_as_one_array(datas: list[bytes]) -> None:
    try:
        expected = cbor.loads_shaped(cbor.head_of_array(len(datas)) + b"".join(datas))
    except ValueError:
        with pytest.raises(ValueError, match="CBOR"):
            cbor.loads_joined(datas)
    else:
        assert repr(cbor.loads_joined(datas)) == repr(expected)  # NaN is not equal to itself


def test_each_of_many_is_read_as_alone() -> None:
    values: list[object] = [[1, b"x"], "text", {"a": [None]}]
    assert cbor.loads_joined([cbor.dumps(value) for value in values]) == values


def test_what_is_written_by_hand_is_as_the_library_writes_it() -> None:
    for size in [*range(300), 65_535, 65_536]:
        data = b"x" * size
        assert cbor.dumps_bytes(data) == cbor.dumps(data)
    for bits in range(64):
        for number in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1):
            assert cbor.dumps_whole(number) == cbor.dumps(number)
    for count in [*range(300), 65_535]:
        assert cbor.head_of_array(count) + b"\xf6" * count == cbor.dumps([None] * count)
