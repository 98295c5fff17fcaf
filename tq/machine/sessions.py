"""A worker's life at the cluster: opened by it, closed by it, or ended by the leader when it gave no sign of life.

What a session still holds at its end is handled in the order of the tasks' ids.
"""

from __future__ import annotations

from collections.abc import Callable

from tq import limits
from tq.errors import Conflict, InvalidRequest, TqError
from tq.machine.commands import SessionClose, SessionOpen, SessionsEnd
from tq.machine.entry import Entry
from tq.machine.leases import crash
from tq.machine.moves import load
from tq.machine.report import release
from tq.machine.session import Session
from tq.machine.task import Task
from tq.store import keys
from tq.store.tables import Table


def session_open(entry: Entry, command: SessionOpen) -> TqError | None:
    """A session that ended may be opened again: it is new then."""
    refused = _refused(command)
    if refused is not None:
        return refused
    known = entry.sessions.get(command.session)
    if known is not None:
        if (known.name, known.types, known.queues) == (command.name, command.types, command.queues):
            return None
        return Conflict("this session is open with another name, other types or other queues")
    session = Session(command.session, command.name, command.types, command.queues)
    entry.sessions[session.id] = session
    session.put(entry.txn)
    entry.sessions_opened.append(session.id)
    return None


def session_close(entry: Entry, command: SessionClose) -> None:
    _end(entry, command.session, _give_back)


def sessions_end(entry: Entry, command: SessionsEnd) -> None:
    for id in command.sessions:
        _end(entry, id, crash)


def _end(entry: Entry, id: bytes, then: Callable[[Entry, Task], None]) -> None:
    if id not in entry.sessions:
        return
    txn = entry.txn
    for key, _ in txn.scan(Table.HELD, id, keys.after(id), limits.SESSION_TASKS_MAX):
        task = load(entry, key[16:])
        assert task is not None, f"session {id.hex()} holds a task that is not there"
        then(entry, task)
    assert entry.sessions[id].held == 0, f"session {id.hex()} ended with tasks left"
    del entry.sessions[id]
    txn.delete(Table.SESSIONS, id)
    txn.delete(Table.SESSIONS, id + keys.LAST_CLAIM_MARK)
    entry.sessions_ended.append(id)


def _give_back(entry: Entry, task: Task) -> None:
    release(entry, task, None)


def _refused(command: SessionOpen) -> InvalidRequest | None:
    chars = limits.NAME_CHARS_MAX
    if not 1 <= len(command.name) <= chars:
        return InvalidRequest.of("name", command.name, f"must have 1 to {chars} characters")
    for field, names, most in (
        ("types", command.types, limits.SESSION_TYPES_MAX),
        ("queues", command.queues, limits.SESSION_QUEUES_MAX),
    ):
        if not 1 <= len(names) <= most:
            return InvalidRequest.of(field, len(names), f"1 to {most} are possible")
        for name in names:
            if not 1 <= len(name) <= chars:
                return InvalidRequest.of(field, name, f"each must have 1 to {chars} characters")
    return None
