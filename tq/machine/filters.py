"""Which tasks a list or a bulk job means. On the wire a map; in a command an array.

All that is given must be met. What a filter asks stands in three places, which cost more and more to look at, so they are
looked at in this order: the packed header (state, queue, type, times, and the worker of a task that runs or completed),
the history (worker and error of past attempts), the spec (tags).

In a command: ``[state, queue, type, tag, ended_before_ms]``, as format 1 of the log has it, as long as that can say it; else the same
with ``[…, states, id_prefix, worker, error, created_since_ms, created_before_ms, ended_since_ms]`` behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import attrs

from tq.errors import InvalidRequest
from tq.machine import history
from tq.machine import task as t
from tq.machine.names import find_number
from tq.machine.session import session_name
from tq.machine.states import GROUPS, State
from tq.spec import parse
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

_TEXTS: Final = ("queue", "type", "tag", "id_prefix", "worker", "error")
_TIMES: Final = ("created_since_ms", "created_before_ms", "ended_since_ms", "ended_before_ms")
_FIELDS: Final = ("state", *_TEXTS, *_TIMES)
_OF_FORMAT_1: Final = 5  # fields in a command
_OF_FORMAT_2: Final = 12

STATE_NAMES: Final = {state.name.lower(): state for state in State}
_STATE_BOUND: Final = f"must be of {', '.join(STATE_NAMES)}, or a group: {', '.join(GROUPS)}"
_PREFIX: Final = re.compile(r"[0-9a-f]{1,32}")
_ID_TEXT: Final = re.compile(r"[0-9a-f]{32}")
_NONE: Final = bytes(4)
_HAS_WORKER: Final = bytes((State.RUNNING, State.COMPLETED))


@attrs.frozen
class Filter:
    """``states``: any of them, rising; None: all. Times are absolute, ms of log time, from ``since`` to before ``before``; of ended
    tasks only where they speak of the end. ``id_prefix``: hexadecimal digits. ``worker``: name, or id of a session in 32 digits.
    ``error``: class of the last error, with or without its module."""

    states: tuple[State, ...] | None = None
    queue: str | None = None
    type: str | None = None
    tag: str | None = None
    id_prefix: str | None = None
    worker: str | None = None
    error: str | None = None
    created_since_ms: int | None = None
    created_before_ms: int | None = None
    ended_since_ms: int | None = None
    ended_before_ms: int | None = None

    @classmethod
    def of_map(cls, fields: dict[str, Any]) -> Filter:
        """Raises InvalidRequest, naming the field."""
        for field in fields:
            if field not in _FIELDS:
                raise InvalidRequest.of("filter", field, f"a filter has {', '.join(_FIELDS)}")
        named = fields.get("state")
        states = None if named is None else _states_of(named if named.__class__ is list else [named])
        texts = {field: _text(field, fields.get(field)) for field in _TEXTS}
        for field in ("id_prefix", "worker"):
            text = texts[field]
            plain = None if text is None else text.replace("-", "").lower()
            if field == "id_prefix" and plain is not None and not _PREFIX.fullmatch(plain):
                raise InvalidRequest.of("filter.id_prefix", text, "must be the first digits of an id, hexadecimal")
            if plain is not None and (field == "id_prefix" or _ID_TEXT.fullmatch(plain)):
                texts[field] = plain
        times = {field: _time(field, fields.get(field)) for field in _TIMES}
        return cls(states, **texts, **times)  # type: ignore[arg-type]

    @classmethod
    def of_command(cls, fields: list[Any]) -> Filter:
        """Raises InvalidRequest, naming the field."""
        if len(fields) not in (_OF_FORMAT_1, _OF_FORMAT_2):
            raise InvalidRequest.of("filter", fields, f"must have {_OF_FORMAT_1} or {_OF_FORMAT_2} fields")
        state, queue, type_, tag, ended_before, *more = fields
        states, prefix, worker, error, created_since, created_before, ended_since = more or [None] * 7
        if prefix is not None and not (prefix.__class__ is str and _PREFIX.fullmatch(prefix)):
            raise InvalidRequest.of("filter.id_prefix", prefix, "must be 1 to 32 hexadecimal digits")
        return cls(
            _states_of_numbers([state] if state is not None else states),
            _text("queue", queue),
            _text("type", type_),
            _text("tag", tag),
            prefix,
            _text("worker", worker),
            _text("error", error),
            _time("created_since_ms", created_since),
            _time("created_before_ms", created_before),
            _time("ended_since_ms", ended_since),
            _time("ended_before_ms", ended_before),
        )

    def command(self) -> list[object]:
        states = None if self.states is None else [int(state) for state in self.states]
        state = states[0] if states is not None and len(states) == 1 else None
        more: list[object] = [
            states if state is None else None, self.id_prefix, self.worker, self.error,
            self.created_since_ms, self.created_before_ms, self.ended_since_ms,
        ]  # fmt: skip
        first: list[object] = [state, self.queue, self.type, self.tag, self.ended_before_ms]
        return first if more == [None] * len(more) else first + more


class Matcher:
    """A filter with its names looked up. ``is_empty``: names that no task ever had can match nothing.

    ``looks``, ``spec_bytes`` and ``history_bytes`` tell what was read beside headers, for who bounds work.
    """

    def __init__(self, txn: ReadTxn, wanted: Filter) -> None:
        self.looks = 0
        self.spec_bytes = 0
        self.history_bytes = 0
        self._txn = txn
        self.queue = None if wanted.queue is None else find_number(txn, keys.KIND_QUEUE, wanted.queue)
        self.type = None if wanted.type is None else find_number(txn, keys.KIND_TYPE, wanted.type)
        self.is_empty = (wanted.queue is not None and self.queue is None) or (
            wanted.type is not None and self.type is None
        )
        self._states = None if wanted.states is None else bytes(wanted.states)
        self._queue = None if self.queue is None else keys.U32.pack(self.queue)
        self._type = None if self.type is None else keys.U32.pack(self.type)
        self._prefix = wanted.id_prefix
        self._created = _range(wanted.created_since_ms, wanted.created_before_ms)
        self._ended = _range(wanted.ended_since_ms, wanted.ended_before_ms)
        self._tag = wanted.tag
        self._tag_bytes = (wanted.tag or "").encode()
        self._error = wanted.error
        self._error_tail = f".{wanted.error}"
        self._session: bytes | None = None
        self._worker = wanted.worker
        if wanted.worker is not None and _ID_TEXT.fullmatch(wanted.worker):
            self._session = bytes.fromhex(wanted.worker)
            self._worker = session_name(txn, self._session)  # None: it is over, and only headers know its id
        self._is_of_worker = wanted.worker is not None
        self._worker_bytes = b"" if self._worker is None else self._worker.encode()
        self._is_deep = wanted.worker is not None or wanted.error is not None or wanted.tag is not None

    def matches(self, id: bytes, raw: bytes) -> bool:
        """Of a task with this header."""
        if self._states is not None and raw[t.STATE_AT] not in self._states:
            return False
        if self._queue is not None and raw[t.QUEUE_AT : t.QUEUE_AT + 4] != self._queue:
            return False
        if self._type is not None and raw[t.TYPE_AT : t.TYPE_AT + 4] != self._type:
            return False
        if self._ended is not None and not self._ended[0] <= raw[t.ENDED_AT : t.ENDED_AT + 8] < self._ended[1]:
            return False
        if (
            self._created is not None
            and not self._created[0] <= raw[t.CREATED_AT : t.CREATED_AT + 8] < self._created[1]
        ):
            return False
        if self._prefix is not None and not id.hex().startswith(self._prefix):
            return False
        return not self._is_deep or (self._may_match(raw) and self._matches_deep(t.unpack(id, raw)))

    def _may_match(self, raw: bytes) -> bool:
        """What the header tells before it is unpacked."""
        has_past = raw[t.HISTORY_AT : t.HISTORY_AT + 4] != _NONE
        if self._error is not None and not has_past:
            return False
        if self._is_of_worker and raw[t.STATE_AT] in _HAS_WORKER:
            return raw.endswith(self._worker_bytes)
        return has_past or not self._is_of_worker

    def _matches_deep(self, task: t.Task) -> bool:
        if self._is_of_worker and not self._ran_at(task):
            return False
        if self._error is not None and not self._failed_with(task):
            return False
        return self._tag is None or self._has_tag(task)

    def _ran_at(self, task: t.Task) -> bool:
        """Whether the worker runs the task, or ran it last."""
        if task.session:
            return task.session == self._session if self._session is not None else task.worker == self._worker
        if self._worker is None:
            return False
        for row in self._past(task):
            if row[0] != history.STALE:
                return bool(row[5] == self._worker)
        return False

    def _failed_with(self, task: t.Task) -> bool:
        for row in self._past(task):
            if row[7] is not None:
                kind = row[7][0]
                return bool(kind == self._error or kind.endswith(self._error_tail))
        return False

    def _past(self, task: t.Task) -> Iterator[list[Any]]:
        """The newest first."""
        for row, size in history.rows_back(self._txn, task):
            self.looks += 1
            self.history_bytes += size
            yield row

    def _has_tag(self, task: t.Task) -> bool:
        raw = self._txn.get(Table.SPECS, task.id)
        assert raw is not None, f"task {task.id.hex()} has no spec"
        self.looks += 1
        self.spec_bytes += len(raw)
        return self._tag_bytes in raw and self._tag in parse(raw).tags  # most have it not, and need not be parsed


# ---- reading ------------------------------------------------------------------------------------------


def _states_of(names: list[Any]) -> tuple[State, ...]:
    found: set[State] = set()
    for name in names:
        if name.__class__ is not str or (name not in STATE_NAMES and name not in GROUPS):
            raise InvalidRequest.of("filter.state", name, _STATE_BOUND)
        found |= GROUPS[name] if name in GROUPS else {STATE_NAMES[name]}
    if not found:
        raise InvalidRequest.of("filter.state", names, _STATE_BOUND)
    return tuple(sorted(found))


def _states_of_numbers(numbers: Any) -> tuple[State, ...] | None:
    if numbers is None:
        return None
    if numbers.__class__ is not list or not numbers:
        raise InvalidRequest.of("filter.states", numbers, "must be numbers of states")
    for number in numbers:
        if number.__class__ is not int or not 0 <= number <= max(State):
            raise InvalidRequest.of("filter.state", number, "is not the number of a state")
    return tuple(sorted({State(number) for number in numbers}))


def _text(field: str, value: Any) -> str | None:
    if value is not None and value.__class__ is not str:
        raise InvalidRequest.of(f"filter.{field}", value, "must be text")
    return value


def _time(field: str, value: Any) -> int | None:
    if value is not None and not (value.__class__ is int and 0 <= value < 1 << 63):
        raise InvalidRequest.of(f"filter.{field}", value, "must be a time in ms")
    return value


def _range(since_ms: int | None, before_ms: int | None) -> tuple[bytes, bytes] | None:
    """As packed in headers, where 0 is: not yet."""
    if since_ms is None and before_ms is None:
        return None
    return keys.pack_u64(max(1, since_ms or 0)), keys.pack_u64((1 << 63) if before_ms is None else before_ms)
