"""From the array in an entry to a command, checked: whoever applies it may rely on kinds and sizes.

A command that is not right becomes an error, equal on every node; it never becomes an exception in ``apply``. What is
checked here is form (kinds, sizes of ids, whole numbers in range); what depends on the state is checked where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from tq import cbor, limits
from tq.errors import InvalidRequest, PayloadTooLarge, TqError, Unsupported
from tq.machine.commands import (
    FORMAT,
    Advance,
    Cancel,
    Checkpoint,
    Claim,
    ClusterForm,
    Command,
    JobStart,
    JobStep,
    LeasesExpire,
    Outcome,
    Purge,
    QueueSet,
    Report,
    Retry,
    SessionClose,
    SessionOpen,
    SessionsEnd,
    SettingsSet,
    Submit,
    Timer,
)
from tq.machine.settings import CRASHES_BOUND

Check = Callable[[Any], bool]


def decode(array: Any, format_: int = FORMAT) -> Command | TqError:
    """One item of the list of commands of an entry of this format."""
    if array.__class__ is not list or not array or array[0].__class__ is not int:
        return InvalidRequest("a command is an array that begins with its number")
    cls = _BY_OP[format_].get(array[0])
    if cls is None:
        return Unsupported(f"this version does not know command {array[0]}")
    checks = _CHECKS[cls]
    if len(array) - 1 != len(checks):
        return InvalidRequest(f"{cls.__name__} has {len(checks)} fields, not {len(array) - 1}")
    for (field, check, bound), value in zip(checks, array[1:], strict=True):
        if not check(value):
            return InvalidRequest.of(f"{cls.__name__}.{field}", value, bound)
    command = cls(*array[1:])
    if cls is JobStart and command.format > format_:
        return InvalidRequest.of("filter", array[3], f"an entry of format {format_} has no such filters")
    if cls is Report:
        return _report_refused(command) or command  # type: ignore[arg-type]
    return command


def encode(command: Command) -> bytes:
    """The array of a command; the opposite of ``decode``."""
    cls = command.__class__
    if cls is Report:
        return _report_bytes(command)  # type: ignore[arg-type]
    return cbor.dumps([int(cls.OP), *[getattr(command, field) for field in _FIELDS[cls]]])


def _report_bytes(command: Report) -> bytes:
    """By hand, to the same bytes in half the time: the library takes longer for these small arrays than for anything else in
    an entry, and there is one a task."""
    heads: dict[str, bytes] = {}  # of results, by content type
    whole, data = cbor.dumps_whole, cbor.dumps_bytes
    parts = [
        cbor.head_of_array(4),
        cbor.dumps(int(Report.OP)),
        data(command.session),
        cbor.head_of_array(len(command.items)),
    ]
    items: list[list[Any]] = command.items
    for item in items:
        id, fence, outcome, body = item
        if (
            outcome != _COMPLETE
            or fence.__class__ is not int
            or len(id) != limits.ID_BYTES
            or body.__class__ is not list
            or len(body) != 2
            or body[1].__class__ is not bytes
        ):
            parts.append(cbor.dumps(item))  # whoever applies it judges
            continue
        content_type, result = body
        head = heads.get(content_type)
        if head is None:
            head = heads[content_type] = cbor.dumps(_COMPLETE) + cbor.head_of_array(2) + cbor.dumps(content_type)
        parts += (_HEAD_OF_ITEM, id, whole(fence), head, data(result))
    parts.append(cbor.dumps(command.draw))
    return b"".join(parts)


_COMPLETE: Final = int(Outcome.COMPLETE)
_HEAD_OF_ITEM: Final = cbor.dumps([bytes(limits.ID_BYTES), None, None, None])[:2]  # and of its id


# ---- kinds --------------------------------------------------------------------------------------------


def _is_int(low: int, high: int) -> Check:
    return lambda value: value.__class__ is int and low <= value <= high


def _is_id(value: Any) -> bool:
    return value.__class__ is bytes and len(value) == limits.ID_BYTES


def _is_text(value: Any) -> bool:
    return value.__class__ is str


def _is_bool(value: Any) -> bool:
    return value.__class__ is bool


def _is_list(item: Check, longest: int) -> Check:
    return lambda value: value.__class__ is list and len(value) <= longest and all(map(item, value))


def _is_bytes(value: Any) -> bool:
    return value.__class__ is bytes


def _is_lease(value: Any) -> bool:
    return value.__class__ is list and len(value) == 2 and _is_id(value[0]) and _U63(value[1])


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_error(value: Any) -> bool:
    return value.__class__ is list and len(value) == 3 and all(map(_is_text, value))


_U63_MAX: Final = (1 << 63) - 1
_U63: Final = _is_int(0, _U63_MAX)
_DURATION: Final = _is_int(0, limits.DURATION_MS_MAX)
_DURATION_BOUND: Final = f"must be 0 to {limits.DURATION_MS_MAX} ms"
_ID_BOUND: Final = f"must be {limits.ID_BYTES} bytes"
_TASKS: Final = limits.BATCH_TASKS_MAX
_IDS: Final = _is_list(_is_id, _TASKS)
_IDS_BOUND: Final = f"must be up to {_TASKS} ids of {limits.ID_BYTES} bytes"
_TEXTS_BOUND: Final = "must be a list of texts"
_U32_BOUND: Final = "must be 32 bits of chance"
_U32: Final = _is_int(0, (1 << 32) - 1)
_CHANGES: Final = 64  # settings of a queue in one command


def _is_checkpoint(value: Any) -> bool:
    if value.__class__ is not list or len(value) != 4:
        return False
    id, fence, number, data = value
    return (
        _is_id(id)
        and _U63(fence)
        and _U63(number)
        and (data is None or (_is_bytes(data) and len(data) <= limits.CHECKPOINT_BYTES_MAX))
    )  # fmt: skip


def _is_change(value: Any) -> bool:
    return value.__class__ is list and len(value) == 2 and _is_text(value[0])


_CHECKS: Final[dict[type[Command], tuple[tuple[str, Check, str], ...]]] = {
    Submit: (
        ("specs", _is_list(_is_bytes, _TASKS), f"must be up to {_TASKS} byte strings"),
        ("atomic", _is_bool, "must be a boolean"),
    ),
    SessionOpen: (
        ("session", _is_id, _ID_BOUND),
        ("name", _is_text, "must be text"),
        ("types", _is_list(_is_text, limits.SESSION_TYPES_MAX), _TEXTS_BOUND),
        ("queues", _is_list(_is_text, limits.SESSION_QUEUES_MAX), _TEXTS_BOUND),
    ),
    SessionClose: (("session", _is_id, _ID_BOUND),),
    Claim: (
        ("session", _is_id, _ID_BOUND),
        ("seq", _U63, "must be a whole number from 0"),
        ("queues", _is_list(_is_text, limits.SESSION_QUEUES_MAX), _TEXTS_BOUND),
        ("max_n", _is_int(1, limits.CLAIM_TASKS_MAX), f"must be between 1 and {limits.CLAIM_TASKS_MAX}"),
    ),
    Report: (
        ("session", _is_id, _ID_BOUND),
        ("items", _is_list(lambda item: item.__class__ is list and len(item) == 4, _TASKS), "must be [id, fence, outcome, body] each"),
        ("draw", _U32, _U32_BOUND),
    ),
    LeasesExpire: (("items", _is_list(_is_lease, _TASKS), "must be [id, fence] each"),),
    SessionsEnd: (("sessions", _IDS, _IDS_BOUND),),
    Cancel: (("ids", _IDS, _IDS_BOUND), ("grace_ms", _DURATION, _DURATION_BOUND)),
    Advance: (
        ("kind", _is_int(0, max(Timer)), "is not a kind of timer"),
        ("limit", _is_int(1, limits.ENTRY_OPERATIONS_MAX), f"must be between 1 and {limits.ENTRY_OPERATIONS_MAX}"),
        ("draw", _U32, _U32_BOUND),
    ),
    Retry: (("operation", _is_id, _ID_BOUND), ("ids", _IDS, _IDS_BOUND), ("delay_ms", _DURATION, _DURATION_BOUND)),
    Purge: (("operation", _is_id, _ID_BOUND), ("ids", _IDS, _IDS_BOUND)),
    JobStart: (
        ("operation", _is_id, _ID_BOUND),
        ("verb", _is_int(0, 1), "must be 0 (retry) or 1 (purge)"),
        ("filter", lambda value: value.__class__ is list, "must be a filter"),
        ("limit", _or_none(_is_int(1, (1 << 63) - 1)), "must be a whole number from 1"),
        ("delay_ms", _DURATION, _DURATION_BOUND),
    ),
    JobStep: (
        ("operation", _is_id, _ID_BOUND),
        ("limit", _is_int(1, limits.ENTRY_OPERATIONS_MAX), f"must be between 1 and {limits.ENTRY_OPERATIONS_MAX}"),
    ),
    ClusterForm: (("cluster_id", _is_id, _ID_BOUND), ("name", _is_text, "must be text")),
    SettingsSet: (
        ("lease_ms", _DURATION, _DURATION_BOUND),
        ("crashes_max", _is_int(1, CRASHES_BOUND), f"must be between 1 and {CRASHES_BOUND}"),
        ("finished_keep_ms", _DURATION, _DURATION_BOUND),
        ("finished_keep_tasks", _is_int(0, (1 << 63) - 1), "must be a whole number from 0"),
        ("dead_keep_ms", _DURATION, _DURATION_BOUND),
        ("tombstone_keep_ms", _DURATION, _DURATION_BOUND),
    ),
    QueueSet: (
        ("operation", _is_id, _ID_BOUND),
        ("queue", _is_text, "must be text"),
        ("by", _is_text, "must be text"),
        ("changes", _is_list(_is_change, _CHANGES), f"must be up to {_CHANGES} settings, [name, value] each"),
    ),
    Checkpoint: (
        ("items", _is_list(_is_checkpoint, _TASKS), f"must be [id, fence, number, data] each, data of at most {limits.CHECKPOINT_BYTES_MAX} bytes"),
    ),
}  # fmt: skip

_SINCE: Final[dict[type[Command], int]] = {QueueSet: 2, Checkpoint: 2}
"""Command -> the first format that has it; all others are of the first one."""

_BY_OP: Final[dict[int, dict[int, type[Command]]]] = {
    format_: {int(cls.OP): cls for cls in _CHECKS if _SINCE.get(cls, 1) <= format_} for format_ in range(1, FORMAT + 1)
}
_FIELDS: Final[dict[type[Command], tuple[str, ...]]] = {
    cls: tuple(field.name for field in attrs.fields(cls)) for cls in _CHECKS
}  # fmt: skip
for _cls, _checks in _CHECKS.items():
    assert _FIELDS[_cls] == tuple(field for field, _, _ in _checks), _cls


# ---- outcomes -----------------------------------------------------------------------------------------


def _report_refused(command: Report) -> TqError | None:
    """A batch with one wrong item is refused as a whole: the worker's core made it, and would make it again."""
    for item in command.items:
        id, fence, outcome, body = item
        if id.__class__ is not bytes or len(id) != limits.ID_BYTES:
            return InvalidRequest.of("items.id", id, _ID_BOUND)
        if fence.__class__ is not int or not 0 <= fence <= _U63_MAX:
            return InvalidRequest.of("items.fence", fence, "must be a whole number from 0")
        if outcome == _COMPLETE and outcome.__class__ is int:
            if (
                body.__class__ is not list
                or len(body) != 2
                or body[0].__class__ is not str
                or body[1].__class__ is not bytes
                or len(body[0]) > limits.CONTENT_TYPE_CHARS_MAX
            ):
                return InvalidRequest.of("items.body", body, "of a complete must be [content type, bytes]")
            if len(body[1]) > limits.RESULT_BYTES_MAX:
                return _too_large(len(body[1]))
        elif not _is_body(outcome, body):
            return InvalidRequest.of("items.body", [outcome, body], "is not an outcome with its body")
    return None


def _is_body(outcome: Any, body: Any) -> bool:
    if outcome.__class__ is not int:
        return False
    if outcome == Outcome.FAIL:
        return (
            body.__class__ is list
            and len(body) == 3
            and _is_error(body[0])
            and body[1].__class__ is bool
            and (body[2] is None or _DURATION(body[2]))
        )  # fmt: skip
    if outcome == Outcome.SNOOZE:
        return _DURATION(body)
    return outcome in (Outcome.RELEASE, Outcome.CANCELLED) and body is None


def _too_large(size: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"a result has {size} bytes: at most {limits.RESULT_BYTES_MAX}",
        detail={"field": "result", "value": size, "bound": limits.RESULT_BYTES_MAX},
    )
