"""The only door to PySyncObj: an unmodified SyncObj, with our journal, our transport and our clock.

Four names that are not public are used; they are checked at import:

- ``pysyncobj.syncobj.createJournal`` is replaced while the constructor runs: the only way to hand it our journal;
- ``pysyncobj.syncobj.monotonicTime`` is set to the node's own clock around each call and put back, so that other users
  of the library in the process are untouched. Time stands still within a call, so no time budget of the
  library cuts its work short;
- ``_SyncObj__raftLastApplied`` is set once, after construction: the library takes everything as not applied;
- ``_applyCommand`` queues a proposal as it stands. The public way pickles a method call.

No protocol method is overridden. A new version of the library is adopted by hand: ``VERSION`` and the file's
hash in the tests change only after those and the simulation have passed on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from pysyncobj import syncobj as library
from pysyncobj.config import SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from tq import limits
from tq.errors import InternalError
from tq.raft.journal import Journal
from tq.raft.records import Pending

VERSION = "0.3.17"
NO_OP = b"\x01"  # the type byte of entries that SyncObj neither unpickles nor applies; alone it is a leader's first
_MEMBERSHIP = b"\x02"  # of entries in which SyncObj pickles a change of its members
FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
_NEVER_S = 1e9  # its own time-outs must not fire: the guard starts elections
_CLOCK_OFFSET_S = 1.0  # it sets a deadline to 0 and asks whether it lies before now
_SEND_PERIOD_S = 1e-6  # it sends once a period; every tick shall send
_SEND_PERIOD_ALONE_S = 1e-3
_TICK_STEP_S = 2e-6  # so two ticks that send at the same time are told apart by more than a period
_LAST_APPLIED = "_SyncObj__raftLastApplied"


def _check_library() -> None:
    if library.VERSION != VERSION:
        raise ImportError(f"pysyncobj {library.VERSION} is installed; tq was checked against {VERSION} alone")
    found = (
        callable(getattr(library, "createJournal", None))
        and callable(getattr(library, "monotonicTime", None))
        and callable(getattr(library.SyncObj, "_applyCommand", None))
        and _LAST_APPLIED in library.SyncObj.__init__.__code__.co_names
    )
    if not found:
        raise ImportError(f"pysyncobj {VERSION} is installed, but it is not the file that tq was checked against")


_check_library()


class Member(Node):  # type: ignore[misc]
    """As the library's own. It looks them up in sets and dictionaries without end, so the hash is made once."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._hash = hash(id)

    __eq__ = Node.__eq__

    def __hash__(self) -> int:
        return self._hash


OnAppend = Callable[[str, int, int, int], bool]
"""(member, index and term of the entry before, how many entries): whether more may be sent to that member now."""


