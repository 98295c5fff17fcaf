"""What became of a task's past attempts: a row each, except for one that simply completed (the header tells that).

A row is CBOR ``[what, fence, attempt, started_ms, ended_ms, worker, outcome | null, error | null, times]``. ``outcome``
is what the worker reported, null where none did. Refused outcomes have rows, too (``what`` = stale; ``started_ms`` is
0 and ``worker`` is the one that sent it, if its session is open); the same one again only raises ``times``, and a
task has at most STALE_ROWS_MAX of them, so that a worker which does not stop cannot push the attempts out.

A task keeps its last HISTORY_ROWS_MAX rows; how many were dropped follows from the number of the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tq import cbor, limits
from tq.machine.entry import Entry
from tq.machine.task import STALE_MAX, Task
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
RELEASED: Final = "released"
SNOOZED: Final = "snoozed"
CRASHED: Final = "crashed"
CANCELLED: Final = "cancelled"  # the grace of a cancel was over
DEADLINE: Final = "deadline"
STALE: Final = "stale"
COMPLETED: Final = "completed"  # never a row: made of the header by whoever reads

STALE_ROWS_MAX: Final = 8  # of a task; more are only counted, in its header
CUT_MARK: Final = " [cut]"
_PAGE_ROWS: Final = 4


def record(entry: Entry, task: Task, what: str, outcome: int | None, error: list[str] | None) -> None:
    """Write the row of the attempt that ends now. The caller saves the task."""
    row = [what, task.fence, task.attempt, task.started, entry.time_ms, task.worker, outcome, error, 1]
    _append(entry.txn, task, row)


def record_stale(entry: Entry, task: Task, session: bytes, fence: int, outcome: int) -> None:
    """Write that an outcome was refused. The caller saves the task."""
    task.stale = min(task.stale + 1, STALE_MAX)
    txn = entry.txn
    refused = [(number, row) for number, row in enumerate(rows(txn, task), dropped(task)) if row[0] == STALE]
    for number, row in refused:
        if row[1] == fence and row[6] == outcome:
            row[4] = entry.time_ms
            row[8] += 1
            txn.put(Table.HISTORY, keys.history(task.id, number), cbor.dumps(row))
            return
    if len(refused) >= STALE_ROWS_MAX:
        return
    known = entry.sessions.get(session)
    worker = "" if known is None else known.name
    _append(txn, task, [STALE, fence, task.attempt, 0, entry.time_ms, worker, outcome, None, 1])


def is_known(txn: ReadTxn, task: Task, fence: int, outcome: int) -> bool:
    """Whether the worker of this fence reported this very outcome, as far as the rows go back."""
    return any(row[1] == fence and row[6] == outcome and row[0] != STALE for row in rows(txn, task))


def rows(txn: ReadTxn, task: Task) -> list[list[Any]]:
    """All that are left, the oldest first."""
    if not task.history:
        return []
    start, stop = keys.history(task.id, 0), keys.history(task.id, task.history)
    return [cbor.loads(raw) for _, raw in txn.scan(Table.HISTORY, start, stop, limits.HISTORY_ROWS_MAX)]


def rows_back(txn: ReadTxn, task: Task) -> Iterator[tuple[list[Any], int]]:
    """The newest first, each with its bytes; read as far as they are taken."""
    start, stop = keys.history(task.id, 0), keys.history(task.id, task.history)
    while task.history:
        page = txn.scan_back(Table.HISTORY, start, stop, _PAGE_ROWS)
        for _, raw in page:
            yield cbor.loads(raw), len(raw)
        if len(page) < _PAGE_ROWS:
            return
        stop = page[-1][0]


def dropped(task: Task) -> int:
    """How many rows are gone."""
    return max(0, task.history - limits.HISTORY_ROWS_MAX)


def forget(txn: Txn, task: Task) -> None:
    for number in range(dropped(task), task.history):
        txn.delete(Table.HISTORY, keys.history(task.id, number))


def cut_error(error: list[str]) -> list[str]:
    """``[type, message, traceback]`` in ERROR_TEXT_BYTES_MAX bytes: long messages lose their end, long tracebacks their
    beginning, because the frames that matter come last."""
    if sum(map(len, error)) * 4 <= limits.ERROR_TEXT_BYTES_MAX:
        return error
    kind, message, traceback = error
    room = limits.ERROR_TEXT_BYTES_MAX
    kind = _head(kind, limits.KIB)
    message = _head(message, room // 4)
    room -= len(kind.encode()) + len(message.encode())
    return [kind, message, _tail(traceback, room)]


def _append(txn: Txn, task: Task, row: list[Any]) -> None:
    number = task.history
    txn.put(Table.HISTORY, keys.history(task.id, number), cbor.dumps(row))
    task.history = number + 1
    if number >= limits.HISTORY_ROWS_MAX:
        txn.delete(Table.HISTORY, keys.history(task.id, number - limits.HISTORY_ROWS_MAX))


def _head(text: str, room: int) -> str:
    raw = text.encode()
    return text if len(raw) <= room else raw[: room - len(CUT_MARK)].decode(errors="ignore") + CUT_MARK


def _tail(text: str, room: int) -> str:
    raw = text.encode()
    return text if len(raw) <= room else CUT_MARK + raw[len(raw) - room + len(CUT_MARK) :].decode(errors="ignore")
