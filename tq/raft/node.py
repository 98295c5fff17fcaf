"""A member of the group, in the words of the broker. Everything runs on the thread that decides.

What other members sent goes into ``receive``, and is answered by the next ``turn``. What goes to them comes out through
``send``, or else from ``take_messages``. A leader's entries go out before its own sync begins, so that all disks work
at once; whoever carries the bytes should hand them to the kernel at once.

``turn`` is one pass: take what a sync brought, tick, sync, tick again, until nothing is left that can be done now.
With an inline sync one turn carries a proposal from the queue to committed; with a thread it returns while the sync
runs, and ``wake`` is called when the next turn has something to take.

Whoever drives the node hands out ``take_committed`` before it looks at the role: a leader has then been given
everything that was ever committed.

A node that has failed once stays failed: each call raises again, nothing more is committed or handed out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import attrs

from tq import limits
from tq.errors import InternalError, ProtocolError, StorageFailed, TqError
from tq.raft.guard import Guard, Outcome, ReadEnd, Role, RoleChange
from tq.raft.journal import FIRST_BASE_INDEX, Journal, SyncJob
from tq.raft.members import Admission, is_members
from tq.raft.recovery import open_journal
from tq.raft.snapshots import Incoming, SnapshotSource, pending_id, whole_path
from tq.raft.sync import SyncStrategy
from tq.world import Clock, Disk, Random

__all__ = ["Entry", "Node", "NodeStatistics", "ReadEnd", "Role"]

Send = Callable[[str, bytes], None]


@attrs.frozen
class Entry:
    """A committed entry. ``data`` is what was proposed, or empty for one of Raft's own (a leader's first, voters)."""

    index: int
    term: int
    data: bytes


@attrs.frozen
class Installation:
    """State to replace the store's with: what it holds is that after entry ``index``."""

    index: int
    term: int
    path: str


@attrs.frozen
class NodeStatistics:
    """Since the node started, or of now. Percentiles are of the last SYNC_SAMPLES syncs."""

    role: Role
    term: int
    leader_id: str | None
    last_index: int
    durable_index: int
    commit_index: int
    base_index: int
    journal_bytes: int
    journal_segments: int
    journal_tail_bytes: int
    sync_mode: str
    syncs: int
    sync_last_ms: float
    sync_p50_ms: float
    sync_p99_ms: float
    terms_begun: int
    election_is_short: bool  # the election time-out is less than ten times the p99 of a sync


