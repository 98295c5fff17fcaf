"""Who votes: in force from the append, over restarts, rolled back with the tail; one change at a time (H4)."""

from __future__ import annotations

import pytest

from tq.errors import Backpressure, DataDamaged, InternalError, InvalidRequest, NotLeader
from tq.raft import adapter, members
from tq.raft.guard import Guard, Outcome, ProposalEnd
from tq.raft.members import PATH, Members, Voters
from tq.raft.messages import Append, PreVote, Removed, Stale
from tq.sim.disk import PowerLoss, SimDisk
from tq.sim.group import SimGroup
from tq.sim.random import SeededRandom

from .desk import Desk, ack, append
from .rig import journal_on

FIVE = ["n1", "n2", "n3", "n4", "n5"]


def entry_of(*ids: str) -> bytes:
    return members.encode(ids)


# ---- the list and its file ----------------------------------------------------------------------------------


def test_a_list_comes_back_as_it_was_in_order():
    assert members.decode(members.encode({"b", "a"}), 7) == Voters(7, ("a", "b"))
    assert members.is_members(members.encode(["a"]))
    assert not members.is_members(b"\x01")
    for wrong in (b"\x01\xff", b"\x01\xff\x01", b"\x01\xff\x81\x01", b"\x01\xff\x81\x60"):
        with pytest.raises(ValueError):
            members.decode(wrong, 7)


def test_the_last_list_counts_and_the_one_before_when_it_is_cut():
    kept = Members(SimDisk(), Voters(3, ("a",)), [])
    kept.appended(7, entry_of("a", "b"))
    kept.appended(9, entry_of("a", "b", "c"))
    assert kept.current == Voters(9, ("a", "b", "c"))
    assert kept.at(8) == Voters(7, ("a", "b"))
    assert kept.at(2) is None
    kept.cut(9)
    assert kept.current == Voters(7, ("a", "b"))
    kept.cut(5)
    assert kept.current == Voters(3, ("a",))
    with pytest.raises(InternalError, match="no list of voters"):
        kept.appended(10, b"\x01\xffnonsense")


def test_what_is_compacted_away_is_kept_in_a_file():
    disk = SimDisk()
    journal = journal_on(disk, segment_bytes=300)
    journal.set_term(1, "n1")
    for index in range(2, 40):
        journal.append(entry_of("a", f"b{index}") if index in (3, 30) else b"\x01" + b"x" * 40, index, 1)
        journal.sync()
    journal.set_commit(39)
    journal.compact(20)
    assert journal.base_index > 3
    disk.power_loss(SeededRandom(1))
    again = journal_on(disk, floor=20, segment_bytes=300)
    assert again.members.at(20) == Voters(3, ("a", "b3"))
    assert again.members.current == Voters(30, ("a", "b30"))


def test_the_file_is_durable_before_the_log_is_cut_whatever_step_is_the_last():
    for step in range(1, 60):
        disk = SimDisk()
        journal = journal_on(disk, segment_bytes=300)
        journal.set_term(1, "n1")
        for index in range(2, 30):
            journal.append(entry_of("a", "b") if index == 3 else b"\x01" + b"x" * 40, index, 1)
            journal.sync()
        disk.stop_at(disk.steps + step)
        try:
            journal.compact(25)
            done = True
        except PowerLoss:
            done = False
        disk.stop_at(None)
        disk.power_loss(SeededRandom(step))
        assert journal_on(disk, floor=25, segment_bytes=300).members.current == Voters(3, ("a", "b"))
        if done:
            return
    pytest.fail("it never came to its end")


def test_a_damaged_file_stops_the_node():
    disk = SimDisk()
    journal_on(disk)
    Members(disk, None, []).store(Voters(3, ("a", "b")))
    disk.rot(PATH, 6)
    with pytest.raises(DataDamaged, match="the list of voters is not whole"):
        journal_on(disk, floor=1)


# ---- a leader -------------------------------------------------------------------------------------------


@pytest.fixture
def desk() -> Desk:
    return Desk()


def change(desk: Desk, *voters: str) -> int:
    _, index = desk.guard.change_voters(list(voters))
    desk.tick()
    return index


