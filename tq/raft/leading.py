"""A leader's view of the others: what was sent, what is known to be there, what they say.

Theory
- SyncObj decides what to send: it walks each member's cursor over the log. Here its appends become messages with a
  sequence number, until as much is unacknowledged as ``PEER_INFLIGHT_*`` allow; then the member is paused
  (SyncObj takes it for disconnected) until half of it is acknowledged.
- An acknowledgement is fed to SyncObj up to what is **synced here**: it counts the leader as having all. What is
  above waits for our sync. After each, the cursor is set anew, because SyncObj pulls it back and would send again.
- Heartbeats are empty appends at the cursor. They go out when nothing was sent for a heartbeat's time, or when a read
  waits, and COMMIT_TELL_MS after the commit index moved: under load the next append tells it before that, and two
  messages to each member instead of one were a third of what a lone request costs. A lost append makes the next
  of them be rejected.
- A rejection resets the cursor once: those that answer what was sent before the reset are ignored.
- A member that rejects what it has acknowledged, in answer to something sent after that was known, has lost it.
- **Reads**: a round of heartbeats begins after the read came; when a majority answered in this term, nobody else
  can have been committing in between.
- What members say counts at the time when they said it (check-quorum).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from tq import limits
from tq.errors import InternalError
from tq.raft.adapter import Core
from tq.raft.journal import Journal
from tq.raft.messages import Ack, Append, Lost, Message, Reject, SnapshotAck
from tq.raft.snapshot_sending import SnapshotSending
from tq.raft.snapshots import SnapshotId, SnapshotSource

_AWAY_HEARTBEATS = 10
_RESTARTS_MAX = 2

Send = Callable[[str, Message], None]


class Progress:
    """One member. ``sequence`` is of the last append sent, ``next_index`` behind the last entry sent."""

    __slots__ = (
        "commit_due_s",
        "commit_sent",
        "fed_index",
        "heard_s",
        "inflight",
        "inflight_bytes",
        "match_index",
        "match_sequence",
        "next_index",
        "paused",
        "reset_sequence",
        "round",
        "round_sent",
        "sending",
        "sent_s",
        "sequence",
    )  # fmt: skip

    def __init__(self, next_index: int, now_s: float) -> None:
        self.next_index = next_index
        self.match_index = 0
        self.match_sequence = self.reset_sequence = self.sequence = 0
        self.fed_index = 0
        self.inflight: deque[tuple[int, int]] = deque()  # last index, bytes
        self.inflight_bytes = 0
        self.paused = False
        self.sending: SnapshotSending | None = None
        self.heard_s = now_s
        self.sent_s = float("-inf")
        self.commit_sent = 0
        self.commit_due_s = float("inf")  # when a commit index that it does not know must be told
        self.round = 0
        self.round_sent = 0

    def acknowledge(self, index: int) -> None:
        while self.inflight and self.inflight[0][0] <= index:
            self.inflight_bytes -= self.inflight.popleft()[1]

    def forget_inflight(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0

    def is_full(self, part: int = 1) -> bool:
        """Whether as much is in flight as ``1 / part`` of what may be."""
        return (
            self.inflight_bytes * part >= limits.PEER_INFLIGHT_BYTES_MAX
            or len(self.inflight) * part >= limits.PEER_INFLIGHT_MESSAGES_MAX
        )


class Leading:
    """One term that this node leads, as SyncObj has it.

    Attributes:
        round: the last round of reads; 0 if there was none.
        source: the snapshot to send to who needs one, if there is one.
    """

    def __init__(
        self, core: Core, journal: Journal, peers: list[str], send: Send, source: SnapshotSource | None, *,
        term: int, heartbeat_s: float, now_s: float, part_bytes: int,
    ) -> None:  # fmt: skip
        self.term = term
        self.source = source
        self.round = 0
        self._core = core
        self._journal = journal
        self._send = send
        self._heartbeat_s = heartbeat_s
        self._part_bytes = part_bytes
        self._now_s = now_s
        self._wall_ms = 0
        self.progress = {peer: Progress(journal.last_index, now_s) for peer in peers}

    def set_time(self, now_s: float, wall_ms: int) -> None:
        """Before SyncObj sends, and before what is below."""
        self._now_s, self._wall_ms = now_s, wall_ms

    # ---- sending -----------------------------------------------------------------------------------

    def append(self, peer: str, prev_index: int, prev_term: int, count: int) -> bool:
        """SyncObj sends ``count`` entries behind ``prev_index``. Returns whether it may send more to ``peer``."""
        if count == 0:
            return True  # its own heartbeats; ours are below
        journal, progress = self._journal, self.progress[peer]
        first = prev_index + 1
        is_old = journal.in_memory(first) is None
        payloads = journal.payloads(first, count)
        entries = tuple((journal.term_at(first + at), payload) for at, payload in enumerate(payloads))
        size = sum(len(payload) for _, payload in entries)
        progress.next_index = prev_index + count + 1
        progress.inflight.append((progress.next_index - 1, size))
        progress.inflight_bytes += size
        self._send_append(peer, progress, prev_index, prev_term, entries)
        progress.paused = (
            is_old or progress.is_full()
        )  # what must be read goes a message at a time, or we would stand still
        return not progress.paused

    @property
    def lacks_entries(self) -> bool:
        """Whether there is something to send to a member that may be sent to."""
        last_index = self._journal.last_index
        return any(progress.next_index <= last_index and not progress.paused for progress in self.progress.values())

    def heartbeats(self, now_s: float) -> None:
        """Send those that are due."""
        commit_index = self._core.commit_index
        for peer, progress in self.progress.items():
            if commit_index > progress.commit_sent:
                progress.commit_due_s = min(progress.commit_due_s, now_s + limits.COMMIT_TELL_MS / 1000)
            if (
                now_s >= progress.sent_s + self._heartbeat_s
                or now_s >= progress.commit_due_s
                or self.round > progress.round_sent
            ):
                prev_index = max(progress.next_index - 1, self._journal.base_index)
                self._send_append(peer, progress, prev_index, self._journal.term_at(prev_index), ())

    def _send_append(
        self, peer: str, progress: Progress, prev_index: int, prev_term: int, entries: tuple[tuple[int, bytes], ...]
    ) -> None:
        progress.sequence += 1
        progress.sent_s = self._now_s
        progress.commit_sent = self._core.commit_index
        progress.commit_due_s = float("inf")
        progress.round_sent = self.round
        self._send(
            peer,
            Append(
                self.term, progress.sequence, self.round, self._wall_ms, prev_index, prev_term, progress.commit_sent,
                entries,
            ),
        )  # fmt: skip

    def wakes_at_s(self) -> float:
        """When the next heartbeat is due, as it is compared above."""
        return min(
            min(progress.sent_s + self._heartbeat_s, progress.commit_due_s) for progress in self.progress.values()
        )

    def set_peers(self, peers: list[str], now_s: float) -> None:
        """The voters are others now; SyncObj knows."""
        last_index = self._journal.last_index
        self.progress = {peer: self.progress.get(peer) or Progress(last_index, now_s) for peer in peers}

    # ---- what members answer -----------------------------------------------------------------------

    def acknowledged(self, peer: str, ack: Ack, now_s: float) -> bool:
        """Returns whether SyncObj has work of it: something to commit, or to send. What a majority had before is neither."""
        progress = self._heard(peer, ack, now_s)
        if ack.matched_index > self._journal.last_index:
            raise InternalError(
                f"{peer} acknowledges entry {ack.matched_index} in term {self.term}, but the log of its leader ends at"
                f" {self._journal.last_index}"
            )
        if ack.matched_index > progress.match_index:
            progress.match_index = ack.matched_index
            progress.match_sequence = progress.sequence
            progress.acknowledge(ack.matched_index)
            progress.next_index = max(progress.next_index, ack.matched_index + 1)
        is_news = self._feed(peer, progress)
        if progress.paused and not progress.is_full(2) and not self._needs_snapshot(progress):
            self._resume(peer, progress)
            return True
        return is_news

    def rejected(self, peer: str, reject: Reject, now_s: float) -> None:
        progress = self._heard(peer, reject, now_s)
        self._core.feed_sign_of_life(peer, now_s)
        if reject.sequence <= progress.reset_sequence:
            return
        if reject.sequence > progress.match_sequence and reject.prev_index <= progress.match_index:
            self._send(peer, Lost(self.term, progress.match_index))
            return
        progress.reset_sequence = progress.sequence
        progress.next_index = max(reject.matched_index, progress.match_index) + 1
        progress.forget_inflight()
        if self._needs_snapshot(progress):
            self._pause(peer, progress)
            return
        self._core.feed_cursor(peer, progress.next_index, now_s)
        if progress.paused:
            self._resume(peer, progress)

    def compacted(self) -> None:
        """The log begins further behind now."""
        for peer, progress in self.progress.items():
            if self._needs_snapshot(progress):
                self._pause(peer, progress)

    def synced(self) -> bool:
        """More is durable here: acknowledgements that waited for it count now. Returns whether there were any."""
        waited = [item for item in self.progress.items() if item[1].match_index > item[1].fed_index]
        for peer, progress in waited:
            self._feed(peer, progress)
        return bool(waited)

    def _heard(self, peer: str, answer: Ack | Reject, now_s: float) -> Progress:
        progress = self.progress[peer]
        progress.heard_s = now_s
        progress.round = max(progress.round, answer.round)
        return progress

    def _feed(self, peer: str, progress: Progress) -> bool:
        core = self._core
        durable_index = min(progress.match_index, self._journal.durable_index)
        if durable_index <= progress.fed_index:
            core.feed_sign_of_life(peer, progress.heard_s)
            return False
        progress.fed_index = durable_index
        core.feed_ack(peer, durable_index, progress.heard_s)
        if progress.next_index != durable_index + 1:
            core.feed_cursor(peer, progress.next_index, progress.heard_s)
        return durable_index > core.commit_index

    def _pause(self, peer: str, progress: Progress) -> None:
        progress.paused = True
        self._core.pause(peer)

    def _resume(self, peer: str, progress: Progress) -> None:
        progress.paused = False
        self._core.resume(peer)

    # ---- snapshots ---------------------------------------------------------------------------------

    def _needs_snapshot(self, progress: Progress) -> bool:
        return progress.next_index <= self._journal.base_index

    @property
    def wants_snapshot(self) -> bool:
        """Whether a member that is there needs one, and none that is good for it is offered."""
        return not self._is_good(self.source) and any(map(self._awaits_snapshot, self.progress.values()))

    def _is_good(self, source: SnapshotSource | None) -> bool:
        return source is not None and source.id.index >= self._journal.base_index

    def _awaits_snapshot(self, progress: Progress) -> bool:
        """It needs one and was heard lately: nothing is kept, and nothing made, for who is away."""
        return self._needs_snapshot(progress) and self._now_s - progress.heard_s < _AWAY_HEARTBEATS * self._heartbeat_s

    def hold_index(self, now_s: float) -> int | None:
        """The log must not be compacted above it now, or a member that is sent a snapshot needs another."""
        held = [
            progress.sending.source.id.index
            for progress in self.progress.values()
            if progress.sending is not None and now_s - progress.sending.began_s < limits.SNAPSHOT_HOLD_MS / 1000
        ]
        return min(held, default=None)

    def send_snapshots(self, now_s: float) -> None:
        """The parts that are due. Raises OSError."""
        for peer, progress in self.progress.items():
            sending = progress.sending
            if sending is not None and sending.restarts > _RESTARTS_MAX and sending.source is self.source:
                self.source = None  # it arrives damaged each time: another must be made
            if not self._awaits_snapshot(progress) or (sending is not None and sending.source is not self.source):
                sending = None
            source = self.source if self._is_good(self.source) else None
            if sending is None and source is not None and self._awaits_snapshot(progress):
                sending = SnapshotSending(source, self._journal.members.at(source.id.index), now_s)
            progress.sending = sending
            if sending is not None:
                part = sending.take(self.term, self._wall_ms, now_s, self._heartbeat_s, self._part_bytes)
                if part is not None:
                    self._send(peer, part)

    def snapshot_answered(self, peer: str, answer: SnapshotAck, now_s: float) -> None:
        progress = self.progress[peer]
        progress.heard_s = now_s
        if answer.done:
            self.acknowledged(peer, Ack(self.term, 0, 0, answer.wall_ms, answer.index), now_s)
            if progress.sending is not None and progress.sending.source.id.index <= answer.index:
                progress.sending = None
            if not self._needs_snapshot(progress) and progress.paused:
                self._core.feed_cursor(peer, progress.next_index, now_s)
                self._resume(peer, progress)
            return
        self._core.feed_sign_of_life(peer, now_s)
        if progress.sending is not None:
            snapshot_id = SnapshotId(answer.index, answer.snapshot_term, answer.size, answer.digest)
            progress.sending.answered(snapshot_id, answer.offset)

    def end(self) -> None:
        """Leadership is over: SyncObj may send to all again, when it has something to say."""
        for peer, progress in self.progress.items():
            if progress.paused:
                self._resume(peer, progress)

    def furthest(self, among: Collection[str] | None = None) -> str:
        """The member that has most of the log, of those that answered last."""
        return max(
            among or self.progress,
            key=lambda peer: (self.progress[peer].match_index, self.progress[peer].heard_s, peer),
        )

    # ---- reads -------------------------------------------------------------------------------------

    def confirmed_round(self) -> int:
        """The highest round that a majority has answered."""
        rounds = sorted((progress.round for progress in self.progress.values()), reverse=True)
        quorum = (len(rounds) + 1) // 2 + 1
        return rounds[quorum - 2] if quorum >= 2 else self.round
