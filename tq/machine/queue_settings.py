"""What an operator decided for a queue: whether it is paused, how long it may get, what its tasks have that do not say it
themselves, and how long its ended tasks are kept.

Theory. Settings are decided in the log and stand in the state (META), so all nodes act alike and a new leader knows them.
What a task gets from its queue is given to it when it is submitted and stays its own: a change of settings speaks of
what happens from then on, and never reaches back into tasks that were accepted (features that did so elsewhere surprised
people: a task whose retries vanished while it waited).

A queue without settings has no row here and costs nothing: the hot paths ask whether any queue has some, and look no
further. A setting that is back at its default leaves; the row goes with its last one.

A default says what a task has that does not name the option, whatever the value: who writes out the built-in value has
said it. What is compared for duplicates is the request as it was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from tq import cbor, limits
from tq.errors import InvalidRequest, Unsupported
from tq.machine.session import scan_all
from tq.machine.states import State
from tq.spec import Retry, check_name, check_retry
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

LATER: Final = ("rate", "concurrency")
"""Refused by name until they exist."""

LENGTH_STATES: Final = (State.WAITING, State.SCHEDULED, State.PENDING)
"""Whose tasks make the length of a queue."""


@attrs.frozen
class Pause:
    """``by``: who, as they named themselves. ``since_ms``: log time."""

    by: str
    since_ms: int
    reason: str | None = None


@attrs.frozen
class QueueSettings:
    """None: the default. Durations in ms; ``finished``: completed, cancelled, expired and skipped tasks."""

    pause: Pause | None = None
    max_length: int | None = None
    timeout_ms: int | None = None
    expires_in_ms: int | None = None
    result_ttl_ms: int | None = None
    retry: Retry | None = None
    finished_keep_ms: int | None = None
    dead_keep_ms: int | None = None

    @property
    def has_defaults(self) -> bool:
        """For tasks that do not say them."""
        return (self.timeout_ms, self.expires_in_ms, self.result_ttl_ms, self.retry) != (None, None, None, None)

    def keep_ms(self, state: State) -> int | None:
        """How long a task that ended so is kept, if this queue says it."""
        return self.dead_keep_ms if state is State.DEAD else self.finished_keep_ms

    def shown(self) -> dict[str, Any]:
        """Every setting under the name by which it is set, null: the default. As in answers and in the list of queues."""
        pause, retry = self.pause, self.retry
        return {
            "paused": None if pause is None else {"by": pause.by, "since_ms": pause.since_ms, "reason": pause.reason},
            **{name: getattr(self, name) for name in _PLAIN},
            "retry": None if retry is None else list(retry),
        }


DEFAULT: Final = QueueSettings()


# ---- changing -----------------------------------------------------------------------------------------


def changed(before: QueueSettings, changes: list[list[Any]], by: str, now_ms: int) -> QueueSettings:
    """``changes``: [name, value] each, names as in ``shown``; null: the default again. ``paused`` is true or false, with ``reason``.

    Raises InvalidRequest and Unsupported, naming the setting.
    """
    values = {}
    for name, value in changes:
        if name in LATER:
            raise Unsupported(f"{name} of a queue is not supported yet", detail={"field": name})
        if name not in _CHECKS:
            raise Unsupported(f"a queue has no setting {name!r}: {', '.join(_CHECKS)}", detail={"field": name})
        if name in values:
            raise InvalidRequest.of(name, value, "each setting once")
        values[name] = None if value is None else _CHECKS[name](name, value)
    pause = before.pause
    if "paused" in values:
        reason = values.get("reason")
        if not values["paused"]:
            pause = None
        elif pause is None or (pause.by, pause.reason) != (by, reason):
            pause = Pause(by, now_ms, reason)
    if values.pop("reason", None) is not None and not values.get("paused"):
        raise InvalidRequest.of("reason", "a text", "goes with paused = true")
    values.pop("paused", None)
    return attrs.evolve(before, pause=pause, **values)


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if value.__class__ is not int or not low <= value <= high:
            raise InvalidRequest.of(name, value, f"must be a whole number {low} to {high}")
        return int(value)

    return check


def _flag(name: str, value: Any) -> bool:
    if value.__class__ is not bool:
        raise InvalidRequest.of(name, value, "must be true or false")
    return bool(value)


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "paused": _flag,
    "reason": lambda name, value: check_name(name, value, limits.QUEUE_REASON_CHARS_MAX),
    "max_length": _whole(0, limits.QUEUE_LENGTH_MAX),
    "timeout_ms": _whole(1, limits.DURATION_MS_MAX),
    "expires_in_ms": _whole(1, limits.DURATION_MS_MAX),
    "result_ttl_ms": _whole(0, limits.DURATION_MS_MAX),
    "retry": lambda _name, value: check_retry(value),
    "finished_keep_ms": _whole(0, limits.DURATION_MS_MAX),
    "dead_keep_ms": _whole(0, limits.DURATION_MS_MAX),
}
_PLAIN: Final = ("max_length", "timeout_ms", "expires_in_ms", "result_ttl_ms", "finished_keep_ms", "dead_keep_ms")


# ---- the rows -----------------------------------------------------------------------------------------


def _row(settings: QueueSettings) -> bytes:
    """What is not at its default, as a map."""
    values = {name: value for name in _PLAIN if (value := getattr(settings, name)) is not None}
    if settings.retry is not None:
        values["retry"] = list(settings.retry)
    if settings.pause is not None:
        values["paused"] = list(attrs.astuple(settings.pause))
    return cbor.dumps(values)


def _of_row(raw: bytes) -> QueueSettings:
    values = cbor.loads(raw)
    pause, retry = values.pop("paused", None), values.pop("retry", None)
    return QueueSettings(
        pause=None if pause is None else Pause(*pause), retry=None if retry is None else Retry(*retry), **values
    )  # fmt: skip


def stored(txn: ReadTxn) -> dict[int, QueueSettings]:
    """By queue number, of the queues that have some."""
    at = len(keys.QUEUE_SETTINGS)
    return {keys.U32.unpack(key[at:])[0]: _of_row(raw) for key, raw in scan_all(txn, Table.META, keys.QUEUE_SETTINGS)}


def of_queue(txn: ReadTxn, number: int) -> QueueSettings:
    raw = txn.get(Table.META, keys.QUEUE_SETTINGS + keys.U32.pack(number))
    return DEFAULT if raw is None else _of_row(raw)


# ---- in memory ----------------------------------------------------------------------------------------


class QueueRules:
    """The settings of all queues by number, laid out for those who ask at each task: most often all of it is empty.

    ``paused``: queues. ``lengths``: (max_length, the keys in COUNTS that make up the length). ``given``: queues with defaults
    for their tasks. ``kept``: queues with a retention of their own.
    """

    def __init__(self, txn: ReadTxn) -> None:
        self.paused: dict[int, Pause] = {}
        self.lengths: dict[int, tuple[int, tuple[bytes, ...]]] = {}
        self.given: dict[int, QueueSettings] = {}
        self.kept: dict[int, QueueSettings] = {}
        self._all: dict[int, QueueSettings] = {}
        for number, settings in stored(txn).items():
            self._lay_out(number, settings)

    def of(self, number: int) -> QueueSettings:
        return self._all.get(number, DEFAULT)

    def put(self, txn: Txn, number: int, settings: QueueSettings) -> None:
        key = keys.QUEUE_SETTINGS + keys.U32.pack(number)
        if settings == DEFAULT:
            txn.delete(Table.META, key)
        else:
            txn.put(Table.META, key, _row(settings))
        self._lay_out(number, settings)

    def claimable(self, ready: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
        """What of these tasks by (queue, type) is not in a paused queue."""
        if not self.paused:
            return ready
        return {pair: n for pair, n in ready.items() if pair[0] not in self.paused}

    def _lay_out(self, number: int, settings: QueueSettings) -> None:
        for part in (self.paused, self.lengths, self.given, self.kept, self._all):
            part.pop(number, None)
        if settings == DEFAULT:
            return
        self._all[number] = settings
        if settings.pause is not None:
            self.paused[number] = settings.pause
        if settings.max_length is not None:
            self.lengths[number] = (settings.max_length, length_keys(number))
        if settings.has_defaults:
            self.given[number] = settings
        if settings.finished_keep_ms is not None or settings.dead_keep_ms is not None:
            self.kept[number] = settings


def length_keys(number: int) -> tuple[bytes, ...]:
    return tuple(keys.count_state(number, state, band) for state in LENGTH_STATES for band in range(3))
