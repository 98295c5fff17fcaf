"""Bugs to plant: each takes away one thing that keeps the log safe, or its members at peace."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """``old`` stands in the file once."""

    path: str
    old: str
    new: str


class Mutant(NamedTuple):
    name: str
    changes: tuple[Change, ...]


def mutant(name: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, tuple(Change(f"tq/raft/{path}", old, new) for path, old, new in changes))


_TERM_CHECK = "                    self._out.append((peer, Stale(core.term)))\n            return False\n"


def _without_term_check(kind: str, *more: tuple[str, str, str]) -> Mutant:
    let_by = _TERM_CHECK.replace("return False", f"return isinstance(message, {kind})")
    return mutant(f"a {kind} of a lower term counts", ("guard.py", _TERM_CHECK, let_by), *more)


_OLD_ANSWER = "self._core.role != adapter.LEADER or self._leading is None or self._leading.term != message.term:"
_ANY_ANSWER = "self._core.role != adapter.LEADER or self._leading is None:"

MUTANTS = (
    # ---- terms ------------------------------------------------------------------------------------------
    _without_term_check("Append"),
    _without_term_check("Ack", ("guard.py", _OLD_ANSWER, _ANY_ANSWER)),
    _without_term_check("Reject", ("guard.py", _OLD_ANSWER, _ANY_ANSWER)),
    _without_term_check("SnapshotAck", ("guard.py", _OLD_ANSWER, _ANY_ANSWER)),
    _without_term_check("SnapshotPart"),
    _without_term_check("Vote"),
    mutant("a lower term is not answered", ("guard.py", _TERM_CHECK, "                    pass\n            return False\n")),
    mutant("a higher term makes nobody follow", ("guard.py", "        if message.term > core.term:", "        if message.term > core.term + 99:")),
    mutant("a prevote makes others follow in its term", ("guard.py", "                case PreVote():\n                    return True\n", "")),
    mutant("a prevote of a lower term does not count", ("guard.py", "                case PreVoteReply(granted=True):\n                    return True", "                case PreVoteReply(granted=True):\n                    return False")),
    # ---- elections --------------------------------------------------------------------------------------
    mutant("no PreVote", ("guard.py", "            self._candidacy.ask_prevotes(now_s)\n", "            self._candidacy.campaign(now_s, transfer=False)\n")),
    mutant("no stickiness", ("elections.py", "return now_s - self._heard_s < self._election_ms[0] / 1000", "return False")),
    mutant("a leader is not sticky", ("candidacy.py", "return self._core().role == adapter.LEADER or self._elections", "return self._elections")),
    mutant("votes are counted, not collected", ("elections.py", "if self._votes is None or peer in self._votes:", "if self._votes is None:")),
    mutant("a minority of prevotes is enough", ("elections.py", "if len(self._prevotes) < self._quorum:", "if len(self._prevotes) < self._quorum - 1:")),
    mutant("prevotes of earlier rounds count", ("elections.py", "if self._prevotes is None or round_ != self.round:", "if self._prevotes is None:")),
    mutant(
        "a late prevote makes a leader campaign",
        ("candidacy.py", "if not message.granted or core.role == adapter.LEADER:", "if not message.granted:"),
        ("elections.py", "if self._prevotes is None or round_ != self.round:", "self._prevotes = self._prevotes or set('12')\n        if round_ != self.round:"),
    ),
    mutant("prevotes go to any log", ("candidacy.py", "not self.is_sticky(now_s) and self._is_current(message)", "not self.is_sticky(now_s)")),
    mutant("a vote leaves before it is synced", ("elections.py", "if self.vote_is_synced(term, peer if isinstance(message, Vote) else self._own_id)", "if isinstance(message, Vote) or self.vote_is_synced(term, self._own_id)")),
    mutant("vote requests leave before the own vote is synced", ("elections.py", "if self.vote_is_synced(term, peer if isinstance(message, Vote) else self._own_id)", "if not isinstance(message, Vote) or self.vote_is_synced(term, peer)")),
    mutant("anybody can make a node campaign", ("candidacy.py", "if core.role == adapter.FOLLOWER and self._known_leader() == peer:", "if core.role == adapter.FOLLOWER:")),
    mutant("a transfer does not pass stickiness", ("candidacy.py", "            case TimeoutNow():\n                if core.role == adapter.FOLLOWER and self._known_leader() == peer:\n                    self.campaign(now_s, transfer=True)", "            case TimeoutNow():\n                if core.role == adapter.FOLLOWER and self._known_leader() == peer:\n                    self.campaign(now_s, transfer=False)")),
    mutant("the end of any process is that of the leader", ("guard.py", "if self._core.role == adapter.FOLLOWER and self._known_leader() == peer:\n            self._candidacy", "if self._core.role == adapter.FOLLOWER:\n            self._candidacy")),
    mutant("who lost the leader's process still protects it", ("elections.py", "        self._is_gone = True\n        self.forget_leader()\n", "        self._is_gone = True\n")),
    mutant("those left ask all at once", ("elections.py", " + place * slot_s", "")),
    mutant("no check-quorum", ("guard.py", "self._fallback_s = election_ms[1] / 1000", "self._fallback_s = election_ms[1]")),
    # ---- a follower ---------------------------------------------------------------------------------------
    mutant("acknowledged before it is synced", ("following.py", "return min(self.matched_index, journal.durable_index) if journal", "return self.matched_index if journal")),
    mutant("acknowledged before the term is synced", ("following.py", " if journal.durable_term >= self.term else 0", "")),
    mutant("an append always truncates", ("following.py", "if number >= journal.base_index and journal.term_at(number) != term:", "if number > max(journal.base_index, self.matched_index) or journal.term_at(number) != term:")),
    mutant("a heartbeat truncates", ("following.py", "at <= journal.last_index and at <= message.prev_index + len(message.entries):", "at <= journal.last_index and at > self.matched_index:")),
    mutant("the term of the entry before is not compared", ("following.py", "or journal.term_at(prev_index) == message.prev_term:", "or prev_index <= journal.last_index:")),
    mutant("committed is what the leader names", ("guard.py", "min(message.commit_index, following.matched_index)", "min(message.commit_index, self._journal.last_index)")),
    mutant("matched begins at the end of the log", ("following.py", "self.matched_index = commit_index\n", "self.matched_index = journal.last_index\n")),
    mutant("a rejection names the end of the log", ("following.py", "message.prev_index, self.matched_index\n", "message.prev_index, journal.last_index\n")),
    mutant("a conflict with what was matched is overwritten", ("following.py", "                if number <= self.matched_index:\n", "                if number <= 1:\n"), ("following.py", "        if prev_index <= self.matched_index:\n", "        if prev_index <= 1:\n")),
    mutant("entries of any type are taken", ("messages.py", " or payload[0] != ENTRY_FIRST_BYTE:", ":")),
    mutant("two leaders of a term are followed in turn", ("guard.py", "        elif following.leader_id != peer:\n", "        elif following.leader_id == '':\n")),
    # ---- a leader -----------------------------------------------------------------------------------------
    mutant("a leader of several counts what it has not synced", ("leading.py", "durable_index = min(progress.match_index, self._journal.durable_index)", "durable_index = progress.match_index")),
    mutant("a leader alone counts what it has not synced", ("guard.py", "return not self._alone or (not self._journal.needs_sync and not self._journal.syncing)", "return True"), ("guard.py", "committed = min(core.commit_index, journal.durable_index)", "committed = core.commit_index")),
    mutant("handed out before it is synced here", ("guard.py", "committed = min(core.commit_index, journal.durable_index)", "committed = core.commit_index")),
    mutant("a leader is told before its first entry is committed", ("guard.py", "ready = journal.term_at(self.committed_index) == term", "ready = True")),
    mutant("proposals hang when leadership goes", ("guard.py", "            self._proposals.end_all()\n", "")),
    mutant("what is lost is called unknown, and the reverse", ("proposals.py", "ProposalEnd.UNKNOWN if kept else ProposalEnd.LOST", "ProposalEnd.LOST if kept else ProposalEnd.UNKNOWN")),
    mutant("what is under way is sent again after each answer", ("leading.py", "        if progress.next_index != durable_index + 1:\n            core.feed_cursor(peer, progress.next_index, progress.heard_s)\n", "")),
    mutant("every rejection resets the cursor", ("leading.py", "        if reject.sequence <= progress.reset_sequence:\n            return\n", "")),
    mutant("a silent member is flooded", ("leading.py", "            is_old or progress.is_full()", "            False")),
    mutant("a member that lost data is not told", ("leading.py", "reject.sequence > progress.match_sequence and reject.prev_index <= progress.match_index:", "reject.sequence < 0:")),
    mutant("an overtaken rejection accuses its sender", ("leading.py", "if reject.sequence > progress.match_sequence and reject", "if reject")),
    # ---- reads --------------------------------------------------------------------------------------------
    mutant("a read waits for nobody", ("reads.py", "if round_ <= confirmed_round:", "if True:")),
    mutant("a read waits for one answer", ("leading.py", "return rounds[quorum - 2]", "return rounds[0]")),
    mutant("a read takes a round under way", ("guard.py", "        self._leading.round += 1\n        self._tick_wanted = True\n        return self._reads.add(self.committed_index, self._leading.round,", "        self._leading.round = max(1, self._leading.round)\n        self._tick_wanted = True\n        return self._reads.add(self.committed_index, self._leading.round,")),
    # ---- journal and recovery -----------------------------------------------------------------------------
    mutant("the stored commit index is ahead", ("recovery.py", "max(scans[0].header.base_index,", "max(scans[-1].header.base_index,")),
    mutant("entries are written before their term", ("journal.py", "        if self.term_vote is not None:\n            self._terms.write(*self.term_vote)\n        segment = self.segment\n        if segment is None:\n            return\n", "        segment = self.segment\n        if segment is None:\n            if self.term_vote is not None:\n                self._terms.write(*self.term_vote)\n            return\n"), ("journal.py", "        segment.file.sync()\n\n\n@attrs.frozen\nclass JournalStatistics", "        segment.file.sync()\n        if self.term_vote is not None:\n            self._terms.write(*self.term_vote)\n\n\n@attrs.frozen\nclass JournalStatistics")),
    mutant("a sync vouches for what came after it began", ("journal.py", "self.durable_index = job.upto", "self.durable_index = self.last_index")),
    mutant("a cut leaves the durable index", ("journal.py", "        self.durable_index = min(self.durable_index, index - 1)\n", "")),
    mutant("the journal does not sync", ("journal.py", "        segment.file.append(self.data)\n        segment.file.sync()\n", "        segment.file.append(self.data)\n")),
    # ---- snapshots ----------------------------------------------------------------------------------------
    mutant("a snapshot's digest is not compared", ("snapshots.py", "is_good = self._digest.digest() == snapshot_id.digest", "is_good = True")),
    mutant("a rotten snapshot is installed at a start", ("snapshots.py", "        if not source.is_whole():\n", "        if source is None:\n")),
    mutant("an installation that was cut short is not finished", ("recovery.py", "        if snapshot is not None:\n            _begin_behind(", "        if snapshot == (0, 0):\n            _begin_behind(")),
    mutant("the mark goes before the store has the snapshot", ("node.py", "        if self.installation is not None or FIRST_BASE_INDEX", "        if self.installation is not None:\n            self.installed()\n        if self.installation is not None or FIRST_BASE_INDEX")),
    mutant("a snapshot replaces what is here already", ("snapshot_receiving.py", "if following.has_entry(part.index, part.snapshot_term):", "if part.index <= following.matched_index:")),
    mutant("a snapshot is compared by index alone", ("following.py", "if index > journal.last_index or journal.term_at(index) != term:", "if index > journal.last_index:")),
    mutant("a snapshot that is not synced is acknowledged", ("snapshot_receiving.py", "is_durable = journal.durable_index >= part.index and journal.durable_term >= part.term", "is_durable = True")),
    mutant("every answer sends a part of a snapshot", ("snapshot_sending.py", "snapshot_id == self.source.id and offset != self._offset and", "snapshot_id == self.source.id and")),
    # ---- transfer -----------------------------------------------------------------------------------------
    mutant("proposals go on while leadership is handed over", ("guard.py", "        self._transfer.check_open()\n        return self._proposals.add(", "        return self._proposals.add(")),
    mutant("a transfer never ends", ("transfer.py", "        if now_s >= self._ends_s:\n", "        if now_s >= self._ends_s + 1e9:\n")),
    # ---- who votes ----------------------------------------------------------------------------------------
    mutant("a change of voters counts when it is committed", ("guard.py", "        if not self._take_list():\n            return\n", "        listed = self._journal.members.current\n        if (listed is not None and listed.index > self.committed_index) or not self._take_list():\n            return\n"), ("guard.py", "            self._proposals.end_committed(committed)\n", "            self._proposals.end_committed(committed)\n            self._adopt_voters()\n")),
    mutant("two changes of voters at once", ("voting.py", "if waits or self.listed_index > committed_index or self.joining:", "if waits and committed_index == 0:")),
    mutant("more than one voter changes at once", ("voting.py", "if len(set(wanted) ^ set(self.voters)) != 1 or not all(wanted):", "if not all(wanted):")),
    mutant("a cut leaves the list of voters", ("journal.py", "        self.members.cut(index)\n", "")),
    mutant("a compacted list of voters is forgotten", ("members.py", "        if voters is not None and voters != self._stored:\n", "        if voters is not None and voters == self._stored:\n")),
    mutant("a snapshot brings no list of voters", ("snapshot_receiving.py", "        if part.voters:\n", "        if part.voters == b'none':\n")),
    mutant("a joiner campaigns", ("voting.py", "return self._node_id in self.voters and not self.removed", "return not self.removed")),
    mutant("who is removed goes on campaigning", ("voting.py", "return self._node_id in self.voters and not self.removed", "return self._node_id in self.voters")),
    mutant("who is no voter is counted", ("guard.py", "        if isinstance(message, Ack | Reject | SnapshotAck | Vote | PreVoteReply) and not self._voting.counts(\n", "        if peer == '' and not self._voting.counts(\n")),
    mutant("quorums stay what they were", ("guard.py", "        self._elections.set_voters(len(self.voters), self._now_s)\n\n    def _take_list", "\n    def _take_list")),
    # ---- a name with another data directory -----------------------------------------------------------------
    mutant("the new directory votes with the list that admits it", ("voting.py", "        left = [voter for voter in self.voters if voter != name]\n", "        left = list(self.voters)\n"), ("guard.py", "        self._core.change_voters(payload, add=added, remove=gone)\n", "        if added or gone:\n            self._core.change_voters(payload, add=added, remove=gone)\n        else:\n            self._core.queue(payload)\n")),
    mutant("the vote is given before the admission is committed", ("voting.py", "if not self.joining or waits or self.listed_index > committed_index:", "if not self.joining or waits:")),
    mutant("nobody gives the new directory its vote", ("guard.py", "        if self._voting.joining:\n            self._give_vote()\n", "")),
    mutant("only who admitted a directory gives it its vote", ("guard.py", "        if self._voting.joining:\n            self._give_vote()\n", "        if self._voting.joining and self._gone is not None:\n            self._give_vote()\n")),
    mutant("an answer counts from whatever directory", ("voting.py", "return peer in self.peers and (known is None or known.incarnation == incarnation)", "return peer in self.peers")),
    mutant("a replaced directory is heard", ("voting.py", "if known is None or known.incarnation == incarnation or index > committed_index:", "if known is not None:")),
    mutant("who is behind refuses a directory that it does not know", ("voting.py", "or known.incarnation == incarnation or index > committed_index:", "or known.incarnation == incarnation:")),
    mutant("a list that is not committed rules a directory out", ("voting.py", "listed = self._journal.members.at(committed_index)", "listed = self._journal.members.current")),
    mutant("what the lost directory had is taken for the new one's", ("leading.py", "        self.progress = {peer: self.progress.get(peer) or Progress(last_index, now_s) for peer in peers}\n", "        self._all = {**getattr(self, '_all', {}), **self.progress}\n        self.progress = {peer: self._all.get(peer) or Progress(last_index, now_s) for peer in peers}\n")),
    mutant("a snapshot does not say which directories count", ("members.py", "    return cbor.dumps([voters.index, list(voters.ids), seats])", "    return cbor.dumps([voters.index, list(voters.ids), {}])")),
    mutant("an admission is of another entry after a restart", ("members.py", "return Admission(incarnation, index if at is None else at)", "return Admission(incarnation, at or 0)")),
)  # fmt: skip
