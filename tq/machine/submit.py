"""SUBMIT: judge a whole batch first, then write. Nothing of a refused item, or of a refused atomic batch, is kept.

Two paths. **Plain**: every item is new, and has no key, delay, time limit or retry rules of its own: headers are made
from one template per (type, queue, priority) and written in bulk. **General**: everything else, an item at a time,
with what the batch itself is about to create laid over the store (twins in one batch).

An item is judged in this order: its id (tasks, then tombstones), its idempotency key, its unique key, the length of its
queue, room for names. So what is a duplicate is told so by a full queue, too.
"""

from __future__ import annotations

import struct
from itertools import groupby
from typing import Any, Final

from tq import cbor, limits
from tq.errors import Conflict, InvalidRequest, NotDone, PayloadTooLarge, QueueFull, TqError, Unsupported, to_wire
from tq.machine import task as t
from tq.machine.answers import EventKind, SubmitOutcome
from tq.machine.commands import Submit
from tq.machine.entry import Entry
from tq.machine.moves import emit, start_clocks, to_pending, to_scheduled
from tq.machine.queue_settings import QueueSettings
from tq.machine.retention import content_hash
from tq.machine.states import State
from tq.machine.task import BAND, FRONT, FRONT_BYTES, HEADER_BYTES, Event, Given, Task
from tq.spec import UNIQUE_PENDING, Kind, Option, Retry, Spec, options_of, parse, parse_plain
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn

Item = Any  # SubmitItem, see answers.py

_PLAIN: Final = Spec(b"", "", b"")[6:14]  # delay … idempotency_key
_TTL_DEFAULT: Final = limits.RESULT_TTL_MS_DEFAULT
_RETRY_DEFAULT: Final = Retry()
_JOIN: Final = struct.Struct(f">{FRONT_BYTES - 4}sI{HEADER_BYTES - FRONT_BYTES - 4}sI")
_PLACE: Final = struct.Struct(">QI")
_CREATED: Final = int(EventKind.CREATED)
_REFUSALS: Final = frozenset(
    {SubmitOutcome.CONFLICT, SubmitOutcome.QUEUE_FULL, SubmitOutcome.TOO_LARGE, SubmitOutcome.INVALID}
)  # fmt: skip


def submit(entry: Entry, command: Submit) -> list[Item]:
    raws = command.specs
    plain = _plain(raws)
    if plain is None:
        return _submit_general(entry, command)
    ids, kinds = plain
    txn = entry.txn
    if (
        len(set(ids)) < len(ids)
        or txn.get_many(Table.TASKS, ids)
        or (txn.count(Table.TOMBSTONES) and txn.get_many(Table.TOMBSTONES, ids))
        or not _has_room(entry, kinds)
        or not _is_free(entry, kinds)
    ):
        return _submit_general(entry, command)
    _create_plain(entry, ids, kinds, raws)
    return [0] * len(ids)


# ---- the plain path ---------------------------------------------------------------------------------


def _plain(raws: list[bytes]) -> tuple[list[bytes], list[Kind]] | None:
    """Ids and kinds, if nothing but a header in bulk is to be made of any."""
    plain = parse_plain(raws) if raws else None
    if plain is not None:
        return plain
    try:
        specs = [parse(raw) for raw in raws]
    except (InvalidRequest, PayloadTooLarge, Unsupported):
        return None
    if any(spec[6:14] != _PLAIN or spec[16] != _TTL_DEFAULT for spec in specs):
        return None
    return [spec[0] for spec in specs], [(spec[1], spec[3], spec[4]) for spec in specs]


def _has_room(entry: Entry, kinds: list[Kind]) -> bool:
    queues, types = entry.queues.numbers, entry.types.numbers
    distinct = set(kinds)
    new_queues = {queue for _, queue, _ in distinct} - queues.keys()
    new_types = {type_ for type_, _, _ in distinct} - types.keys()
    return len(queues) + len(new_queues) <= limits.NAMES_MAX and len(types) + len(new_types) <= limits.NAMES_MAX


def _is_free(entry: Entry, kinds: list[Kind]) -> bool:
    """Whether no settings of a queue bear on these tasks: it gives them nothing, and is not full with all of them."""
    rules = entry.rules
    if not rules.given and not rules.lengths:
        return True
    wanted: dict[str, int] = {}
    for _, queue, _ in kinds:
        wanted[queue] = wanted.get(queue, 0) + 1
    for queue, n in wanted.items():
        number = entry.queues.numbers.get(queue)
        if number in rules.given:
            return False
        bound = rules.lengths.get(number)  # type: ignore[arg-type]
        if bound is not None and _length(entry, bound[1]) + n > bound[0]:
            return False
    return True


