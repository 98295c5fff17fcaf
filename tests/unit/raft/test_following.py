"""Hazards of a follower (H1, H2, H5, H14 and the terms of messages): the test plays the leader."""

from __future__ import annotations

import pytest

from tq.errors import DataDamaged, InternalError, ProtocolError
from tq.raft import adapter
from tq.raft.guard import Role, RoleChange
from tq.raft.messages import Ack, Append, Lost, Reject, RequestVote, Stale, TimeoutNow, Vote
from tq.raft.records import Pending

from .desk import Desk, ack, append, entries_of, reject


@pytest.fixture
def desk() -> Desk:
    return Desk()


def entry(desk: Desk, index: int) -> Pending:
    return (desk.journal.payload(index), index, desk.journal.term_at(index))


def test_an_append_is_acknowledged_when_it_is_synced_and_not_before(desk):
    """H5."""
    desk.follow(1, 1, 1)
    assert [message for _, message in desk.sent() if message.matched_index > 0] == []
    assert desk.log == [1, 1, 1]
    desk.sync()
    assert desk.answer(Ack).matched_index == 4
    assert desk.sent() == []


def test_a_sign_of_life_leaves_before_the_sync(desk):
    desk.follow(1)
    desk.sync()
    desk.sent()
    desk.follow(1)
    desk.journal.begin_sync()  # a slow disk
    desk.sent()
    for at in range(3):
        desk.say("n2", append(1, desk.journal.last_index, 1, sequence=10 + at, round_=at + 1))
        answer = desk.answer(Ack)
        assert (answer.matched_index, answer.sequence, answer.round) == (2, 10 + at, at + 1)
        desk.follow(1)
        assert desk.sent() == []  # one is enough for a while
        desk.now_s += 0.08
        desk.follow(1)
        assert desk.answer(Ack).matched_index == 2


def test_it_acknowledges_nothing_while_its_term_is_not_synced(desk):
    """It could forget the term, vote again in it, and a second leader be elected."""
    desk.say("n2", append(5, 1, 0))
    assert desk.answer(Ack).matched_index == 0
    desk.sync()
    assert desk.answer(Ack).matched_index == 1


def test_part_of_a_batch_that_is_synced_is_acknowledged(desk):
    desk.follow(1, 1)
    job = desk.journal.begin_sync()
    desk.follow(1)
    job.run()
    desk.journal.end_sync(job, None)
    desk.guard.synced()
    assert [message.matched_index for _, message in desk.sent_of(Ack)][-1] == 3
    desk.sync()
    assert desk.answer(Ack).matched_index == 4


@pytest.mark.parametrize("again", [(2, 2), (2, 3), (3, 2)], ids=["the same", "a shorter one", "from the middle"])
def test_a_batch_that_comes_again_removes_nothing(desk, again):
    """H2: stock cuts behind the entry before the batch, and with it what was acknowledged."""
    desk.follow(1, 1, 1, 1)
    desk.sync()
    first, count = again
    desk.say("n2", append(1, first - 1, desk.journal.term_at(first - 1), entries_of(first, *[1] * count)))
    assert (desk.journal.last_index, desk.journal.durable_index) == (5, 5)
    assert not desk.journal.needs_sync
    assert desk.sent()[-1][1].matched_index == 5


def test_a_late_heartbeat_removes_nothing(desk):
    desk.follow(1, 1, 1)
    desk.sync()
    desk.say("n2", append(1, 2, 1))
    assert desk.journal.last_index == 4


def test_only_a_conflict_cuts_and_only_from_there(desk):
    desk.follow(1, 1, 1, 1)
    desk.sync()
    desk.say("n3", append(2, 2, 1, entries_of(3, 1, 2)))
    assert desk.log == [1, 1, 2]
    assert desk.journal.durable_index == 3


