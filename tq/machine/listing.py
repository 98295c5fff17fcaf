"""LIST: a page of tasks that match a filter, newest or oldest first, out of the rows that are fewest for it.

Theory. A page has one order, whatever it is read from, so that a cursor is a place in that order and nothing else:

- only ends are asked for (by state, or by the time of the end): by the time of the end, then id;
- else: by id. Ids that clients make (UUIDv7) rise with the time of submission.

| asked for                                        | rows that are looked at                                      |
|--------------------------------------------------|--------------------------------------------------------------|
| the first digits of an id                        | TASKS, those ids                                             |
| ends, maybe within times                         | ENDED, merged over the states                                |
| live states, and few such tasks (GATHERED_MAX)   | their ids out of READY (by queue and type), HELD (by worker), TIMERS; sorted |
| all else                                         | TASKS                                                        |

What has no index (type of ended tasks, tag, error, time of submission, worker of what does not run) is a predicate over
headers, and then over history and spec. Rejected: an index each. It would cost every submit or report a row, for questions
that people ask now and then; a million headers are looked at in about a second, in pieces.

A page does a bounded amount of work and reads a bounded number of bytes, so that nobody waits behind it; it may be short
or empty and have a cursor. What a walk from page to page promises: a task that matches all the while and keeps its place
(by id all do; by end until a retry) is seen once, and none twice at one place. What changes meanwhile may be seen or not.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import attrs

from tq import limits
from tq.errors import InvalidRequest
from tq.machine import task as t
from tq.machine.commands import Timer
from tq.machine.filters import Filter, Matcher
from tq.machine.session import scan_all, session_name
from tq.machine.show import show
from tq.machine.states import ENDS, State
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import Pair, ReadTxn

GATHERED_MAX: Final = 4_000  # ids that are sorted for one page
COUNTS_MAX: Final = 2_000  # rows of counts that are added up to find out how many there are
LOOK_COST: Final = 8  # a row of another table, in headers
SHOW_COST: Final = 16  # a task that is shown, in headers
_CHUNK: Final = 256

_BY_ID: Final = 0x40  # first byte of a cursor; below stood numbers of tables
_BY_END: Final = 0x42
_OLDEST: Final = 1  # added to it
_LIVE_INDEXED: Final = frozenset({State.SCHEDULED, State.PENDING, State.RUNNING})

_Row = tuple[bytes, bytes, bytes]
"""(place in the order, id, header)"""


@attrs.frozen
class _Walk:
    """An order, and from where on: ``place`` is the last one looked at, empty at the beginning."""

    mark: int
    place: bytes

    @property
    def is_oldest_first(self) -> bool:
        return bool(self.mark & _OLDEST)

    @property
    def is_by_end(self) -> bool:
        return self.mark & ~_OLDEST == _BY_END

    def bounds(self, prefix: bytes, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
        """What is left of a range of keys that are ``prefix`` and place."""
        if not self.place:
            return start, stop
        key = prefix + self.place
        if self.is_oldest_first:
            return max(start, key + b"\x00"), stop
        return start, key if stop is None else min(stop, key)


def list_tasks(
    txn: ReadTxn, fields: dict[str, Any], limit: int, cursor: bytes | None, *, oldest_first: bool = False
) -> tuple[list[dict[str, Any]], bytes | None]:
    """Up to ``limit`` tasks that match the filter (as on the wire), without payload, result and history; and the cursor.

    Raises InvalidRequest: the filter or the cursor is not one.
    """
    if not 1 <= limit <= limits.LIST_TASKS_MAX:
        raise InvalidRequest.of("limit", limit, f"must be between 1 and {limits.LIST_TASKS_MAX}")
    wanted = _with_ends(Filter.of_map(fields))
    matcher = Matcher(txn, wanted)
    walk = _walk(wanted, cursor, oldest_first)
    if matcher.is_empty:
        return [], None
    found: list[dict[str, Any]] = []
    read_bytes = 0
    each = 2 if walk.is_by_end else 1  # those are read one by one
    for headers, (place, id, raw) in enumerate(_rows(txn, wanted, matcher, walk), 1):
        if matcher.matches(id, raw):
            task = t.unpack(id, raw)
            found.append(show(txn, task, 0))
            read_bytes += task.spec_bytes
        cost = headers * each + LOOK_COST * matcher.looks + SHOW_COST * len(found)
        if (
            len(found) >= limit
            or cost >= limits.LIST_HEADERS_MAX
            or read_bytes + matcher.spec_bytes + matcher.history_bytes >= limits.LIST_READ_BYTES_MAX
        ):
            return found, bytes((walk.mark,)) + place
    return found, None


def _with_ends(wanted: Filter) -> Filter:
    """A time of the end means ended tasks only."""
    if wanted.ended_since_ms is None and wanted.ended_before_ms is None:
        return wanted
    states = tuple(state for state in wanted.states or tuple(State) if state in ENDS)
    return attrs.evolve(wanted, states=states)


def _walk(wanted: Filter, cursor: bytes | None, oldest_first: bool) -> _Walk:
    by_end = wanted.states is not None and wanted.id_prefix is None and ENDS.issuperset(wanted.states)
    mark = (_BY_END if by_end else _BY_ID) + (_OLDEST if oldest_first else 0)
    if cursor is None:
        return _Walk(mark, b"")
    if cursor[:1] != bytes((mark,)) or len(cursor) != 1 + limits.ID_BYTES + (8 if by_end else 0):
        raise InvalidRequest.of("cursor", cursor, "is not a cursor of a list with this filter and order")
    return _Walk(mark, cursor[1:])


def _rows(txn: ReadTxn, wanted: Filter, matcher: Matcher, walk: _Walk) -> Iterator[_Row]:
    if walk.is_by_end:
        assert wanted.states is not None
        return _ended(txn, wanted, wanted.states, walk)
    if wanted.id_prefix is None and wanted.states is not None:
        ids = _gather(txn, wanted, wanted.states, matcher)
        if ids is not None:
            return _gathered(txn, ids, walk)
    return _all(txn, wanted.id_prefix or "", walk)


# ---- the ways to walk ---------------------------------------------------------------------------------


def _all(txn: ReadTxn, prefix: str, walk: _Walk) -> Iterator[_Row]:
    """TASKS, maybe those whose id begins so."""
    start = bytes.fromhex(prefix.ljust(32, "0"))
    stop = keys.after(bytes.fromhex(prefix.ljust(32, "f")))
    for id, raw in _pages(txn, Table.TASKS, *walk.bounds(b"", start, stop), walk):
        yield id, id, raw


def _ended(txn: ReadTxn, wanted: Filter, states: Iterable[State], walk: _Walk) -> Iterator[_Row]:
    """ENDED, the states merged by the time of the end."""
    since, before = wanted.ended_since_ms, wanted.ended_before_ms
    ranges = []
    for state in states:
        one = bytes((state,))
        start = one if since is None else one + keys.pack_u64(since)
        stop = bytes((state + 1,)) if before is None else one + keys.pack_u64(before)
        ranges.append(_pages(txn, Table.ENDED, *walk.bounds(one, start, stop), walk))
    places = [(key[1:] for key, _ in pages) for pages in ranges]
    merged = places[0] if len(places) == 1 else heapq.merge(*places, reverse=not walk.is_oldest_first)
    while chunk := list(islice(merged, _CHUNK)):
        headers = txn.get_many(Table.TASKS, [place[8:] for place in chunk])
        for place in chunk:
            yield place, place[8:], headers[place[8:]]


def _gathered(txn: ReadTxn, ids: list[bytes], walk: _Walk) -> Iterator[_Row]:
    start, stop = walk.bounds(b"", b"", None)
    ids = sorted([id for id in ids if id >= start and (stop is None or id < stop)], reverse=not walk.is_oldest_first)
    for at in range(0, len(ids), _CHUNK):
        chunk = ids[at : at + _CHUNK]
        headers = txn.get_many(Table.TASKS, chunk)
        for id in chunk:
            yield id, id, headers[id]


def _pages(txn: ReadTxn, table: Table, start: bytes, stop: bytes | None, walk: _Walk) -> Iterator[Pair]:
    scan = txn.scan if walk.is_oldest_first else txn.scan_back
    while stop is None or start < stop:
        page = scan(table, start, stop, _CHUNK)
        yield from page
        if len(page) < _CHUNK:
            return
        if walk.is_oldest_first:
            start = page[-1][0] + b"\x00"
        else:
            stop = page[-1][0]


# ---- few tasks of live states -------------------------------------------------------------------------


def _gather(txn: ReadTxn, wanted: Filter, states: tuple[State, ...], matcher: Matcher) -> list[bytes] | None:
    """The ids of all tasks in these states (what else is asked of them is looked at later), None if they may be many."""
    if not _LIVE_INDEXED.issuperset(state for state in states if state is not State.WAITING):
        return None
    holders = None if wanted.worker is None or State.RUNNING not in states else _sessions(txn, wanted.worker)
    rows = _row_count(txn, states, matcher.queue, are_running_few=holders is not None)
    if rows is None or rows > GATHERED_MAX:
        return None
    ids: list[bytes] = []
    if State.PENDING in states:
        prefix = b"" if matcher.queue is None else keys.U32.pack(matcher.queue)
        if prefix and matcher.type is not None:
            prefix += keys.U32.pack(matcher.type)
        ids += [id for _, id in scan_all(txn, Table.READY, prefix)]
    if State.SCHEDULED in states:
        ids += [key[9:] for key, _ in scan_all(txn, Table.TIMERS, bytes((Timer.DUE,)))]
    if State.RUNNING in states:
        for holder in [b""] if holders is None else holders:
            ids += [key[16:] for key, _ in scan_all(txn, Table.HELD, holder)]
    return ids


def _sessions(txn: ReadTxn, worker: str) -> list[bytes] | None:
    """Open sessions of this name or id, None if they may be many."""
    found = []
    rows = txn.scan(Table.SESSIONS, b"\x00", None, COUNTS_MAX)
    if len(rows) == COUNTS_MAX:
        return None
    for key, _ in rows:
        if len(key) == limits.ID_BYTES and worker in (key.hex(), session_name(txn, key)):
            found.append(key)
    return found if len(found) * limits.SESSION_TASKS_MAX <= GATHERED_MAX else None


def _row_count(txn: ReadTxn, states: tuple[State, ...], queue: int | None, *, are_running_few: bool) -> int | None:
    """Rows that ``_gather`` would read; None: that is too many to count."""
    rows = txn.scan(Table.COUNTS, b"s", keys.after(b"s"), COUNTS_MAX)
    if len(rows) == COUNTS_MAX:
        return None
    total = 0
    for key, value in rows:
        _, at, state, _ = keys.COUNT_STATE.unpack(key)
        if state not in states or (state == State.RUNNING and are_running_few):
            continue
        if state == State.WAITING:
            return None  # they stand in no other table
        if state != State.PENDING or queue is None or queue == at:
            total += keys.unpack_u64(value)
    return total
