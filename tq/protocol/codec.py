"""Messages to frames and back.

``decode`` is total. What is wrong with the bytes, or of the wrong CBOR type, is a ProtocolError: the connection is
over. What is wrong with one request (a value out of bounds, a request or a field that this version does not know)
is an InvalidRequest, PayloadTooLarge or Unsupported whose ``detail["rid"]`` says which one to answer. Nothing else
comes out.

One plan a class, made at import from the annotations in ``messages``: for reading, its checks in order; for
writing, a getter of all its fields at once. ``encode`` does not check: its callers are ours.

Rejected: cattrs (ten times the time a message), checks in the classes' own constructors (replies are made by the
thousand from values that are already known to be good).
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NoReturn

import attrs

from tq.cbor import dumps, loads_shaped
from tq.errors import InvalidRequest, PayloadTooLarge, ProtocolError, Unsupported
from tq.protocol import fields as f
from tq.protocol import messages
from tq.protocol.frames import encode_frame

Message = messages.Message

REPLY_BIT = 0x80
REQUEST_TYPE_MAX = 0x3F
"""Requests are 1 .. this; 0x40 .. 0x7E come from the broker unasked; with REPLY_BIT, replies."""


def encode(message: Message) -> bytes:
    """The whole frame. Raises PayloadTooLarge above FRAME_BYTES_MAX."""
    type_, get_fields = _WRITE[message.__class__]
    return encode_frame(type_, dumps(get_fields(message)))


def decode(type_: int, body: bytes) -> Message:
    """The message in a frame. What it raises: see above."""
    plan = _READ.get(type_)
    if plan is None:
        _refuse_unknown(type_, body)
    cls, checks, fields_min = plan
    try:
        fields = loads_shaped(body)
    except ValueError as error:
        raise ProtocolError(f"the body of {cls.__name__}: {error}") from error
    if fields.__class__ is not list or not fields_min <= len(fields) <= len(checks):
        _refuse_shape(type_, cls, checks, fields_min, fields)
    try:
        for check, value in zip(checks, fields):  # noqa: B905  # those left off have defaults
            check(value)
    except (InvalidRequest, PayloadTooLarge) as error:
        if type_ > REQUEST_TYPE_MAX:
            raise ProtocolError(error.message, detail=error.detail) from error
        error.detail["rid"] = fields[0]  # checked first
        raise
    return cls(*fields)


def _refuse_shape(type_: int, cls: type[Message], checks: tuple[f.Check, ...], least: int, fields: Any) -> NoReturn:
    most = len(checks)
    if type_ <= REQUEST_TYPE_MAX and type(fields) is list and len(fields) > most:
        checks[0](fields[0])
        message = f"{cls.__name__} has {len(fields)} fields: this broker knows {most} of them"
        raise Unsupported(message, detail={"type": type_, "rid": fields[0]})
    shown = f"an array of {len(fields)}" if type(fields) is list else repr(fields)[:80]
    raise ProtocolError(f"the body of {cls.__name__} is {shown}: it must be an array of {least} .. {most}")


def _refuse_unknown(type_: int, body: bytes) -> NoReturn:
    """A request that a later version may know is answered if it has a request id in our manner."""
    if not 0 < type_ <= REQUEST_TYPE_MAX:
        raise ProtocolError(f"message type {type_:#04x} is not known")
    try:
        fields = loads_shaped(body)
    except ValueError as error:
        raise ProtocolError(f"the body of message type {type_:#04x}: {error}") from error
    rid = fields[0] if type(fields) is list and fields else None
    if type(rid) is not int or not 0 <= rid <= f.U32_MAX:
        rid = None
    raise Unsupported(f"request type {type_:#04x} is not known", detail={"type": type_, "rid": rid})


# ---- plans -----------------------------------------------------------------------------------------


def _classes() -> list[type[Message]]:
    """Those that the module names. ``__subclasses__`` also has, until they are collected, the classes without slots
    that attrs made these from."""
    found = [cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, messages.Message)]
    return [cls for cls in found if "TYPE" in cls.__dict__]


def _reading(cls: type[Message]) -> tuple[type[Message], tuple[f.Check, ...], int]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = attrs.fields(cls)
    checks = tuple([_check_of(cls, field.name, hints[field.name]) for field in fields])
    return cls, checks, sum(1 for field in fields if field.default is attrs.NOTHING)


def _check_of(cls: type[Message], name: str, hint: Any) -> f.Check:
    kind: f.Kind = hint.__metadata__[0]
    return kind(f"{cls.__name__}.{name}")


def _writing(cls: type[Message]) -> tuple[int, Callable[[Message], Any]]:
    names = [field.name for field in attrs.fields(cls)]
    get = attrgetter(*names)
    return cls.TYPE, get if len(names) > 1 else lambda message: (get(message),)


MESSAGES: dict[int, type[Message]] = {cls.TYPE: cls for cls in _classes()}
_READ = {type_: _reading(cls) for type_, cls in MESSAGES.items()}
_WRITE = {cls: _writing(cls) for cls in MESSAGES.values()}

assert len(MESSAGES) == len(_classes()), "two messages have one number"
