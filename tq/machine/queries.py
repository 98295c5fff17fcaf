"""Questions about the state, answered from a transaction alone: they change nothing and need no machine.

Each is bounded: by a task, by a page (``listing.py``), by the number of names, sessions or leases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tq import cbor, limits
from tq.machine import jobs, queue_settings, retention
from tq.machine import task as t
from tq.machine.cancel import missing
from tq.machine.commands import Timer
from tq.machine.explain import explain
from tq.machine.filters import Filter
from tq.machine.listing import list_tasks
from tq.machine.names import find_name
from tq.machine.session import scan_all
from tq.machine.settings import Settings
from tq.machine.show import PART_HISTORY, PART_PAYLOAD, PART_RESULT, TASK_FIELDS, show
from tq.machine.states import State
from tq.spec import parse
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

__all__ = [
    "PART_HISTORY",
    "PART_PAYLOAD",
    "PART_RESULT",
    "TASK_FIELDS",
    "Filter",
    "cluster_id",
    "counts",
    "explain",
    "filter_to_command",
    "get_task",
    "held",
    "held_of_claim",
    "id_of_spec",
    "jobs_unfinished",
    "last_seq",
    "list_tasks",
    "log_time_ms",
    "next_due_ms",
    "queues",
    "ready",
    "session_record",
    "sessions",
    "worked",
]

jobs_unfinished = jobs.unfinished

BANDS: Final = ("low", "normal", "high")
OLDEST_LOOKS_MAX: Final = 10_000  # places looked at for the oldest ready tasks of all queues


# ---- tasks --------------------------------------------------------------------------------------------


def get_task(txn: ReadTxn, id: bytes, parts: int) -> dict[str, Any]:
    """TASK_FIELDS of one task; ``parts`` as in show.py. Raises NotFound, with ``detail["purged"]``."""
    raw = txn.get(Table.TASKS, id)
    if raw is None:
        raise missing(txn, id)
    return show(txn, t.unpack(id, raw), parts)


def id_of_spec(spec: bytes) -> bytes:
    """The id in the bytes of a task that the machine accepted."""
    return parse(spec).id


def filter_to_command(fields: dict[str, Any]) -> list[object]:
    """A filter as on the wire to a filter as in JOB_START. Raises InvalidRequest, naming the field."""
    return Filter.of_map(fields).command()


# ---- the cluster --------------------------------------------------------------------------------------


def log_time_ms(txn: ReadTxn) -> int:
    """Of the last entry applied; 0 in a new store."""
    return keys.unpack_u64(txn.get(Table.META, keys.LOG_TIME))


def cluster_id(txn: ReadTxn) -> bytes | None:
    raw = txn.get(Table.META, keys.CLUSTER)
    return None if raw is None else cbor.loads(raw)[0]


def next_due_ms(txn: ReadTxn, kind: Timer, settings: Settings) -> int | None:
    """When ``Advance(kind)`` has something to do, in log time; maybe long over. None: nothing waits."""
    if kind is Timer.RETENTION:
        return retention.next_due_ms(txn, settings, keys.unpack_u64(txn.get(Table.COUNTS, keys.COUNT_FINISHED)))
    row = txn.first(Table.TIMERS, bytes((kind,)), bytes((kind + 1,)))
    return None if row is None else int.from_bytes(row[0][1:9], "big")


# ---- sessions and leases ------------------------------------------------------------------------------


def sessions(txn: ReadTxn) -> Iterator[tuple[bytes, str, list[str], list[str]]]:
    """``(session, name, types, queues)`` of each open session, in the order of their ids."""
    for key, value in scan_all(txn, Table.SESSIONS):
        if len(key) == limits.ID_BYTES:
            yield (key, *cbor.loads(value))


def worked(txn: ReadTxn) -> set[tuple[str, str]]:
    """``(queue, type)`` of all tasks that open sessions would take: sessions are of the log, so every node knows them."""
    return {(queue, type_) for _, _, types, queues in sessions(txn) for queue in queues for type_ in types}


def session_record(txn: ReadTxn, session: bytes) -> tuple[str, list[str], list[str]] | None:
    """``(name, types, queues)``; None: not open."""
    raw = txn.get(Table.SESSIONS, session)
    return None if raw is None else tuple(cbor.loads(raw))


def last_seq(txn: ReadTxn, session: bytes) -> int:
    """The number of the session's last claim that granted something; -1: none did."""
    raw = txn.get(Table.SESSIONS, session + keys.LAST_CLAIM_MARK)
    return -1 if raw is None else int(keys.LAST_CLAIM.unpack(raw)[0])


