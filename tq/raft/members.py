"""Who votes, and with which disk, as the log has it.

Theory
- An entry of our own holds the **whole** list of voters. It counts from the moment it stands in the log, committed or
  not, and after a restart too; if it is cut away, the one before counts again. One differs from the next by one voter
  (the guard sees to that), so that any majority of one meets any majority of the next.
- Where no entry says anything, the list that the node was configured with counts. A joiner's is empty: it follows,
  and never campaigns.
- A list also says **which data directory counts under each name** (``Admission``): a name that comes back with another
  one has forgotten what it promised, and is another member. A name that is admitted and does not vote is one that is
  being replaced: the old directory counts no more, the new one votes from the next list on (voting.py). Where no list
  says anything, those that formed the cluster count. An entry cannot name its own index, so it says null for "this one".
- What is compacted away, or comes with a snapshot, stands in a file of its own: the last list at or below where the
  log begins. It is committed, so it may be known before the log is cut.

    entry     1, 0xFF, CBOR [ids of the voters, {id: [incarnation, index of the entry that admitted it or null]}], or,
              with nothing to say of directories, the array of ids alone. What is proposed may not begin with 0xFF (no
              CBOR does)
    raft/members     CRC-32C of the rest (4 bytes, little-endian), CBOR [index, ids, {id: [incarnation, index]}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from crc32c import crc32c

from tq import cbor, limits
from tq.errors import DataDamaged, InternalError
from tq.raft.records import MEMBERS_MARK as MARK
from tq.raft.segments import DIRECTORY, TEMPORARY_SUFFIX, damage_text
from tq.world import Disk

PATH = f"{DIRECTORY}/members"
_CHECK_BYTES = 4
_FILE_BYTES_MAX = 16 * limits.KIB


@attrs.frozen
class Admission:
    """The data directory that counts under a name. index: of the entry that says so; 0: it helped to form the cluster."""

    incarnation: bytes
    index: int


@attrs.frozen
class Voters:
    """The list that entry ``index`` holds; 0: none does. admitted: by name; empty: nothing is known of directories."""

    index: int
    ids: tuple[str, ...]
    admitted: Mapping[str, Admission] = attrs.field(factory=dict)

    @property
    def joining(self) -> list[str]:
        """Who is admitted and does not vote yet."""
        return [id for id in sorted(self.admitted) if id not in self.ids]


def is_members(payload: bytes) -> bool:
    return payload[:2] == MARK


def encode(ids: Iterable[str], admitted: Mapping[str, Admission] | None = None, new: str | None = None) -> bytes:
    """new: whom this very entry admits, in ``admitted`` under whatever index."""
    body: list[Any] = sorted(ids)
    if admitted:
        seats = {id: [seat.incarnation, None if id == new else seat.index] for id, seat in sorted(admitted.items())}
        body = [body, seats]
    return MARK + cbor.dumps(body)


def decode(payload: bytes, index: int) -> Voters:
    """What entry ``index`` says. Raises ValueError."""
    return _read(cbor.loads(payload[len(MARK) :]), index)


def pack(voters: Voters) -> bytes:
    """For a file, and for members that get a snapshot."""
    seats = {id: [seat.incarnation, seat.index] for id, seat in sorted(voters.admitted.items())}
    return cbor.dumps([voters.index, list(voters.ids), seats])


def unpack(data: bytes) -> Voters:
    """Raises ValueError."""
    match cbor.loads(data):
        case [int(index), list(ids), *rest] if index >= 0:
            return _read([ids, *rest] if rest else ids, index)
    raise ValueError("not a list of voters")


def _read(body: object, index: int) -> Voters:
    match body:
        case [list(ids), dict(seats)]:
            return Voters(index, _ids(ids), {id: _admission(id, seat, index) for id, seat in seats.items()})
        case list(ids):
            return Voters(index, _ids(ids))
    raise ValueError("not a list of voters")


def _ids(ids: list[object]) -> tuple[str, ...]:
    if not all(isinstance(id, str) and id for id in ids):
        raise ValueError("not a list of voters")
    return tuple(str(id) for id in ids)


def _admission(id: object, seat: object, index: int) -> Admission:
    match seat:
        case [bytes(incarnation), (int() | None) as at] if (
            isinstance(id, str) and id and len(incarnation) == limits.ID_BYTES and 0 <= (at or 0) <= index
        ):
            return Admission(incarnation, index if at is None else at)
    raise ValueError(f"it does not say which data directory {id!r} has")


class Members:
    """
    Args:
        stored: what the file has.
        entries: what the log has, in order.
    """

    def __init__(self, disk: Disk, stored: Voters | None, entries: list[Voters]) -> None:
        self._disk = disk
        self._stored = stored
        self._entries = entries

    @property
    def current(self) -> Voters | None:
        return self.at(None)

    def at(self, index: int | None) -> Voters | None:
        """The list in force after entry ``index``; None: at the end of the log."""
        known = [self._stored, *self._entries] if self._stored is not None else self._entries
        good = [voters for voters in known if voters is not None and (index is None or voters.index <= index)]
        return max(good, key=lambda voters: voters.index, default=None)

    def appended(self, index: int, payload: bytes) -> None:
        """Raises InternalError if it holds no list."""
        try:
            self._entries.append(decode(payload, index))
        except ValueError as error:
            raise InternalError(f"entry {index} has no list of voters: {error}") from error

    def cut(self, index: int) -> None:
        """Entries from ``index`` on are gone."""
        while self._entries and self._entries[-1].index >= index:
            self._entries.pop()

    def keep(self, index: int) -> None:
        """Before the log is compacted up to ``index``: what it says there is stored. Raises OSError."""
        voters = self.at(index)
        if voters is not None and voters != self._stored:
            self.store(voters)
        self._entries = [entry for entry in self._entries if entry.index > index]

    def begin_anew(self) -> None:
        """The log is empty now: what is stored counts."""
        self._entries = []

    def store(self, voters: Voters) -> None:
        """Durable when this returns. Raises OSError."""
        body = pack(voters)
        temporary = PATH + TEMPORARY_SUFFIX
        if self._disk.exists(temporary):
            self._disk.remove(temporary)
        file = self._disk.open(temporary, create=True)
        file.append(crc32c(body).to_bytes(_CHECK_BYTES, "little") + body)
        file.sync()
        file.close()
        self._disk.rename(temporary, PATH)
        self._disk.sync_directory(DIRECTORY)
        self._stored = voters


def load(disk: Disk) -> Voters | None:
    """What the file has. Raises DataDamaged, OSError."""
    if not disk.exists(PATH):
        return None
    file = disk.open(PATH)
    try:
        data = file.read(0, _FILE_BYTES_MAX)
    finally:
        file.close()
    body = data[_CHECK_BYTES:]
    try:
        if crc32c(body).to_bytes(_CHECK_BYTES, "little") != data[:_CHECK_BYTES]:
            raise ValueError("it fails its checksum")
        return unpack(body)
    except ValueError as error:
        raise DataDamaged(damage_text(PATH, 0, f"the list of voters is not whole: {error}")) from error
