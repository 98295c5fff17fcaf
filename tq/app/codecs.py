"""How the arguments of a call and its result become bytes and come back.

``JsonCodec`` is the default. What a task's function declares by its type hints decides how a value is carried, so
both sides must have the same function; see ``tq.app.typed``. A codec of one's own has the two methods of ``Codec``,
for other formats, for encryption or compression. There is none that runs what the bytes say (pickle), and never will be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from tq.app.plain import Fault
from tq.app.typed import Carrier, Unfit, carrier_of
from tq.errors import InvalidRequest

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"


class Codec(Protocol):
    """Arguments and results as bytes. Methods are called from any thread.

    ``hint`` says what is declared. For the arguments of a call it is a dict, name of the parameter -> type, and the
    value is a dict too: name -> value, of those that were given. For a result it is the declared type. A codec that
    needs no types may leave it alone.
    """

    def encode(self, value: Any, hint: Any) -> tuple[str, bytes]:
        """(content type, bytes). Raises what it likes for a value that it cannot carry, best InvalidRequest."""
        ...

    def decode(self, data: bytes, content_type: str, hint: Any) -> Any:
        """The value again. content_type: what the sender said; empty when that is not known."""
        ...


class Hints(dict[str, Any]):
    """Types by parameter, of a call. The same object each time, so that a codec may keep by it what it found out."""


class _Call(NamedTuple):
    """What is known of the calls of one function. hints: kept alive, and so is their id."""

    hints: Hints
    is_bytes: bool
    carriers: dict[str, Carrier]  # by parameter, of those that were carried already


class JsonCodec:
    """JSON, exact: what arrives equals what was sent, or is refused with the place of what cannot be carried.

    Bytes are left alone: a call whose one parameter is declared ``bytes`` has them as its payload, and a result that is
    bytes stays so, under the content type ``application/octet-stream``.
    """

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}
        self._results: dict[int, tuple[Any, Carrier]] = {}

    # ---- a call ------------------------------------------------------------------------------------

    def encode(self, value: Any, hint: Any) -> tuple[str, bytes]:
        """Raises InvalidRequest, naming argument and place."""
        if hint.__class__ is Hints:
            return self._encode_call(value, hint)
        if value.__class__ is bytes:
            return BYTES, value
        if isinstance(value, (bytearray, memoryview)):
            return BYTES, bytes(value)
        carrier = self._of_result(hint)
        try:
            return JSON, _dumps(value if value.__class__ in carrier.classes else carrier.to_plain(value))
        except Unfit as error:
            raise _refused("the result", error.fault) from error

    def decode(self, data: bytes, content_type: str, hint: Any) -> Any:
        """Raises InvalidRequest, naming argument and place."""
        if hint.__class__ is Hints:
            return self._decode_call(data, content_type, hint)
        if content_type == BYTES or (hint is bytes and content_type != JSON):
            return data
        if not data:
            return None  # what a function returns that returns nothing
        _check(content_type, "result")
        plain = _loads(data, "the result")
        try:
            return self._of_result(hint).from_plain(plain)
        except Unfit as error:
            raise _refused("the result", error.fault) from error

    def check(self, hint: Any, what: str) -> None:
        """Raises InvalidRequest if values of this type cannot be carried whatever they are."""
        try:
            carrier_of(hint)
        except Unfit as error:
            raise _refused(what, error.fault) from error

    def _encode_call(self, arguments: Mapping[str, Any], hints: Hints) -> tuple[str, bytes]:
        call = self._calls.get(id(hints)) or self._of_call(hints)
        if call.is_bytes:
            return BYTES, _bytes_of(arguments, hints)
        carriers = call.carriers
        plain = {}
        name = ""
        try:
            for name, value in arguments.items():
                carrier = carriers.get(name)
                if carrier is None:
                    carrier = carriers[name] = carrier_of(hints.get(name, Any))
                plain[name] = value if value.__class__ in carrier.classes else carrier.to_plain(value)
            return JSON, _dumps(plain)
        except Unfit as error:
            raise _refused(f"argument {name!r}", error.fault) from error
        except UnicodeEncodeError as error:
            wrong = next(name for name, value in plain.items() if not _is_text(value))
            why = Fault("", "it holds half of a surrogate pair, which is no character")
            raise _refused(f"argument {wrong!r}", why) from error

    def _decode_call(self, data: bytes, content_type: str, hints: Hints) -> dict[str, Any]:
        call = self._calls.get(id(hints)) or self._of_call(hints)
        if call.is_bytes:
            return {next(iter(hints)): data}
        if not data:
            return {}
        if content_type != JSON:
            _check(content_type, "payload")
        plain = _loads(data, "the payload")
        if plain.__class__ is not dict:
            raise InvalidRequest("the payload is no JSON object: it must be one, with a member for each argument")
        carriers = call.carriers
        name = ""
        try:
            for name, value in plain.items():
                carrier = carriers.get(name)
                if carrier is None:
                    if name not in hints:
                        continue
                    carrier = carriers[name] = carrier_of(hints[name])
                if value.__class__ not in carrier.classes:
                    plain[name] = carrier.from_plain(value)
            return plain
        except Unfit as error:
            raise _refused(f"argument {name!r}", error.fault) from error

    # ---- what is kept ------------------------------------------------------------------------------

    def _of_call(self, hints: Hints) -> _Call:
        call = self._calls[id(hints)] = _Call(hints, _is_bytes(hints), {})
        return call

    def _of_result(self, hint: Any) -> Carrier:
        found = self._results.get(id(hint))
        if found is None:
            found = self._results[id(hint)] = (hint, carrier_of(hint))
        return found[1]


# ---- JSON ------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _encode_of(encoder: json.JSONEncoder) -> Callable[[Any], str]:
    """Its ``encode``, which would build the same machine of C for each value: that takes longer than most values do."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without it
        return encoder.encode
    text = json.encoder.encode_basestring
    iterate = make(None, encoder.default, text, None, ":", ",", encoder.sort_keys, encoder.skipkeys, encoder.allow_nan)
    join = "".join
    return lambda plain: join(iterate(plain, 0))


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_no_constant)
_encode = _encode_of(_encoder)
_decode = _decoder.decode
_decode_bare = _decoder.raw_decode