def held_of_claim(txn: ReadTxn, session: bytes, seq: int) -> list[tuple[bytes, int]]:
    """``(id, fence)`` of what the session still holds of its claim ``seq``, if no later one has granted anything."""
    raw = txn.get(Table.SESSIONS, session + keys.LAST_CLAIM_MARK)
    last, first, n = (-1, 0, 0) if raw is None else keys.LAST_CLAIM.unpack(raw)
    if last != seq:
        return []
    rows = txn.scan(Table.HELD, session, keys.after(session), limits.SESSION_TASKS_MAX)
    held = [(key[16:], keys.unpack_u64(value)) for key, value in rows]
    return [(id, fence) for id, fence in held if first <= fence < first + n]


def held(txn: ReadTxn) -> Iterator[tuple[bytes, bytes, int, int | None]]:
    """``(session, id, fence, grace)`` of each running task; ``grace``: ms left in log time where it is being cancelled."""
    now_ms = log_time_ms(txn)
    for key, value in scan_all(txn, Table.HELD):
        id = key[16:]
        raw = txn.get(Table.TASKS, id)
        assert raw is not None, f"held task {id.hex()} is not there"
        grace_ms = None
        if int.from_bytes(raw[2:4], "big") & t.CANCELLING:
            grace_ms = max(0, t.unpack(id, raw).grace - now_ms)
        yield key[:16], id, keys.unpack_u64(value), grace_ms


# ---- numbers ------------------------------------------------------------------------------------------


def ready(txn: ReadTxn) -> dict[tuple[str, str], int]:
    """Tasks ready to run, by queue and type."""
    found = {}
    for key, value in scan_all(txn, Table.COUNTS, b"r"):
        _, queue, type_ = keys.COUNT_READY.unpack(key)
        pair = (find_name(txn, keys.KIND_QUEUE, queue), find_name(txn, keys.KIND_TYPE, type_))
        found[pair] = keys.unpack_u64(value)
    return found


def counts(txn: ReadTxn) -> dict[str, int]:
    """Tasks by the name of their state; every state is there."""
    found = {state.name.lower(): 0 for state in State}
    for key, value in scan_all(txn, Table.COUNTS, b"s"):
        found[State(keys.COUNT_STATE.unpack(key)[2]).name.lower()] += keys.unpack_u64(value)
    return found


def queues(txn: ReadTxn, now_ms: int) -> list[dict[str, Any]]:
    """Each queue that has tasks, ended ones too, or settings, by name: its counts by state (``pending`` by band), and since
    when the one that has been ready longest waits: ``oldest_ready_ms`` (log time) and ``oldest_ready_age_ms``; null and 0: none.
    ``settings``: what was decided for it, as in ``QueueSettings.shown``.

    now_ms: log time of this moment, and not of the last entry: a queue that is stuck grows older.
    """
    found: dict[int, dict[str, Any]] = {}
    settings = queue_settings.stored(txn)
    counted = [(keys.COUNT_STATE.unpack(key), value) for key, value in scan_all(txn, Table.COUNTS, b"s")]
    for number in sorted({queue for (_, queue, _, _), _ in counted} | settings.keys()):
        row: dict[str, Any] = {"name": find_name(txn, keys.KIND_QUEUE, number)}
        row |= {state.name.lower(): 0 for state in State}
        row |= {"pending": dict.fromkeys(BANDS, 0), "oldest_ready_ms": None, "oldest_ready_age_ms": 0}
        row["settings"] = settings.get(number, queue_settings.DEFAULT).shown()
        found[number] = row
    for (_, queue, state, band), value in counted:
        count = keys.unpack_u64(value)
        if state == State.PENDING:
            found[queue]["pending"][BANDS[band]] += count
        else:
            found[queue][State(state).name.lower()] += count
    for queue, since_ms in _oldest_ready(txn).items():
        found[queue]["oldest_ready_ms"] = since_ms
        found[queue]["oldest_ready_age_ms"] = max(0, now_ms - since_ms)
    return sorted(found.values(), key=lambda row: row["name"])


def _oldest_ready(txn: ReadTxn) -> dict[int, int]:
    """Queue number to since when its oldest ready task waits. Only the first of each (type, priority) can be it."""
    oldest: dict[int, int] = {}
    start = b"\x00"
    for _ in range(OLDEST_LOOKS_MAX):
        row = txn.scan(Table.READY, start, None, 1)
        if not row:
            break
        key, id = row[0]
        raw = txn.get(Table.TASKS, id)
        assert raw is not None, f"ready task {id.hex()} is not there"
        queue = int.from_bytes(key[:4], "big")
        since_ms = t.unpack(id, raw).due
        oldest[queue] = min(since_ms, oldest.get(queue, since_ms))
        following = keys.after(key[: keys.READY_PAIR.size + 1])  # the next priority, type or queue
        if following is None:
            break
        start = following
    return oldest
