"""Hazards of elections (H5, H11, H16): the test plays the other voters."""

from __future__ import annotations

import pytest

from tq.errors import NotLeader
from tq.raft import adapter
from tq.raft.elections import Elections
from tq.raft.guard import Role
from tq.raft.messages import PreVote, PreVoteReply, RequestVote, Stale, TimeoutNow, Vote
from tq.sim.random import SeededRandom

from .desk import Desk, ack, append


@pytest.fixture
def desk() -> Desk:
    return Desk()


def silent(desk: Desk) -> Desk:
    """No leader was heard for a while."""
    desk.now_s += 0.599
    return desk


# ---- as a candidate -------------------------------------------------------------------------------------


def test_it_asks_before_it_takes_a_term(desk):
    """H16: a node that nobody hears keeps its term."""
    for _ in range(5):
        assert desk.ask_prevotes().term == 0
    assert (desk.journal.term, desk.guard.terms_begun) == (0, 0)
    assert desk.guard.role is Role.FOLLOWER


def test_the_timer_is_drawn_within_its_bounds_and_starts_with_every_sign_of_the_leader(desk):
    due = desk.guard.wakes_at_s
    assert 10.6 <= due <= 11.2
    desk.now_s = due - 0.001
    desk.tick()
    assert desk.sent() == []
    desk.say("n2", append(1, 1, 0))
    desk.sent()
    assert 0.6 <= desk.guard.wakes_at_s - desk.now_s <= 1.2
    desk.now_s = desk.guard.wakes_at_s
    desk.tick()
    assert [peer for peer, _ in desk.sent_of(PreVote)] == ["n2", "n3"]
    assert len({Desk(seed=seed).guard.wakes_at_s for seed in range(9)}) > 5


def test_nodes_draw_other_times(desk):
    assert len({Desk(seed=seed).guard.wakes_at_s for seed in range(20)}) > 15