class Core:
    """One SyncObj. All calls take the time, in seconds of the node's monotonic clock.

    Args:
        peers: the other voters. SyncObj takes all of them for connected until ``pause``.
        on_append: called while SyncObj sends.

    Attributes:
        outbox: (member, message) that SyncObj sent, besides appends; the caller empties it.
        role: FOLLOWER, CANDIDATE or LEADER.
    """

    def __init__(
        self, node_id: str, peers: list[str], journal: Journal, *, applied_index: int, now_s: float, fallback_s: float,
        on_append: OnAppend | None = None,
    ) -> None:  # fmt: skip
        self.outbox: list[tuple[str, dict[str, Any]]] = []
        self.role = FOLLOWER
        self._now_s = now_s
        self._ticked_s = 0.0
        self._members = {peer: Member(peer) for peer in peers}
        self._lists: list[bytes] = []  # what stands in the log for SyncObj's changes that are queued
        self._transport = _Transport(self.outbox, on_append)
        configuration = SyncObjConf(
            autoTick=False,
            appendEntriesPeriod=_SEND_PERIOD_S if peers else _SEND_PERIOD_ALONE_S,
            dynamicMembershipChange=True,
            appendEntriesUseBatch=True,  # False leaks two descriptors an object
            appendEntriesBatchSizeBytes=limits.APPEND_BATCH_BYTES,
            commandsQueueSize=0,
            commandsWaitLeader=False,  # a queued proposal never outlives the tick
            raftMinTimeout=_NEVER_S,
            raftMaxTimeout=2 * _NEVER_S,
            connectionTimeout=2 * _NEVER_S,
            leaderFallbackTimeout=fallback_s,
            logCompactionMinEntries=1 << 62,
            logCompactionMinTime=_NEVER_S * 1000,
            fullDumpFile=None,
            onStateChanged=self._on_state,
        )
        make_journal, clock = library.createJournal, library.monotonicTime
        library.createJournal = lambda _file: SyncObjLog(journal, self._lists)
        library.monotonicTime = self._clock
        try:
            self._syncobj = library.SyncObj(
                Member(node_id), [self._members[peer] for peer in peers], configuration, transport=self._transport
            )
        finally:
            library.createJournal, library.monotonicTime = make_journal, clock
        setattr(self._syncobj, _LAST_APPLIED, applied_index)
        for peer in peers:
            self.resume(peer)

    def _clock(self) -> float:
        return self._now_s + _CLOCK_OFFSET_S

    def _on_state(self, _old: int, new: int) -> None:
        self.role = new

    def tick(self, now_s: float, *, sends: bool = True) -> None:
        """Commit, apply (nothing), send to members that lack something, append what is queued; in this order.

        sends: if not, SyncObj takes it for the time when it last sent, and skips that part.
        """
        if sends:
            self._ticked_s = max(now_s, self._ticked_s + _TICK_STEP_S)
        self._now_s = self._ticked_s
        clock = library.monotonicTime
        library.monotonicTime = self._clock
        try:
            self._syncobj.doTick(0.0)
        finally:
            library.monotonicTime = clock

    def campaign(self, now_s: float) -> None:
        """Start an election in a new term, now. Never on a leader: the wish would stay and fire later."""
        if self.role == LEADER:
            raise InternalError("a leader does not campaign")
        leader = self._syncobj.getStatus()["leader"]
        self._feed(leader, {"type": "timeout_now", "term": self._syncobj.raftCurrentTerm}, now_s)
        self.tick(now_s)

    def _feed(self, member: Member | None, message: dict[str, Any], now_s: float) -> None:
        self._now_s = now_s
        clock = library.monotonicTime
        library.monotonicTime = self._clock
        try:
            self._transport._onMessageReceived(member, message)
        finally:
            library.monotonicTime = clock

    def queue(self, payload: bytes) -> None:
        """Have the next tick append ``payload``, if this node leads then; else the tick drops it."""
        if payload[:1] != NO_OP:
            raise InternalError(f"a proposal has type {payload[:1]!r}, which SyncObj would unpickle")
        self._syncobj._applyCommand(payload, None)

    def change_voters(self, payload: bytes, *, add: str | None, remove: str | None) -> None:
        """Have the next tick add or remove a voter, and append ``payload`` for it. SyncObj's own entry is pickled, and
        never reaches the log."""
        self._lists.append(payload)
        if add is not None:
            self._syncobj.conf.appendEntriesPeriod = _SEND_PERIOD_S
            self._ticked_s += _SEND_PERIOD_ALONE_S  # alone it had sent lately, to nobody
            self._syncobj.addNodeToCluster(self._member(add))
        if remove is not None:
            self._syncobj.removeNodeFromCluster(self._member(remove))

    def _member(self, peer: str) -> Member:
        member = self._members.get(peer)
        if member is None:
            member = self._members[peer] = Member(peer)
        return member

    @property
    def peers(self) -> list[str]:
        """The other voters, as SyncObj has them."""
        return sorted(member.id for member in self._syncobj.otherNodes)

    # ---- what members say, as SyncObj is to hear it ------------------------------------------------

    def feed_vote_request(self, peer: str, term: int, last_index: int, last_term: int, now_s: float) -> None:
        """A vote goes to the outbox if it is granted."""
        request = {"type": "request_vote", "term": term, "last_log_index": last_index, "last_log_term": last_term}
        self._feed(self._member(peer), request, now_s)

    def step_up(self, peer: str, term: int, now_s: float) -> None:
        """Follow in ``term``: a vote request that cannot be granted, harmless in every role."""
        self.feed_vote_request(peer, term, 0, -1, now_s)

    def feed_vote(self, peer: str, now_s: float) -> None:
        """One vote for the current term. SyncObj counts and does not ask whose: feed each member's once."""
        self._feed(self._member(peer), {"type": "response_vote", "term": self.term}, now_s)

    def feed_heartbeat(self, peer: str, term: int, commit_index: int, now_s: float) -> None:
        """``peer`` leads ``term``, and all up to ``commit_index`` is committed and here. SyncObj's own append, which
        trusts and truncates, is never reached: it needs ``prevLogIdx``."""
        message = {"type": "append_entries", "term": term, "commit_index": commit_index}
        self._feed(self._member(peer), message, now_s)

    def feed_ack(self, peer: str, matched_index: int, now_s: float) -> None:
        """All up to ``matched_index`` is durable at ``peer``. The cursor is pulled back to behind it."""
        self._answer(peer, matched_index + 1, now_s, success=True, reset=False)

    def feed_cursor(self, peer: str, next_index: int, now_s: float) -> None:
        """Send to ``peer`` from ``next_index`` on. Counts as an answer of it, given at ``now_s``."""
        self._answer(peer, next_index, now_s, success=False, reset=True)

    def feed_sign_of_life(self, peer: str, now_s: float) -> None:
        """``peer`` answered at ``now_s``: for check-quorum."""
        self._answer(peer, 1, now_s, success=False, reset=False)

    def _answer(self, peer: str, next_index: int, now_s: float, *, success: bool, reset: bool) -> None:
        message = {"type": "next_node_idx", "next_node_idx": next_index, "reset": reset, "success": success}
        self._feed(self._member(peer), message, now_s)

    def transfer(self, peer: str) -> bool:
        """Whether SyncObj hands over to ``peer``; it refuses unless that has everything. The caller tells ``peer``."""
        self._syncobj.transferLeadership(self._member(peer))
        handed = [at for at, (to, message) in enumerate(self.outbox) if message["type"] == "timeout_now" and to == peer]
        for at in reversed(handed):
            del self.outbox[at]
        return bool(handed)

    def pause(self, peer: str) -> None:
        """Send nothing to ``peer`` until ``resume``."""
        self._transport._onNodeDisconnected(self._member(peer))

    def resume(self, peer: str) -> None:
        self._transport._onNodeConnected(self._member(peer))

    # ---- what it says of itself --------------------------------------------------------------------

    @property
    def term(self) -> int:
        return self._syncobj.raftCurrentTerm  # type: ignore[no-any-return]

    @property
    def commit_index(self) -> int:
        return self._syncobj.raftCommitIndex  # type: ignore[no-any-return]

    @property
    def leader_id(self) -> str | None:
        leader = self._syncobj.getStatus()["leader"]
        return None if leader is None else str(leader.id)

    def close(self) -> None:
        self._syncobj.destroy()


