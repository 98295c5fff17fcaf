"""The replicated state machine: entries of the log in, state and answers out. The same bytes give the same on every node.

Theory. ``Machine`` has no clock, no chance and no door to the outside: time and draws stand in the entry, all state is in
the store's transaction. What the object keeps beside it (names, counts, which lines have tasks, open sessions) follows
from the store alone; after a rollback a new machine is made from it, and nothing has to be undone here.

Rules
- A command is judged here and only here. What is wrong with it is its answer; ``apply`` never raises on what a user
  sent. An exception out of ``apply`` is a bug or damage, and stops the node before anybody is answered.
- Each command is all or nothing: it is judged before it writes.
- Log time never runs backwards. An entry that a new leader stamped before it had applied all of its predecessor's may
  carry an earlier time; it is applied at the latest time known.
- Counters are written once per entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from tq import cbor
from tq.errors import TqError
from tq.machine import bulk, cancel, checkpoint, claim, jobs, leases, queue_set, report, sessions, submit, timers
from tq.machine.answers import NO_TYPE, Applied
from tq.machine.commands import (
    Advance,
    Cancel,
    Checkpoint,
    Claim,
    ClusterForm,
    Command,
    JobStart,
    JobStep,
    LeasesExpire,
    Purge,
    QueueSet,
    Report,
    Retry,
    SessionClose,
    SessionOpen,
    SessionsEnd,
    SettingsSet,
    Submit,
)
from tq.machine.counts import Counts
from tq.machine.decode import decode, encode
from tq.machine.entry import Entry
from tq.machine.names import Names
from tq.machine.queue_settings import QueueRules
from tq.machine.ready import Ready
from tq.machine.session import load_sessions
from tq.machine.settings import Settings
from tq.machine.settings import store as settings_store
from tq.machine.settings import stored as settings_stored
from tq.machine.version import check_format, format_of
from tq.machine.version import store as format_store
from tq.machine.version import stored as format_stored
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import Txn

__all__ = ["Machine", "Settings", "encode_entry"]

_SETTINGS_DEFAULT: Final = Settings()


def encode_entry(time_ms: int, commands: Iterable[Command]) -> bytes:
    """The bytes of a log entry. ``time_ms``: log time, by the leader."""
    commands = list(commands)
    return b"".join(
        (
            cbor.dumps([format_of(commands), time_ms, None])[:-1],
            cbor.head_of_array(len(commands)),
            *map(encode, commands),
        )
    )


class Machine:
    """On one transaction of a store. ``settings``: in force until the log sets others. ``ready``: {(queue number, type number): tasks that are ready to run}."""

    def __init__(self, txn: Txn, settings: Settings = _SETTINGS_DEFAULT) -> None:
        self._format = format_stored(txn)
        self.settings = settings_stored(txn) or settings
        self.index = 0  # of the last entry that this object applied
        self.time_ms = keys.unpack_u64(txn.get(Table.META, keys.LOG_TIME))
        self._txn = txn
        self._queues = Names(txn, keys.KIND_QUEUE)
        self._types = Names(txn, keys.KIND_TYPE)
        self._rules = QueueRules(txn)
        self._counts = Counts(txn)
        self._ready = Ready(txn, self._counts)
        self._sessions = load_sessions(txn)
        self.ready = self._ready.pairs

    def queue_name(self, number: int) -> str:
        return self._queues.texts[number]

    def type_name(self, number: int) -> str:
        """Empty for NO_TYPE, which events of a queue have."""
        return self._types.texts[number] if number != NO_TYPE else ""

    def number_of_queue(self, name: str) -> int | None:
        """None: no task was ever in it, and no settings."""
        return self._queues.numbers.get(name)

    def number_of_type(self, name: str) -> int | None:
        return self._types.numbers.get(name)

    def has_ready(self, queues: Iterable[str], types: Iterable[str]) -> bool:
        """Whether a task of one of these types may be claimed from one of these queues now."""
        if not self.ready:
            return False
        paused = self._rules.paused
        queue_numbers = [
            number
            for name in queues
            if (number := self._queues.numbers.get(name)) is not None and number not in paused
        ]  # fmt: skip
        type_numbers = {number for name in types if (number := self._types.numbers.get(name)) is not None}
        return bool(self._ready.candidates(queue_numbers, type_numbers))

    def is_paused(self, queue: int) -> bool:
        """Nothing is claimed from it."""
        return queue in self._rules.paused

    def apply(self, index: int, data: bytes) -> Applied:
        """Apply one entry, made by ``encode_entry``."""
        assert index > self.index, f"entry {index} is not above {self.index}"
        format_, time_ms, arrays = cbor.loads_entry(data)
        check_format(format_, index)
        if format_ > self._format:
            self._format = format_
            format_store(self._txn, format_)
        self.index = index
        if time_ms > self.time_ms:
            self.time_ms = time_ms
            self._txn.put(Table.META, keys.LOG_TIME, keys.pack_u64(time_ms))
        entry = Entry(
            self._txn, self.settings, index, self.time_ms, self._queues, self._types, self._rules, self._counts, self._ready,
            self._sessions,
        )  # fmt: skip
        answers = [_command(entry, array, format_) for array in arrays]
        self.settings = entry.settings
        self._counts.flush(self._txn)
        return Applied(
            index,
            self.time_ms,
            answers,
            entry.events,
            self._rules.claimable(entry.entered),
            entry.granted_runs,
            entry.released,
            entry.cancels,
            entry.sessions_opened,
            entry.sessions_ended,
        )


def _command(entry: Entry, array: Any, format_: int) -> object:
    command = decode(array, format_)
    return command if isinstance(command, TqError) else _HANDLERS[command.__class__](entry, command)


def _cluster_form(entry: Entry, command: ClusterForm) -> bytes:
    """The first one wins."""
    known = entry.txn.get(Table.META, keys.CLUSTER)
    if known is not None:
        return bytes(cbor.loads(known)[0])
    entry.txn.put(Table.META, keys.CLUSTER, cbor.dumps([command.cluster_id, command.name]))
    return command.cluster_id


def _settings_set(entry: Entry, command: SettingsSet) -> None:
    entry.settings = Settings(*attrs.astuple(command))
    settings_store(entry.txn, entry.settings)


_HANDLERS: Final[dict[type[Command], Callable[[Entry, Any], object]]] = {
    Submit: submit.submit,
    SessionOpen: sessions.session_open,
    SessionClose: sessions.session_close,
    Claim: claim.claim,
    Report: report.report,
    LeasesExpire: leases.leases_expire,
    SessionsEnd: sessions.sessions_end,
    Cancel: cancel.cancel,
    Advance: timers.advance,
    Retry: bulk.retry,
    Purge: bulk.purge,
    JobStart: jobs.job_start,
    JobStep: jobs.job_step,
    ClusterForm: _cluster_form,
    SettingsSet: _settings_set,
    QueueSet: queue_set.queue_set,
    Checkpoint: checkpoint.checkpoint,
}