def _length(entry: Entry, counted: tuple[bytes, ...]) -> int:
    return sum(map(entry.counts.value, counted))


def _create_plain(entry: Entry, ids: list[bytes], kinds: list[Kind], raws: list[bytes]) -> None:
    """Tasks of one kind mostly stand side by side: what they have in common is made once."""
    templates: dict[Kind, list[Any]] = {}
    headers: list[bytes] = []
    lines: list[bytes] = []
    index, ordinal = entry.index, entry.ordinal
    join, place = _JOIN.pack, _PLACE.pack
    start = 0
    for kind, alike in groupby(kinds):
        n = len(list(alike))
        template = templates.get(kind)
        if template is None:
            template = templates[kind] = _template(entry, *kind, ordinal)
        front, back, line, queue, type_, _, _ = template
        template[6] += n
        stop, ordinals = start + n, range(ordinal, ordinal + n)
        headers += [join(front, len(raw), back, at) for raw, at in zip(raws[start:stop], ordinals, strict=True)]
        lines += [line + place(index, at) for at in ordinals]
        entry.events.add_many(_CREATED, ids[start:stop], queue, type_)
        start = stop
        ordinal += n
    entry.ordinal = ordinal
    txn = entry.txn
    txn.put_many(Table.TASKS, zip(ids, headers, strict=True))
    txn.put_many(Table.SPECS, zip(ids, raws, strict=True))
    txn.put_many(Table.READY, zip(lines, ids, strict=True))
    entered = entry.entered
    for (_, _, priority), (_, _, line, queue, type_, first, n) in templates.items():
        pair = (queue, type_)
        entry.ready.add(pair, n, line[keys.READY_PAIR.size :] + place(index, first))
        entry.counts.add(keys.count_state(queue, State.PENDING, BAND[priority]), n)
        entered[pair] = entered.get(pair, 0) + n


def _template(entry: Entry, type_name: str, queue_name: str, priority: int, ordinal: int) -> list[Any]:
    """``[header's front and back less their last field, key in READY less its place, queue, type, first ordinal, n]``."""
    task = _new_task(entry, Spec(bytes(16), type_name, b"", queue_name, priority), 0)
    t.check(None, Event.SUBMIT, State.PENDING)
    task.state = State.PENDING
    task.due = entry.time_ms
    task.ready_index = entry.index
    raw = task.pack()
    line = keys.READY_PAIR.pack(task.queue, task.type) + bytes((255 - priority,))
    return [raw[: FRONT.size - 4], raw[FRONT.size : -4], line, task.queue, task.type, ordinal, 0]


def _new_task(entry: Entry, spec: Spec, spec_bytes: int) -> Task:
    task = Task()
    task.id = spec.id
    task.flags = 0
    task.reason = 0
    task.priority = spec.priority
    task.queue = entry.queues.number(entry.txn, spec.queue)
    task.type = entry.types.number(entry.txn, spec.type)
    task.attempt = task.crashes = task.snoozes = task.history = task.stale = 0
    task.fence = task.started = task.ended = 0
    task.spec_bytes = spec_bytes
    task.attempts_max = spec.retry.attempts_max
    task.created = entry.time_ms
    task.due = task.expires = task.deadline = task.grace = 0
    task.timeout = spec.timeout_ms or 0
    task.ready_index = task.ready_ordinal = 0
    task.unique_hash = task.session = b""
    task.given = None
    task.worker = ""
    return task


# ---- the general path -------------------------------------------------------------------------------


class _Overlay:
    """What the batch will have created so far. ``made``: (spec, raw, state) by id."""

    def __init__(self) -> None:
        self.made: dict[bytes, tuple[Spec, bytes, State]] = {}
        self.by_key: dict[str, bytes] = {}
        self.by_unique: dict[str, bytes] = {}
        self.queues: set[str] = set()
        self.types: set[str] = set()
        self.lengths: dict[str, int] = {}  # by queue, of what was made
        self.full: dict[str, Item] = {}  # by queue, what is answered


def _submit_general(entry: Entry, command: Submit) -> list[Item]:
    overlay = _Overlay()
    items = [_judge(entry, overlay, raw) for raw in command.specs]
    if command.atomic and any(item and item[0] in _REFUSALS for item in items):
        error = to_wire(NotDone("nothing of this batch was done, because another item was refused"))
        innocent = [int(SubmitOutcome.NOT_DONE), None, None, error]
        return [item if item and item[0] in _REFUSALS else innocent for item in items]
    for spec, raw, _state in overlay.made.values():
        _create(entry, spec, raw)
    return items


