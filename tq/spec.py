"""A task as it is submitted: the one byte string that client, log, store and worker share.

A *spec* is the CBOR array ``[id, type, payload, queue, priority, options]``; ``queue``, ``priority`` and
``options`` may be left off from the right. ``options`` is a map from the small integers of ``Option`` to
values; what has its default is left out. The client encodes it once; broker, log, store and grant carry
those bytes unchanged, so nothing between the two ends decodes a payload or encodes a task again.

Rules
- ``parse`` is total: it returns a ``Spec`` or raises ``InvalidRequest``, ``PayloadTooLarge`` or
  ``Unsupported``, naming the field. Nothing is clamped, nothing unknown is kept.
- Two specs have the same content when their ``Spec`` are equal: the bytes may differ in how a default
  was written.
- Whole numbers only: durations in ms, factors in thousandths. No float enters the log by this door.

- Every node judges alike, whatever Python it runs: what may stand in a name is written out here, because
  ``str.isprintable`` follows the Unicode tables of the interpreter for what is not ASCII.

Without options the library decodes the whole. With options the five fields are read by hand and the map is
decoded as a flat array of numbers and values: the decoder is kept from building maps with other keys than
text (see ``tq.cbor``), and nothing copies a large payload twice.

Two shortcuts for what repeats. A small task whose only option is the content type of JSON is decoded as one without
options; those bytes are its sixth item if the five before end where they begin. And the fields that came of a short
map of options are remembered by its bytes: all tasks of one function have the same.

Rejected: a map with text keys (three times the size and time); arrays inlined in the request (cheaper to
decode, but they must be encoded again for the log, the store and the grant).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from tq import limits
from tq.cbor import dumps, loads_joined, loads_shaped
from tq.errors import InvalidRequest, PayloadTooLarge, TqError, Unsupported


class Option(enum.IntEnum):
    """Numbers of the optional fields. A number is never used again for something else."""

    CONTENT_TYPE = 1
    DELAY_MS = 2
    NOT_BEFORE_MS = 3  # absolute; DELAY_MS or this
    EXPIRES_IN_MS = 4
    TIMEOUT_MS = 5
    DEADLINE_MS = 6
    RETRY = 7  # [attempts_max, base_ms, factor_milli, cap_ms, jitter_milli]
    UNIQUE = 8  # [key, during]; during: UNIQUE_PENDING | UNIQUE_RUNNING
    IDEMPOTENCY_KEY = 9
    TAGS = 10  # array of text, no two alike
    HEADERS = 11  # map of text to text
    RESULT_TTL_MS = 12
    # Reserved, refused by name until they exist:
    DEPENDS_ON = 13
    ORDER_KEY = 14
    CONCURRENCY_KEY = 15
    TENANT = 16


JSON: Final = "application/json"
JSON_OPTIONS: Final = dumps({int(Option.CONTENT_TYPE): JSON})
"""The options of most tasks that have some."""
SMALL_BYTES_MAX: Final = 64 * limits.KIB  # a task that is copied rather than read by hand
REMEMBERED_BYTES_MAX: Final = 256  # options of one task

UNIQUE_PENDING = 0  # while waiting, scheduled or pending
UNIQUE_RUNNING = 1  # while pending or running (the default of the client)


class Retry(NamedTuple):
    """When a failed attempt runs again; see ``tq.machine.retries``."""

    attempts_max: int = limits.ATTEMPTS_DEFAULT
    base_ms: int = limits.BACKOFF_BASE_MS_DEFAULT
    factor_milli: int = limits.BACKOFF_FACTOR_MILLI_DEFAULT
    cap_ms: int = limits.BACKOFF_CAP_MS_DEFAULT
    jitter_milli: int = limits.BACKOFF_JITTER_MILLI_DEFAULT


class Spec(NamedTuple):
    """A valid task, defaults filled in."""

    id: bytes
    type: str
    payload: bytes
    queue: str = "default"
    priority: int = limits.PRIORITY_DEFAULT
    content_type: str = "application/octet-stream"
    delay_ms: int = 0
    not_before_ms: int | None = None
    expires_in_ms: int | None = None
    timeout_ms: int | None = None
    deadline_ms: int | None = None
    retry: Retry = Retry()
    unique: tuple[str, int] | None = None
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # sorted by name
    result_ttl_ms: int = limits.RESULT_TTL_MS_DEFAULT


def encode(spec: Spec) -> bytes:
    """The bytes of ``spec``, defaults left out. Does not check; ``parse`` does."""
    if spec[5:] == _REST:
        if spec[3:5] == _QUEUE_AND_PRIORITY:
            return dumps(spec[:3])
        return dumps(spec[:5])
    options = {
        number: value if pack is None else pack(value)
        for (number, _check, pack), value, default in zip(_OPTIONS, spec[5:], _REST, strict=True)
        if value != default
    }
    return dumps((*spec[:5], options))


def parse(raw: bytes) -> Spec:
    """Decode and check the bytes of one task.

    Raises:
        InvalidRequest: not a spec, or a field out of bounds.
        PayloadTooLarge: payload, headers or the whole above their bound.
        Unsupported: an option that does not exist yet.
    """
    size = len(raw)
    if size > limits.SPEC_BYTES_MAX:
        raise _too_large("spec", size, limits.SPEC_BYTES_MAX)
    rest = _REST
    try:
        if raw[:1] in _HEADS_WITHOUT_OPTIONS:
            fields = loads_shaped(raw)
        else:
            fields, rest = _with_options(raw)
    except ValueError as error:
        raise InvalidRequest(f"spec is not a task: {error}", detail={"field": "spec"}) from error
    count = len(fields)
    if count == 5:
        task_id, name, payload, queue, priority = fields
    elif count == 3:
        task_id, name, payload = fields
        queue, priority = _QUEUE_AND_PRIORITY
    elif count == 4:
        task_id, name, payload, queue = fields
        priority = limits.PRIORITY_DEFAULT
    else:
        raise InvalidRequest.of("spec", f"an array of {count}", "[id, type, payload, queue, priority, options]")
    if type(task_id) is not bytes or len(task_id) != limits.ID_BYTES:
        raise InvalidRequest.of("id", task_id, f"{limits.ID_BYTES} bytes")
    if not _is_name_text(name):
        check_name("type", name)
    if type(payload) is not bytes:
        raise InvalidRequest.of("payload", payload, "a byte string")
    if not _is_name_text(queue):
        check_name("queue", queue)
    if not _is_priority(priority):
        raise InvalidRequest.of("priority", priority, f"a whole number {limits.PRIORITY_MIN} .. {limits.PRIORITY_MAX}")
    if len(payload) > limits.PAYLOAD_BYTES_MAX:
        raise _too_large("payload", len(payload), limits.PAYLOAD_BYTES_MAX)
    return _new(Spec, (task_id, name, payload, queue, priority, *rest))


Kind = tuple[str, str, int]
"""Type, queue and priority of a task."""


def parse_plain(raws: Sequence[bytes]) -> tuple[list[bytes], list[Kind]] | None:
    """Ids and kinds of many tasks, if ``parse`` takes all of them and none has options but being JSON; else None. None, too,
    if one is not written in the shortest way, as ``encode`` does."""
    rows = _plain_rows(raws)
    return None if rows is None else ([row[0] for row in rows], [(row[1], row[3], row[4]) for row in rows])


def parse_each(raws: Sequence[bytes]) -> list[Spec | TqError]:
    """``parse`` of each, or what it raises: in half the time where ``parse_plain`` would take them."""
    rows = _plain_rows(raws) if raws else None
    if rows is None:
        return [_parsed(raw) for raw in raws]
    rests = [_REST if raw[:1] in _HEADS_WITHOUT_OPTIONS else _REST_JSON for raw in raws]
    return [_new(Spec, (*row, *rest)) for row, rest in zip(rows, rests, strict=True)]


def _parsed(raw: bytes) -> Spec | TqError:
    try:
        return parse(raw)
    except (InvalidRequest, PayloadTooLarge, Unsupported) as error:
        return error


def _plain_rows(raws: Sequence[bytes]) -> list[list[Any]] | None:
    """Their five fields each. The path of almost every task, so each step is there for its time: one decoder for all, names
    checked where they change. (To cut id and payload out by hand, and to remember the rest by its bytes, takes longer.)

    Where a task ends is seen by its length: written in the shortest way it has just as many bytes. None can be written
    shorter, so if one were longer and took from its neighbour, another one would have to be too short.
    """
    if len(raws) > _ROWS_MAX or max(map(len, raws)) > limits.SPEC_BYTES_MAX:
        return None
    if not {raw[:1] for raw in raws} <= _HEADS_WITHOUT_OPTIONS:
        raws = [raw if raw[:1] in _HEADS_WITHOUT_OPTIONS else _without_json(raw) for raw in raws]
        if b"" in raws:
            return None
    try:
        rows = loads_joined(raws)
    except ValueError:
        return None
    name_here: str | None = None
    queue_here, priority_here, count_here = "", 0, 0
    size_beside = 0  # of all but the payload
    row: list[Any]
    for raw, row in zip(raws, rows, strict=True):
        if row.__class__ is not list:
            return None
        count = len(row)
        if count != 5:
            if not 3 <= count < 5:
                return None
            row += _QUEUE_AND_PRIORITY[count - 3 :]
        task_id, name, payload, queue, priority = row
        if name != name_here or queue != queue_here or priority != priority_here or count != count_here:
            if not (_is_name_text(name) and _is_name_text(queue) and _is_priority(priority)):
                return None
            name_here, queue_here, priority_here, count_here = name, queue, priority, count
            size_beside = _ID_AND_HEAD_BYTES + sum([len(dumps(field)) for field in (name, *row[3:count])])
        if (
            task_id.__class__ is not bytes
            or len(task_id) != limits.ID_BYTES
            or payload.__class__ is not bytes
            or priority.__class__ is not int  # True is equal to 1
        ):
            return None
        size = len(payload)
        head_bytes = 1 if size < 24 else 2 if size < 1 << 8 else 3 if size < 1 << 16 else 5
        if size_beside + head_bytes + size != len(raw) or size > limits.PAYLOAD_BYTES_MAX:
            return None
    return rows


def _is_name_text(text: object) -> bool:
    return text.__class__ is str and 0 < len(text) <= limits.NAME_CHARS_MAX and _is_name(text)


def _is_priority(number: object) -> bool:
    return number.__class__ is int and limits.PRIORITY_MIN <= number <= limits.PRIORITY_MAX


def options_of(raw: bytes) -> frozenset[int]:
    """Numbers of the options that the bytes of a valid task name, also with the value that they have unnamed."""
    if raw[:1] in _HEADS_WITHOUT_OPTIONS:
        return frozenset()
    _fields, options = _read_by_hand(raw)
    return frozenset(_pairs(options)[::2])


def check_name(field: str, value: object, chars_max: int = limits.NAME_CHARS_MAX) -> str:
    """A name as types, queues, workers and tags have: not empty, no control characters, no space at the ends."""
    text = _check_text(field, value, chars_max)
    if not _is_name(text):
        raise InvalidRequest.of(field, value, "no white space at the ends")
    return text


# ---- names -----------------------------------------------------------------------------------------

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def _is_name(text: str) -> bool:
    """Whether a text that is not empty has no control characters and no space at its ends."""
    if text.isascii():
        return text.isprintable() and text[0] != " " != text[-1]
    return _CONTROLS.search(text) is None and text[0] not in _SPACES and text[-1] not in _SPACES


def _check_text(field: str, value: object, chars_max: int) -> str:
    if type(value) is not str or not 0 < len(value) <= chars_max:
        raise InvalidRequest.of(field, value, f"text of 1 .. {chars_max} characters")
    if _CONTROLS.search(value) is not None:
        raise InvalidRequest.of(field, value, "no control characters")
    return value


def _too_large(field: str, size: int, bound: int) -> PayloadTooLarge:
    detail = {"field": field, "value": size, "bound": bound}
    return PayloadTooLarge(f"{field} has {size:,} bytes: at most {bound:,}", detail=detail)


# ---- options ---------------------------------------------------------------------------------------


def _whole(field: str, least: int, most: int) -> Callable[[Any], int]:
    bound = f"a whole number {least} .. {most}"

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise InvalidRequest.of(field, value, bound)
        return value

    return check


def _text(field: str, chars_max: int) -> Callable[[Any], str]:
    return lambda value: _check_text(field, value, chars_max)


_RETRY_FIELDS = (
    _whole("retry.attempts_max", 1, limits.ATTEMPTS_MAX),
    _whole("retry.base_ms", 0, limits.DURATION_MS_MAX),
    _whole("retry.factor_milli", 1_000, limits.BACKOFF_FACTOR_MILLI_MAX),
    _whole("retry.cap_ms", 0, limits.DURATION_MS_MAX),
    _whole("retry.jitter_milli", 0, 1_000),
)


def check_retry(value: Any) -> Retry:
    """The five numbers of option RETRY. Raises InvalidRequest, naming the one that is wrong."""
    if type(value) is not list or len(value) != len(_RETRY_FIELDS):
        raise InvalidRequest.of("retry", value, "[attempts_max, base_ms, factor_milli, cap_ms, jitter_milli]")
    return Retry(*[check(item) for check, item in zip(_RETRY_FIELDS, value, strict=True)])


def _check_unique(value: Any) -> tuple[str, int]:
    if type(value) is not list or len(value) != 2:
        raise InvalidRequest.of("unique", value, "[key, during]")
    key, during = value
    if type(during) is not int or during not in (UNIQUE_PENDING, UNIQUE_RUNNING):
        raise InvalidRequest.of("unique.during", during, f"{UNIQUE_PENDING} or {UNIQUE_RUNNING}")
    return _check_text("unique.key", key, limits.KEY_CHARS_MAX), during


def _check_tags(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > limits.TAGS_MAX:
        raise InvalidRequest.of("tags", value, f"an array of at most {limits.TAGS_MAX}")
    tags = tuple([check_name("tags", tag, limits.TAG_CHARS_MAX) for tag in value])
    if len(set(tags)) != len(tags):
        raise InvalidRequest.of("tags", value, "no two alike")
    return tags


def _check_headers(value: Any) -> tuple[tuple[str, str], ...]:
    if type(value) is not dict:
        raise InvalidRequest.of("headers", value, "a map of text to text")
    size = 0
    for name, text in value.items():
        check_name("headers", name)
        if type(text) is not str:
            raise InvalidRequest.of(f"headers[{name!r}]", text, "text")
        size += len(name.encode()) + len(text.encode())
    if size > limits.HEADERS_BYTES_MAX:
        raise _too_large("headers", size, limits.HEADERS_BYTES_MAX)
    return tuple(sorted(value.items()))


# One row per field of Spec from content_type on, in that order: its number, its check, and how it is
# written where that differs from how it is kept.
_OPTIONS: tuple[tuple[Option, Callable[[Any], Any], Callable[[Any], Any] | None], ...] = (
    (Option.CONTENT_TYPE, _text("content_type", limits.CONTENT_TYPE_CHARS_MAX), None),
    (Option.DELAY_MS, _whole("delay_ms", 0, limits.DURATION_MS_MAX), None),
    (Option.NOT_BEFORE_MS, _whole("not_before_ms", 0, limits.TIME_MS_MAX), None),
    (Option.EXPIRES_IN_MS, _whole("expires_in_ms", 1, limits.DURATION_MS_MAX), None),
    (Option.TIMEOUT_MS, _whole("timeout_ms", 1, limits.DURATION_MS_MAX), None),
    (Option.DEADLINE_MS, _whole("deadline_ms", 1, limits.DURATION_MS_MAX), None),
    (Option.RETRY, check_retry, None),
    (Option.UNIQUE, _check_unique, None),
    (Option.IDEMPOTENCY_KEY, _text("idempotency_key", limits.KEY_CHARS_MAX), None),
    (Option.TAGS, _check_tags, None),
    (Option.HEADERS, _check_headers, dict),
    (Option.RESULT_TTL_MS, _whole("result_ttl_ms", 0, limits.DURATION_MS_MAX), None),
)
_SLOTS = {int(number): (slot, check) for slot, (number, check, _pack) in enumerate(_OPTIONS)}
_RESERVED = {int(number): number.name.lower() for number in Option if number not in _SLOTS}


def _check_options(pairs: list[Any]) -> tuple[Any, ...]:
    """The fields of Spec behind priority, from numbers and values by turns."""
    rest = list(_REST)
    seen = set()
    for at in range(0, len(pairs), 2):
        number, value = pairs[at], pairs[at + 1]
        if type(number) is not int:
            raise InvalidRequest.of("options", number, "numbers as keys")
        found = _SLOTS.get(number)
        if found is None:
            name = _RESERVED.get(number)
            if name is None:
                raise Unsupported(f"option {number} is not known", detail={"field": "options", "value": number})
            raise Unsupported(f"{name} is not supported yet", detail={"field": name})
        if number in seen:
            raise InvalidRequest.of("options", number, "each number once")
        seen.add(number)
        slot, check = found
        rest[slot] = check(value)
    if Option.DELAY_MS in seen and Option.NOT_BEFORE_MS in seen:
        raise InvalidRequest.of("not_before_ms", "given beside delay_ms", "one of the two")
    return tuple(rest)


# ---- reading by hand -------------------------------------------------------------------------------

_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP = 0, 2, 3, 4, 5  # major types of CBOR
_FIELDS = (("id", _BYTES), ("type", _TEXT), ("payload", _BYTES), ("queue", _TEXT), ("priority", _UNSIGNED))
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


def _head(raw: bytes, at: int) -> tuple[int, int, int]:
    """Major type and argument of the item at ``at``, and where its content begins."""
    if at >= len(raw):
        raise ValueError("it ends early")
    major, low = raw[at] >> 5, raw[at] & 31
    at += 1
    if low < 24:
        return major, low, at
    end = at + _ARGUMENT_BYTES.get(low, len(raw))
    if end > len(raw):
        raise ValueError("it ends early, or has an indefinite length")
    return major, int.from_bytes(raw[at:end]), end


def _with_options(raw: bytes) -> tuple[list[Any], tuple[Any, ...]]:
    """The fields as they stand in the array, and those of Spec behind priority."""
    bare = _without_json(raw)
    if bare:
        try:
            return loads_shaped(bare), _REST_JSON
        except ValueError:
            pass  # the end of another text looks like it, or it is wrong altogether
    fields, options = _read_by_hand(raw)
    if not options:
        return fields, _REST
    if len(options) > REMEMBERED_BYTES_MAX:
        return fields, _check_options(_pairs(options))
    return fields, _remembered(options)


def _without_json(raw: bytes) -> bytes:
    """The same task without options, if it is small and has that one; empty if not. Its decoder will tell."""
    if len(raw) <= SMALL_BYTES_MAX and raw[:1] == _HEAD_OF_SIX and raw.endswith(JSON_OPTIONS):
        return _HEAD_OF_FIVE + raw[1 : -len(JSON_OPTIONS)]
    return b""


@lru_cache(maxsize=1_024)
def _remembered(options: bytes) -> tuple[Any, ...]:
    return _check_options(_pairs(options))


def _pairs(options: bytes) -> list[Any]:
    """Numbers and values of a map of options by turns, from its bytes; of none if there are none."""
    if not options:
        return []
    major, argument, at = _head(options, 0)
    if major != _MAP or argument > len(Option):
        raise ValueError(f"options are not a map of at most {len(Option)}")
    pairs: list[Any] = loads_shaped(bytes((0x98, 2 * argument)) + options[at:])
    return pairs


def _read_by_hand(raw: bytes) -> tuple[list[Any], bytes]:
    """The fields of an array with any kind of head, and the bytes of its options."""
    major, count, at = _head(raw, 0)
    if major != _ARRAY or not 3 <= count <= 6:
        raise ValueError("it is not an array of 3 to 6")
    fields: list[Any] = []
    for field, expected in _FIELDS[:count]:
        major, argument, at = _head(raw, at)
        if major != expected:
            raise InvalidRequest.of(field, f"of CBOR's major type {major}", f"of major type {expected}")
        if major == _UNSIGNED:
            fields.append(argument)
            continue
        end = at + argument
        if end > len(raw):
            raise ValueError("it ends early")
        fields.append(raw[at:end] if major == _BYTES else raw[at:end].decode())
        at = end
    if count < 6:
        if at != len(raw):
            raise ValueError("it goes on behind its end")
        return fields, b""
    if at == len(raw):
        raise ValueError("it ends early")
    return fields, raw[at:]


_HEADS_WITHOUT_OPTIONS = frozenset((b"\x83", b"\x84", b"\x85"))
_HEAD_OF_FIVE, _HEAD_OF_SIX = b"\x85", b"\x86"
_ROWS_MAX = 0xFFFF  # of what is joined
_ID_AND_HEAD_BYTES = len(dumps([bytes(limits.ID_BYTES)]))
_new = tuple.__new__
_DEFAULT = Spec(bytes(limits.ID_BYTES), "", b"")
_QUEUE_AND_PRIORITY = _DEFAULT[3:5]
_REST = _DEFAULT[5:]
_REST_JSON = (JSON, *_REST[1:])
