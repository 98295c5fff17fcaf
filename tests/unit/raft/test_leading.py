"""Hazards of a leader (H3, H5, H9, H14, H15) and reads: the test plays the followers."""

from __future__ import annotations

import pytest

from tq import limits
from tq.errors import InternalError, NotLeader
from tq.raft import adapter
from tq.raft.guard import Outcome, ProposalEnd, ReadEnd, Role
from tq.raft.messages import Ack, Append, Lost, Stale, Vote

from .desk import Desk, ack, reject


@pytest.fixture
def desk() -> Desk:
    return Desk()


def appends(desk: Desk, peer: str = "n2") -> list[Append]:
    return [message for to, message in desk.sent_of(Append) if to == peer]


def carrying(desk: Desk, peer: str = "n2") -> list[Append]:
    return [message for message in appends(desk, peer) if message.entries]


# ---- what counts as committed ---------------------------------------------------------------------------


def test_entries_leave_in_the_tick_that_appends_them_and_before_they_are_synced(desk):
    desk.lead()
    desk.propose(b"a")
    assert desk.journal.needs_sync
    [message] = carrying(desk)
    assert (message.prev_index, [payload for _, payload in message.entries]) == (2, [b"\x01a"])


def test_a_leader_does_not_count_what_it_has_not_synced(desk):
    """H5: of three, one follower has it and the leader only in memory: one disk is no majority."""
    term = desk.lead()
    desk.propose(b"a")
    desk.say("n2", ack(term, 3))
    desk.tick()
    assert (desk.guard._core.commit_index, desk.guard.committed_index) == (2, 2)
    job = desk.journal.begin_sync()
    job.run()
    desk.say("n2", ack(term, 3))
    desk.tick()
    assert desk.guard._core.commit_index == 2
    desk.journal.end_sync(job, None)
    desk.guard.synced()
    desk.tick()
    assert desk.guard.committed_index == 3
    assert desk.guard.take_outcomes() == [Outcome(term, 3, ProposalEnd.COMMITTED)]