def test_a_change_is_in_force_from_the_append(desk):
    """H4: four voters need three, at once."""
    term = desk.lead()
    index = change(desk, "n1", "n2", "n3", "n4")
    assert desk.guard.voters == ("n1", "n2", "n3", "n4")
    assert desk.journal.payload(index) == entry_of("n1", "n2", "n3", "n4")
    assert [peer for peer, message in desk.sent_of(Append) if message.entries] == ["n2", "n3", "n4"]
    desk.sync()
    desk.say("n2", ack(term, index))
    desk.tick()
    assert desk.guard.committed_index == index - 1
    desk.say("n4", ack(term, index))
    desk.tick()
    assert desk.guard.committed_index == index
    assert desk.guard.take_outcomes() == [Outcome(term, index, ProposalEnd.COMMITTED)]


def test_nothing_pickled_reaches_the_log(desk):
    desk.lead()
    change(desk, "n1", "n2", "n3", "n4")
    change_index = desk.journal.last_index
    desk.propose(b"x")
    assert [desk.journal.payload(index)[:1] for index in range(2, change_index + 2)] == [b"\x01"] * change_index


def test_a_second_change_waits_for_the_first(desk):
    """H4: stock's guard variable is never set."""
    term = desk.lead()
    desk.guard.change_voters(["n1", "n2", "n3", "n4"])
    with pytest.raises(Backpressure, match="not committed yet"):
        desk.guard.change_voters(["n1", "n2"])
    desk.tick()
    with pytest.raises(Backpressure):
        desk.guard.change_voters(["n1", "n2", "n3"])
    desk.sync()
    for peer in ("n2", "n3"):
        desk.say(peer, ack(term, desk.journal.last_index))
    desk.tick()
    desk.guard.change_voters(["n1", "n2", "n3"])


def test_no_change_before_the_leader_has_committed_an_entry_of_its_term(desk):
    desk.win()
    with pytest.raises(NotLeader):
        desk.guard.change_voters(["n1", "n2", "n3", "n4"])


@pytest.mark.parametrize(("voters", "why"), [
    (["n1", "n2", "n3"], "one more or one less"), (["n1"], "one more or one less"), ([], "one more or one less"),
    (["n1", "n2", "n3", "n4", "n5"], "one more or one less"), (["n1", "n2", "n4"], "one more or one less"),
    (["n1", "n2", "n3", ""], "one more or one less"), (["n2", "n3"], "hand leadership over"),
])  # fmt: skip
def test_what_is_no_single_step_is_refused(desk, voters, why):
    """The leader cannot remove itself: SyncObj refuses in silence (1405)."""
    desk.lead()
    with pytest.raises(InvalidRequest, match=why):
        desk.guard.change_voters(voters)


def test_a_group_has_at_most_seven_voters():
    desk = Desk(size=7)
    desk.lead()
    with pytest.raises(InvalidRequest, match="at most 7"):
        desk.guard.change_voters([f"n{number}" for number in range(1, 9)])


def test_what_is_proposed_cannot_pass_for_a_list(desk):
    desk.lead()
    with pytest.raises(InvalidRequest, match="0xFF"):
        desk.guard.propose(b"\xff\x81\x61a")


def test_who_is_removed_counts_no_more_and_is_told_when_that_is_committed():
    desk = Desk(size=5)
    term = desk.lead()
    index = change(desk, "n1", "n2", "n3", "n4")
    desk.sync()
    desk.say("n5", *[ack(term, index)] * 3)
    desk.say("n2", ack(term, index))
    desk.tick()
    assert desk.guard.committed_index == index - 1
    assert [peer for peer, _ in desk.sent_of(Removed)] == []
    desk.say("n3", ack(term, index))
    desk.tick()
    assert desk.guard.committed_index == index
    assert desk.sent_of(Removed) == [("n5", Removed(term, index))]
    desk.propose(b"x")
    assert "n5" not in {peer for peer, _ in desk.sent()}


