"""Ended tasks leave after a while; a tombstone stays for the memory window, so that a late repeat is still known.

A tombstone is CBOR ``[hash, state, ended_ms, until_ms, idempotency key's key | null, reason]``. The hash is of the parsed
task without its id, defaults filled in: equal for equal content, however its bytes were written.

Finished tasks (all ends but dead) go when they are older than ``finished_keep_ms``, or when there are more than
``finished_keep_tasks`` of them, the oldest first; dead ones when they are older than ``dead_keep_ms``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from tq import cbor
from tq.machine import history
from tq.machine.answers import EventKind
from tq.machine.commands import Timer
from tq.machine.entry import Entry
from tq.machine.moves import bury_rows, emit, load, spec_of
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
    """Bury up to ``limit`` tasks that are over their time, or over the number that is kept. Returns how many.
    Fewer, although more are due, if their payloads are large."""
    done = 0
    while done < limit and not entry.has_read_enough:
        row = next_to_bury(entry.txn, entry.settings, entry.counts.value(keys.COUNT_FINISHED), entry.time_ms)
        if row is None:
            break
        task = load(entry, row)
        assert task is not None, f"ended task {row.hex()} is not there"
        bury(entry, task)
        done += 1
    return done


def next_to_bury(txn: ReadTxn, settings: Settings, finished: int, now_ms: int) -> bytes | None:
    """The id of the first task that retention may take at ``now_ms``."""
    oldest = _oldest_finished(txn)
    if oldest is not None and (
        finished > settings.finished_keep_tasks or oldest[0] + settings.finished_keep_ms <= now_ms
    ):
        return oldest[1]
    dead = _oldest(txn, State.DEAD)
    if dead is not None and dead[0] + settings.dead_keep_ms <= now_ms:
        return dead[1]
    return None


def next_due_ms(txn: ReadTxn, settings: Settings, finished: int) -> int | None:
    """When retention has something to do: log time, maybe long over."""
    oldest = _oldest_finished(txn)
    times = []
    if oldest is not None:
        times.append(oldest[0] if finished > settings.finished_keep_tasks else oldest[0] + settings.finished_keep_ms)
    dead = _oldest(txn, State.DEAD)
    if dead is not None:
        times.append(dead[0] + settings.dead_keep_ms)
    return min(times, default=None)


def _oldest_finished(txn: ReadTxn) -> tuple[int, bytes] | None:
    found = [row for state in FINISHED if (row := _oldest(txn, state)) is not None]
    return min(found, default=None)


def _oldest(txn: ReadTxn, state: State) -> tuple[int, bytes] | None:
    row = txn.first(Table.ENDED, bytes((state,)), bytes((state + 1,)))
    if row is None:
        return None
    _, ended_ms, id = keys.ENDED.unpack(row[0])
    return ended_ms, id
