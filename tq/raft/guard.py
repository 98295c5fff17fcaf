"""What keeps SyncObj honest: it stands between SyncObj and the wire, the journal, the clock and the applier.

It does no I/O. In: ``receive``, ``peer_gone``, ``tick``, ``propose``, ``read_index``, ``synced``. Out: messages, whether a sync is wanted
(the journal's ``needs_sync``), how far entries are committed *and* durable here, role changes, ends of proposals and reads.

Rules
- **Terms.** Each message has its sender's. A lower one is dropped, and answered with ours; a higher one makes SyncObj
  follow in it, but never a prevote, nor a vote request that stickiness refuses (elections.py, candidacy.py).
- **Durable before visible.** Votes, vote requests and acknowledgements wait for the sync of what they say, and are
  dropped if the term moves on meanwhile.
- SyncObj counts the leader's own entry at once. In a larger group no acknowledgement above our own synced index
  reaches it (leading.py). **A group of one ticks only when all it has is synced**: term and vote, and each entry.
- A follower's append is ours (following.py); SyncObj hears a bare heartbeat, with a commit index that was verified.
- Entries are handed out up to min(commit, durable here), in every role.
- **LEADER is told once the first entry of its term is committed.** Until then the commit index may lag behind what
  earlier leaders answered, and reads would be stale. So who hears LEADER has been handed all that was ever committed.
- An entry begins with the byte 1, so SyncObj looks no further into it.
- A proposal is handed to SyncObj just before a tick, and that tick appends it or it is lost. Each ends once:
  committed, lost (not done, will never be), or unknown (leadership went while it was in the log).
- What SyncObj does that must not happen is an InternalError, and the node stops.

A group of one needs no timer: it campaigns with the first tick.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from typing import assert_never

import attrs

from tq import limits
from tq.errors import DataDamaged, InternalError, InvalidRequest, NotLeader
from tq.raft import adapter, members, messages
from tq.raft.adapter import Core
from tq.raft.candidacy import Candidacy
from tq.raft.elections import Elections
from tq.raft.following import Following
from tq.raft.journal import Journal
from tq.raft.leading import Leading
from tq.raft.members import Admission
from tq.raft.messages import (
    Ack,
    Append,
    Lost,
    Message,
    PreVote,
    PreVoteReply,
    Reject,
    Removed,
    RequestVote,
    SnapshotAck,
    SnapshotPart,
    Stale,
    TimeoutNow,
    Vote,
)
from tq.raft.proposals import Outcome, ProposalEnd, Proposals
from tq.raft.reads import ReadEnd, Reads
from tq.raft.segments import REBUILD
from tq.raft.snapshot_receiving import SnapshotReceiving
from tq.raft.snapshots import Incoming, SnapshotSource
from tq.raft.transfer import Transfer
from tq.raft.voting import Voting
from tq.world import Random

__all__ = ["Guard", "Outcome", "ProposalEnd", "ReadEnd", "Role", "RoleChange"]


_FOLLOWER_TICK_ENTRIES = 256
_NEVER = 1 << 63  # an index


class Role(enum.Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@attrs.frozen
class RoleChange:
    role: Role
    term: int
    leader_id: str | None


class Guard:
    """See the theory above.

    Attributes:
        role, term, leader_id: as told to the broker; LEADER only when its term has a committed entry.
        committed_index: committed and durable here; never goes back.
        strangers: answers dropped because their sender is no voter, and messages to a group of one.
        wall_ms: this node's wall clock, set by the caller; members are told.
        clocks_ms: the wall clocks of members, as last heard, less our monotonic clock: a jump of our own wall clock does
            not look like one of a member that is silent.
        on_members: called when other data directories may count than before (``refusal``): in force, or committed.
    """

    def __init__(
        self, *, node_id: str, peers: list[str], journal: Journal, random: Random, now_s: float,
        election_ms: tuple[int, int], heartbeat_ms: int, incoming: Incoming | None = None,
        part_bytes: int = limits.SNAPSHOT_PART_BYTES, joins: bool = False,
        founders: Mapping[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        if not 0 < heartbeat_ms < election_ms[0] <= election_ms[1]:
            raise InternalError(f"heartbeat {heartbeat_ms} ms, election {election_ms} ms")
        self.node_id = node_id
        self._journal = journal
        configured = () if joins else tuple(sorted({node_id, *peers}))
        self._voting = Voting(node_id, configured, journal, founders)
        self._fallback_s = election_ms[1] / 1000
        self._core = self._new_core(now_s)
        self._core_role = adapter.FOLLOWER
        self._heartbeat_s = heartbeat_ms / 1000
        self._now_s = now_s
        self._elections = Elections(len(self.voters), random, election_ms, now_s)
        self._following: Following | None = None
        self._leading: Leading | None = None
        self._proposals = Proposals(journal)
        self._reads = Reads()
        self._transfer = Transfer(election_ms[1] / 1000)
        self._receiving = SnapshotReceiving(journal, incoming)
        self._source: SnapshotSource | None = None
        self._part_bytes = part_bytes
        self._out: list[tuple[str, Message]] = []
        self._candidacy = Candidacy(
            node_id, journal, self._voting, self._elections, core=lambda: self._core, known_leader=self._known_leader,
            send=self._send,
        )  # fmt: skip
        self._tick_wanted = False
        self._gone: tuple[str, int] | None = None  # who is being removed, and the entry that says so
        self._open_list_index = self._voting.listed_index  # of a list that is not committed, as far as was noticed
        self._check_due_s = 0.0  # when SyncObj must look at the time again, while it leads
        self._ticked_commit = 0  # SyncObj's commit index when a follower let it tick
        self._changes: list[RoleChange] = []
        self.role = Role.FOLLOWER
        self.term = self._core.term
        self.leader_id: str | None = None
        self.committed_index = min(journal.commit_index, journal.durable_index)
        self.strangers = 0
        self.wall_ms = 0
        self.clocks_ms: dict[str, int] = {}
        self.on_members: Callable[[], None] | None = None

    @property
    def voters(self) -> tuple[str, ...]:
        """Who votes, as the log has it, committed or not."""
        return self._voting.voters

    @property
    def admitted(self) -> Mapping[str, Admission]:
        """The data directory that counts under each name, as the log has it, committed or not."""
        return self._voting.admitted

    @property
    def joining(self) -> list[str]:
        """Who is admitted, and is to be given a vote."""
        return self._voting.joining

    def refusal(self, peer: str, incarnation: bytes, index: int) -> str | None:
        """Why ``peer`` is not heard with that data directory, admitted by entry ``index`` as it says; or None."""
        return self._voting.refusal(peer, incarnation, index, self.committed_index)

    @property
    def removed(self) -> bool:
        """This node was told that it votes no more. It follows, and never campaigns."""
        return self._voting.removed

    @property
    def _peers(self) -> list[str]:
        return self._voting.peers

    @property
    def _alone(self) -> bool:
        return self._voting.alone

    def _adopt_voters(self) -> None:
        """The log may have another list than before: in force from the entry on, and gone when it is cut away."""
        if not self._take_list():
            return
        core = self._core
        if core.role == adapter.LEADER:
            if core.peers != self._peers:
                raise InternalError(f"SyncObj has {core.peers} as other voters, the log {self._peers}")
            if self._leading is not None:
                self._leading.set_peers(self._peers, self._now_s)
        else:  # even if the names are the same: behind one there may be another
            core.close()
            self._core = self._new_core(self._now_s)
        self._elections.set_voters(len(self.voters), self._now_s)

    def _take_list(self) -> bool:
        """Whether the log has another list. Whose directory is another one begins anew."""
        before = self._voting.admitted
        if not self._voting.take():
            return False
        self._open_list_index = self._voting.listed_index
        for peer in [peer for peer in self.clocks_ms if before.get(peer) != self._voting.admitted.get(peer)]:
            del self.clocks_ms[peer]
        if self.on_members is not None:
            self.on_members()
        return True

    def _new_core(self, now_s: float) -> Core:
        return Core(
            self.node_id, self._peers, self._journal, applied_index=self._journal.commit_index, now_s=now_s,
            fallback_s=self._fallback_s, on_append=self._on_append,
        )  # fmt: skip

    # ---- in ---------------------------------------------------------------------------------------

    def receive(self, peer: str, data: bytes, now_s: float, incarnation: bytes | None = None) -> None:
        """A message from an authenticated member of the cluster, with this data directory. Answers count from voters alone;
        an append or a vote request may come from one that our log does not know yet.

        Raises:
            ProtocolError: the bytes are no message; nothing was done. Close the connection.
            DataDamaged: this node has lost what it acknowledged. It must stop.
            InternalError: a broken invariant. It must stop.
        """
        if self._alone:
            self.strangers += 1
            return
        message = messages.decode(data)
        if isinstance(message, Ack | Reject | SnapshotAck | Vote | PreVoteReply) and not self._voting.counts(
            peer, incarnation
        ):
            self.strangers += 1
            return
        self._now_s = now_s
        if self._passes_terms(peer, message):
            self._take(peer, message)
        self._take_over()

    def _passes_terms(self, peer: str, message: Message) -> bool:
        """Compare terms, and follow in a higher one. Returns whether the message counts."""
        core = self._core
        if message.term < core.term:
            match message:
                case PreVoteReply(granted=True):
                    return True  # the voter has not heard of our term, and need not: else the highest term never wins
                case PreVote() | RequestVote() | Append() | SnapshotPart() | TimeoutNow():
                    self._out.append((peer, Stale(core.term)))
            return False
        if message.term > core.term:
            match message:
                case PreVote():
                    return True
                case RequestVote(transfer=False) if self._candidacy.is_sticky(self._now_s):
                    return False
            core.step_up(peer, message.term, self._now_s)
            self._elections.end()
            self._elections.forget_leader()
            self._take_over()
        return True

    def _take(self, peer: str, message: Message) -> None:
        """``message`` is of the present term, or of a kind for which that does not matter."""
        match message:
            case Append():
                self._take_append(peer, message)
            case Ack() | Reject() | SnapshotAck():
                self._take_answer(peer, message)
            case SnapshotPart():
                self._take_part(peer, message)
            case PreVote() | PreVoteReply() | RequestVote() | Vote() | TimeoutNow():
                self._candidacy.take(peer, message, self._now_s)
            case Lost():
                self._stop_over_loss(peer, message)
            case Removed():
                self._voting.was_removed(message.index)
            case Stale():
                pass  # its term was all it had to say
            case _:
                assert_never(message)

    def _hear_leader(self, peer: str, message: Append | SnapshotPart) -> Following:
        """``peer`` leads the present term."""
        core, following = self._core, self._following
        if core.role == adapter.LEADER:
            raise InternalError(f"{peer} leads term {message.term}, and so does this node")
        if following is None or following.term != message.term:
            following = self._following = Following(
                self._journal, peer, message.term, core.commit_index, self._heartbeat_s / 2
            )
        elif following.leader_id != peer:
            raise InternalError(f"{peer} leads term {message.term}, and so does {following.leader_id}")
        self.clocks_ms[peer] = message.wall_ms - round(self._now_s * 1000)
        self._candidacy.leader_missed = False
        self._elections.heard_leader(self._now_s)
        return following

    def _take_append(self, peer: str, message: Append) -> None:
        core, following = self._core, self._hear_leader(peer, message)
        if self._receiving.waiting is not None:
            return  # the log is about to begin anew
        answer = following.append(message, core.commit_index, self.wall_ms, self._now_s)
        commit_index = min(message.commit_index, following.matched_index)
        if isinstance(answer, Ack):
            self._receiving.not_needed()
        self._adopt_voters()
        self._core.feed_heartbeat(peer, message.term, commit_index, self._now_s)
        if answer is not None:
            self._out.append((peer, answer))

    def _take_part(self, peer: str, message: SnapshotPart) -> None:
        core, following = self._core, self._hear_leader(peer, message)
        core.feed_heartbeat(peer, message.term, core.commit_index, self._now_s)  # no commit index is taken from it
        answer = self._receiving.take(message, following, self.wall_ms)
        if answer is not None:
            self._out.append((peer, answer))
        elif self._install():
            self._take_part(peer, message)  # to be answered as one that is here

    def _install(self) -> bool:
        """If a snapshot is whole and no sync runs: SyncObj anew on a log that begins behind it."""
        if not self._receiving.begin_log():
            return False
        self._take_list()
        self._elections.set_voters(len(self.voters), self._now_s)
        self._core.close()
        self._core = self._new_core(self._now_s)
        self._core_role = adapter.FOLLOWER
        self._following = None
        self.committed_index = self._journal.base_index
        return True

    def _take_answer(self, peer: str, message: Ack | Reject | SnapshotAck) -> None:
        if self._core.role != adapter.LEADER or self._leading is None or self._leading.term != message.term:
            return
        self.clocks_ms[peer] = message.wall_ms - round(self._now_s * 1000)
        if isinstance(message, Ack):
            is_news = self._leading.acknowledged(peer, message, self._now_s)
            self._tick_wanted |= is_news or self._transfer.target is not None  # who is to lead may have everything now
        elif isinstance(message, Reject):
            self._leading.rejected(peer, message, self._now_s)
            self._tick_wanted = True
        else:
            self._leading.snapshot_answered(peer, message, self._now_s)
            self._tick_wanted = True
        self._reads.confirm(self._leading.confirmed_round())

    def _stop_over_loss(self, peer: str, message: Lost) -> None:
        following = self._following
        if following is None or (following.leader_id, following.term) != (peer, message.term):
            return
        if following.matched_index < message.index:
            raise DataDamaged(
                f"this node acknowledged the log up to entry {message.index} to {peer}, leader of term {message.term},"
                f" and has it up to {following.matched_index} only: its disk reports syncs that it does not do, or the"
                " data directory is an old copy. The node stops, the others go on without it. If the disk is good again, run"
                f' {REBUILD}; see docs/operations.md, "A damaged file"'
            )

    def peer_gone(self, peer: str, now_s: float) -> None:
        """The process of ``peer`` ended, as its machine says. A hint: see elections.py."""
        self._now_s = now_s
        if self._core.role == adapter.FOLLOWER and self._known_leader() == peer:
            self._candidacy.leader_gone(now_s)
        self._take_over()

    def propose(self, payload: bytes) -> tuple[int, int]:
        """Have the next tick append ``payload``. Returns the (term, index) it will have if it is committed.

        Raises:
            NotLeader: nothing was taken.
            Backpressure: too much is proposed and not yet committed, or leadership is handed over; nothing was taken.
            InvalidRequest: the payload is empty or above ENTRY_BYTES_MAX.
        """
        if self.role is not Role.LEADER:
            raise NotLeader("this node does not lead; nothing was done", leader=self.leader_id)
        self._transfer.check_open()
        return self._proposals.add(self.term, payload, adapter.NO_OP)

    def change_voters(self, voters: list[str], incarnation: bytes | None = None) -> tuple[int, int]:
        """Have the log hold another list of voters: one more or one less than now. In force from the next tick on.
        Returns the (term, index) it will have if it is committed.

        Raises:
            NotLeader: nothing was taken.
            Backpressure: the change before is not committed, or leadership is handed over; nothing was taken.
            InvalidRequest: more than one voter differs, or too many, or this node is to go (hand over first).
        """
        waits = self._check_change()
        payload = self._voting.change(voters, self.committed_index, waits=waits, incarnation=incarnation)
        return self._proposals.add_members(self.term, payload)

    def replace_voter(self, name: str, incarnation: bytes) -> tuple[int, int]:
        """Have the data directory ``incarnation`` take the place of the one that ``name`` has; see voting.py. The vote follows
        by itself. Returns the (term, index) of the entry that admits it, if it is committed.

        Raises NotLeader, Backpressure, InvalidRequest, as ``change_voters``.
        """
        waits = self._check_change()
        payload = self._voting.replace(name, incarnation, self.committed_index, waits=waits)
        return self._proposals.add_members(self.term, payload)

    def _check_change(self) -> bool:
        """Raises NotLeader, Backpressure. Returns whether a change is proposed and not appended."""
        if self.role is not Role.LEADER:
            raise NotLeader("this node does not lead; nothing was done", leader=self.leader_id)
        self._transfer.check_open()
        return any(map(members.is_members, self._proposals.waiting))

    def _give_vote(self) -> None:
        """The second step of a replacement, whoever began it."""
        if self.role is not Role.LEADER or self._transfer.target is not None or self._proposals.is_full:
            return
        waits = any(map(members.is_members, self._proposals.waiting))
        payload = self._voting.give_vote(self.committed_index, waits=waits)
        if payload is not None:
            self._proposals.add_members(self.term, payload, is_told=False)

    def transfer(self, target: str | None, now_s: float, among: Collection[str] | None = None) -> str:
        """Hand leadership over to ``target``, or to the member that has most (``among`` these, if they are given and not
        none). Proposals pause until that is done, or until the longest election time-out has passed. Role changes tell
        how it ended. Returns who is to lead.

        Raises:
            NotLeader: nothing was done.
            InvalidRequest: ``target`` is no other member.
        """
        if self.role is not Role.LEADER:
            raise NotLeader("this node does not lead; ask the leader to hand over", leader=self.leader_id)
        if self._leading is None or (target is not None and target not in self._peers):
            raise InvalidRequest.of("target", target, f"one of the other members: {', '.join(self._peers) or 'none'}")
        target = target or self._leading.furthest(among)
        self._transfer.begin(target, now_s)
        self._tick_wanted = True
        return target

    @property
    def transfer_target(self) -> str | None:
        """Who is to lead next, while that is under way."""
        return self._transfer.target

    def read_index(self) -> int:
        """Begin a linearizable read. Returns its ticket; ``take_reads`` tells at which index it may be answered.

        Raises NotLeader.
        """
        if self.role is not Role.LEADER:
            raise NotLeader("this node does not lead; ask the leader", leader=self.leader_id)
        if self._leading is None:
            return self._reads.add(self.committed_index, 0, confirmed_round=0)
        self._leading.round += 1
        self._tick_wanted = True
        return self._reads.add(self.committed_index, self._leading.round, self._leading.confirmed_round())

    @property
    def may_tick(self) -> bool:
        """False while a group of one has something that is not synced: a tick would count it as committed."""
        return not self._alone or (not self._journal.needs_sync and not self._journal.syncing)

    def tick(self, now_s: float) -> None:
        """Let SyncObj work: commit what is synced, append what waits, send, campaign if it is time."""
        if not self.may_tick:
            raise InternalError("a group of one may not tick before its log is synced")
        self._now_s = now_s
        if self._core.role == adapter.LEADER:
            is_wanted = self.wants_tick
            if is_wanted or self._alone or now_s >= self.wakes_at_s:
                self._tick_wanted = False
                self._lead(is_wanted)
        elif self._alone:
            self._elections.begin(self.node_id, now_s)
            self._core.campaign(now_s)
        else:
            self._follow()
        self._take_over()

    def _follow(self) -> None:
        """SyncObj has nothing to do but to count what it takes for applied; now and then, so that it never is much."""
        core, now_s = self._core, self._now_s
        is_time = now_s >= self._elections.deadline_s and self._voting.may_campaign
        if is_time:
            self._candidacy.ask_prevotes(now_s)
        if is_time or core.commit_index - self._ticked_commit >= _FOLLOWER_TICK_ENTRIES:
            self._let_apply()

    def _let_apply(self) -> None:
        self._ticked_commit = self._core.commit_index
        self._core.tick(self._now_s)

    def _lead(self, is_wanted: bool) -> None:
        """SyncObj sends first and appends then, so what waits takes two ticks. A tick that may send looks at each cursor:
        not without need. Its check of the quorum wants the time, now and then, and before anything is appended."""
        core, journal, now_s = self._core, self._journal, self._now_s
        if self._leading is not None:
            self._leading.set_time(now_s, self.wall_ms)
        if not self._alone and (now_s >= self._check_due_s or self._leading is None):
            self._check_due_s = now_s + self._heartbeat_s / 2
            is_wanted, expected = False, journal.last_index
            core.tick(now_s)
            if not self._still_leads(expected):
                return
        if self._voting.joining:
            self._give_vote()
        waiting = self._proposals.take_waiting()
        expected = journal.last_index + len(waiting)
        if waiting:
            for payload in waiting:
                if members.is_members(payload):
                    self._queue_change(payload)
                else:
                    core.queue(payload)
            core.tick(now_s, sends=self._alone)
            if not self._still_leads(expected):
                return
            self._adopt_voters()
            if self._alone:
                return
        if is_wanted or waiting or self._alone:
            core.tick(now_s, sends=self._leading is None or self._leading.lacks_entries)
            if not self._still_leads(expected):
                return
        if self._alone or self._leading is None:
            return
        target = self._transfer.go_on(core, now_s)
        if target is not None:
            self._out.append((target, TimeoutNow(core.term)))
        self._leading.heartbeats(now_s)
        self._leading.send_snapshots(now_s)

    def _still_leads(self, expected_index: int) -> bool:
        if self._core.role != adapter.LEADER:
            return False
        if self._journal.last_index != expected_index:
            raise InternalError(f"SyncObj appended up to {self._journal.last_index}, not {expected_index}")
        return True

    def _queue_change(self, payload: bytes) -> None:
        added, gone = self._voting.step_of(payload)
        self._core.change_voters(payload, add=added, remove=gone)
        if gone is not None:
            self._gone = (gone, self._journal.last_index + 1)

    def _tell_removed(self) -> None:
        """Who was removed is told when that is committed, so that it does not go on asking for votes."""
        if self._gone is not None and self._gone[1] <= self.committed_index:
            name, index = self._gone
            self._gone = None
            if self._core.role == adapter.LEADER and name not in self._voting.admitted:  # else another has its name now
                self._out.append((name, Removed(self._core.term, index)))

    def synced(self) -> None:
        """The journal's ``durable_index``, or its durable term and vote, may have moved."""
        if self._leading is not None:
            self._tick_wanted |= self._leading.synced()
        self._install()
        following = self._following
        if following is not None and following.held is not None:
            held, following.held = following.held, None
            if following.term == self._core.term:
                self._take_append(following.leader_id, held)
        self._take_over()

    # ---- out --------------------------------------------------------------------------------------

    def take_messages(self) -> list[tuple[str, bytes]]:
        """(member, message) to send, in order; what waits for a sync comes when that is done."""
        if self._alone:
            return []
        following, term = self._following, self._core.term
        if following is not None and following.term == term:
            ack = following.ack_due(self.wall_ms, self._now_s)
            if ack is not None:
                self._out.append((following.leader_id, ack))
        self._out += self._candidacy.release(term)
        if not self._out:
            return []
        out, self._out = self._out, []
        if len(out) == 1:
            return [(out[0][0], messages.encode(out[0][1]))]
        out.sort(key=lambda sent: sent[0])  # SyncObj walks a set: its order differs from process to process
        encoded: dict[int, bytes] = {}  # a question to all is written once
        for _, message in out:
            if id(message) not in encoded:
                encoded[id(message)] = messages.encode(message)
        return [(peer, encoded[id(message)]) for peer, message in out]

    def take_changes(self) -> list[RoleChange]:
        """What became of role, term and leader since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    def take_outcomes(self) -> list[Outcome]:
        """How proposals ended since the last call; each proposal once."""
        return self._proposals.take_outcomes()

    def take_reads(self) -> list[ReadEnd]:
        """How reads ended since the last call; each read once."""
        return self._reads.take()

    def offer_snapshot(self, source: SnapshotSource | None) -> None:
        """What to send to members that need entries which are compacted away, from now on."""
        self._source = source
        if self._leading is not None:
            self._leading.source = source
            self._tick_wanted = True

    @property
    def wants_snapshot(self) -> bool:
        """Whether a member waits for a snapshot, and none is offered that goes with the log."""
        return self._leading is not None and self._leading.wants_snapshot

    def hold_index(self, now_s: float) -> int | None:
        """Above it the log must not be compacted now."""
        return self._leading.hold_index(now_s) if self._leading is not None else None

    def before_compaction(self, now_s: float) -> None:
        """SyncObj must have counted as applied what is going to be gone: it walks over it, and would stick for ever."""
        self._now_s = now_s
        if self._core.role != adapter.LEADER:
            self._let_apply()
            self._take_over()

    def compacted(self) -> None:
        """The log begins further behind now: members that need what is gone are not sent entries."""
        if self._leading is not None:
            self._leading.compacted()

    @property
    def leads_term(self) -> int:
        """The term this node leads as SyncObj has it, or 0."""
        return self._core.term if self._core.role == adapter.LEADER else 0

    @property
    def terms_begun(self) -> int:
        """Elections this node started."""
        return self._elections.started

    @property
    def wants_tick(self) -> bool:
        """Whether a tick has something to do now, whatever the time."""
        if self._alone:
            return bool(self._proposals.waiting) or self._core.role != adapter.LEADER or self.role is not Role.LEADER
        return bool(self._proposals.waiting) or self._tick_wanted

    @property
    def is_quiet(self) -> bool:
        """Leading, with nothing to do or to tell but by time: so it is after an acknowledgement of what a majority had."""
        return (
            self._core.role == adapter.LEADER
            and not (self.wants_tick or self._out or self._changes or self._reads.has_ends or self._transfer.target)
        )  # fmt: skip

    @property
    def wakes_at_s(self) -> float:
        """When a tick has something to do by time."""
        if self._alone:
            return float("inf")
        if not self._voting.may_campaign:
            return float("inf")
        if self._leading is not None and self._core.role == adapter.LEADER:
            return min(self._leading.wakes_at_s(), self._transfer.wakes_at_s())
        return self._elections.deadline_s

    @property
    def told_index(self) -> int | None:
        """The highest commit index that the leader of this term named; None: it is us, or none has been heard lately."""
        following = self._following
        if following is None or following.term != self._core.term or not self._elections.is_sticky(self._now_s):
            return None
        return following.told_index

    def close(self) -> None:
        self._core.close()

    # ---- inside -----------------------------------------------------------------------------------

    def _on_append(self, peer: str, prev_index: int, prev_term: int, count: int) -> bool:
        """SyncObj sends; it may have become leader in this very call."""
        leading, core = self._leading, self._core
        if leading is None or leading.term != core.term:
            leading = self._leading = Leading(
                core, self._journal, self._peers, self._send, self._source, term=core.term, heartbeat_s=self._heartbeat_s,
                now_s=self._now_s, part_bytes=self._part_bytes,
            )  # fmt: skip
            leading.set_time(self._now_s, self.wall_ms)
            self._elections.end()
        return leading.append(peer, prev_index, prev_term, count)

    def _send(self, peer: str, message: Message) -> None:
        self._out.append((peer, message))

    def _take_over(self) -> None:
        """Read SyncObj's state and tell what changed."""
        core, journal = self._core, self._journal
        if core.outbox:
            self._take_outbox()
        committed = min(core.commit_index, journal.durable_index)
        if committed < self.committed_index:
            raise InternalError(f"the commit index went back from {self.committed_index} to {committed}")
        if committed > self.committed_index:
            self.committed_index = committed
            self._proposals.end_committed(committed)
            self._tell_removed()
            if self._open_list_index <= committed:
                self._open_list_index = _NEVER
                self._tick_wanted |= bool(self._voting.joining)
                if self.on_members is not None:
                    self.on_members()
        if self._leading is not None and self._alone:
            self._reads.confirm(self._leading.round)  # nobody else is left to ask
            self._leading = None
        if self._leading is not None and core.role != adapter.LEADER:
            self._leading.end()
            self._leading = None
            self._transfer.end()
            self._elections.restart_timer(self._now_s)
        if core.role != self._core_role or self.role is not Role.LEADER or core.term != self.term:
            self._core_role = core.role
            self._tell_role()

    def _take_outbox(self) -> None:
        """Besides appends and vote requests SyncObj may send votes; a group of one, nothing at all."""
        for peer, message in self._core.outbox:
            if message["type"] != "response_vote" or self._alone:
                raise InternalError(f"SyncObj sends {message['type']} to {peer}")
            self._candidacy.voted(peer, message["term"], self._now_s)
        self._core.outbox.clear()

    def _known_leader(self) -> str | None:
        """Who leads the present term, if it is another node and was heard."""
        following = self._following
        return following.leader_id if following is not None and following.term == self._core.term else None

    def _tell_role(self) -> None:
        core, journal = self._core, self._journal
        term = core.term
        match core.role:
            case adapter.LEADER:
                ready = journal.term_at(self.committed_index) == term
                role, leader_id = (Role.LEADER if ready else Role.CANDIDATE), (self.node_id if ready else None)
            case adapter.CANDIDATE:
                role, leader_id = Role.CANDIDATE, None
            case _:
                role, leader_id = Role.FOLLOWER, None if self._candidacy.leader_missed else self._known_leader()
        if term < self.term:
            raise InternalError(f"the term went back from {self.term} to {term}")
        if (role, term, leader_id) == (self.role, self.term, self.leader_id):
            return
        if self.role is Role.LEADER:
            self._proposals.end_all()
            self._reads.end_all()
        self.role, self.term, self.leader_id = role, term, leader_id
        self._changes.append(RoleChange(role, term, leader_id))
