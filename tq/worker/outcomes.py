"""What became of an attempt, as it goes over the wire: ``(outcome, body)``."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple

from tq import limits
from tq.verdicts import Fatal, RetryAfter, Snooze, Verdict

Said = tuple[int, Any]

COMPLETE: Final = 0  # the numbers of the protocol, as in docs/protocol.md
FAIL: Final = 1
RELEASE: Final = 2
SNOOZE: Final = 3
CANCELLED: Final = 4

# Not on the wire:
STOPPED: Final = -1  # the handler was stopped by the worker, which knows what to say of it
CRASHED: Final = -2  # its process is gone; said by letting the lease run out, as if the worker were gone

SAID_STOPPED: Final[Said] = (STOPPED, None)
SAID_NOTHING: Final[Said] = (COMPLETE, ["", b""])

CUT: Final = "\n… (cut)"
MESSAGE_CHARS_MAX: Final = 4_096
OURS: Final = ("tq.worker.", "tq.app.", "tq.testing.")  # modules whose frames stand before the handler's


class Result(NamedTuple):
    """What a handler may return instead of bytes: a result whose content type is its own."""

    content_type: str
    data: bytes


def completed(content_type: str, result: object) -> Said:
    """What a handler returned: bytes, a Result, or None for no result."""
    if result is None:
        return (COMPLETE, [content_type, b""])
    if result.__class__ is Result:
        content_type, result = result
    if result.__class__ is not bytes:
        if not isinstance(result, (bytes, bytearray, memoryview)):
            kind = type(result).__name__
            return failed("TypeError", f"a handler returns bytes or None; this one returned {kind}", "", permanent=True)
        result = bytes(result)
    if len(result) > limits.RESULT_BYTES_MAX:
        text = f"the result has {len(result)} bytes; at most {limits.RESULT_BYTES_MAX} are kept"
        return failed("ResultTooLarge", text, "", permanent=True)
    return (COMPLETE, [content_type, result])


def raised(error: BaseException, gives_up: Callable[[BaseException], bool] | None = None) -> Said:
    """What a handler raised. ``gives_up``: the handler's own word on whether no other attempt can succeed."""
    if isinstance(error, Snooze):
        return (SNOOZE, round(error.seconds * 1000))
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception as second:  # noqa: BLE001 - still users' code: an exception whose __str__ raises
        message = f"(its text could not be made: {type(second).__name__})"
    after_ms = round(error.seconds * 1000) if isinstance(error, RetryAfter) else None
    is_permanent = isinstance(error, Fatal)
    if gives_up is not None and not isinstance(error, Verdict):
        try:
            is_permanent = bool(gives_up(error))
        except Exception as second:  # noqa: BLE001 - users' code too; in doubt the task is tried again
            message += f" (and whether to give up could not be told: {type(second).__name__}: {second})"
    trace = "".join(traceback.format_exception(kind, error, _theirs(error.__traceback__)))
    return failed(name, message, trace, permanent=is_permanent, retry_after_ms=after_ms)


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """Without the first frames, which are ours and called the handler; all of them if there are no others."""
    at = trace
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith(OURS):
        at = at.tb_next
    return trace if at is None else at


def failed(type_: str, message: str, trace: str, *, permanent: bool = False, retry_after_ms: int | None = None) -> Said:
    return (FAIL, [error_of(type_, message, trace), permanent, retry_after_ms])


def crashed(type_: str, message: str) -> Said:
    """The attempt ended as if the worker had been killed, and is a crash like that one."""
    return (CRASHED, error_of(type_, message, ""))


def error_of(type_: str, message: str, trace: str) -> list[str]:
    """``[type, message, traceback]`` within the bound; of a long traceback the end is kept, where it was raised."""
    type_ = type_[: limits.NAME_CHARS_MAX]
    message = _sound(message)
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[:MESSAGE_CHARS_MAX] + CUT
    left = limits.ERROR_TEXT_BYTES_MAX - len(type_.encode()) - len(message.encode())
    raw = _sound(trace).encode()
    if len(raw) > left:
        keep = left - len(CUT.encode()) - 1
        raw = CUT[1:].encode() + b"\n" + raw[len(raw) - keep :]
    return [_sound(type_), message, raw.decode(errors="ignore")]


def _sound(text: str) -> str:
    """Without lone surrogates, which are no UTF-8."""
    return text.encode(errors="replace").decode()