def test_the_commit_index_of_a_leader_counts_only_up_to_what_was_matched(desk):
    """H1: a tail of an older leader stands here; a heartbeat that names its index must not commit it."""
    desk.follow(1, 1, 1)
    desk.sync()
    desk.say("n3", append(2, 1, 0, commit=4))
    assert desk.guard.committed_index == 1
    desk.say("n3", append(2, 2, 1, commit=4))
    assert desk.guard.committed_index == 2
    desk.say("n3", append(2, 9, 2, commit=9))
    assert desk.guard.committed_index == 2
    assert desk.log == [1, 1, 1]


def test_nothing_is_handed_out_before_it_is_synced_here(desk):
    desk.follow(1, 1, commit=3)
    assert desk.guard.committed_index == 1
    desk.sync()
    assert desk.guard.committed_index == 3


def test_a_conflict_at_what_is_committed_stops_the_node(desk):
    desk.follow(1, 1, commit=3)
    desk.sync()
    with pytest.raises(InternalError, match="stops before it makes it worse"):
        desk.say("n3", append(2, 1, 0, entries_of(2, 2)))
    assert desk.log == [1, 1]


def test_a_conflict_at_what_this_leader_has_matched_stops_the_node(desk):
    desk.follow(1, 1)
    desk.sync()
    with pytest.raises(InternalError, match="stops before it makes it worse"):
        desk.say("n2", append(1, 2, 0, entries_of(3, 1)))
    desk = Desk()
    desk.follow(1, 1, term=2)
    with pytest.raises(InternalError, match="stops before it makes it worse"):
        desk.say("n2", append(2, 2, 1, entries_of(3, 2)))


def test_a_rejection_names_the_place_to_go_on_from(desk):
    """H14: one round trip, whatever the tail is."""
    desk.follow(*[1] * 5, commit=3)
    desk.follow(*[2] * 30, leader="n3", term=2, commit=3)
    desk.sync()
    desk.sent()
    desk.say("n2", append(3, 60, 3, sequence=7))
    answer = desk.answer(Reject)
    assert (answer.matched_index, answer.sequence, answer.prev_index) == (3, 7, 60)
    desk.say("n2", append(3, 20, 3, sequence=8))
    assert desk.answer(Reject).matched_index == 3
    desk.say("n2", append(3, 3, 1, entries_of(4, 1, 3, 3), sequence=9))
    assert desk.log == [1, 1, 1, 3, 3]


def test_a_cut_waits_for_a_sync_that_runs(desk):
    desk.follow(1, 1, 1)
    job = desk.journal.begin_sync()
    desk.say("n3", append(2, 2, 1, entries_of(3, 2)))
    assert desk.log == [1, 1, 1]
    job.run()
    desk.journal.end_sync(job, None)
    desk.guard.synced()
    assert desk.log == [1, 2]
    desk.sync()
    assert desk.sent_of(Ack)[-1][1].matched_index == 3


def test_a_cut_that_waited_is_forgotten_when_the_term_moves_on(desk):
    desk.follow(1, 1, 1)
    job = desk.journal.begin_sync()
    desk.say("n3", append(2, 2, 1, entries_of(3, 2)))
    desk.say("n2", append(3, 4, 1, entries_of(5, 3)))
    job.run()
    desk.journal.end_sync(job, None)
    desk.guard.synced()
    assert desk.log == [1, 1, 1, 3]


def test_an_acknowledgement_is_dropped_when_the_term_has_moved_on(desk):
    """H3: it is never stamped anew."""
    desk.follow(1, 1)
    desk.sent()
    desk.say("n3", append(2, 9, 2))
    assert desk.answer(Reject).term == 2
    desk.sync()
    assert [message for _, message in desk.sent() if isinstance(message, Ack)] == []


def test_after_a_restart_what_is_synced_must_be_matched_anew(desk):
    desk.follow(1, 1, 1)
    desk.sync()
    desk.disk.crash()
    again = Desk(disk=desk.disk)
    again.say("n2", append(1, 1, 0, commit=4))
    assert again.guard.committed_index == 1
    assert again.answer(Ack).matched_index == 1
    again.say("n2", append(1, 4, 1, commit=4))
    assert again.guard.committed_index == 4


