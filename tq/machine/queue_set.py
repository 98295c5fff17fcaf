"""QUEUE_SET: change what was decided for a queue. Judged as a whole, remembered by its operation id.

Nothing is granted from a paused queue; what runs goes on, and submissions are taken. When it is resumed, all that is ready
in it can be claimed at once: the leader is told of it as if it had entered pending now, and wakes as many parked claims.
"""

from __future__ import annotations

from tq import limits
from tq.errors import InvalidRequest, TqError, Unsupported
from tq.machine.answers import NO_TASK, NO_TYPE, EventKind
from tq.machine.bulk import remember, remembered
from tq.machine.commands import Op, QueueSet
from tq.machine.entry import Entry
from tq.machine.queue_settings import DEFAULT, QueueSettings, changed
from tq.spec import check_name


def queue_set(entry: Entry, command: QueueSet) -> object:
    """Answer the settings that the queue has then. A queue need not have had a task."""
    known = remembered(entry, command.operation, Op.QUEUE_SET)
    if known is not None:
        return known
    number = entry.queues.numbers.get(command.queue)
    before = DEFAULT if number is None else entry.rules.of(number)
    try:
        check_name("queue", command.queue)
        check_name("by", command.by, limits.KEY_CHARS_MAX)
        after = changed(before, command.changes, command.by, entry.time_ms)
    except (InvalidRequest, Unsupported) as error:
        return error
    if after != before:
        refused = _put(entry, command, before, after)
        if refused is not None:
            return refused
    answer = after.shown()
    remember(entry, command.operation, Op.QUEUE_SET, answer)
    return answer


def _put(entry: Entry, command: QueueSet, before: QueueSettings, after: QueueSettings) -> TqError | None:
    numbers = entry.queues.numbers
    if command.queue not in numbers and len(numbers) >= limits.NAMES_MAX:
        return InvalidRequest.of("queue", command.queue, f"there are {limits.NAMES_MAX} names of queues already")
    number = entry.queues.number(entry.txn, command.queue)
    entry.rules.put(entry.txn, number, after)
    if before.pause != after.pause:
        if after.pause is not None:
            _emit(entry, EventKind.QUEUE_PAUSED, number, [command.by, after.pause.reason])
        else:
            _emit(entry, EventKind.QUEUE_RESUMED, number, [command.by])
            _wake(entry, number)
    old, new = before.shown(), after.shown()
    others = {name: value for name, value in new.items() if name != "paused" and old[name] != value}
    if others:
        _emit(entry, EventKind.QUEUE_SET, number, [command.by, others])
    return None


def _wake(entry: Entry, number: int) -> None:
    """All that is ready in the queue can be claimed from now on; what entered pending in this entry is part of it.
    Sorted: the order in memory is that of a node's life."""
    for type_ in sorted(entry.ready.types_by_queue.get(number, ())):
        pair = (number, type_)
        entry.entered[pair] = entry.ready.pairs[pair]


def _emit(entry: Entry, kind: EventKind, number: int, extra: object) -> None:
    entry.events.add(int(kind), NO_TASK, number, NO_TYPE, 0, extra)
