"""Ended tasks leave after a while; a tombstone stays for the memory window, so that a late repeat is still known.

A tombstone is CBOR ``[hash, state, ended_ms, until_ms, idempotency key's key | null, reason]``. The hash is of the parsed
task without its id, defaults filled in: equal for equal content, however its bytes were written.

Finished tasks (all ends but dead) go when they are older than ``finished_keep_ms``, or when there are more than
``finished_keep_tasks`` of them, the oldest first; dead ones when they are older than ``dead_keep_ms``.

A queue may say how long its own are kept. Such a task (flag KEPT) has a timer from its end on, and is none of those above:
it is not counted, and when the walk over ENDED meets it, it is passed over. How far each state was passed over stands in
META (RETAINED), so a task is passed over once. Nothing can come to stand before that place: what ends later stands behind.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from tq import cbor
from tq.machine import history
from tq.machine import task as t
from tq.machine.answers import EventKind
from tq.machine.commands import Timer
from tq.machine.entry import Entry
from tq.machine.moves import bury_rows, emit, load, spec_of
from tq.machine.session import scan_all
from tq.machine.settings import Settings
from tq.machine.states import State
from tq.machine.task import Task
from tq.spec import Spec
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

FINISHED: Final = (State.COMPLETED, State.CANCELLED, State.EXPIRED, State.SKIPPED)
HASH_VERSION: Final = 1


def content_hash(spec: Spec) -> bytes:
    """Of everything but the id."""
    digest = blake2b(bytes((HASH_VERSION,)), digest_size=keys.HASH_BYTES)
    digest.update(cbor.dumps(spec[3:]))
    digest.update(cbor.dumps(spec.type))
    digest.update(spec.payload)
    return digest.digest()


def bury(entry: Entry, task: Task) -> None:
    """An ended task becomes a tombstone."""
    txn = entry.txn
    spec = spec_of(entry, task.id)
    until_ms = entry.time_ms + entry.settings.tombstone_keep_ms
    key = keys.idempotency(spec.idempotency_key) if spec.idempotency_key is not None else None
    tombstone = [content_hash(spec), int(task.state), task.ended, until_ms, key, task.reason]
    bury_rows(entry, task)
    history.forget(txn, task)
    txn.delete(Table.TASKS, task.id)
    txn.delete(Table.SPECS, task.id)
    txn.put(Table.TOMBSTONES, task.id, cbor.dumps(tombstone))
    txn.put(Table.TIMERS, keys.timer(Timer.TOMBSTONE, until_ms, task.id), b"")
    emit(entry, EventKind.PURGED, task)


def forget_tombstone(entry: Entry, id: bytes) -> None:
    raw = entry.txn.get(Table.TOMBSTONES, id)
    assert raw is not None, f"timer of a tombstone that is not there: {id.hex()}"
    key = cbor.loads(raw)[4]
    if key is not None:
        entry.txn.delete(Table.KEYS, key)
    entry.txn.delete(Table.TOMBSTONES, id)


def retain(entry: Entry, limit: int) -> int:
    """Bury, or pass over, up to ``limit`` tasks that are over their time, or over the number that is kept. Returns how many.
    Fewer, although more are due, if their payloads are large."""
    done = 0
    passed = _passed(entry.txn)
    while done < limit and not entry.has_read_enough:
        finished = entry.counts.value(keys.COUNT_FINISHED)
        id = next_to_bury(entry.txn, passed, entry.settings, finished, entry.time_ms)
        if id is None:
            break
        task = load(entry, id)
        assert task is not None, f"ended task {id.hex()} is not there"
        if not task.flags & t.KEPT:
            bury(entry, task)
        elif task.ended < entry.time_ms:
            place = passed[task.state] = keys.pack_ended(task.state, task.ended, id)
            entry.txn.put(Table.META, keys.RETAINED + bytes((task.state,)), place)
        else:
            break  # in this very millisecond others may come to stand before it
        done += 1
    return done


def next_to_bury(
    txn: ReadTxn, passed: dict[int, bytes], settings: Settings, finished: int, now_ms: int
) -> bytes | None:
    """The id of the first task that retention may take at ``now_ms``. ``passed``: last key of ENDED passed over, by state."""
    oldest = _oldest_finished(txn, passed)
    if oldest is not None and (
        finished > settings.finished_keep_tasks or oldest[0] + settings.finished_keep_ms <= now_ms
    ):
        return oldest[1]
    dead = _oldest(txn, passed, State.DEAD)
    if dead is not None and dead[0] + settings.dead_keep_ms <= now_ms:
        return dead[1]
    return None


def next_due_ms(txn: ReadTxn, settings: Settings, finished: int) -> int | None:
    """When retention has something to do: log time, maybe long over."""
    passed = _passed(txn)
    oldest = _oldest_finished(txn, passed)
    times = []
    if oldest is not None:
        times.append(oldest[0] if finished > settings.finished_keep_tasks else oldest[0] + settings.finished_keep_ms)
    dead = _oldest(txn, passed, State.DEAD)
    if dead is not None:
        times.append(dead[0] + settings.dead_keep_ms)
    return min(times, default=None)


def _passed(txn: ReadTxn) -> dict[int, bytes]:
    return {key[-1]: place for key, place in scan_all(txn, Table.META, keys.RETAINED)}


def _oldest_finished(txn: ReadTxn, passed: dict[int, bytes]) -> tuple[int, bytes] | None:
    found = [row for state in FINISHED if (row := _oldest(txn, passed, state)) is not None]
    return min(found, default=None)


def _oldest(txn: ReadTxn, passed: dict[int, bytes], state: State) -> tuple[int, bytes] | None:
    place = passed.get(state)
    start = bytes((state,)) if place is None else place + b"\x00"
    row = txn.first(Table.ENDED, start, bytes((state + 1,)))
    if row is None:
        return None
    _, ended_ms, id = keys.ENDED.unpack(row[0])
    return ended_ms, id