def _dumps(plain: Any) -> bytes:
    return _encode(plain).encode()


_BEGINS: Final = frozenset('{["-0123456789tfn')
"""What JSON may begin with, but for white space."""


def _loads(data: bytes, what: str) -> Any:
    try:
        text = data.decode()
        if text[:1] in _BEGINS:  # no white space to look for in front, in half the time
            value, end = _decode_bare(text)
            if end == len(text):
                return value
        return _decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} is no JSON: {error}") from error


def _is_text(value: Any) -> bool:
    try:
        _dumps(value)
    except UnicodeEncodeError:
        return False
    return True


# ---- small things ----------------------------------------------------------------------------------------


def _is_bytes(hints: Hints) -> bool:
    """The one parameter is declared as bytes."""
    return len(hints) == 1 and next(iter(hints.values())) is bytes


def _bytes_of(arguments: Mapping[str, Any], hints: Hints) -> bytes:
    name = next(iter(hints))
    value = arguments.get(name)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if name not in arguments:
        raise InvalidRequest(
            f"argument {name!r}: bytes are carried as they are, so its default cannot be told from empty ones; give it",
            detail={"field": name},
        )
    raise InvalidRequest.of(f"argument {name!r}", value, "must be bytes")


def _check(content_type: str, what: str) -> None:
    """``""`` and plain bytes are taken for JSON: who submits from a shell or another language says no more."""
    if content_type not in ("", BYTES, JSON) and content_type.partition(";")[0].strip() != JSON:
        raise InvalidRequest(
            f"the {what} is {content_type}, and this task's codec reads {JSON}: submit with the codec it is declared with",
            detail={"content_type": content_type},
        )


def _refused(what: str, fault: Fault) -> InvalidRequest:
    return InvalidRequest(f"{what}{fault.place}: {fault.why}", detail={"field": what + fault.place, "why": fault.why})
