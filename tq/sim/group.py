"""A group of nodes in one world: virtual clocks, simulated disks, a simulated network, and checkers that watch.

Each member has a disk that outlives its processes. A process is a ``Node`` with what a broker keeps beside it: a state
machine (the list of what it was given) that is checkpointed now and then. Time jumps from event to event. The same
seed gives the same run.

The checkers look after every turn of every node: one leader a term, log matching, leader completeness, what is
committed is synced on a majority, each proposal ends once and as told, reads are linearizable.
"""

from __future__ import annotations

from hashlib import sha256

from tq import cbor, limits
from tq.errors import Backpressure, InvalidRequest, NotLeader, TqError
from tq.raft.members import Admission, Voters
from tq.raft.node import Entry, Node
from tq.raft.snapshots import SnapshotId, new_digest, pending_snapshot
from tq.raft.sync import InlineSync, SyncStrategy
from tq.sim.checkers.breach import Breach
from tq.sim.checkers.raft_committed import RaftCommitted
from tq.sim.checkers.raft_leaders import RaftLeaders
from tq.sim.checkers.raft_logs import RaftLogs
from tq.sim.checkers.raft_promises import RaftPromises
from tq.sim.clock import VirtualClock
from tq.sim.disk import PowerLoss, SimDisk
from tq.sim.late_sync import LateSync
from tq.sim.network import SimNetwork
from tq.sim.platter import Platter
from tq.sim.random import SeededRandom
from tq.sim.time_loop import TimeLoop

ELECTION_MS = (200, 400)
HEARTBEAT_MS = 50
TURNS_AT_ONCE = 50  # a node that always has something to do would stop the time
TAKE_BYTES = 4096
PART_BYTES = 2048  # of a snapshot


_STAMP_BYTES = 2 * limits.ID_BYTES + 8  # on a message: the sender's disk, what admitted it, the receiver's disk


def _first(name: str) -> bytes:
    """The incarnation of the first disk of that name."""
    return Member(name, SeededRandom(0)).incarnation


class StateSource:
    """The state of a member as a snapshot: what it has applied."""

    def __init__(self, applied: list[Entry]) -> None:
        self._data = cbor.dumps([[entry.index, entry.term, entry.data] for entry in applied])
        digest = new_digest()
        digest.update(self._data)
        self.id = SnapshotId(applied[-1].index, applied[-1].term, len(self._data), digest.digest())

    def read(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]


def state_of(data: bytes) -> list[Entry]:
    return [Entry(index, term, payload) for index, term, payload in cbor.loads_entry(data)]