@pytest.mark.parametrize("size", [3, 5, 7])
def test_it_campaigns_with_the_prevotes_of_a_majority(size):
    desk = Desk(size=size)
    question = desk.ask_prevotes()
    for peer in desk.others[: size // 2 - 1]:
        desk.say(peer, *[PreVoteReply(0, question.round, True)] * 3)
    desk.say(desk.others[-1], PreVoteReply(0, question.round, False))
    assert desk.raw_role == adapter.FOLLOWER
    desk.say(desk.others[-2], PreVoteReply(0, question.round, True))
    assert (desk.raw_role, desk.journal.term, desk.journal.vote) == (adapter.CANDIDATE, 1, "n1")


def test_prevotes_of_an_earlier_round_do_not_count(desk):
    question = desk.ask_prevotes()
    desk.ask_prevotes()
    desk.say("n2", PreVoteReply(0, question.round, True))
    assert desk.raw_role == adapter.FOLLOWER


def test_a_prevote_granted_in_a_lower_term_counts(desk):
    """Else the node with the highest term never wins."""
    desk.say("n2", Stale(7))
    question = desk.ask_prevotes()
    assert question.term == 7
    desk.say("n2", PreVoteReply(2, question.round, True))
    assert (desk.raw_role, desk.journal.term) == (adapter.CANDIDATE, 8)


def test_vote_requests_leave_when_the_own_vote_is_synced(desk):
    """H5: who forgets its own vote could vote for another, and two would lead the term."""
    question = desk.ask_prevotes()
    desk.say("n2", PreVoteReply(0, question.round, True))
    job = desk.journal.begin_sync()
    desk.tick()
    assert desk.sent() == []
    desk.say("n2", Vote(1))
    assert desk.raw_role == adapter.CANDIDATE
    job.run()
    desk.journal.end_sync(job, None)
    desk.guard.synced()
    assert desk.sent() == [(peer, RequestVote(1, 1, 0, False)) for peer in desk.others]


def test_vote_requests_are_dropped_when_the_term_has_moved_on(desk):
    question = desk.ask_prevotes()
    desk.say("n2", PreVoteReply(0, question.round, True))
    desk.say("n3", append(1, 1, 0))
    desk.say("n3", Stale(5))
    desk.sync()
    assert desk.sent_of(RequestVote) == []


@pytest.mark.parametrize("size", [5, 7])
def test_votes_are_collected_not_counted(size):
    """H11: duplicates and strangers elect nobody."""
    desk = Desk(size=size)
    term = desk.campaign().term
    desk.say("n2", *[Vote(term)] * 9)
    desk.say("n99", *[Vote(term)] * 9)
    desk.say("n1", *[Vote(term)] * 9)
    assert desk.raw_role == adapter.CANDIDATE
    for peer in desk.others[1 : size // 2]:
        desk.say(peer, Vote(term))
    assert desk.raw_role == adapter.LEADER


def test_a_vote_of_an_earlier_term_elects_nobody():
    desk = Desk(size=5)
    first = desk.campaign().term
    desk.say("n2", Vote(first))
    second = desk.campaign().term
    assert second == first + 1
    desk.say("n3", Vote(first))
    desk.say("n4", Vote(second))
    assert desk.raw_role == adapter.CANDIDATE
    desk.say("n3", Vote(second))
    assert desk.raw_role == adapter.LEADER


def test_late_prevotes_and_votes_do_nothing_to_a_leader(desk):
    question = desk.ask_prevotes()
    desk.say("n2", PreVoteReply(0, question.round, True))
    desk.sync()
    desk.say("n2", Vote(1))
    last_index = desk.journal.last_index
    desk.say("n3", PreVoteReply(0, question.round, True), PreVoteReply(1, question.round, True), Vote(1))
    for _ in range(30):
        desk.wait(0.1)
        desk.say("n3", ack(1, 1))
    assert (desk.raw_role, desk.guard.term, desk.journal.last_index) == (adapter.LEADER, 1, last_index)


def test_a_candidate_follows_who_was_elected(desk):
    term = desk.campaign().term
    desk.say("n3", append(term, 1, 0))
    assert (desk.raw_role, desk.guard.leader_id) == (adapter.FOLLOWER, "n3")
    desk.say("n2", Vote(term))
    assert desk.raw_role == adapter.FOLLOWER


def test_an_election_that_nobody_wins_is_tried_again_after_a_prevote(desk):
    assert desk.campaign().term == 1
    assert desk.ask_prevotes().term == 1
    assert desk.journal.term == 1


# ---- as a voter -----------------------------------------------------------------------------------------


def test_a_vote_leaves_when_it_is_synced(desk):
    silent(desk).say("n2", RequestVote(3, 1, 0, False))
    assert (desk.journal.vote, desk.sent()) == ("n2", [])
    desk.sync()
    assert desk.sent() == [("n2", Vote(3))]


def test_a_vote_is_dropped_when_the_term_has_moved_on(desk):
    silent(desk).say("n2", RequestVote(3, 1, 0, False))
    desk.say("n3", Stale(4))
    desk.sync()
    assert desk.sent_of(Vote) == []


def test_it_votes_once_a_term_over_restarts_too(desk):
    """H5: stock forgets an unsynced vote."""
    silent(desk).say("n2", RequestVote(3, 1, 0, False))
    desk.sync()
    desk.sent()
    desk.say("n3", RequestVote(3, 1, 0, False))
    desk.sync()
    assert desk.sent() == []
    desk.disk.crash()
    again = silent(Desk(disk=desk.disk))
    again.say("n3", RequestVote(3, 1, 0, False))
    again.sync()
    assert (again.journal.vote, again.sent()) == ("n2", [])


@pytest.mark.parametrize(("last_index", "last_term", "granted"), [
    (9, 1, False), (3, 2, False), (4, 2, True), (2, 3, True),
])  # fmt: skip
def test_it_votes_only_for_a_log_as_good_as_its_own(desk, last_index, last_term, granted):
    desk.follow(1, 1, 2, term=2)
    desk.sync()
    desk.sent()
    desk.now_s += 0.7
    desk.say("n3", PreVote(2, 1, last_index, last_term))
    assert desk.answer(PreVoteReply).granted is granted
    desk.say("n3", RequestVote(5, last_index, last_term, False))
    desk.sync()
    assert desk.sent_of(Vote) == ([("n3", Vote(5))] if granted else [])
    assert desk.journal.term == 5


def test_a_prevote_takes_no_term_and_no_vote(desk):
    silent(desk).say("n2", PreVote(7, 1, 9, 9))
    assert desk.answer(PreVoteReply).granted
    assert (desk.journal.term, desk.journal.vote) == (0, None)


def test_a_prevote_below_our_term_is_answered_with_it(desk):
    desk.say("n2", Stale(7))
    desk.say("n3", PreVote(6, 1, 9, 9))
    assert desk.answer(Stale) == Stale(7)


def test_who_hears_a_leader_refuses_elections_and_keeps_its_term(desk):
    """H16: stickiness."""
    desk.follow(1)
    desk.sync()
    desk.sent()
    desk.now_s += 0.5
    desk.say("n3", PreVote(9, 1, 50, 9))
    assert not desk.answer(PreVoteReply).granted
    desk.say("n3", RequestVote(9, 50, 9, False))
    desk.sync()
    assert (desk.sent(), desk.guard.term, desk.guard.leader_id) == ([], 1, "n2")
    desk.now_s += 0.11
    desk.say("n3", PreVote(9, 1, 50, 9))
    assert desk.answer(PreVoteReply).granted
    desk.say("n3", RequestVote(9, 50, 9, False))
    assert desk.guard.term == 9


def test_a_leader_refuses_elections(desk):
    term = desk.lead()
    desk.say("n3", PreVote(9, 1, 50, 9))
    assert not desk.answer(PreVoteReply).granted
    desk.say("n3", RequestVote(10, 50, 9, False))
    assert (desk.raw_role, desk.guard.term) == (adapter.LEADER, term)


def test_an_election_that_the_leader_asked_for_passes(desk):
    desk.follow(1)
    desk.sync()
    desk.sent()
    desk.say("n3", RequestVote(2, 2, 1, True))
    desk.sync()
    assert desk.sent() == [("n3", Vote(2))]


def test_only_its_leader_can_make_it_campaign_at_once(desk):
    desk.follow(1)
    desk.sync()
    desk.say("n3", TimeoutNow(1))
    assert desk.raw_role == adapter.FOLLOWER
    desk.say("n2", TimeoutNow(1))
    assert (desk.raw_role, desk.guard.term) == (adapter.CANDIDATE, 2)
    desk.sync()
    assert desk.sent_of(RequestVote) == [(peer, RequestVote(2, 2, 1, True)) for peer in desk.others]


# ---- a leader whose process ended ------------------------------------------------------------------------


def following(size: int = 3, leader: str = "n2") -> Desk:
    desk = Desk(size=size)
    desk.follow(1, leader=leader)
    desk.sync()
    desk.sent()
    return desk


def asks_in_ms(desk: Desk) -> int:
    return round((desk.guard.wakes_at_s - desk.now_s) * 1000)


@pytest.mark.parametrize(("size", "leader", "in_ms"), [(3, "n2", 30), (3, "n3", 30), (7, "n7", 30)])
def test_the_first_of_those_left_asks_after_the_lead(size, leader, in_ms):
    desk = following(size, leader)
    desk.guard.peer_gone(leader, desk.now_s)
    assert (asks_in_ms(desk), desk.guard.leader_id) == (in_ms, None)
    desk.wait(in_ms / 1000)
    assert [peer for peer, _ in desk.sent_of(PreVote)] == desk.others


def test_each_has_a_slot_of_its_own_and_another_one_when_all_had_theirs():
    slots = []
    for place in range(4):
        elections = Elections(5, SeededRandom(1), (600, 1_200), 10.0)
        elections.leader_gone(place, 4, 10.0)
        slots.append([])
        while elections.deadline_s < 10.6:
            slots[-1].append(round((elections.deadline_s - 10.0) * 1000))
            elections.ask_prevotes("n1", elections.deadline_s)
    assert slots == [[30, 330], [105, 405], [180, 480], [255, 555]]


def test_after_the_shorter_time_out_the_drawn_timer_goes_on():
    desk = following()
    desk.guard.peer_gone("n2", desk.now_s)
    begun_s = desk.now_s
    while desk.now_s < begun_s + 0.6:
        desk.now_s = desk.guard.wakes_at_s
        desk.tick()
    assert desk.guard.wakes_at_s - desk.now_s >= 0.6
    desk.guard.peer_gone("n2", desk.now_s)  # it is told with each try to reach it
    assert desk.guard.wakes_at_s - desk.now_s >= 0.6
    assert desk.guard.terms_begun == 0


def test_stickiness_is_over_with_the_process_of_the_leader():
    desk = following()
    desk.say("n3", PreVote(1, 1, 50, 1))
    assert not desk.answer(PreVoteReply).granted
    desk.guard.peer_gone("n2", desk.now_s)
    desk.say("n3", PreVote(1, 2, 50, 1))
    assert desk.answer(PreVoteReply).granted
    desk.say("n3", RequestVote(2, 50, 1, False))
    desk.sync()
    assert desk.sent() == [("n3", Vote(2))]


def test_who_grants_a_prevote_lets_its_own_turn_pass():
    desk = following()
    desk.guard.peer_gone("n2", desk.now_s)
    desk.say("n3", PreVote(1, 1, 50, 1))
    assert asks_in_ms(desk) == 150
    desk.say("n3", RequestVote(2, 50, 1, False))
    assert asks_in_ms(desk) >= 600


def test_what_is_heard_of_the_leader_takes_it_back():
    desk = following()
    desk.guard.peer_gone("n2", desk.now_s)
    desk.say("n2", append(1, 2, 1))
    assert (asks_in_ms(desk) >= 600, desk.guard.leader_id) == (True, "n2")
    desk.sent()
    desk.say("n3", PreVote(1, 1, 50, 1))
    assert not desk.answer(PreVoteReply).granted
    desk.guard.peer_gone("n2", desk.now_s)
    assert asks_in_ms(desk) == 30, "it may end once more"


def test_the_end_of_another_process_means_nothing():
    desk = following()
    due_s = desk.guard.wakes_at_s
    desk.guard.peer_gone("n3", desk.now_s)
    assert (desk.guard.wakes_at_s, desk.guard.leader_id) == (due_s, "n2")
    desk.say("n3", PreVote(1, 1, 50, 1))
    assert not desk.answer(PreVoteReply).granted


def test_a_leader_goes_on_without_the_others():
    desk = Desk()
    term = desk.lead()
    for peer in desk.others:
        desk.guard.peer_gone(peer, desk.now_s)
    assert (desk.raw_role, desk.guard.term) == (adapter.LEADER, term)


# ---- check-quorum ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_leader_that_no_majority_answers_steps_down(size):
    """H9: stock serves stale reads for 30 s."""
    desk = Desk(size=size)
    term = desk.lead()
    desk.guard.propose(b"x")
    heard = desk.others[: size // 2 - 1]
    for _ in range(15):
        for peer in heard:
            desk.say(peer, ack(term, 1))
        desk.wait(0.1)
    assert (desk.raw_role, desk.guard.role, desk.guard.term) == (adapter.FOLLOWER, Role.FOLLOWER, term)
    with pytest.raises(NotLeader):
        desk.guard.propose(b"y")


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_leader_that_a_majority_answers_goes_on(size):
    desk = Desk(size=size)
    term = desk.lead()
    for _ in range(50):
        for peer in desk.others[: size // 2]:
            desk.say(peer, ack(term, 1))
        desk.wait(0.1)
    assert (desk.raw_role, desk.guard.term) == (adapter.LEADER, term)


def test_answers_of_another_term_or_of_strangers_are_no_quorum(desk):
    term = desk.lead()
    for _ in range(15):
        desk.say("n2", ack(term - 1, 1))
        desk.say("n9", ack(term, 1))
        desk.wait(0.1)
    assert desk.raw_role == adapter.FOLLOWER
