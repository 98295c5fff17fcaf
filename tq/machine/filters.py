"""Which tasks a list or a bulk job means. On the wire a map; in a command ``[state, queue, type, tag, ended_before_ms]``."""

from __future__ import annotations

from typing import Any, Final

import attrs

from tq.errors import InvalidRequest
from tq.machine.names import find_number
from tq.machine.states import State
from tq.machine.task import Task
from tq.spec import parse
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

_TEXT_FIELDS: Final = ("queue", "type", "tag")
_FIELDS: Final = ("state", *_TEXT_FIELDS, "ended_before_ms")
STATE_NAMES: Final = {state.name.lower(): state for state in State}


@attrs.frozen
class Filter:
    """All that is given must be met. ``ended_before_ms``: absolute, of ended tasks only."""

    state: State | None = None
    queue: str | None = None
    type: str | None = None
    tag: str | None = None
    ended_before_ms: int | None = None

    @classmethod
    def of_map(cls, fields: dict[str, Any]) -> Filter:
        """Raises InvalidRequest, naming the field."""
        for field in fields:
            if field not in _FIELDS:
                raise InvalidRequest.of("filter", field, f"a filter has {', '.join(_FIELDS)}")
        state = fields.get("state")
        if state is not None and (state.__class__ is not str or state not in STATE_NAMES):
            raise InvalidRequest.of("filter.state", state, f"must be one of {', '.join(STATE_NAMES)}")
        return cls.of_command(
            [None if state is None else int(STATE_NAMES[state]), *[fields.get(field) for field in _FIELDS[1:]]]
        )

    @classmethod
    def of_command(cls, fields: list[object]) -> Filter:
        """Raises InvalidRequest, naming the field."""
        if len(fields) != len(_FIELDS):
            raise InvalidRequest.of("filter", fields, f"must be [{', '.join(_FIELDS)}]")
        state, queue, type_, tag, ended_before_ms = fields
        if state is not None and not (state.__class__ is int and 0 <= state <= max(State)):
            raise InvalidRequest.of("filter.state", state, "is not the number of a state")
        for field, value in zip(_TEXT_FIELDS, (queue, type_, tag), strict=True):
            if value is not None and value.__class__ is not str:
                raise InvalidRequest.of(f"filter.{field}", value, "must be text")
        if ended_before_ms is not None and not (ended_before_ms.__class__ is int and 0 <= ended_before_ms < 1 << 63):
            raise InvalidRequest.of("filter.ended_before_ms", ended_before_ms, "must be a time in ms")
        return cls(None if state is None else State(state), queue, type_, tag, ended_before_ms)  # type: ignore[arg-type]

    def command(self) -> list[object]:
        return [
            None if self.state is None else int(self.state), self.queue, self.type, self.tag, self.ended_before_ms
        ]  # fmt: skip


class Matcher:
    """A filter with its names looked up. ``is_empty``: names that no task ever had can match nothing."""

    def __init__(self, txn: ReadTxn, filter_: Filter) -> None:
        self._txn = txn
        self._filter = filter_
        self.queue = None if filter_.queue is None else find_number(txn, keys.KIND_QUEUE, filter_.queue)
        self.type = None if filter_.type is None else find_number(txn, keys.KIND_TYPE, filter_.type)
        self.is_empty = (filter_.queue is not None and self.queue is None) or (
            filter_.type is not None and self.type is None
        )

    def matches(self, task: Task) -> bool:
        wanted = self._filter
        if wanted.state is not None and task.state is not wanted.state:
            return False
        if (self.queue is not None and task.queue != self.queue) or (self.type is not None and task.type != self.type):
            return False
        if wanted.ended_before_ms is not None and not 0 < task.ended < wanted.ended_before_ms:
            return False
        return wanted.tag is None or self._has_tag(task, wanted.tag)

    def _has_tag(self, task: Task, tag: str) -> bool:
        raw = self._txn.get(Table.SPECS, task.id)
        assert raw is not None, f"task {task.id.hex()} has no spec"
        return tag in parse(raw).tags