def _judge(entry: Entry, overlay: _Overlay, raw: bytes) -> Item:
    try:
        spec = parse(raw)
    except PayloadTooLarge as error:
        return [int(SubmitOutcome.TOO_LARGE), None, None, to_wire(error)]
    except (InvalidRequest, Unsupported) as error:
        return [int(SubmitOutcome.INVALID), None, None, to_wire(error)]
    by_key = _find_key(entry.txn, overlay, spec.idempotency_key)
    state = _find_state(entry.txn, overlay, spec.id)
    if state is not None:
        if by_key is not None and by_key != spec.id:
            return _conflict(state, spec.id, "the id and the idempotency key name different tasks")
        if _is_same(entry.txn, overlay, spec.id, spec, raw):
            return [int(SubmitOutcome.DUPLICATE), int(state), spec.id, None]
        return _conflict(state, spec.id, "this id is taken by a task with other content")
    if by_key is not None:
        state = _find_state(entry.txn, overlay, by_key)
        assert state is not None, f"an idempotency key names {by_key.hex()}, which does not exist"
        if _is_same(entry.txn, overlay, by_key, spec, b""):
            return [int(SubmitOutcome.DUPLICATE), int(state), by_key, None]
        return _conflict(state, by_key, "this idempotency key is taken by a task with other content")
    if spec.unique is not None:
        holder = _find_holder(entry.txn, overlay, spec.unique[0])
        if holder is not None:
            state = _find_state(entry.txn, overlay, holder)
            assert state is not None, f"a unique key is held by {holder.hex()}, which does not exist"
            return [int(SubmitOutcome.DUPLICATE), int(state), holder, None]
    full = _full(entry, overlay, spec.queue)
    if full is not None:
        return full
    refused = _take_names(entry, overlay, spec)
    if refused is not None:
        return [int(SubmitOutcome.INVALID), None, None, to_wire(refused)]
    return _take(entry, overlay, spec, raw)


def _take(entry: Entry, overlay: _Overlay, spec: Spec, raw: bytes) -> Item:
    state = State.SCHEDULED if due_ms(entry, spec) > entry.time_ms else State.PENDING
    overlay.made[spec.id] = (spec, raw, state)
    overlay.lengths[spec.queue] = overlay.lengths.get(spec.queue, 0) + 1
    if spec.idempotency_key is not None:
        overlay.by_key[spec.idempotency_key] = spec.id
    if spec.unique is not None:
        overlay.by_unique[spec.unique[0]] = spec.id
    return 0 if state is State.PENDING else [int(SubmitOutcome.CREATED), int(state), spec.id, None]


def due_ms(entry: Entry, spec: Spec) -> int:
    return entry.time_ms + spec.delay_ms if spec.not_before_ms is None else spec.not_before_ms


def _conflict(state: State, id: bytes, message: str) -> Item:
    return [int(SubmitOutcome.CONFLICT), int(state), id, to_wire(Conflict(message))]


def _find_state(txn: ReadTxn, overlay: _Overlay, id: bytes) -> State | None:
    """Of a task, or of what its tombstone says."""
    made = overlay.made.get(id)
    if made is not None:
        return made[2]
    raw = txn.get(Table.TASKS, id)
    if raw is not None:
        return t.state_of(raw)
    raw = txn.get(Table.TOMBSTONES, id)
    return None if raw is None else State(cbor.loads(raw)[1])


def _find_key(txn: ReadTxn, overlay: _Overlay, key: str | None) -> bytes | None:
    if key is None:
        return None
    return overlay.by_key.get(key) or txn.get(Table.KEYS, keys.idempotency(key))


def _find_holder(txn: ReadTxn, overlay: _Overlay, key: str) -> bytes | None:
    prefix = keys.unique_prefix(keys.hashed(key))
    held = txn.scan(Table.KEYS, prefix, keys.after(prefix), 1)
    return held[0][0][len(prefix) :] if held else overlay.by_unique.get(key)


def _is_same(txn: ReadTxn, overlay: _Overlay, id: bytes, spec: Spec, raw: bytes) -> bool:
    """Whether the known task ``id`` has the content of ``spec``, the id left aside."""
    made = overlay.made.get(id)
    if made is not None:
        return made[0][1:] == spec[1:]
    known = txn.get(Table.SPECS, id)
    if known is not None:
        return known == raw or parse(known)[1:] == spec[1:]
    tombstone = txn.get(Table.TOMBSTONES, id)
    assert tombstone is not None, f"task {id.hex()} has neither spec nor tombstone"
    return bool(cbor.loads(tombstone)[0] == content_hash(spec))