class _Transport(Transport):  # type: ignore[misc]
    """Hands appends to the guard and puts all else that SyncObj sends into the outbox. Messages come in
    through ``Core``."""

    def __init__(self, outbox: list[tuple[str, dict[str, Any]]], on_append: OnAppend | None) -> None:
        super().__init__(None, None, [])
        self._outbox = outbox
        self._on_append = on_append

    def addNode(self, node: Member) -> None:
        self._onNodeConnected(node)

    def dropNode(self, node: Member) -> None:
        self._onNodeDisconnected(node)

    def send(self, node: Member, message: dict[str, Any]) -> bool:
        if message["type"] != "append_entries" or self._on_append is None:
            self._outbox.append((node.id, message))
            return True
        if "prevLogIdx" not in message:
            raise InternalError(f"SyncObj wanted to send a snapshot to {node.id}; that is the guard's")
        count = len(message["entries"])
        if not self._on_append(node.id, message["prevLogIdx"], message["prevLogTerm"], count):
            self._onNodeDisconnected(node)  # ends SyncObj's loop over what that member lacks
        return True


class SyncObjLog:
    """The journal as SyncObj sees it: a sequence of (payload, index, term) that begins with the base entry."""

    def __init__(self, journal: Journal, lists: list[bytes] | None = None) -> None:
        self._journal = journal
        self._lists = [] if lists is None else lists

    def __len__(self) -> int:
        return self._journal.last_index - self._journal.base_index + 1

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | Sequence[Entry]:
        journal = self._journal
        if item == 0:
            return NO_OP, journal.base_index, journal.base_term
        if isinstance(item, slice):
            start, stop, _step = item.indices(len(self))
            first, count = journal.base_index + start, max(0, stop - start)
            if count <= 1:
                return [_entry(journal, first)] if count else []
            return Entries(journal, first, count if item.stop is not None else _batch(journal, first, count))
        index = journal.base_index + item if item >= 0 else journal.last_index + 1 + item
        return _entry(journal, index)

    def add(self, command: bytes, idx: int, term: int) -> None:
        if command[:1] == _MEMBERSHIP and self._lists:
            command = self._lists.pop(0)
        if command[:1] != NO_OP:
            raise InternalError(f"entry {idx} has type {command[:1]!r}, which SyncObj would unpickle")
        self._journal.append(command, idx, term)

    def setRaftCommitIndex(self, index: int) -> None:
        self._journal.set_commit(index)

    def getRaftCommitIndex(self) -> int:
        return self._journal.commit_index

    def setCurrentTerm(self, term: int, vote: str | None) -> None:
        self._journal.set_term(term, vote)

    def getCurrentTerm(self) -> int:
        return self._journal.term

    def getVotedForNodeId(self) -> str | None:
        return self._journal.vote

    def onOneSecondTimer(self) -> None:
        pass

    def _destroy(self) -> None:
        pass  # its owner closes it

    def clear(self) -> None:
        raise InternalError("SyncObj wanted to clear the log")

    def deleteEntriesFrom(self, position: int) -> None:
        raise InternalError(f"SyncObj wanted to cut the log at position {position}; that is the guard's")

    def deleteEntriesTo(self, position: int) -> None:
        raise InternalError(f"SyncObj wanted to compact the log to position {position}; that is the guard's")


