"""Calls and results as JSON; bytes left alone; what is refused names its argument."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.app.shapes import ORDER, ROUND_TRIPS, Item, Order
from tq.app.codecs import BYTES, JSON, Hints, JsonCodec
from tq.errors import InvalidRequest

CODEC = JsonCodec()
SEND = Hints(to=list[Any], body=str, order=Order)


def call(hints: Hints, **arguments: Any) -> Any:
    content_type, data = CODEC.encode(arguments, hints)
    return JsonCodec().decode(data, content_type, hints)


def test_a_call_is_one_object() -> None:
    content_type, data = CODEC.encode({"to": ["a"], "body": "ü"}, SEND)
    assert content_type == JSON
    assert data == '{"to":["a"],"body":"ü"}'.encode()
    assert CODEC.decode(data, content_type, SEND) == {"to": ["a"], "body": "ü"}
    assert call(SEND, order=ORDER) == {"order": ORDER}
    assert call(SEND) == {}


@pytest.mark.parametrize(("hint", "value"), ROUND_TRIPS, ids=lambda part: str(part)[:60])
def test_arguments_and_results_of_each_type(hint: Any, value: Any) -> None:
    hints = Hints(first=int, value=hint)
    assert call(hints, first=1, value=value) == {"first": 1, "value": value}
    content_type, data = CODEC.encode(value, hint)
    back = JsonCodec().decode(data, content_type, hint)
    assert back == value
    assert type(back) is type(value)


def test_the_argument_and_the_place_are_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CODEC.encode({"body": "x", "to": [0, 1, 2, {"x": {1}}]}, SEND)
    assert caught.value.message == (
        "argument 'to'[3].x: a set cannot be carried as JSON; use a list, or a codec of your own"
    )
    assert caught.value.detail["field"] == "argument 'to'[3].x"
    with pytest.raises(InvalidRequest, match=r"^argument 'order'\.items\[0\]\.price: "):
        CODEC.encode({"order": Order(ORDER.id, [Item("a", "x")], ORDER.at)}, SEND)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"^argument 'body': must be str, not an int \(5\)"):
        CODEC.encode({"body": 5}, SEND)
    with pytest.raises(InvalidRequest, match=r"^the result\[0\]: must be int"):
        CODEC.encode(["a"], list[int])
    with pytest.raises(InvalidRequest, match=r"^argument 'body': it holds half of a surrogate pair"):
        CODEC.encode({"to": [], "body": "\ud800"}, SEND)


def test_one_argument_of_bytes_is_the_payload() -> None:
    hints = Hints(data=bytes)
    raw = bytes(range(256))
    assert CODEC.encode({"data": raw}, hints) == (BYTES, raw)
    assert CODEC.encode({"data": bytearray(raw)}, hints) == (BYTES, raw)
    assert CODEC.encode({"data": b""}, hints) == (BYTES, b"")
    assert CODEC.decode(b'{"data":1}', "", hints) == {"data": b'{"data":1}'}
    with pytest.raises(InvalidRequest, match="argument 'data' is 'x': must be bytes"):
        CODEC.encode({"data": "x"}, hints)
    with pytest.raises(InvalidRequest, match=r"argument 'data'.*give it"):
        CODEC.encode({}, hints)


def test_bytes_beside_others_are_base64() -> None:
    hints = Hints(name=str, data=bytes)
    _, data = CODEC.encode({"name": "a", "data": b"\x00\xff"}, hints)
    assert json.loads(data) == {"name": "a", "data": "AP8="}
    assert call(hints, name="a", data=b"\x00\xff") == {"name": "a", "data": b"\x00\xff"}


@pytest.mark.parametrize("hint", [bytes, Any, bytes | None], ids=str)
def test_a_result_of_bytes_stays_as_it_is(hint: Any) -> None:
    assert CODEC.encode(b"\x00\xff", hint) == (BYTES, b"\x00\xff")
    assert CODEC.decode(b"\x00\xff", BYTES, hint) == b"\x00\xff"
    assert CODEC.decode(b"", BYTES, hint) == b""
    assert CODEC.encode(memoryview(b"ab"), hint) == (BYTES, b"ab")


def test_a_result_by_its_content_type() -> None:
    assert CODEC.decode(b"5", JSON, int) == 5
    assert CODEC.decode(b"5", "application/json; charset=utf-8", int) == 5
    assert CODEC.decode(b"", JSON, Any) is None
    assert CODEC.decode(b'"1.10"', JSON, Decimal) == Decimal("1.10")
    with pytest.raises(InvalidRequest, match="the result is image/png, and this task's codec reads application/json"):
        CODEC.decode(b"x", "image/png", int)
    with pytest.raises(InvalidRequest, match="the result: must be int, not a text"):
        CODEC.decode(b'"x"', JSON, int)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "the payload is no JSON"), (b"\xff", "the payload is no JSON"), (b"[1]", "is no JSON object"), (b'{"body":NaN}', "NaN is no JSON"),
        (b"[" * 100_000, "the payload is no JSON"), (b'{"body":5}', "argument 'body': must be str, not a number"),
    ],
)  # fmt: skip
def test_a_payload_that_is_none(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        CODEC.decode(data, JSON, SEND)


def test_payloads_of_other_kinds() -> None:
    """From a shell there is no content type to go by; what says that it is something else is believed."""
    assert CODEC.decode(b'{"body":"a"}', BYTES, SEND) == {"body": "a"}
    assert CODEC.decode(b"", "", SEND) == {}
    with pytest.raises(InvalidRequest, match="the payload is application/msgpack"):
        CODEC.decode(b"x", "application/msgpack", SEND)


def test_what_is_unknown_is_passed_on() -> None:
    """It is for the function's signature to say no."""
    assert CODEC.decode(b'{"cc":[1],"body":"a"}', JSON, SEND) == {"cc": [1], "body": "a"}


def test_types_that_can_never_be_carried() -> None:
    CODEC.check(Order, "x")
    with pytest.raises(InvalidRequest, match="argument 'x': its type type cannot be carried"):
        CODEC.check(type, "argument 'x'")
