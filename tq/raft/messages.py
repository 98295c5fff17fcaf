"""What members say to each other: CBOR arrays ``[kind, term, ...]``, one class each.

Every message carries the term of its sender, as it was when the message was made; it is never stamped anew. Who
sends it is known from the connection. A field is of the exact type that is written here, or the message is refused
(ProtocolError), so nothing behind this file looks at types again. docs/raft.md has the table for readers of bytes.

An entry travels with its first byte, the 1 that keeps SyncObj from looking into it; any other is refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from operator import attrgetter
from typing import Any, Final

import attrs

from tq import cbor, limits
from tq.errors import ProtocolError
from tq.raft import members

INT_MAX: Final = (1 << 63) - 1
ENTRY_FIRST_BYTE: Final = 1


@attrs.frozen
class PreVote:
    """Would you vote for me in ``term + 1``? ``round`` tells the tries of a term apart."""

    term: int
    round: int
    last_index: int
    last_term: int


@attrs.frozen
class PreVoteReply:
    term: int
    round: int
    granted: bool


@attrs.frozen
class RequestVote:
    """``transfer``: the leader asked for this election, so voters need not protect it."""

    term: int
    last_index: int
    last_term: int
    transfer: bool


@attrs.frozen
class Vote:
    """Granted, and on the disk of the voter."""

    term: int


@attrs.frozen
class Append:
    """``entries`` (term, payload) follow the entry ``prev_index``; none: a heartbeat, and a probe of the cursor.

    Attributes:
        sequence: rises with each append to this member; echoed.
        round: of reads that wait for a majority's answer; echoed.
        wall_ms: the sender's wall clock.
    """

    term: int
    sequence: int
    round: int
    wall_ms: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: tuple[tuple[int, bytes], ...]


@attrs.frozen
class Ack:
    """A sign of life; and all up to ``matched_index`` is as the leader of ``term`` has it, and synced here."""

    term: int
    sequence: int
    round: int
    wall_ms: int
    matched_index: int


@attrs.frozen
class Reject:
    """The entry before those sent is not here, or is another: go on behind ``matched_index``."""

    term: int
    sequence: int
    round: int
    wall_ms: int
    prev_index: int
    matched_index: int


@attrs.frozen
class Stale:
    """Your message was of an older term than mine."""

    term: int


@attrs.frozen
class TimeoutNow:
    """The leader hands over: campaign at once."""

    term: int


@attrs.frozen
class Lost:
    """You acknowledged all up to ``index``, and now you do not have it."""

    term: int
    index: int


@attrs.frozen
class Removed:
    """You vote no more: entry ``index`` says so."""

    term: int
    index: int


@attrs.frozen
class SnapshotPart:
    """Bytes of the state after entry ``index``, for who needs entries that are gone. Empty: where shall I begin?

    Attributes:
        voters: who votes after that entry, as ``members.pack`` writes it; empty: no list says so.
        snapshot_term: of that entry.
        size, digest: of all bytes.
    """

    term: int
    wall_ms: int
    index: int
    snapshot_term: int
    size: int
    digest: bytes
    voters: bytes
    offset: int
    data: bytes


@attrs.frozen
class SnapshotAck:
    """Go on at ``offset``; ``done``: what the snapshot holds is here, and durable."""

    term: int
    wall_ms: int
    index: int
    snapshot_term: int
    size: int
    digest: bytes
    offset: int
    done: bool


Message = (
    PreVote | PreVoteReply | RequestVote | Vote | Append | Ack | Reject | Stale | TimeoutNow | Lost
    | SnapshotPart | SnapshotAck | Removed
)  # fmt: skip


def _is_entries(value: object) -> bool:
    if type(value) is not list or len(value) % 2 or len(value) > 2 * limits.PEER_BATCH_ENTRIES_MAX:
        return False
    for at in range(0, len(value), 2):
        term, payload = value[at], value[at + 1]
        if type(term) is not int or not 0 <= term <= INT_MAX or type(payload) is not bytes:
            return False
        if not 1 <= len(payload) <= limits.ENTRY_BYTES_MAX + 1 or payload[0] != ENTRY_FIRST_BYTE:
            return False
    return True


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= INT_MAX


_CHECKS: Final[dict[str, Callable[[object], bool]]] = {
    "int": _is_number,
    "bytes": lambda value: type(value) is bytes and len(value) <= limits.SNAPSHOT_PART_BYTES,
    "bool": lambda value: type(value) is bool,
    "tuple[tuple[int, bytes], ...]": _is_entries,
}


@attrs.frozen
class _Kind:
    number: int
    make: Callable[..., Message]
    fields: Callable[[Any], Any]
    checks: tuple[tuple[str, Callable[[object], bool]], ...]
    numbers: int  # so many of its fields, from the first on, are numbers

    def is_right(self, values: list[object]) -> bool:
        """As the checks say, without a call for each number."""
        behind = self.numbers + 1
        for value in values[1:behind]:
            if type(value) is not int or not 0 <= value <= INT_MAX:
                return False
        return all(check(values[at]) for at, (_, check) in enumerate(self.checks[self.numbers :], behind))


def _kind(number: int, cls: type[Any]) -> _Kind:
    names = [(field.name, str(field.type)) for field in attrs.fields(cls)]
    checks = tuple((name, _CHECKS[kind]) for name, kind in names)
    getter = attrgetter(*(name for name, _ in names))
    fields = getter if len(names) > 1 else (lambda message: (getter(message),))
    numbers = len(list(takewhile(lambda name: name[1] == "int", names)))
    return _Kind(number, cls, fields, checks, numbers)


_NUMBERS: Final[dict[type[Any], int]] = {
    PreVote: 1, PreVoteReply: 2, RequestVote: 3, Vote: 4, Append: 5, Ack: 6, Reject: 7, Stale: 8, TimeoutNow: 9,
    Lost: 10, SnapshotPart: 11, SnapshotAck: 12, Removed: 13,
}  # fmt: skip
_KINDS: Final = {cls: _kind(number, cls) for cls, number in _NUMBERS.items()}
_BY_NUMBER: Final = {kind.number: kind for kind in _KINDS.values()}


_VOTERS_AT: Final = 1 + [field.name for field in attrs.fields(SnapshotPart)].index("voters")


def encode(message: Message) -> bytes:
    kind = _KINDS[type(message)]
    values = [kind.number, *kind.fields(message)]
    if type(message) is Append:
        values[-1] = [part for entry in message.entries for part in entry]
    return cbor.dumps(values)


def decode(data: bytes) -> Message:
    """Raises ProtocolError, whatever the bytes are."""
    try:
        values = cbor.loads_shaped(data)
    except ValueError as error:
        raise ProtocolError(f"a member sent what is no message: {error}") from error
    if type(values) is not list or not values or type(values[0]) is not int:
        raise ProtocolError("a member sent what is no message: not an array that begins with a number")
    kind = _BY_NUMBER.get(values[0])
    if kind is None:
        raise ProtocolError(f"a member sent a message of kind {values[0]}, which this version does not know")
    name = kind.make.__name__
    if len(values) != len(kind.checks) + 1:
        raise ProtocolError(f"{name} has {len(values) - 1} fields, not {len(kind.checks)}")
    if not kind.is_right(values):
        fields = zip(kind.checks, values[1:], strict=True)
        wrong = next(field for (field, check), value in fields if not check(value))
        raise ProtocolError(f"{name}: {wrong} is out of bounds or of the wrong kind")
    if kind.make is Append:
        flat = values[-1]
        values[-1] = tuple((flat[at], flat[at + 1]) for at in range(0, len(flat), 2))
    elif kind.make is SnapshotPart and values[_VOTERS_AT]:
        try:
            members.unpack(values[_VOTERS_AT])
        except ValueError as error:
            raise ProtocolError(f"{name}: voters: {error}") from error
    return kind.make(*values[1:])
