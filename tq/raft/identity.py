"""Who a data directory belongs to, and how a group comes to be out of empty ones.

Theory. A node that lost its disk and comes back empty has forgotten its votes and what it acknowledged. Under its old
name it could help to elect a leader that lacks committed entries. So a name is not enough: each data directory draws an
*incarnation* when it is made, and a group knows its members by both.

A group forms once, in two steps. *Promised*: a node has heard of every other one on the list; it computes the *cluster
id* out of all names and incarnations, stores it, and from there on takes no other node under these names. *Formed*: it
has heard the same id from every other one; it stores that too, and may vote. So when the first vote is given, all disks
hold the promise, and a disk that is lost from there on is missed by each of the others.

A data directory that is lost is replaced by one that **joins** (``begin_joining``, ``finish_joining``): another
incarnation under the old name, which the log admits (voting.py). Until it knows which entry did, it may not start. Then it
starts without a list of voters, votes for nobody but by the log's leave, and tells everybody the entry, so that a node whose
log does not have it yet hears it all the same.

Rules
- The identity is durable before this node says anything of it to others.
- A node that is not formed gives no vote and stands in no election: its owner does not run Raft before ``is_formed``.
- A node that has promised refuses every node that is not the member it knows: of another group, with another list, or
  under another incarnation (a new disk). That one is told, and stays outside until an operator replaces it.
- A group of one is formed at once.

Rejected: the id minted by the first leader's entry (a node is wiped between its vote and that entry, and nobody can
tell); forming with a majority (the missing ones' incarnations are unknown, so a wiped one could vote again); one step
(one has formed and acknowledged with a second, that second is wiped, and it forms another group with the third, which
had not formed yet).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import attrs
from crc32c import crc32c

from tq import cbor, limits
from tq.errors import ConfigError, DataDamaged, InternalError, StorageFailed
from tq.raft.segments import REBUILD
from tq.raft.transport.link import Ident
from tq.world import Disk, Random

FILE_NAME: Final = "identity"
TEMPORARY_NAME: Final = "identity.new"
MAGIC: Final = b"tqID"
HEAD_BYTES: Final = 8
FILE_BYTES_MAX: Final = 64 * limits.KIB
FORMAT: Final = 1
FORMAT_JOINS: Final = 2


@attrs.frozen
class Record:
    """What the file holds. cluster_id and members (id -> incarnation, this node's too): None before the promise.

    joins: the directory takes the place of a lost one. admitted_index: of the entry that says so; 0: not known yet."""

    node_id: str
    incarnation: bytes
    cluster_id: bytes | None = None
    members: dict[str, bytes] | None = None
    is_formed: bool = False
    joins: bool = False
    admitted_index: int = 0

    def encode(self) -> bytes:
        fields = [self.node_id, self.incarnation, self.cluster_id, self.members, self.is_formed]
        body = cbor.dumps([FORMAT_JOINS, *fields, self.admitted_index] if self.joins else [FORMAT, *fields])
        return MAGIC + crc32c(body).to_bytes(4) + body

    @staticmethod
    def decode(data: bytes) -> Record:
        """Raises ValueError."""
        if data[:4] != MAGIC or int.from_bytes(data[4:HEAD_BYTES]) != crc32c(data[HEAD_BYTES:]):
            raise ValueError("its checksum does not hold")
        fields: Any = cbor.loads(data[HEAD_BYTES:])
        if fields[0] == FORMAT_JOINS:
            _format, *known, admitted_index = fields
            return attrs.evolve(Record(*known), joins=True, admitted_index=admitted_index)
        if fields[0] != FORMAT:
            raise ValueError(f"it has format {fields[0]}, this version reads {FORMAT} and {FORMAT_JOINS}")
        return Record(*fields[1:])


class Identity:
    """
    Args:
        peers: ids of all nodes of the group, this one among them or not.
        has_journal: whether the directory holds a journal already.

    Attributes:
        refusal: (name, incarnation, index of the entry that admitted it) -> why the log rules that out, or None. Set while
            there is a log to ask.

    Raises:
        ConfigError: the directory belongs to a node of another name, or the group to other members.
        DataDamaged, StorageFailed: of the file.
    """

    def __init__(self, disk: Disk, random: Random, *, node_id: str, peers: list[str], has_journal: bool) -> None:
        self._disk = disk
        self._ids = sorted({node_id, *peers})
        self._seen: dict[str, bytes] = {}  # incarnations, before the promise
        self._told: dict[str, bytes] = {}  # what others have promised, before we have
        self._confirmed: set[str] = set()  # promised what we promised
        try:
            record = _read(disk)
            if record is None:
                if has_journal:
                    raise DataDamaged(
                        f"{FILE_NAME}: missing, and there is a journal beside it; restore it, or run {REBUILD}"
                    )
                record = Record(node_id, random.bytes(limits.ID_BYTES))
                _write(disk, record)
        except OSError as error:
            raise StorageFailed(f"{FILE_NAME}: {error.strerror or error}") from error
        if record.node_id != node_id:
            raise ConfigError(
                f'node.id = "{node_id}", but the data directory belongs to "{record.node_id}": use its own directory'
            )
        if record.members is not None and sorted(record.members) != self._ids:
            raise ConfigError(
                f"cluster.peers lists {', '.join(self._ids)}, but the cluster was formed by "
                f"{', '.join(sorted(record.members))}: list those"
            )
        if record.joins and record.cluster_id is None:
            raise ConfigError(
                f"the data directory is being rebuilt, and the cluster has not admitted it yet: run {REBUILD}"
            )
        self.refusal: Callable[[str, bytes, int], str | None] | None = None
        self._record = record
        self._seen[node_id] = record.incarnation
        self._confirmed.add(node_id)
        self._advance()

    @property
    def cluster_id(self) -> bytes | None:
        return self._record.cluster_id

    @property
    def is_formed(self) -> bool:
        """This node may vote."""
        return self._record.is_formed

    @property
    def joins(self) -> bool:
        """This directory takes the place of a lost one: it votes when the log says so."""
        return self._record.joins

    @property
    def members(self) -> dict[str, bytes]:
        """Their incarnations as they were known when the group was formed, or this node was admitted."""
        return dict(self._record.members or {})

    @property
    def waits_for(self) -> list[str]:
        """Nodes that must be heard of, again or for the first time, before the group is formed."""
        if self.is_formed:
            return []
        heard = self._confirmed if self._record.cluster_id is not None else self._seen
        return [id for id in self._ids if id not in heard]

    def ident(self) -> Ident:
        record = self._record
        return Ident(record.cluster_id, record.node_id, record.incarnation, "", record.admitted_index)

    def judge(self, ident: Ident) -> str | None:
        """Why the node behind ``ident`` is refused, or None. May change what ``ident()`` says: then tell it to all."""
        if ident.node_id == self._record.node_id:
            return f"{ident.node_id} is this node's own id: two nodes are configured with the same node.id"
        if ident.node_id not in self._ids:
            return f"{ident.node_id} is not in cluster.peers of {self._record.node_id}"
        if ident.incarnation is None:
            return f"{ident.node_id} names no incarnation"
        if self._record.cluster_id is None:
            self._seen[ident.node_id] = ident.incarnation
            if ident.cluster_id is not None:
                self._told[ident.node_id] = ident.cluster_id
            self._advance()
        if self._record.cluster_id is None:
            return None
        refusal = self._judge_member(ident)
        if refusal is None and ident.cluster_id is not None and not self.is_formed:
            self._confirmed.add(ident.node_id)
            self._advance()
        return refusal

    # ---- inside -----------------------------------------------------------------------------------

    def _judge_member(self, ident: Ident) -> str | None:
        record = self._record
        assert record.members is not None
        if ident.cluster_id is not None and ident.cluster_id != record.cluster_id:
            return f"{ident.node_id} belongs to another cluster than {record.node_id}"
        assert ident.incarnation is not None
        if self.refusal is not None:
            return self.refusal(ident.node_id, ident.incarnation, ident.admitted_index)
        if ident.incarnation != record.members[ident.node_id] and ident.admitted_index == 0:
            return lost_text(ident.node_id)
        return None

    def is_ruled_out(self, ident: Ident) -> bool:
        """Whether who was let in once would be refused now."""
        return self._record.cluster_id is not None and self._judge_member(ident) is not None

    def _advance(self) -> None:
        """Promise, or form, if there is nobody left to hear of."""
        if self._record.cluster_id is None and not self.waits_for:
            cluster_id = cluster_id_of(self._seen)
            if all(told == cluster_id for told in self._told.values()):  # else they know us by another disk
                self._store(attrs.evolve(self._record, cluster_id=cluster_id, members=dict(self._seen)))
        if self._record.cluster_id is not None and not self.is_formed and not self.waits_for:
            self._store(attrs.evolve(self._record, is_formed=True))

    def _store(self, record: Record) -> None:
        try:
            _write(self._disk, record)
        except OSError as error:
            raise StorageFailed(f"{FILE_NAME}: {error.strerror or error}") from error
        self._record = record


def peek(disk: Disk) -> Record | None:
    """What the file says; None: there is none, or none that can be read. Raises OSError."""
    try:
        return _read(disk)
    except DataDamaged:
        return None


def begin_joining(disk: Disk, random: Random, node_id: str) -> bytes:
    """From now on the directory has another incarnation, which is returned, and no process starts on it before
    ``finish_joining``. Again: it stays the same. Raises OSError."""
    record = peek(disk)
    if record is None or not record.joins or record.cluster_id is not None or record.node_id != node_id:
        record = Record(node_id, random.bytes(limits.ID_BYTES), joins=True)
        _write(disk, record)
    return record.incarnation


def finish_joining(disk: Disk, *, cluster_id: bytes, members: dict[str, bytes], admitted_index: int) -> None:
    """The log of the cluster admits it. Raises OSError."""
    record = peek(disk)
    if record is None or not record.joins or members.get(record.node_id) != record.incarnation:
        raise InternalError("that directory is not the one that was admitted")
    _write(
        disk,
        attrs.evolve(record, cluster_id=cluster_id, members=members, is_formed=True, admitted_index=admitted_index),
    )


def lost_text(node_id: str) -> str:
    return (
        f"{node_id} has another data directory than when the cluster was formed: it has lost its votes and may not come back"
        " under this name. Put the very directory back that it had, never an older copy of it; if that is lost or damaged,"
        f" stop it and run {REBUILD} there"
    )


def cluster_id_of(members: dict[str, bytes]) -> bytes:
    """16 bytes that follow from the names and incarnations alone."""
    return hashlib.sha256(cbor.dumps(sorted(members.items()))).digest()[: limits.ID_BYTES]


def _read(disk: Disk) -> Record | None:
    if not disk.exists(FILE_NAME):
        return None
    file = disk.open(FILE_NAME)
    try:
        data = file.read(0, FILE_BYTES_MAX)
    finally:
        file.close()
    try:
        return Record.decode(data)
    except (ValueError, TypeError, IndexError) as error:
        raise DataDamaged(
            f"{FILE_NAME}: {error}; restore the file if there is a good copy of this very one, or run {REBUILD}"
        ) from error


def _write(disk: Disk, record: Record) -> None:
    """Replaced as a whole, and durable when this returns."""
    if disk.exists(TEMPORARY_NAME):
        disk.remove(TEMPORARY_NAME)
    file = disk.open(TEMPORARY_NAME, create=True)
    try:
        file.append(record.encode())
        file.sync()
    finally:
        file.close()
    disk.rename(TEMPORARY_NAME, FILE_NAME)
    disk.sync_directory()