def _take_names(entry: Entry, overlay: _Overlay, spec: Spec) -> TqError | None:
    if spec.queue not in entry.queues.numbers:
        if len(entry.queues.numbers) + len(overlay.queues - {spec.queue}) >= limits.NAMES_MAX:
            return InvalidRequest.of("queue", spec.queue, f"there are {limits.NAMES_MAX} names of queues already")
        new_queue = True
    else:
        new_queue = False
    if spec.type not in entry.types.numbers:
        if len(entry.types.numbers) + len(overlay.types - {spec.type}) >= limits.NAMES_MAX:
            return InvalidRequest.of("type", spec.type, f"there are {limits.NAMES_MAX} names of types already")
        overlay.types.add(spec.type)
    if new_queue:
        overlay.queues.add(spec.queue)
    return None


def _full(entry: Entry, overlay: _Overlay, queue: str) -> Item | None:
    """The refusal, if the queue takes no more."""
    known = overlay.full.get(queue)
    if known is not None or not entry.rules.lengths:
        return known
    bound = entry.rules.lengths.get(entry.queues.numbers.get(queue))  # type: ignore[arg-type]
    if bound is None:
        return None
    length = _length(entry, bound[1]) + overlay.lengths.get(queue, 0)
    if length < bound[0]:
        return None
    error = QueueFull(
        f"queue {queue!r} is full, {length} of {bound[0]}: submit again when workers have taken some, or raise its max_length",
        retry_after=limits.QUEUE_FULL_RETRY_AFTER_MS / 1000,
        detail={"queue": queue, "length": length, "max_length": bound[0]},
    )
    full = overlay.full[queue] = [int(SubmitOutcome.QUEUE_FULL), None, None, to_wire(error)]
    return full


def _create(entry: Entry, spec: Spec, raw: bytes) -> None:
    queue = entry.queues.numbers.get(spec.queue)
    settings = entry.rules.given.get(queue)  # type: ignore[arg-type]
    if settings is not None:
        spec = _given(spec, raw, settings)
    task = _new_task(entry, spec, len(raw))
    if settings is not None:
        task.flags |= t.HAS_GIVEN
        task.given = Given(spec.expires_in_ms or 0, spec.result_ttl_ms, spec.retry)
    txn = entry.txn
    if spec.expires_in_ms is not None or spec.timeout_ms is not None or spec.deadline_ms is not None:
        task.flags |= t.HAS_TIMERS
    if spec.retry != _RETRY_DEFAULT:
        task.flags |= t.OWN_RETRY
    if spec.result_ttl_ms != _TTL_DEFAULT:
        task.flags |= t.OWN_RESULT_TTL
    if spec.unique is not None:
        task.flags |= t.HAS_UNIQUE | (0 if spec.unique[1] == UNIQUE_PENDING else t.UNIQUE_RUNNING)
        task.unique_hash = keys.hashed(spec.unique[0])
    if spec.idempotency_key is not None:
        task.flags |= t.HAS_IDEMPOTENCY
        txn.put(Table.KEYS, keys.idempotency(spec.idempotency_key), spec.id)
    txn.put(Table.SPECS, spec.id, raw)
    emit(entry, EventKind.CREATED, task)
    begin(entry, task, spec.expires_in_ms, spec.deadline_ms, Event.SUBMIT, due_ms(entry, spec))


def _given(spec: Spec, raw: bytes, settings: QueueSettings) -> Spec:
    """The task with what its queue gives to those that do not say it."""
    said = options_of(raw)
    fields = {
        name: value
        for option, name in _GIVEN
        if option not in said and (value := getattr(settings, name)) is not None
    }  # fmt: skip
    return spec._replace(**fields)


_GIVEN: Final = (
    (Option.TIMEOUT_MS, "timeout_ms"),
    (Option.EXPIRES_IN_MS, "expires_in_ms"),
    (Option.RETRY, "retry"),
    (Option.RESULT_TTL_MS, "result_ttl_ms"),
)


def begin(entry: Entry, task: Task, expires_in_ms: int | None, deadline_ms: int | None, event: Event, due: int) -> None:
    """A task, new or retried, starts its life."""
    start_clocks(entry, task, expires_in_ms, deadline_ms)
    if due > entry.time_ms:
        to_scheduled(entry, task, event, due)
    else:
        to_pending(entry, task, event)