class Node:
    """
    Args:
        peers: ids of the other members. They count until the log has a list of voters.
        joins: this node is to be added to a group that is there: without a list in its log it does not vote.
        founders: data directories of the members, until the log has a list of them; see voting.py.
        applied_index: the store's checkpointed index; ``take_committed`` begins behind it.
        election_ms: bounds of the time without a leader after which a member campaigns.
        keep_bytes: of compacted log that a group keeps for members that are behind.

    Raises:
        DataDamaged, StorageFailed: see ``recovery.open_journal``.
        Unsupported: more voters than RAFT_VOTERS_MAX.

    Attributes:
        send: called with (member, message) within ``turn``. Set by whoever carries messages, or left None.
        wake: called, from any thread, when ``turn`` should run. Set by whoever drives the node.
        run_now: lets ``turn`` and what belongs to it run at once, on the thread that decides; for who has called
            ``receive``. Set by whoever drives the node, or left None.
    """

    def __init__(
        self, *, node_id: str, peers: list[str], disk: Disk, clock: Clock, random: Random, sync: SyncStrategy,
        applied_index: int, election_ms: tuple[int, int], heartbeat_ms: int,
        segment_bytes: int = limits.JOURNAL_SEGMENT_BYTES, tail_bytes_max: int = limits.JOURNAL_TAIL_BYTES_MAX,
        keep_bytes: int = limits.RAFT_KEEP_BYTES, part_bytes: int = limits.SNAPSHOT_PART_BYTES,
        joins: bool = False, founders: Mapping[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._keep_bytes = keep_bytes
        self._sync = sync
        self._election_ms = election_ms
        pending = pending_id(disk)  # its bytes were compared by who gave them to the store
        if pending is not None and applied_index < pending.index:
            raise InternalError(f"the store has applied {applied_index}; install {whole_path(pending)} in it first")
        self._journal: Journal = open_journal(
            disk, random, floor_index=applied_index, segment_bytes=segment_bytes, tail_bytes_max=tail_bytes_max,
            snapshot=None if pending is None else (pending.index, pending.term),
        )  # fmt: skip
        self._incoming = Incoming(disk, pending)
        try:
            self._guard = Guard(
                node_id=node_id, peers=peers, journal=self._journal, random=random, now_s=clock.monotonic_s(),
                election_ms=election_ms, heartbeat_ms=heartbeat_ms, incoming=self._incoming,
                part_bytes=part_bytes, joins=joins, founders=founders,
            )  # fmt: skip
        except TqError:
            self._journal.close()
            raise
        self._taken_index = applied_index
        if pending is not None:
            self.installed()
        self._job: SyncJob | None = None
        self._wake: Callable[[], None] | None = None
        self.send: Send | None = None
        self.run_now: Callable[[], None] | None = None
        self._in_turn = False
        self._closed = False

    # ---- what it knows ----------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """LEADER once it leads and knows all that was committed before."""
        return self._guard.role

    @property
    def is_leader(self) -> bool:
        return self._guard.role is Role.LEADER

    @property
    def term(self) -> int:
        return self._guard.term

    @property
    def leader_id(self) -> str | None:
        return self._guard.leader_id

    @property
    def last_index(self) -> int:
        return self._journal.last_index

    @property
    def durable_index(self) -> int:
        return self._journal.durable_index

    @property
    def commit_index(self) -> int:
        """Committed, and durable on this node."""
        return self._guard.committed_index

    @property
    def told_index(self) -> int | None:
        """The highest commit index that the leader has named, however far this node is; None: none has been heard lately."""
        return self._guard.told_index

    @property
    def clock_offsets_ms(self) -> dict[str, int]:
        """The wall clocks of the other members less ours as it is now."""
        ours_ms = self._clock.wall_ms() - self._clock.monotonic_ms()
        return {member: theirs_ms - ours_ms for member, theirs_ms in self._guard.clocks_ms.items()}

    @property
    def leads_term(self) -> int:
        """The term that this node leads by Raft's rules, ready or not; 0 if none. For checkers."""
        return self._guard.leads_term

    @property
    def journal(self) -> Journal:
        """To look at: for checkers."""
        return self._journal

    @property
    def wake(self) -> Callable[[], None] | None:
        return self._wake

    @wake.setter
    def wake(self, wake: Callable[[], None] | None) -> None:
        self._wake = self._sync.wake = wake

    def wait_ms(self) -> int:
        """Until ``turn`` has something to do by time; 0 if it has now. It may be called sooner."""
        guard = self._guard
        if (guard.wants_tick and guard.may_tick) or (self._job is None and self._journal.needs_sync):
            return 0
        wait_s = guard.wakes_at_s - self._clock.monotonic_s()
        if wait_s >= limits.RAFT_ALONE_WAKE_MS / 1000:
            return limits.RAFT_ALONE_WAKE_MS
        return max(0, math.ceil(wait_s * 1000))

    def statistics(self) -> NodeStatistics:
        guard, journal, sync = self._guard, self._journal.statistics(), self._sync.statistics()
        return NodeStatistics(
            guard.role, guard.term, guard.leader_id, self.last_index, self.durable_index, self.commit_index,
            self._journal.base_index, journal.bytes, journal.segments, journal.tail_bytes,
            sync.mode, sync.syncs, sync.last_ms, sync.p50_ms, sync.p99_ms, guard.terms_begun,
            self._election_ms[0] < 10 * sync.p99_ms,
        )  # fmt: skip

    # ---- what it does -----------------------------------------------------------------------------

    def propose(self, data: bytes) -> tuple[int, int]:
        """Queue an entry for the next turn. Returns the (term, index) it has if it is committed.

        Raises:
            NotLeader, Backpressure: nothing was taken.
            InvalidRequest: ``data`` is empty or above ENTRY_BYTES_MAX.
        """
        self._check()
        return self._guard.propose(data)

    # ---- snapshots --------------------------------------------------------------------------------

    @property
    def wants_snapshot(self) -> bool:
        """A member needs entries that are compacted away, and no snapshot that is good for it is offered."""
        return self._guard.wants_snapshot

    def offer_snapshot(self, source: SnapshotSource | None) -> None:
        """Send this to members that need one. It must stay readable and unchanged until another (or None) is
        offered and the turn after that has run."""
        self._check()
        self._guard.offer_snapshot(source)

    @property
    def snapshot_arriving(self) -> tuple[int, int] | None:
        """(bytes that are here, of how many) of a snapshot that this node is sent."""
        return self._incoming.arriving

    @property
    def snapshot_refusal(self) -> str | None:
        """Why this node does not take the snapshot that it is sent, for people."""
        return self._incoming.refusal

    @property
    def installation(self) -> Installation | None:
        """A snapshot that the log begins behind now. The store must take it, durably, and ``installed`` be called;
        before that no entry is handed out."""
        whole = self._incoming.whole
        if whole is None or self._journal.base_index < whole.index:
            return None
        return Installation(whole.index, whole.term, self._incoming.path)

    def installed(self) -> None:
        """The store has applied the installation's index, durably."""
        installation = self.installation
        if installation is None:
            raise InternalError("no snapshot is being installed")
        try:
            self._incoming.installed()
        except OSError as error:
            raise StorageFailed(f"removing {installation.path} failed ({error.strerror or error})") from error
        self._taken_index = max(self._taken_index, installation.index)

    # ---- messages and turns -------------------------------------------------------------------------

    @property
    def needs_turn(self) -> bool:
        """Whether ``turn`` has something to do, for who has just called ``receive``."""
        guard = self._guard
        return not guard.is_quiet or self._journal.needs_sync or guard.committed_index > self._taken_index

    def receive(self, peer: str, message: bytes, incarnation: bytes | None = None) -> None:
        """What ``peer``, who has been authenticated, sent; ``incarnation`` of its data directory, if those are known.
        ``turn`` must follow if it ``needs_turn``.

        Raises:
            ProtocolError: the bytes are no message of ours; nothing was done. Close the connection.
            DataDamaged: this node has lost what it had acknowledged.
            StorageFailed, InternalError: as for ``turn``.
        """
        self._check()
        try:
            self._in_turn = True
            self._guard.wall_ms = self._clock.wall_ms()
            self._guard.receive(peer, message, self._clock.monotonic_s(), incarnation)
        except ProtocolError:
            self._in_turn = False
            raise
        except OSError as error:
            raise StorageFailed(f"a snapshot that arrives could not be kept ({error.strerror or error})") from error
        self._in_turn = False

    def peer_gone(self, peer: str) -> None:
        """The process of ``peer`` ended: nobody listens at its address, and all connections with it are over. A hint, that
        shortens an election; ``turn`` must follow. Do not call it for a connection that merely broke."""
        self._check()
        self._guard.peer_gone(peer, self._clock.monotonic_s())

    @property
    def voters(self) -> tuple[str, ...]:
        """Who votes, as the log has it, committed or not."""
        return self._guard.voters

    @property
    def is_removed(self) -> bool:
        """This node was told that it votes no more."""
        return self._guard.removed

    @property
    def admitted(self) -> Mapping[str, Admission]:
        """The data directory that counts under each name, committed or not."""
        return self._guard.admitted

    @property
    def joining(self) -> list[str]:
        """Who is admitted, and is to be given a vote."""
        return self._guard.joining

    def refusal(self, peer: str, incarnation: bytes, index: int) -> str | None:
        """Why ``peer`` is not heard with that data directory, which entry ``index`` admitted, as it says; or None."""
        return self._guard.refusal(peer, incarnation, index)

    @property
    def on_members(self) -> Callable[[], None] | None:
        """Called when ``refusal`` may say something else than before, within ``receive`` or ``turn``: it must only take note."""
        return self._guard.on_members

    @on_members.setter
    def on_members(self, on_members: Callable[[], None] | None) -> None:
        self._guard.on_members = on_members

    def replace_voter(self, name: str, incarnation: bytes) -> tuple[int, int]:
        """Another data directory for a member; see ``Guard.replace_voter``. Returns the (term, index) of what admits it.

        Raises NotLeader, Backpressure, InvalidRequest.
        """
        self._check()
        return self._guard.replace_voter(name, incarnation)

    def change_voters(self, voters: list[str], incarnation: bytes | None = None) -> tuple[int, int]:
        """One voter more or less; see ``Guard.change_voters``. Returns the (term, index) as ``propose`` does.

        Raises NotLeader, Backpressure, InvalidRequest.
        """
        self._check()
        return self._guard.change_voters(voters, incarnation)

    def transfer(self, target: str | None = None, among: Collection[str] | None = None) -> str:
        """Hand leadership over; see ``Guard.transfer``. Returns who is to lead.

        Raises NotLeader, InvalidRequest.
        """
        self._check()
        return self._guard.transfer(target, self._clock.monotonic_s(), among)

    @property
    def transfer_target(self) -> str | None:
        """Who is to lead next, while that is under way; ``propose`` refuses then."""
        return self._guard.transfer_target

    def read_index(self) -> int:
        """Begin a linearizable read; returns its ticket. ``take_reads`` says at which index it may be answered.

        Raises NotLeader.
        """
        self._check()
        return self._guard.read_index()

    def take_reads(self) -> list[ReadEnd]:
        """How reads ended, each once. Answer when the index is applied; None: this node leads no more."""
        return self._guard.take_reads()

    def turn(self) -> None:
        """One pass. Blocks for a sync if that runs inline, and for nothing else.

        Raises:
            StorageFailed: a write or sync failed; nothing of it was acknowledged.
            InternalError: a broken invariant.
        """
        self._check()
        self._in_turn = True  # stays so if anything below raises: the node is then out of order for good
        journal = self._journal
        self._guard.wall_ms = self._clock.wall_ms()
        self._take_sync()
        self._tick()
        while journal.needs_sync and not journal.syncing:
            self._job = journal.begin_sync()
            self._sync.start(self._job.run)
            self._take_sync()
            self._tick()
        self._in_turn = False

    def _tick(self) -> None:
        guard = self._guard
        if guard.may_tick:
            try:
                guard.tick(self._clock.monotonic_s())
            except OSError as error:
                raise StorageFailed(f"the snapshot to send could not be read ({error.strerror or error})") from error
        if self.send is not None:
            for peer, message in guard.take_messages():
                self.send(peer, message)

    def take_messages(self) -> list[tuple[str, bytes]]:
        """(member, message) to send, in order. For callers that did not set ``send``."""
        return self._guard.take_messages()

    def take_committed(self, limit_bytes: int) -> list[Entry]:
        """The next committed entries: at least one if there is any, then as many as fit ``limit_bytes``."""
        self._check()
        entries: list[Entry] = []
        if self._taken_index >= self._guard.committed_index:
            return entries
        size = 0
        if self.installation is not None or FIRST_BASE_INDEX < self._journal.base_index > self._taken_index:
            return entries  # a snapshot has what is next, one that is here or a later one that takes its place
        while self._taken_index < self._guard.committed_index:
            entry = self._entry(self._taken_index + 1)
            size += len(entry.data)
            if entries and size > limit_bytes:
                break
            entries.append(entry)
            self._taken_index += 1
        return entries

    def read(self, first: int, end: int) -> list[Entry]:
        """Committed entries again, from ``first`` to before ``end``. They must not be compacted away."""
        self._check()
        if end > self._guard.committed_index + 1:
            raise InternalError(f"entry {end - 1} is not committed")
        return [self._entry(index) for index in range(first, end)]

    def take_changes(self) -> list[RoleChange]:
        return self._guard.take_changes()

    def take_outcomes(self) -> list[Outcome]:
        """How proposals ended, each once. For callers that do not watch the committed entries for theirs."""
        return self._guard.take_outcomes()

    def compact(self, index: int) -> None:
        """Entries ``<= index`` are in a durable checkpoint of the store: the log may drop them."""
        self._check()
        if index > self._taken_index:
            raise InternalError(f"entry {index} was not handed out, so it cannot be in a checkpoint")
        held_index = self._guard.hold_index(self._clock.monotonic_s())
        if held_index is not None:
            index = min(index, held_index)
        self._guard.before_compaction(self._clock.monotonic_s())
        if self._journal.compact(index, self._keep_bytes if len(self.voters) != 1 else 0):
            self._guard.compacted()

    def close(self) -> None:
        """Wait for a sync that runs, and close the files. What was not acknowledged may or may not be kept."""
        if self._closed:
            return
        self._closed = True
        self._sync.close()
        self._guard.close()
        self._journal.close()

    # ---- inside -----------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._closed:
            raise InternalError("this node is closed")
        if self._journal.failure is not None:
            raise StorageFailed(self._journal.failure)
        if self._in_turn:
            raise InternalError("this node has failed before; it must be started anew")

    def _take_sync(self) -> None:
        if self._job is None:
            return
        done = self._sync.take()
        if done is not None:
            job, self._job = self._job, None
            self._journal.end_sync(job, done.error)
            self._guard.synced()

    def _entry(self, index: int) -> Entry:
        if index <= FIRST_BASE_INDEX:
            return Entry(index, 0, b"")
        payload = self._journal.payload(index)
        return Entry(index, self._journal.term_at(index), b"" if is_members(payload) else payload[1:])
