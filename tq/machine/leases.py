"""A lease ran out: the attempt is not counted, the crash is; at ``crashes_max`` the task is poison."""

from __future__ import annotations

from tq.machine import history
from tq.machine.answers import EventKind
from tq.machine.commands import LeasesExpire
from tq.machine.entry import Entry
from tq.machine.moves import emit, load, to_end, to_pending
from tq.machine.states import State
from tq.machine.task import Event, Reason, Task


def leases_expire(entry: Entry, command: LeasesExpire) -> None:
    """Those that are no longer held under that fence are passed over."""
    for id, fence in command.items:
        task = load(entry, id)  # type: ignore[arg-type]  # checked where the command was decoded
        if task is not None and task.state is State.RUNNING and task.fence == fence:
            crash(entry, task)


def crash(entry: Entry, task: Task) -> None:
    history.record(entry, task, history.CRASHED, None, None)
    task.attempt -= 1
    task.crashes += 1
    emit(entry, EventKind.CRASHED, task, task.crashes)
    if task.is_cancelling:
        to_end(entry, task, Event.CRASH, State.CANCELLED)
    elif task.crashes >= entry.settings.crashes_max:
        to_end(entry, task, Event.CRASH, State.DEAD, Reason.POISON)
    else:
        to_pending(entry, task, Event.CRASH)