def test_a_group_of_one_grows_and_shrinks_again():
    desk = Desk(size=1)
    desk.tick()
    desk.sync()
    desk.tick()
    index = change(desk, "n1", "n2")
    assert desk.guard.may_tick
    desk.sync()
    desk.tick()
    assert desk.guard.committed_index == index - 1
    assert [peer for peer, message in desk.sent_of(Append) if message.entries] == ["n2"]
    desk.say("n2", ack(desk.guard.term, index))
    desk.tick()
    assert desk.guard.committed_index == index
    ticket = desk.guard.read_index()
    index = change(desk, "n1")
    assert [end.ticket for end in desk.guard.take_reads()] == [ticket]
    assert desk.guard.committed_index == index - 1
    assert not desk.guard.may_tick
    desk.sync()
    desk.tick()
    assert desk.guard.committed_index == index


# ---- a follower -----------------------------------------------------------------------------------------


def test_a_follower_takes_the_list_from_the_append_and_drops_it_with_the_tail(desk):
    """H4: rolled back with a truncated tail."""
    desk.say("n2", append(1, 1, 0, ((1, b"\x01a"), (1, entry_of(*FIVE)))))
    assert desk.guard.voters == tuple(FIVE)
    assert desk.guard.leader_id == "n2"
    desk.sync()
    desk.say("n3", append(2, 2, 1, ((2, b"\x01b"),)))
    assert desk.guard.voters == ("n1", "n2", "n3")
    assert desk.guard._core.peers == ["n2", "n3"]


def test_it_campaigns_with_the_majority_of_the_list_in_its_log(desk):
    desk.say("n2", append(1, 1, 0, ((1, entry_of(*FIVE)),)))
    desk.sync()
    desk.sent()
    desk.wait(1.3)
    assert [peer for peer, _ in desk.sent_of(PreVote)] == FIVE[1:]


def test_an_uncommitted_list_counts_after_a_restart(desk):
    """H4: stock takes it only when it is applied."""
    desk.say("n2", append(1, 1, 0, ((1, entry_of(*FIVE)),)))
    desk.sync()
    desk.disk.crash()
    again = Desk(disk=desk.disk)
    assert again.guard.committed_index == 1
    assert again.guard.voters == tuple(FIVE)
    assert again.guard._core.peers == FIVE[1:]


def test_a_leader_that_is_deposed_drops_its_uncommitted_change(desk):
    term = desk.lead()
    change(desk, "n1", "n2", "n3", "n4")
    desk.sync()
    desk.say("n3", append(term + 1, 2, term, ((term + 1, b"\x01"),)))
    assert (desk.guard.voters, desk.guard._core.peers) == (("n1", "n2", "n3"), ["n2", "n3"])


def joiner() -> Desk:
    desk = Desk()
    desk.guard = Guard(
        node_id="n1", peers=["n2", "n3"], journal=desk.journal, random=SeededRandom(1), now_s=desk.now_s,
        election_ms=(600, 1_200), heartbeat_ms=150, joins=True,
    )  # fmt: skip
    return desk


def test_a_joiner_never_campaigns_and_votes_when_the_log_says_so():
    desk = joiner()
    for _ in range(10):
        desk.wait(1.3)
    assert (desk.sent(), desk.guard.voters, desk.guard.wakes_at_s) == ([], (), float("inf"))
    desk.say("n2", append(1, 1, 0, ((1, b"\x01a"),)))
    assert desk.guard.leader_id == "n2"
    desk.say("n2", append(1, 2, 1, ((1, entry_of("n1", "n2", "n3")),)))
    desk.sync()
    desk.sent()
    desk.wait(1.3)
    assert [peer for peer, _ in desk.sent_of(PreVote)] == ["n2", "n3"]


def test_who_was_removed_campaigns_no_more_until_it_is_added_again(desk):
    desk.follow(1)
    desk.sync()
    desk.say("n2", Removed(1, 9))
    desk.sent()
    for _ in range(5):
        desk.wait(1.3)
    assert (desk.sent(), desk.guard.removed) == ([], True)
    desk.say("n2", append(1, 2, 1, ((1, entry_of("n1", "n2", "n3", "n4")),)))
    desk.sync()
    desk.sent()
    assert not desk.guard.removed
    desk.wait(1.3)
    assert [peer for peer, _ in desk.sent_of(PreVote)] == ["n2", "n3", "n4"]


