"""LIST: a page of tasks, out of the table that is smallest for the state asked for.

| state              | table                | order                       |
|--------------------|----------------------|-----------------------------|
| scheduled          | TIMERS due           | first due first             |
| pending            | READY                | queue, type, then their line|
| running            | HELD                 | by session                  |
| an end             | ENDED                | last ended first            |
| any, or waiting    | TASKS                | highest id first (newest, with ids of version 7) |

A page looks at a bounded number of rows and bytes, so it may be empty and have a cursor. The cursor is the last key looked at: what
changes meanwhile may be missed or seen, and nothing is seen twice unless it moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from tq import limits
from tq.errors import InvalidRequest
from tq.machine import task as t
from tq.machine.commands import Timer
from tq.machine.filters import Filter, Matcher
from tq.machine.show import show
from tq.machine.states import ENDS, State
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

_PAGE_ROWS: Final = 500


@attrs.frozen
class _Range:
    """Where to look. ``id_of``: the task's id in a (key, value) of it."""

    table: Table
    start: bytes
    stop: bytes | None
    is_falling: bool
    id_of: Callable[[bytes, bytes], bytes]


def list_tasks(
    txn: ReadTxn, fields: dict[str, Any], limit: int, cursor: bytes | None
) -> tuple[list[dict[str, Any]], bytes | None]:
    """Up to ``limit`` tasks that match the filter (as on the wire), without payload, result and history; and the cursor.

    Raises InvalidRequest: the filter or the cursor is not one.
    """
    if not 1 <= limit <= limits.LIST_TASKS_MAX:
        raise InvalidRequest.of("limit", limit, f"must be between 1 and {limits.LIST_TASKS_MAX}")
    wanted = Filter.of_map(fields)
    matcher = Matcher(txn, wanted)
    if matcher.is_empty:
        return [], None
    where = _range(wanted, matcher)
    if cursor is not None:
        where = _behind(where, cursor)
    found: list[dict[str, Any]] = []
    examined = read_bytes = 0
    while True:
        scan = txn.scan_back if where.is_falling else txn.scan
        rows = scan(where.table, where.start, where.stop, _PAGE_ROWS)
        ids = [where.id_of(key, value) for key, value in rows]
        headers = txn.get_many(Table.TASKS, ids)
        for (key, _), id in zip(rows, ids, strict=True):
            examined += 1
            task = t.unpack(id, headers[id])
            is_match = matcher.matches(task)
            if is_match:
                found.append(show(txn, task, 0))
            if is_match or wanted.tag is not None:
                read_bytes += task.spec_bytes
            if len(found) >= limit or examined >= limits.LIST_ROWS_EXAMINED_MAX or read_bytes >= limits.FRAME_BYTES_MAX:
                return found, bytes((where.table,)) + key
        if len(rows) < _PAGE_ROWS:
            return found, None
        where = _behind(where, bytes((where.table,)) + rows[-1][0])


def _range(wanted: Filter, matcher: Matcher) -> _Range:
    state = wanted.state
    if state is State.SCHEDULED:
        kind = int(Timer.DUE)
        return _Range(Table.TIMERS, bytes((kind,)), bytes((kind + 1,)), False, lambda key, _: key[9:])
    if state is State.PENDING:
        prefix = b"" if matcher.queue is None else keys.U32.pack(matcher.queue)
        if prefix and matcher.type is not None:
            prefix += keys.U32.pack(matcher.type)
        return _Range(Table.READY, prefix or b"\x00", keys.after(prefix) if prefix else None, False, lambda _, id: id)
    if state is State.RUNNING:
        return _Range(Table.HELD, b"\x00", None, False, lambda key, _: key[16:])
    if state in ENDS:
        before_ms = wanted.ended_before_ms
        stop = bytes((state + 1,)) if before_ms is None else bytes((state,)) + keys.pack_u64(before_ms)
        return _Range(Table.ENDED, bytes((state,)), stop, True, lambda key, _: key[9:])
    return _Range(Table.TASKS, b"\x00", None, True, lambda key, _: key)


def _behind(where: _Range, cursor: bytes) -> _Range:
    key = cursor[1:]
    if cursor[:1] != bytes((where.table,)) or not key or len(key) > 64:
        raise InvalidRequest.of("cursor", cursor, "is not a cursor of a list with this filter")
    if where.is_falling:
        stop = key if where.stop is None else min(where.stop, key)
        return attrs.evolve(where, stop=stop)
    return attrs.evolve(where, start=max(where.start, key + b"\x00"))
