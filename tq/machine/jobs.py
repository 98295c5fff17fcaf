"""Bulk retry and purge by filter: the intent is logged by JOB_START and worked off by JOB_STEP, a bounded slice an entry.

A job walks the table ENDED, one state after the other, oldest end first, and remembers the last key it saw. It means
the tasks that had ended when it started: what ends later is left alone, so a task that the job retries and that dies
again is not retried by it twice.

A job under way stands in JOBS as CBOR ``[verb, filter, limit | null, delay_ms, started_ms, index, states left, last key, done,
matched]``; when it is finished its status moves to OPERATIONS and is kept there for the memory window.
"""

from __future__ import annotations

from typing import Any, Final

from tq import cbor, limits
from tq.errors import Backpressure, InvalidRequest, InvalidState, NotFound, TqError
from tq.machine.bulk import RETRYABLE, remember, remembered, retry_task
from tq.machine.commands import JobStart, JobStep, Op
from tq.machine.entry import Entry
from tq.machine.filters import Filter, Matcher
from tq.machine.retention import bury
from tq.machine.session import scan_all
from tq.machine.states import ENDS, State
from tq.machine.task import unpack
from tq.store.tables import Table
from tq.store.txn import ReadTxn

VERB_RETRY: Final = 0
VERB_PURGE: Final = 1


def job_start(entry: Entry, command: JobStart) -> object:
    """Answer the job's status; the same operation again starts nothing."""
    known = remembered(entry, command.operation, Op.JOB_START)
    if known is not None:
        return known
    raw = entry.txn.get(Table.JOBS, command.operation)
    if raw is not None:
        return _status(command.operation, cbor.loads(raw), is_finished=False)
    try:
        wanted = Filter.of_command(command.filter)
    except InvalidRequest as error:
        return error
    states = _states(command.verb, wanted.states)
    if isinstance(states, TqError):
        return states
    if entry.txn.count(Table.JOBS) >= limits.JOBS_MAX:
        return Backpressure(
            f"{limits.JOBS_MAX} bulk jobs are under way; try again when one is finished",
            retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
        )
    job = [
        command.verb, command.filter, command.limit, command.delay_ms, entry.time_ms, entry.index,
        [int(state) for state in states], b"", 0, 0,
    ]  # fmt: skip
    entry.txn.put(Table.JOBS, command.operation, cbor.dumps(job))
    return _status(command.operation, job, is_finished=False)


def job_step(entry: Entry, command: JobStep) -> object:
    """Look at up to ``limit`` ended tasks and do the verb on those that match."""
    operation = command.operation
    raw = entry.txn.get(Table.JOBS, operation)
    if raw is None:
        known = remembered(entry, operation, Op.JOB_START)
        return NotFound(f"there is no job {operation.hex()}") if known is None else known
    job = cbor.loads(raw)
    is_finished = _work(entry, job, command.limit)
    status = _status(operation, job, is_finished)
    if is_finished:
        entry.txn.delete(Table.JOBS, operation)
        remember(entry, operation, Op.JOB_START, status)
    else:
        entry.txn.put(Table.JOBS, operation, cbor.dumps(job))
    return status


def unfinished(txn: ReadTxn) -> list[bytes]:
    """Operation ids of the jobs under way, in the order in which they were started."""
    return [id for _, id in sorted((cbor.loads(raw)[5], id) for id, raw in scan_all(txn, Table.JOBS))]


def _states(verb: int, wanted: tuple[State, ...] | None) -> list[State] | TqError:
    possible = RETRYABLE if verb == VERB_RETRY else tuple(sorted(ENDS))
    for state in wanted or ():
        if state not in possible:
            what = "retried" if verb == VERB_RETRY else "purged"
            return InvalidState(f"{state.name.lower()} tasks cannot be {what}")
    return list(possible if wanted is None else wanted)


def _work(entry: Entry, job: list[Any], room: int) -> bool:
    """Go on for ``room`` rows. True: nothing is left."""
    verb, filter_, limit, delay_ms, started_ms, index, states, last, done, matched = job
    wanted = Filter.of_command(filter_)
    matcher = Matcher(entry.txn, wanted)
    if matcher.is_empty:
        return True
    is_full = False
    while states and room and not is_full:
        state = states[0]
        start = last + b"\x00" if last else bytes((state,))
        stop = bytes((state,)) + (started_ms + 1).to_bytes(8, "big")
        rows = entry.txn.scan(Table.ENDED, start, stop, room)
        for n, (key, _) in enumerate(rows):
            if entry.has_read_enough:
                room, rows = n, rows[:n]  # as if this entry had had room for those only
                break
            last = key
            id = key[9:]
            raw = entry.txn.get(Table.TASKS, id)
            assert raw is not None, f"ended task {id.hex()} is not there"
            task = unpack(id, raw)
            if wanted.tag is not None:
                entry.read_bytes += task.spec_bytes
            if task.fence // limits.FENCE_ORDINALS <= index and _matches(entry, matcher, id, raw):
                if verb == VERB_RETRY:
                    retry_task(entry, task, delay_ms)
                else:
                    bury(entry, task)
                matched += 1
                done += 1
                if done == limit:
                    is_full = True
                    break
        if len(rows) < room:
            states, last = states[1:], b""
        room -= len(rows)
    job[6:] = [states, last, done, matched]
    return is_full or not states


def _matches(entry: Entry, matcher: Matcher, id: bytes, raw: bytes) -> bool:
    before = matcher.history_bytes
    is_match = matcher.matches(id, raw)
    entry.read_bytes += matcher.history_bytes - before
    return is_match


def _status(operation: bytes, job: list[Any], is_finished: bool) -> list[Any]:
    return [operation, job[0], job[8], job[9], is_finished]