def test_nor_in_larger_groups():
    desk = Desk(size=5)
    term = desk.lead()
    desk.propose(b"a")
    for peer in ("n2", "n3", "n4"):
        desk.say(peer, ack(term, 3))
    desk.tick()
    assert desk.guard._core.commit_index == 2


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_majority_of_disks_commits(size):
    desk = Desk(size=size)
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    for peer in desk.others[: size // 2 - 1]:
        desk.say(peer, *[ack(term, 3)] * 4)
    desk.tick()
    assert desk.guard.committed_index == 2
    desk.say(desk.others[-1], ack(term, 3))
    desk.tick()
    assert desk.guard.committed_index == 3


def test_an_acknowledgement_of_an_earlier_leadership_does_not_count():
    """H3: two of five hold it, and a late message makes it three."""
    desk = Desk(size=5)
    first = desk.lead()
    desk.propose(b"a")
    desk.sync()
    late = ack(first, 3)
    desk.say("n4", Stale(first + 1))
    second = desk.lead()
    assert second > first
    desk.propose(b"b")
    desk.sync()
    index = desk.journal.last_index
    before = desk.guard.committed_index
    desk.say("n2", ack(second, index))
    desk.say("n3", late, ack(first, index))
    desk.tick()
    assert desk.guard.committed_index == before


def test_a_rejection_of_an_earlier_leadership_resets_nothing(desk):
    first = desk.lead()
    desk.say("n3", Stale(first + 1))
    second = desk.lead()
    desk.propose(b"a")
    desk.sent()
    for term in (first, second - 1):
        desk.say("n2", reject(term, 1, sequence=99, prev=99))
        desk.tick()
        assert carrying(desk) == []


def test_entries_of_earlier_terms_are_committed_only_with_one_of_its_own():
    """Raft 5.4.2."""
    desk = Desk()
    desk.follow(1, 1)
    desk.sync()
    desk.sent()
    term = desk.win()
    desk.sync()
    desk.say("n2", ack(term, 3))
    desk.tick()
    assert (desk.guard.committed_index, desk.guard.role) == (1, Role.CANDIDATE)
    desk.say("n2", ack(term, 4))
    desk.tick()
    assert (desk.guard.committed_index, desk.guard.role) == (4, Role.LEADER)


def test_it_is_no_leader_for_others_until_its_first_entry_is_committed(desk):
    desk.win()
    with pytest.raises(NotLeader):
        desk.guard.propose(b"x")
    with pytest.raises(NotLeader):
        desk.guard.read_index()


def test_who_acknowledges_more_than_there_is_stops_the_leader(desk):
    term = desk.lead()
    with pytest.raises(InternalError, match="n2 acknowledges entry 9"):
        desk.say("n2", ack(term, 9))


def test_proposals_end_when_leadership_goes(desk):
    """H9."""
    term = desk.lead()
    desk.propose(b"in the log")
    desk.guard.propose(b"waiting")
    desk.say("n3", Stale(term + 4))
    assert desk.guard.take_outcomes() == [Outcome(term, 3, ProposalEnd.UNKNOWN), Outcome(term, 4, ProposalEnd.LOST)]
    desk.sync()
    desk.tick()
    assert desk.journal.last_index == 3


def test_proposals_end_when_nobody_answers(desk):
    term = desk.lead()
    desk.propose(b"in the log")
    for _ in range(14):
        if desk.guard.role is Role.LEADER:
            desk.guard.propose(b"x")
        desk.wait(0.11)
    ends = desk.guard.take_outcomes()
    assert {outcome.end for outcome in ends} == {ProposalEnd.UNKNOWN, ProposalEnd.LOST}
    assert [outcome.index for outcome in ends] == list(range(3, 3 + len(ends)))
    assert {outcome.term for outcome in ends} == {term}


# ---- what is sent ---------------------------------------------------------------------------------------


def test_what_is_under_way_is_not_sent_again_when_something_before_it_is_acknowledged(desk):
    """SyncObj pulls its cursor back with each success (line 1082)."""
    term = desk.lead()
    for data in (b"a", b"b", b"c", b"d"):
        desk.propose(data)
    desk.sync()
    assert [len(message.entries) for message in carrying(desk)] == [1, 1, 1, 1]
    for matched in (3, 4, 5):
        desk.say("n2", ack(term, matched))
        desk.tick()
        assert carrying(desk) == []


def test_nor_when_our_sync_comes_later(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.propose(b"b")
    carrying(desk)
    desk.say("n2", ack(term, 3))
    desk.sync()
    desk.tick()
    assert carrying(desk) == []


def test_a_rejection_resets_the_cursor_once(desk):
    """H14: each append under way is rejected too; those answers change nothing."""
    term = desk.lead()
    for data in (b"a", b"b", b"c", b"d"):
        desk.propose(data)
    desk.sync()
    sequences = [message.sequence for message in carrying(desk)]
    for at, sequence in enumerate(sequences[1:]):
        desk.say("n2", reject(term, 2, sequence=sequence, prev=3 + at))
        desk.tick()
    [again] = carrying(desk)
    assert (again.prev_index, len(again.entries)) == (2, 4)
    desk.say("n2", *[reject(term, 2, sequence=sequences[-1], prev=5)] * 3)
    desk.tick()
    assert carrying(desk) == []


def test_a_rejection_of_what_was_sent_after_a_reset_counts(desk):
    """One reset a round trip, and each that is due."""
    desk.follow(1, 1, 1)
    term = desk.win()
    desk.sync()
    [message] = carrying(desk)
    assert message.prev_index == 4
    for matched in (3, 2, 1):
        desk.say("n2", reject(term, matched, sequence=message.sequence, prev=message.prev_index))
        desk.tick()
        [message] = carrying(desk)
        assert (message.prev_index, len(message.entries)) == (matched, 5 - matched)


def test_a_member_that_does_not_answer_is_not_flooded(desk):
    """H15."""
    desk.lead()
    data = bytes(100_000)
    for _ in range(300):
        desk.guard.propose(data)
        desk.tick()
        desk.sync()
        desk.say("n3", ack(desk.guard.term, desk.journal.last_index))
        desk.wait(limits.COMMIT_TELL_MS / 1000)
    sent = appends(desk)
    size = sum(len(payload) for message in sent for _, payload in message.entries)
    assert size <= limits.PEER_INFLIGHT_BYTES_MAX + limits.PEER_BATCH_BYTES
    assert len([message for message in sent if message.entries]) <= limits.PEER_INFLIGHT_MESSAGES_MAX
    assert desk.guard.committed_index == desk.journal.last_index
    desk.say("n2", ack(desk.guard.term, sent[0].prev_index))
    desk.tick()
    assert carrying(desk) == []
    for _ in range(5):
        desk.wait(0.151)
        [probe] = appends(desk)
        assert (probe.entries, probe.prev_index) == ((), sent[-1].prev_index)
        desk.say("n3", ack(desk.guard.term, desk.journal.last_index))
    desk.say("n2", reject(desk.guard.term, 2, sequence=probe.sequence, prev=probe.prev_index))
    desk.tick()
    again = carrying(desk)
    assert again[0].prev_index == 2
    assert sum(len(payload) for message in again for _, payload in message.entries) <= 9 * limits.MIB
    matched = again[-1].prev_index + len(again[-1].entries)
    desk.say("n2", ack(desk.guard.term, matched))
    desk.tick()
    assert carrying(desk)[0].prev_index == matched


def test_messages_are_bounded_in_bytes_but_hold_an_entry_of_any_size(desk):
    """H12: stock breaks at 128 KiB."""
    desk.lead()
    sizes = [300_000] * 6 + [5_000_000, 10, 10]
    for size in sizes:
        desk.guard.propose(bytes(size))
    desk.tick()
    sent = [[len(payload) - 1 for _, payload in message.entries] for message in carrying(desk)]
    assert [size for batch in sent for size in batch] == sizes
    assert sent == [[300_000] * 3, [300_000] * 3, [5_000_000], [10, 10]]


def test_old_entries_are_sent_from_the_disk(desk):
    term = desk.lead()
    for number in range(20):
        desk.propose(b"%d " % number + bytes(80_000))
        desk.sync()
        desk.say("n3", ack(term, desk.journal.last_index))
        desk.tick()
    assert desk.journal.in_memory(4) is None
    [last, *_] = reversed(appends(desk))
    desk.say("n2", reject(term, 2, sequence=last.sequence, prev=last.prev_index))
    desk.tick()
    payloads: list[bytes] = []
    while len(payloads) < 20:
        sent = carrying(desk)
        if desk.journal.in_memory(sent[0].prev_index + 1) is None:
            assert len(sent) == 1  # what must be read goes a message at a time
        payloads += [payload for message in sent for _, payload in message.entries]
        desk.say("n2", ack(term, sent[-1].prev_index + len(sent[-1].entries)))
        desk.tick()
    assert payloads == [b"\x01%d " % number + bytes(80_000) for number in range(20)]


def test_heartbeats_go_out_when_nothing_else_did(desk):
    term = desk.lead()
    desk.wait(0.151)
    beats = desk.sent_of(Append)
    assert [(peer, message.prev_index, message.entries) for peer, message in beats] == [("n2", 2, ()), ("n3", 2, ())]
    desk.wait(0.1)
    assert desk.sent() == []
    assert desk.guard.wakes_at_s == pytest.approx(desk.now_s + 0.05)
    desk.propose(b"a")
    desk.sent()
    desk.wait(0.06)
    assert desk.sent() == []
    assert [message.term for message in [beats[0][1]]] == [term]


def test_followers_are_told_soon_that_the_commit_index_moved(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    desk.sent()
    desk.say("n2", ack(term, 3))
    desk.tick()
    assert desk.sent() == []
    assert desk.guard.wakes_at_s == pytest.approx(desk.now_s + limits.COMMIT_TELL_MS / 1000)
    desk.wait(limits.COMMIT_TELL_MS / 1000)
    assert [message.commit_index for _, message in desk.sent_of(Append)] == [3, 3]
    desk.wait(limits.COMMIT_TELL_MS / 1000)
    assert desk.sent() == []


def test_or_with_the_next_entry(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    desk.sent()
    desk.say("n2", ack(term, 3))
    desk.tick()
    desk.propose(b"b")
    assert [(message.commit_index, len(message.entries)) for _, message in desk.sent_of(Append)] == [(3, 1), (3, 1)]
    desk.wait(limits.COMMIT_TELL_MS / 1000)
    assert desk.sent() == []


def test_an_acknowledgement_of_what_is_committed_wants_no_turn(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    desk.sent()
    desk.say("n2", ack(term, 3))
    assert not desk.guard.is_quiet
    desk.tick()
    assert desk.guard.is_quiet
    desk.say("n3", ack(term, 3))
    assert desk.guard.is_quiet


def test_a_lost_append_is_found_by_the_next_heartbeat(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    desk.sent()  # lost
    desk.wait(0.151)
    [probe] = appends(desk)
    assert (probe.prev_index, probe.prev_term) == (3, term)


def test_a_member_that_needs_what_is_compacted_is_left_alone(desk):
    term = desk.lead()
    for _ in range(40):
        desk.propose(bytes(100_000))
        desk.sync()
        desk.say("n3", ack(term, desk.journal.last_index))
        desk.tick()
    desk.sent()
    assert desk.journal.compact(desk.journal.last_index)
    desk.guard.compacted()
    desk.wait(0.151)
    [probe] = appends(desk)
    desk.say("n2", reject(term, 2, sequence=probe.sequence, prev=probe.prev_index))
    desk.say("n3", ack(term, desk.journal.last_index))
    for _ in range(3):
        desk.wait(0.151)
        [probe] = appends(desk)
        assert probe.entries == ()
        desk.say("n3", ack(term, desk.journal.last_index))
    assert desk.raw_role == adapter.LEADER


# ---- a member that lost data ------------------------------------------------------------------------------


def test_who_rejects_what_it_had_acknowledged_is_told(desk):
    """A disk that lies, or an old copy of a data directory."""
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    desk.say("n2", ack(term, 3))
    desk.sent()
    desk.wait(0.151)
    [probe] = appends(desk)
    desk.say("n2", reject(term, 1, sequence=probe.sequence, prev=3))
    assert desk.sent() == [("n2", Lost(term, 3))]
    desk.tick()
    assert carrying(desk) == []


def test_a_rejection_that_was_overtaken_by_an_acknowledgement_accuses_nobody(desk):
    """The follower rejected the second of two, then got the first: the answers arrive the other way round."""
    term = desk.lead()
    desk.propose(b"a")
    desk.propose(b"b")
    desk.sync()
    first, second = carrying(desk)
    desk.say("n2", ack(term, 3, sequence=first.sequence))
    desk.say("n2", reject(term, 2, sequence=second.sequence, prev=3))
    assert desk.sent_of(Lost) == []
    desk.tick()
    [again] = carrying(desk)
    assert (again.prev_index, len(again.entries)) == (3, 1)


# ---- reads ----------------------------------------------------------------------------------------------


def test_a_read_is_answered_when_a_majority_has_answered_a_round_that_began_after_it(desk):
    """H9."""
    term = desk.lead()
    ticket = desk.guard.read_index()
    desk.say("n2", ack(term, 2))
    assert desk.guard.take_reads() == []
    assert desk.guard.wants_tick
    desk.tick()
    [message] = appends(desk)
    desk.say("n3", ack(term, 2, round_=message.round - 1))
    assert desk.guard.take_reads() == []
    desk.say("n3", ack(term, 2, round_=message.round))
    assert desk.guard.take_reads() == [ReadEnd(ticket, 2)]
    assert desk.guard.take_reads() == []


def test_a_read_does_not_count_on_a_round_under_way(desk):
    term = desk.lead()
    first = desk.guard.read_index()
    desk.tick()
    round_ = appends(desk)[-1].round
    second = desk.guard.read_index()
    desk.say("n2", ack(term, 2, round_=round_))
    assert desk.guard.take_reads() == [ReadEnd(first, 2)]
    desk.tick()
    desk.say("n2", ack(term, 2, round_=appends(desk)[-1].round))
    assert desk.guard.take_reads() == [ReadEnd(second, 2)]


@pytest.mark.parametrize("size", [5, 7])
def test_a_read_needs_a_majority(size):
    desk = Desk(size=size)
    term = desk.lead()
    ticket = desk.guard.read_index()
    desk.tick()
    round_ = appends(desk)[-1].round
    for peer in desk.others[: size // 2 - 1]:
        desk.say(peer, *[ack(term, 2, round_=round_)] * 5)
    desk.say(desk.others[-1], ack(term - 1, 2, round_=round_))
    desk.say("n99", ack(term, 2, round_=round_))
    assert desk.guard.take_reads() == []
    desk.say(desk.others[-2], ack(term, 2, round_=round_))
    assert desk.guard.take_reads() == [ReadEnd(ticket, 2)]


def test_reads_end_when_leadership_goes(desk):
    term = desk.lead()
    ticket = desk.guard.read_index()
    desk.tick()
    desk.say("n3", Stale(term + 1))
    assert desk.guard.take_reads() == [ReadEnd(ticket, None)]


def test_rounds_of_an_earlier_leadership_confirm_nothing(desk):
    first = desk.lead()
    desk.guard.read_index()
    desk.tick()
    old_round = appends(desk)[-1].round
    desk.say("n3", Stale(first + 1))
    desk.guard.take_reads()
    desk.lead()
    desk.guard.read_index()
    desk.tick()
    desk.say("n2", ack(first, 2, round_=old_round))
    assert desk.guard.take_reads() == []


def test_a_group_of_one_answers_reads_at_once():
    desk = Desk(size=1)
    desk.tick()
    desk.sync()
    desk.tick()
    ticket = desk.guard.read_index()
    assert desk.guard.take_reads() == [ReadEnd(ticket, 2)]


def test_the_clocks_of_members_are_measured(desk):
    term = desk.lead()
    desk.say("n2", Ack(term, 1, 0, 9_000_000, 2))
    assert desk.guard.clocks_ms["n2"] == 9_000_000 - round(desk.now_s * 1000)


def test_a_vote_that_arrives_twice_makes_no_second_leadership(desk):
    term = desk.lead()
    desk.say("n2", Vote(term))
    desk.say("n3", Vote(term))
    assert desk.journal.last_index == 2