class Member:
    """
    Attributes:
        node: the process, or None while it is down.
        applied: what the state machine was given, from index 1 on.
        checkpointed: how many of them survive a crash.
        paused: stopped as by SIGSTOP: time passes, nothing is done, messages wait.
        rate_permille: how fast its clock runs.
        sync_ms: bounds of the time a sync takes; None: it runs inline and takes none.
        failures: what it stopped for.
        address: where messages for it go: its name, or another while an older disk of that name runs beside it.
        label: its name, and which disk of that name it has.
        incarnation: of its disk. admitted_index: of the entry that admits it; None: none is known yet.
        told: the incarnations of all, as it knows them without a log.
    """

    def __init__(self, name: str, random: SeededRandom, generation: int = 0) -> None:
        self.name = self.address = name
        self.label = name + "'" * generation
        self.generation = generation
        self.incarnation = sha256(self.label.encode()).digest()[: limits.ID_BYTES]
        self.admitted_index: int | None = 0
        self.told: dict[str, bytes] = {}
        self.random = random
        self.disk = SimDisk()
        self.clock = VirtualClock()
        self.rate_permille = 1000
        self._passed = 0  # of its clock, in millionths of a second
        self.node: Node | None = None
        self.lives = 0
        self.applied: list[Entry] = []
        self.checkpointed = 0
        self.paused = False
        self.mailbox: list[tuple[str, bytes | None]] = []  # None: the process of the sender ended
        self.sync_ms: tuple[int, int] | None = None
        self.late: LateSync | None = None
        self.sync_due_ms: int | None = None
        self.wake_ms = 0
        self.platter = Platter()
        self.failures: list[TqError] = []

    def pass_time(self, true_ms: int) -> None:
        before_ms, self._passed = self._passed // 1000, self._passed + true_ms * self.rate_permille
        self.clock.advance_ms(self._passed // 1000 - before_ms)

    def take_state(self, state: list[Entry]) -> None:
        """The store holds this and nothing else, durably."""
        self.applied, self.checkpointed = state, len(state)

    @property
    def life(self) -> str:
        return f"{self.label}/{self.lives}"


class SimGroup(TimeLoop):
    """
    Args:
        size: voters.
        segment_bytes: of the journals.
        expected: errors that may stop a node; any other ends the run.

    Attributes:
        keep_bytes: of compacted log that nodes keep, when they are started next.
        installations: snapshots installed while running.
        old: members whose disk was replaced; their processes may be started again all the same.
    """

    def __init__(
        self, seed: int, size: int, *, segment_bytes: int = 4096, expected: tuple[type[TqError], ...] = ()
    ) -> None:
        super().__init__()
        self.seed = seed
        self.random = SeededRandom(seed)
        self._ends: list[tuple[int, str, str]] = []  # when, who is told, whose process ended
        self.network = SimNetwork(self.random.fork())
        self.members = {f"n{number}": Member(f"n{number}", self.random.fork()) for number in range(1, size + 1)}
        self.leaders = RaftLeaders()
        self.logs = RaftLogs()
        self.committed = RaftCommitted()
        self.promises = RaftPromises()
        self.trusted = True  # disks are honest: what is synced is there
        self.keep_bytes = 0
        self.old: list[Member] = []
        self._founders = list(self.members)
        for member in self.members.values():
            member.told = {other.name: other.incarnation for other in self.members.values()}
        self.installations = 0
        self._segment_bytes = segment_bytes
        self._expected = expected

    def start_all(self) -> None:
        for name in self.members:
            self.start(name)

    # ---- processes ----------------------------------------------------------------------------------

    def start(self, name: str) -> bool:
        """Whether it started: the power may go meanwhile."""
        return self._start_member(self.members[name])

    def _start_member(self, member: Member) -> bool:
        assert member.node is None
        if member.admitted_index is None:
            return False
        try:
            self._start(member)
        except PowerLoss:
            member.disk.power_loss(self.random)
            return False
        return True

    def _start(self, member: Member) -> None:
        member.lives += 1
        member.applied = member.applied[: member.checkpointed]
        member.mailbox = []
        pending = pending_snapshot(member.disk)
        if pending is not None and member.checkpointed < pending.id.index:
            member.take_state(state_of(pending.read(0, pending.id.size)))
        member.late = None if member.sync_ms is None else LateSync()
        member.sync_due_ms = None
        sync: SyncStrategy = member.late or InlineSync(member.clock)
        joins = member.name not in self._founders or member.generation > 0
        peers = list(self.members) if joins else self._founders
        member.node = Node(
            node_id=member.name, peers=[other for other in peers if other != member.name], joins=joins, disk=member.disk,
            clock=member.clock, random=member.random.fork(), sync=sync, applied_index=member.checkpointed,
            election_ms=ELECTION_MS, heartbeat_ms=HEARTBEAT_MS, segment_bytes=self._segment_bytes,
            tail_bytes_max=2_000, keep_bytes=self.keep_bytes, part_bytes=PART_BYTES, founders=member.told,
        )  # fmt: skip
        self.logs.forget(member.label)
        member.wake_ms = self.now_ms

    def join(self, name: str) -> None:
        """A machine with an empty disk is started; it votes when the group has added it."""
        member = self.members[name] = Member(name, self.random.fork())
        member.told = {other.name: other.incarnation for other in self.members.values()}
        self.start(name)

    # ---- disks that are lost, and replaced ------------------------------------------------------------

    def lose_disk(self, name: str) -> None:
        """The machine gets an empty disk. It starts again when the group has admitted that."""
        lost = self.members[name]
        if lost.node is not None:
            self.kill(name)
        lost.address = f"{lost.label}~"
        self.old.append(lost)
        member = self.members[name] = Member(name, self.random.fork(), lost.generation + 1)
        member.rate_permille, member.sync_ms = lost.rate_permille, lost.sync_ms
        member.admitted_index = None

    @property
    def unadmitted(self) -> list[str]:
        """Whose disk is new and not admitted yet, as far as they were told."""
        return [name for name, member in self.members.items() if member.admitted_index is None]

    def admit(self, name: str) -> bool:
        """Ask whoever leads to admit the disk of ``name``, again if need be. Whether that is done, and ``name`` started."""
        member, leader = self.members[name], self.leader()
        if leader is None or leader == name or self.members[leader].paused:
            return False
        node = self.node(leader)
        seat = node.admitted.get(name)
        if seat is None or seat.incarnation != member.incarnation:
            try:
                term, index = node.replace_voter(name, member.incarnation)
            except (NotLeader, Backpressure, InvalidRequest):
                return False
            self.promises.proposed(self.members[leader].life, term, index, b"")
            self.members[leader].wake_ms = self.now_ms
            return False
        if node.commit_index < seat.index:
            return False
        member.admitted_index = seat.index
        member.told = {other: known.incarnation for other, known in node.admitted.items()}
        self.start(name)
        return True

    def start_old(self, member: Member) -> None:
        """The lost disk comes back, on another machine perhaps, beside the one that took its place."""
        self._start_member(member)

    def stop_old(self, member: Member) -> None:
        self._kill_member(member)

    def _everybody(self) -> list[Member]:
        return [*self.members.values(), *self.old]

    def _send(self, sender: Member, to: str, message: bytes) -> None:
        """To a process of that name that the sender takes for it; each knows by the handshake whom it speaks to."""
        node = sender.node
        assert node is not None
        targets = [member for member in self._everybody() if member.name == to and self._hears(sender, member)]
        running = [member for member in targets if member.node is not None] or targets
        if running:
            target = running[self.random.below(len(running))] if len(running) > 1 else running[0]
            assert sender.admitted_index is not None
            stamp = sender.incarnation + sender.admitted_index.to_bytes(8) + target.incarnation
            self.network.send(self.now_ms, sender.address, target.address, stamp + message)

    def _hears(self, member: Member, peer: Member) -> bool:
        if peer.admitted_index is None or member.node is None:
            return False
        return member.node.refusal(peer.name, peer.incarnation, peer.admitted_index) is None

    def _deliver(self, to: str, sender: str, message: bytes) -> None:
        by_address = {member.address: member for member in self._everybody()}
        by_incarnation = {member.incarnation: member for member in by_address.values()}
        member, source = by_address.get(to), by_incarnation[message[: limits.ID_BYTES]]
        if (
            member is not None
            and member.node is not None
            and message[_STAMP_BYTES - limits.ID_BYTES : _STAMP_BYTES] == member.incarnation
        ):
            member.mailbox.append((source.name, message))

    def kill(self, name: str) -> None:
        """The process dies; the machine and what was written live on. The machine tells whom it reaches."""
        member = self.members[name]
        self._kill_member(member)
        for other in self.live():
            if not self.network.is_cut(member.address, other.address) and not self.network.is_cut(
                other.address, member.address
            ):
                self.tell_gone(other.name, name, self.network.delay_ms[1] + 1 + self.random.below(3))

    def tell_gone(self, to: str, peer: str, in_ms: int = 0) -> None:
        """Have ``to`` believe that the process of ``peer`` ended, be it true or not."""
        self._ends.append((self.now_ms + in_ms, to, peer))

    def _kill_member(self, member: Member) -> None:
        self._end(member)
        member.disk.crash()

    def power_loss(self, name: str) -> None:
        """The machine dies: what was not synced may be gone."""
        self._lose_power(self.members[name])

    def _lose_power(self, member: Member) -> None:
        self._end(member)
        member.disk.power_loss(self.random)

    def _end(self, member: Member) -> None:
        if member.node is not None:
            member.platter.note(member.node.journal)
        member.node = None
        member.paused = False
        self.promises.died(member.life)

    def live(self) -> list[Member]:
        return [member for member in self.members.values() if member.node is not None]

    def node(self, name: str) -> Node:
        node = self.members[name].node
        assert node is not None, f"{name} is down"
        return node

    # ---- what clients do ----------------------------------------------------------------------------

    def leader(self) -> str | None:
        """Who leads in the highest term, of those that run."""
        leading = [member for member in self.live() if member.node is not None and member.node.is_leader]
        return max(leading, key=lambda member: member.node.term if member.node else 0).name if leading else None

    def propose(self, name: str, data: bytes) -> tuple[int, int]:
        """Raises NotLeader, Backpressure."""
        term, index = self.node(name).propose(data)
        self.promises.proposed(self.members[name].life, term, index, data)
        self.members[name].wake_ms = self.now_ms
        return term, index

    def change_voters(self, name: str, voters: list[str]) -> tuple[int, int]:
        """Raises NotLeader, Backpressure, InvalidRequest."""
        added = [voter for voter in voters if voter not in self.node(name).voters]
        incarnation = self.members[added[0]].incarnation if added and added[0] in self.members else None
        term, index = self.node(name).change_voters(voters, incarnation)
        self.promises.proposed(self.members[name].life, term, index, b"")  # lists are handed out as empty entries
        self.members[name].wake_ms = self.now_ms
        return term, index

    def read_index(self, name: str) -> int:
        """Raises NotLeader."""
        ticket = self.node(name).read_index()
        self.promises.read_began(self.members[name].life, ticket, self.committed.last_index)
        self.members[name].wake_ms = self.now_ms
        return ticket

    # ---- time -----------------------------------------------------------------------------------------

    def elect(self, within_ms: int = 5_000) -> str:
        self.run_until(lambda: self.leader() is not None, within_ms, "a leader")
        leader = self.leader()
        assert leader is not None
        return leader

    def commit(self, data: bytes, within_ms: int = 5_000) -> int:
        """Have whoever leads commit ``data``; tries again when it is lost. Returns its index."""
        end_ms = self.now_ms + within_ms
        while True:
            leader = self.elect(within_ms)
            try:
                term, index = self.propose(leader, data)
            except NotLeader:
                continue
            except Backpressure:
                self.run(10)
                continue
            place = (term, index, data)
            self.run_until(
                lambda place=place, leader=leader: self._is_committed(*place) or self._gave_up(leader, place[0]),  # type: ignore[misc]
                max(1, end_ms - self.now_ms), f"{data!r} committed",
            )  # fmt: skip
            if self._is_committed(term, index, data):
                return index

    def _is_committed(self, term: int, index: int, data: bytes) -> bool:
        entry = self.committed.entries.get(index)
        return entry is not None and (entry.term, entry.data) == (term, data)

    def _gave_up(self, leader: str, term: int) -> bool:
        node = self.members[leader].node
        return node is None or not node.is_leader or node.term != term

    def _due_ms(self) -> int | None:
        running = [member for member in self._everybody() if member.node is not None and not member.paused]
        due = [member.wake_ms for member in running]
        due += [member.sync_due_ms for member in running if member.sync_due_ms is not None]
        arrival = self.network.next_due_ms()
        if arrival is not None:
            due.append(arrival)
        due += [at_ms for at_ms, _to, _peer in self._ends]
        return min(due, default=None)

    def _pass_time(self, for_ms: int) -> None:
        for member in self._everybody():
            member.pass_time(for_ms)

    def step(self) -> None:
        """Do all that is due now."""
        for to, sender, message in self.network.take_due(self.now_ms):
            self._deliver(to, sender, message)
        ends, self._ends = self._ends, []
        for end in ends:
            at_ms, to, peer = end
            if at_ms > self.now_ms:
                self._ends.append(end)
            elif self.members[to].node is not None:
                self.members[to].mailbox.append((peer, None))
        for member in self._everybody():
            if member.node is not None and not member.paused:
                self._serve(member)

    def _serve(self, member: Member) -> None:
        try:
            is_synced = member.sync_due_ms is not None and member.sync_due_ms <= self.now_ms
            if is_synced and member.late is not None:
                member.sync_due_ms = None
                member.late.run()
            if member.mailbox or is_synced or member.wake_ms <= self.now_ms:
                self._turn(member)
        except PowerLoss:
            self._lose_power(member)
        except self._expected as error:
            member.failures.append(error)
            self._kill_member(member)

    def _turn(self, member: Member) -> None:
        node = member.node
        assert node is not None
        mailbox, member.mailbox = member.mailbox, []
        for sender, message in mailbox:
            if message is None:
                node.peer_gone(sender)
            else:
                self._receive(node, sender, message)
            self._watch(member, node)
        node.send = lambda to, message: self._send(member, to, message)
        for _ in range(TURNS_AT_ONCE):
            node.turn()
            self._watch(member, node)
            if node.wait_ms() > 0:
                break
        if member.late is not None and member.late.in_flight and member.sync_due_ms is None:
            assert member.sync_ms is not None
            low, high = member.sync_ms
            member.sync_due_ms = self.now_ms + low + member.random.below(high - low + 1)
        member.wake_ms = self.now_ms + max(1, node.wait_ms())

    def _receive(self, node: Node, sender: str, message: bytes) -> None:
        """Unless the handshake, or what came into force after it, ends the connection."""
        incarnation, admitted_index = message[: limits.ID_BYTES], int.from_bytes(message[limits.ID_BYTES :][:8])
        if node.refusal(sender, incarnation, admitted_index) is None:
            node.receive(sender, message[_STAMP_BYTES:], incarnation)

    # ---- the watch ------------------------------------------------------------------------------------

    def _watch(self, member: Member, node: Node) -> None:
        journal = node.journal
        self.logs.look(member.label, journal)
        member.platter.note(journal)
        if node.leads_term and self.leaders.leads(member.label, node.leads_term):
            self.committed.new_leader(member.label, node.leads_term, journal)
        if node.installation is not None:
            self._install(member, node)
        if node.wants_snapshot and member.applied:
            node.offer_snapshot(StateSource(member.applied))
        while entries := node.take_committed(TAKE_BYTES):
            for entry in entries:
                if entry.index != len(member.applied) + 1:
                    raise Breach(f"{member.life} was given {entry}, but it has applied {len(member.applied)}")
                member.applied.append(entry)
                if self.committed.handed_out(member.label, entry) and self.trusted and entry.index > 1:
                    self._check_majority(node, entry)
        for outcome in node.take_outcomes():
            self.promises.ended(member.life, outcome)
        for end in node.take_reads():
            self.promises.read_ended(member.life, end)
        node.take_changes()

    def _install(self, member: Member, node: Node) -> None:
        installation = node.installation
        assert installation is not None
        file = member.disk.open(installation.path)
        state = state_of(file.read(0, file.size()))
        if state[-1].index != installation.index:
            raise Breach(f"{member.life}: a snapshot of {state[-1].index} is called one of {installation.index}")
        for entry in state:
            self.committed.handed_out(member.label, entry)
        member.take_state(state)
        self.installations += 1
        self.logs.forget(member.label)
        node.installed()

    def _check_majority(self, node: Node, entry: Entry) -> None:
        """Of the voters now, or of those before, in case that the last change came after the entry was committed."""
        listed = node.journal.members.current
        before = None if listed is None else node.journal.members.at(listed.index - 1)
        formed = Voters(0, tuple(self._founders), {name: Admission(_first(name), 0) for name in self._founders})
        lists = [formed if listed is None else listed, formed if before is None else before]
        holders, size = max(
            ((self._holders_of(entry, voters), len(voters.ids)) for voters in lists),
            key=lambda found: len(found[0]) / found[1],
        )
        self.committed.on_majority(entry, holders, size)

    def _holders_of(self, entry: Entry, voters: Voters) -> list[str]:
        holders = {member.name: member for member in self.members.values() if member.platter.has(entry)}
        counted = {member.incarnation for member in self._everybody() if member.platter.has(entry)}
        return [
            id
            for id in voters.ids
            if (voters.admitted[id].incarnation in counted if voters.admitted else id in holders)
        ]

    def _holders(self, entry: Entry) -> list[str]:
        return [name for name, member in self.members.items() if member.platter.has(entry)]

    def checkpoint(self, name: str, *, compact: bool = False) -> None:
        """The state machine of ``name`` is durable up to what it has applied; its log may then be compacted."""
        member = self.members[name]
        member.checkpointed = len(member.applied)
        if compact and member.node is not None and member.node.installation is None:
            try:
                member.node.compact(member.checkpointed)
            except PowerLoss:
                self.power_loss(name)

    # ---- the end --------------------------------------------------------------------------------------

    def heal(self) -> None:
        """All that ails the world is over: every member runs, and reaches every other."""
        self.network.heal()
        self.network.loss_permille = self.network.duplicate_permille = 0
        self.network.delay_ms = (1, 3)
        for member in self.old:
            member.paused = False
            member.disk.stop_at(None)
        for member in self.members.values():
            member.paused = False
            member.disk.stop_at(None)
            if member.node is None:
                self.start(member.name)

    def finish(self, within_ms: int = 20_000) -> None:
        """Heal, see that the group goes on and that all come to hold the same, and judge what was told."""
        self.heal()
        for name in self.unadmitted:
            for member in self.old:
                self._kill_member(member)  # one that is not replaced yet may even lead; an operator stops it first
            self.run_until(lambda name=name: self.admit(name), within_ms, f"{name} admitted")  # type: ignore[misc]
        index = self.commit(b"the last one", within_ms)
        leader = self.leader()
        assert leader is not None
        voters = [self.members[name] for name in self.node(leader).voters]
        self.run_until(lambda: all(len(voter.applied) >= index for voter in voters), within_ms, "all have applied all")
        logs = {tuple(member.applied[:index]) for member in voters}
        if len(logs) != 1:
            raise Breach("the members have applied different entries")
        leader = self.leader()
        self.promises.check(self.committed.entries, {self.members[leader].life} if leader is not None else set())