def test_a_late_word_of_an_earlier_removal_does_nothing(desk):
    desk.say("n2", append(1, 1, 0, ((1, b"\x01a"), (1, entry_of("n1", "n2", "n3", "n4")))))
    desk.say("n2", Removed(1, 2))
    assert not desk.guard.removed


def test_when_the_log_says_that_a_node_does_not_vote_it_does_not_campaign(desk):
    desk.say("n2", append(1, 1, 0, ((1, entry_of("n2", "n3")),)))
    desk.sync()
    desk.sent()
    desk.wait(1.3)
    assert desk.sent() == []
    desk.say("n2", Stale(5))
    desk.wait(1.3)
    assert (desk.raw_role, desk.sent()) == (adapter.FOLLOWER, [])


# ---- a group --------------------------------------------------------------------------------------------


def started(size: int = 3, **options: object) -> SimGroup:
    group = SimGroup(1, size, **options)  # type: ignore[arg-type]
    group.start_all()
    group.elect()
    return group


def change_in(group: SimGroup, voters: list[str]) -> None:
    leader = group.elect()
    _, index = group.change_voters(leader, voters)
    group.run_until(lambda: group.node(leader).commit_index >= index, 5_000, f"voters {voters}")


def test_a_group_grows_from_one_to_seven_and_shrinks_under_load():
    group = started(1)
    for number in range(2, 8):
        group.join(f"n{number}")
        change_in(group, [f"n{voter}" for voter in range(1, number + 1)])
        group.commit(b"%d" % number)
    leader = group.elect()
    voters = list(group.members)
    while len(voters) > 3:
        voters.remove(next(voter for voter in voters if voter != leader))
        change_in(group, voters)
        group.commit(b"%d less" % len(voters))
    group.finish()


@pytest.mark.parametrize("compact", [False, True], ids=["by log", "by snapshot"])
def test_a_joiner_catches_up_and_knows_who_votes(compact):
    group = started(segment_bytes=600)
    for number in range(50):
        group.commit(b"%d " % number + bytes(100))
    group.join("n4")
    change_in(group, ["n1", "n2", "n3", "n4"])
    group.commit(b"x")
    for name in ("n1", "n2", "n3"):
        group.checkpoint(name, compact=compact)
    group.join("n5")
    change_in(group, FIVE)
    group.finish()
    assert group.node("n5").voters == tuple(FIVE)
    assert (group.installations > 0) == compact
    for name in FIVE:
        group.kill(name)
    group.start_all()
    group.run(10)
    assert {group.node(name).voters for name in FIVE} == {tuple(FIVE)}
    group.finish()


def test_a_follower_that_has_compacted_its_log_can_lead_and_change_voters():
    """SyncObj walks over what is committed before it agrees to a change; what it walks over must be there."""
    group = started(segment_bytes=600)
    for number in range(40):
        group.commit(b"%d " % number + bytes(100))
    for name in group.members:
        group.checkpoint(name, compact=True)
        assert group.node(name).journal.base_index > 20
    old = group.elect()
    group.kill(old)
    group.run_until(lambda: group.leader() not in (None, old), 5_000, "another leader")
    group.start(old)
    group.join("n4")
    change_in(group, ["n1", "n2", "n3", "n4"])
    group.finish()


def test_a_removed_node_disturbs_nobody():
    """H16."""
    group = started()
    leader = group.elect()
    gone = next(name for name in group.members if name != leader)
    group.members[gone].paused = True
    change_in(group, [name for name in group.members if name != gone])
    group.network.drop_all()  # and the word of it is lost
    group.members[gone].paused = False
    group.run(20_000)
    assert (group.leader(), len(group.leaders.by_term)) == (leader, 1)
    group.finish()


def test_a_leader_hands_over_and_is_removed():
    group = started()
    old = group.elect()
    target = group.node(old).transfer()
    group.members[old].wake_ms = group.now_ms
    group.run_until(lambda: group.leader() == target, 2_000, "the next leader")
    change_in(group, [name for name in group.members if name != old])
    group.run(5_000)
    assert group.leader() == target
    assert group.node(old).is_removed
    group.finish()