def test_it_tells_who_leads(desk):
    desk.follow(1)
    assert desk.guard.take_changes()[-1] == RoleChange(Role.FOLLOWER, 1, "n2")
    desk.ask_prevotes()
    assert desk.guard.leader_id is None
    desk.follow(1)
    assert desk.guard.leader_id == "n2"
    desk.say("n3", append(4, 9, 2))
    assert (desk.guard.term, desk.guard.leader_id) == (4, "n3")


@pytest.mark.parametrize("message", [
    append(3, 1, 0, entries_of(2, 3)), RequestVote(3, 9, 3, False), RequestVote(3, 9, 3, True), TimeoutNow(3),
], ids=lambda message: type(message).__name__)  # fmt: skip
def test_a_message_of_a_lower_term_is_dropped_and_answered_with_ours(desk, message):
    desk.say("n2", append(4, 1, 0))
    desk.sync()
    desk.sent()
    desk.now_s += 2
    desk.say("n3", message)
    assert desk.answer(Stale) == Stale(4)
    assert (desk.journal.last_index, desk.journal.term, desk.journal.vote) == (1, 4, None)


@pytest.mark.parametrize("message", [
    Ack(3, 1, 0, 0, 9), Reject(3, 1, 0, 0, 9, 9), Vote(3), Stale(3), Lost(3, 9),
], ids=lambda message: type(message).__name__)  # fmt: skip
def test_an_answer_of_a_lower_term_is_dropped(desk, message):
    desk.say("n2", append(4, 1, 0))
    desk.sent()
    desk.say("n3", message)
    assert desk.sent() == []
    assert desk.guard.term == 4


@pytest.mark.parametrize("message", [
    Ack(9, 1, 0, 0, 9), Reject(9, 1, 0, 0, 9, 9), Vote(9), Stale(9), Lost(9, 9), TimeoutNow(9), append(9, 5, 5),
], ids=lambda message: type(message).__name__)  # fmt: skip
def test_any_message_of_a_higher_term_makes_a_leader_follow(desk, message):
    desk.lead()
    desk.say("n3", message)
    assert (desk.raw_role, desk.guard.role, desk.guard.term) == (adapter.FOLLOWER, Role.FOLLOWER, 9)


def test_two_leaders_of_a_term_stop_the_node(desk):
    desk.follow(1)
    with pytest.raises(InternalError, match="n3 leads term 1, and so does n2"):
        desk.say("n3", append(1, 1, 0))
    desk = Desk()
    term = desk.lead()
    with pytest.raises(InternalError, match="so does this node"):
        desk.say("n3", append(term, 1, 0))


def test_an_entry_of_a_term_above_its_leader_stops_the_node(desk):
    with pytest.raises(InternalError):
        desk.say("n2", append(3, 1, 0, entries_of(2, 4)))


def test_an_entry_that_syncobj_would_unpickle_is_refused_and_nothing_is_done(desk):
    """H7."""
    for first in (b"\x00", b"\x02", b"\x03", b""):
        with pytest.raises(ProtocolError):
            desk.say("n2", Append(1, 1, 0, 0, 1, 0, 1, ((1, first + b"cos\nsystem\n"),)))
    assert (desk.journal.last_index, desk.guard.term) == (1, 0)


def test_who_has_lost_what_it_acknowledged_stops(desk):
    desk.follow(1, commit=1)
    desk.say("n2", Lost(1, 2))
    with pytest.raises(DataDamaged, match="its disk reports syncs that it does not do"):
        desk.say("n2", Lost(1, 3))


def test_answers_count_from_voters_alone(desk):
    """H11. A leader that our log does not know yet is followed: it may have been added meanwhile."""
    term = desk.lead()
    for message in (ack(term, 2), reject(term, 1, sequence=9, prev=9), Vote(term)):
        desk.say("n9", message)
    assert desk.guard.strangers == 3
    desk.say("n9", append(9, 1, 0))
    assert (desk.guard.strangers, desk.guard.term, desk.guard.leader_id) == (3, 9, "n9")
