"""CLAIM: which tasks a session gets, and what each grant says.

The order is: highest priority, then the order in which the claim names the queues, then (index, ordinal) of entering
pending, over all types that the session runs. READY is ordered so within one (queue, type); a claim over several
merges them, and looks only at pairs that have tasks and that it may run.

Nothing is taken from a paused queue, only what was granted before is told again.

A claim that grants nothing writes nothing, so the broker may park it and propose the same number again. The same
number as the last one that granted gets what is still held of that grant; a lower one gets nothing.

The plain case (no timers, no unique key) is done in bulk: the front of each header is packed anew, its back kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

from tq import limits
from tq.errors import InvalidRequest, SessionLost, TqError
from tq.machine import checkpoint
from tq.machine import task as t
from tq.machine.answers import EventKind
from tq.machine.commands import Claim
from tq.machine.entry import Entry
from tq.machine.moves import to_running
from tq.machine.session import Session
from tq.machine.states import State
from tq.machine.task import BAND, FRONT_BYTES, HEADER_BYTES, KIND, PARTS, RECORD_VERSION, Event, Task
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import Pair, ReadTxn

Grant = list[Any]  # see answers.py
_Heads = Iterator[tuple[bytes, int]]

_CHUNK: Final = 64
_STARTED: Final = int(EventKind.STARTED)
_PENDING: Final = int(State.PENDING)
_RUNNING: Final = int(State.RUNNING)
_GENERAL: Final = t.HAS_UNIQUE | t.HAS_TIMERS | t.HAS_GIVEN | t.HAS_CHECKPOINT
_PAIR_BYTES: Final = keys.READY_PAIR.size


def claim(entry: Entry, command: Claim) -> list[Grant] | TqError:
    session = entry.sessions.get(command.session)
    if session is None:
        return SessionLost("this worker session has ended: open a new one")
    if not 1 <= command.max_n <= limits.CLAIM_TASKS_MAX:
        return InvalidRequest.of("max_n", command.max_n, f"must be between 1 and {limits.CLAIM_TASKS_MAX}")
    if len(command.queues) > limits.SESSION_QUEUES_MAX:
        return InvalidRequest.of("queues", len(command.queues), f"at most {limits.SESSION_QUEUES_MAX} in one claim")
    if not 0 <= command.seq < 1 << 63:
        return InvalidRequest.of("seq", command.seq, "must be a whole number from 0")
    if command.seq < session.seq:
        return []
    if command.seq == session.seq:
        return _granted_before(entry, session)
    room = min(command.max_n, limits.SESSION_TASKS_MAX - session.held, limits.ENTRY_GRANTS_MAX - entry.grants)
    if room < 1:
        return []
    numbers = entry.queues.numbers
    names = dict.fromkeys(command.queues or session.queues)
    queues = [numbers[name] for name in names if name in numbers]
    paused = entry.rules.paused
    if paused:
        queues = [number for number in queues if number not in paused]
    types = session.type_numbers(entry.types)
    ranked = entry.ready.candidates(queues, types)
    if not ranked:
        return []
    return _grant(entry, session, command.seq, _first(entry, ranked, types, room))


# ---- which --------------------------------------------------------------------------------------------


def _first(entry: Entry, ranked: list[tuple[int, int]], types: set[int], room: int) -> list[Pair]:
    """The first ``room`` rows of READY over these (rank, queue) and types."""
    if len(ranked) == 1:
        queue = ranked[0][1]
        type_ = entry.ready.only_type(queue, types)
        if type_ is not None:
            return _behind(entry.txn, keys.READY_PAIR.pack(queue, type_), b"", room)
    return _merged(entry, ranked, types, room)


def _merged(entry: Entry, ranked: list[tuple[int, int]], types: set[int], room: int) -> list[Pair]:
    """On the heap stand, as (priority, rank, place, line), the next task of each line that was begun, and for each queue the
    first task of its next line, with the heads of the lines behind that."""
    txn = entry.txn
    heap: list[tuple[int, int, bytes, bytes, _Heads | None]] = []

    def push_next_line(rank: int, queue: int, heads: _Heads) -> None:
        head = next(heads, None)
        if head is not None:
            place, type_ = head
            heapq.heappush(heap, (place[0], rank, place[1:], keys.READY_PAIR.pack(queue, type_), heads))

    for rank, queue in ranked:
        push_next_line(rank, queue, entry.ready.in_order(txn, queue, types))
    begun: dict[bytes, list[Pair]] = {}  # rows not taken yet, the first one last
    taken: list[Pair] = []
    while heap and len(taken) < room:
        _, rank, _, line, heads = heapq.heappop(heap)
        if heads is not None:
            push_next_line(rank, int.from_bytes(line[:4], "big"), heads)
            begun[line] = _behind(txn, line, b"", min(room, _CHUNK))[::-1]
        rows = begun[line]
        row = rows.pop()
        taken.append(row)
        if not rows:
            rows = begun[line] = _behind(txn, line, row[0], min(room - len(taken), _CHUNK))[::-1]
        if rows:
            place = rows[-1][0][_PAIR_BYTES:]
            heapq.heappush(heap, (place[0], rank, place[1:], line, None))
    return taken


def _behind(txn: ReadTxn, line: bytes, key: bytes, limit: int) -> list[Pair]:
    """Rows of one (queue, type) behind ``key``, all of them where it is empty."""
    return txn.scan(Table.READY, key + b"\x00" if key else line, keys.after(line), limit)


# ---- what is granted ----------------------------------------------------------------------------------


def _grant(entry: Entry, session: Session, seq: int, lines: list[Pair]) -> list[Grant]:
    txn = entry.txn
    t.check(State.PENDING, Event.CLAIM, State.RUNNING)
    ids = [id for _, id in lines]
    headers = txn.get_many(Table.TASKS, ids)
    ids = _within_bytes(ids, headers)
    specs = txn.get_many(Table.SPECS, ids)
    fence = fence_first = entry.index * limits.FENCE_ORDINALS + entry.grants
    tail, session_id = session.tail, session.id
    lease_ms = entry.settings.lease_ms
    unpack, pack, u64 = PARTS.unpack_from, PARTS.pack, keys.pack_u64
    started_at, not_ended = u64(entry.time_ms), u64(0)
    begin_events = entry.events.begin
    puts: list[tuple[bytes, bytes]] = []
    held: list[tuple[bytes, bytes]] = []
    grants: list[Grant] = []
    lines_left: list[bytes] = []
    known: dict[bytes, _Kind | None] = {}  # by the first part of the header; None: not plain
    here: _Kind | None = None  # whose run of events goes on
    started: list[bytes] = []
    fences: list[int] = []
    for n, id in enumerate(ids):
        raw = headers[id]
        first, attempt, crashes, counts, _, _, _, size = unpack(raw)
        if first not in known:
            known[first] = _kind(first, id)
        kind = known[first]
        if kind is None:
            grants.append(_grant_general(entry, session, id, raw, specs[id], fence))
            here = None
            fence += 1
            continue
        attempt += 1
        lines_left.append(lines[n][0])
        kind.n += 1
        front = pack(kind.running, attempt, crashes, counts, fence, started_at, not_ended, size)
        puts.append((id, front + raw[FRONT_BYTES:HEADER_BYTES] + tail))
        held.append((session_id + id, u64(fence)))
        grants.append([specs[id], attempt, crashes, fence, lease_ms, None, None])
        if kind is not here:
            here = kind
            started, fences = begin_events(_STARTED, kind.queue, kind.type)
        started.append(id)
        fences.append(fence)
        fence += 1
    entry.granted_runs.append((session_id, fence_first, ids))
    txn.delete_many(Table.READY, lines_left)
    txn.put_many(Table.TASKS, puts)
    txn.put_many(Table.HELD, held)
    add = entry.counts.add
    for kind in known.values():
        if kind is not None:
            entry.ready.remove((kind.queue, kind.type), kind.n)
            add(keys.count_state(kind.queue, _PENDING, kind.band), -kind.n)
            add(keys.count_state(kind.queue, _RUNNING, kind.band), kind.n)
    entry.grants += len(ids)
    session.held += len(ids)
    session.seq, session.first, session.n = seq, fence_first, len(ids)
    session.put_claim(txn)
    return grants


class _Kind:
    """Pending tasks that are alike. ``running``: the first part of their headers, when they are; ``n``: how many are now."""

    __slots__ = ("band", "n", "queue", "running", "type")

    def __init__(self, running: bytes, queue: int, type_: int, band: int) -> None:
        self.running = running
        self.queue = queue
        self.type = type_
        self.band = band
        self.n = 0


def _kind(first: bytes, id: bytes) -> _Kind | None:
    version, state, flags, _, priority, queue, type_ = KIND.unpack(first)
    assert (version, state) == (RECORD_VERSION, _PENDING), f"task {id.hex()} is in line, but not pending"
    if flags & _GENERAL:
        return None
    return _Kind(KIND.pack(version, _RUNNING, flags, 0, priority, queue, type_), queue, type_, BAND[priority])


def _within_bytes(ids: list[bytes], headers: dict[bytes, bytes]) -> list[bytes]:
    """As many as fit into one reply; one at least."""
    total = 0
    size = keys.U32.unpack_from
    at = FRONT_BYTES - 4
    for n, id in enumerate(ids):
        raw = headers[id]
        total += size(raw, at)[0]
        if raw[t.CHECKPOINT_AT] & t.CHECKPOINT_BIT:
            total += limits.CHECKPOINT_BYTES_MAX
        if total > limits.GRANT_BYTES_MAX and n:
            return ids[:n]
    return ids


def _grant_general(entry: Entry, session: Session, id: bytes, raw: bytes, spec: bytes, fence: int) -> Grant:
    task = t.unpack(id, raw)
    to_running(entry, task, session.id, session.name, fence)
    return _say(entry, task, spec)


def _say(entry: Entry, task: Task, spec: bytes) -> Grant:
    grant = [
        spec, task.attempt, task.crashes, task.fence, entry.settings.lease_ms, task.timeout or None, task.deadline or None
    ]  # fmt: skip
    kept = checkpoint.kept(entry.txn, task)
    return grant if kept is None else [*grant, kept]


def _granted_before(entry: Entry, session: Session) -> list[Grant]:
    """What is still held of the session's last grant, in its order."""
    txn = entry.txn
    rows = txn.scan(Table.HELD, session.id, keys.after(session.id), limits.SESSION_TASKS_MAX)
    last = session.first + session.n
    held = sorted(
        (fence, key[16:]) for key, value in rows if session.first <= (fence := keys.unpack_u64(value)) < last
    )  # fmt: skip
    ids = [id for _, id in held]
    headers = txn.get_many(Table.TASKS, ids)
    specs = txn.get_many(Table.SPECS, ids)
    return [_say(entry, t.unpack(id, headers[id]), specs[id]) for id in ids]
