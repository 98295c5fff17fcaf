"""From arguments to a payload, through the function, to the result and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import trio

from tests.unit.app.shapes import Item
from tq import resource
from tq.app.codecs import JsonCodec
from tq.app.definition import BadArguments, BadResult, Definition
from tq.errors import ConfigError, InvalidRequest
from tq.verdicts import Fatal
from tq.worker.context import Context
from tq.worker.outcomes import Result

CONTEXT = Context(b"i" * 16, "f", "q", 1, 0, 5, None, {})


def define(function: Any, codec: Any = None) -> Definition:
    return Definition("f", function, codec or JsonCodec())


def run(definition: Definition, *args: Any, **kwargs: Any) -> Any:
    """All the way; what ``decode_result`` gives."""
    payload = definition.encode_call(args, kwargs)[1]
    handler = definition.handler()
    result = trio.run(handler, payload, CONTEXT) if definition.is_async else handler(payload, CONTEXT)
    content_type, data = ("", b"") if result is None else result
    return definition.decode_result(data, content_type)


def total(items: list[Item], factor: int = 1) -> dict[str, float]:
    return {item.name: float(item.price) * factor for item in items}


async def twice(a: int, /, *b: int) -> tuple[int, ...]:
    return (a, *b) * 2


def echo(data: bytes) -> bytes:
    return data


def default(data: bytes = b"none") -> bytes:
    return data


def anything(value):  # type: ignore[no-untyped-def]
    return value


def maybe(value: int | None) -> int | None:
    return value


def test_all_the_way() -> None:
    assert run(define(total), [Item("a", Decimal(2))], factor=3) == {"a": 6.0}
    assert run(define(twice), 1, 2) == (1, 2, 1, 2)
    assert run(define(echo), b"\x00\xff") == b"\x00\xff"
    assert run(define(default)) == b"none"
    assert run(define(default), b"") == b""


def test_a_payload_of_another_kind_is_told_by_its_content_type() -> None:
    """The codec was changed while tasks were waiting."""
    context = Context(b"i" * 16, "f", "q", 1, 0, 5, None, {}, content_type="application/msgpack")
    with pytest.raises(
        BadArguments, match="the payload is application/msgpack, and this task's codec reads application/json"
    ):
        define(total).handler()(b"\x80", context)


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [None]}, b"\x00", b""])
def test_nothing_is_declared(value: Any) -> None:
    if isinstance(value, bytes):
        assert define(anything)._encode_result(value) == Result("application/octet-stream", value)
        return
    assert run(define(anything), value) == value


def test_none_is_told_from_nothing() -> None:
    assert define(anything).handler()(b'{"value":null}', CONTEXT) is None  # no bytes at all
    assert define(maybe).handler()(b'{"value":null}', CONTEXT) == Result("application/json", b"null")
    assert run(define(maybe), None) is None


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (
            b'{"items":[],"cc":1}',
            "f() has no argument 'cc'; it has items, factor: the task was submitted by another version",
        ),
        (b"{}", "f() is missing argument 'items': the task was submitted by another version of the code, or by hand"),
        (b'{"items":[{"name":"a"}]}', "argument 'items'[0].price: 'price' is missing"),
        (b"[]", "the payload is no JSON object"),
    ],
)
def test_a_payload_that_does_not_fit_is_fatal(payload: bytes, why: str) -> None:
    with pytest.raises(BadArguments) as caught:
        define(total).handler()(payload, CONTEXT)
    assert why in str(caught.value)
    assert isinstance(caught.value, Fatal)


def test_a_result_that_cannot_be_carried_is_fatal() -> None:
    def wrong() -> int:
        return {1}  # type: ignore[return-value]

    def forgot() -> int:
        """Without a return."""

    with pytest.raises(BadResult, match=r"f\(\) ran, but the result: must be int, not a set"):
        define(wrong).handler()(b"", CONTEXT)
    with pytest.raises(BadResult, match=r"the result: must be int, not a NoneType"):
        define(forgot).handler()(b"", CONTEXT)


def test_what_the_function_raises_passes() -> None:
    def fails() -> None:
        raise InvalidRequest("of the user's own client")

    with pytest.raises(InvalidRequest, match="own client"):
        define(fails).handler()(b"", CONTEXT)


def test_resources_are_filled_by_the_worker() -> None:
    def send(to: str, db: Any = resource("pool"), log: Any = resource()) -> str:
        return f"{to} {db} {log}"

    definition = define(send)
    assert definition.asks == {"db": "pool", "log": "log"}
    assert definition.hints.keys() == {"to"}
    assert definition.handler()(b'{"to":"a"}', CONTEXT, db=1, log=2) == Result("application/json", b'"a 1 2"')
    with pytest.raises(BadArguments, match="has no argument 'db'"):
        definition.handler()(b'{"to":"a","db":1}', CONTEXT)


def test_a_worker_does_not_begin_with_types_that_cannot_be_carried() -> None:
    def wrong(a: type) -> None: ...

    def by_default(a: type = int) -> None: ...

    def returns() -> type:
        return int

    define(total).check()
    define(by_default).check()
    with pytest.raises(ConfigError, match="task f: argument 'a': its type type cannot be carried"):
        define(wrong).check()
    with pytest.raises(ConfigError, match="task f: the result: its type type"):
        define(returns).check()


class Words:
    """A codec of one's own, that looks at no types."""

    def encode(self, value: Any, hint: Any) -> tuple[str, bytes]:
        return "text/words", repr(value).encode()

    def decode(self, data: bytes, content_type: str, hint: Any) -> Any:
        assert content_type in ("", "text/words")
        return {"a": data.decode()} if isinstance(hint, dict) else data.decode()


def test_a_codec_of_ones_own() -> None:
    def task(a: type) -> type:
        return a

    definition = define(task, Words())
    definition.check()
    assert definition.encode_call((int,), {}) == ("text/words", b"{'a': <class 'int'>}")
    assert run(definition, int) == repr("{'a': <class 'int'>}")