def _batch(journal: Journal, first: int, count: int) -> int:
    """How many entries from ``first`` on go into one message: at least one, if there is one."""
    size = 0
    for number in range(min(count, limits.PEER_BATCH_ENTRIES_MAX)):
        size += journal.payload_bytes(first + number) if first + number > journal.base_index else 1
        if size > limits.PEER_BATCH_BYTES and number:
            return number
    return min(count, limits.PEER_BATCH_ENTRIES_MAX)


class StoredPayload:
    """What SyncObj asks of a payload: its size and its first byte. Neither needs a read."""

    __slots__ = ("_index", "_journal")

    def __init__(self, journal: Journal, index: int) -> None:
        self._journal = journal
        self._index = index

    def __len__(self) -> int:
        return self._journal.payload_bytes(self._index)

    def __getitem__(self, item: slice) -> bytes:
        if (item.start, item.stop) != (None, 1):
            raise InternalError(f"SyncObj looks into entry {self._index} at {item}")
        return NO_OP


class StoredEntry:
    """Stands for (payload, index, term) of an entry that is not in memory, and reads nothing."""

    __slots__ = ("_index", "_journal")

    def __init__(self, journal: Journal, index: int) -> None:
        self._journal = journal
        self._index = index

    def __len__(self) -> int:
        return 3

    def __getitem__(self, item: int) -> Any:
        if item == 1:
            return self._index
        if item == 2:
            return self._journal.term_at(self._index)
        if item == 0:
            return StoredPayload(self._journal, self._index)
        raise IndexError(item)


Entry = Pending | StoredEntry


class Entries(Sequence[Entry]):
    """A stretch of the log that copies nothing. SyncObj asks for whole tails; it gets as much as one message holds."""

    __slots__ = ("_count", "_first", "_journal")

    def __init__(self, journal: Journal, first: int, count: int) -> None:
        self._journal = journal
        self._first = first
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> Entries: ...
    def __getitem__(self, item: int | slice) -> Entry | Entries:
        if isinstance(item, slice):
            start, stop, _step = item.indices(self._count)
            return Entries(self._journal, self._first + start, max(0, stop - start))
        position = item if item >= 0 else self._count + item
        if not 0 <= position < self._count:
            raise IndexError(item)
        return _entry(self._journal, self._first + position)


def _entry(journal: Journal, index: int) -> Entry:
    if index == journal.base_index:
        return NO_OP, index, journal.base_term
    return journal.in_memory(index) or StoredEntry(journal, index)
