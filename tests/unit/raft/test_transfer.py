"""Leadership is handed over without an entry lost or a proposal left hanging."""

from __future__ import annotations

import pytest

from tq.errors import Backpressure, InvalidRequest, NotLeader
from tq.raft import adapter
from tq.raft.messages import Stale, TimeoutNow
from tq.sim.group import SimGroup

from .desk import Desk, ack


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_next_leader_is_told_once_it_has_everything_and_proposals_pause_until_then(desk):
    term = desk.lead()
    desk.propose(b"a")
    assert desk.guard.transfer("n2", desk.now_s) == "n2"
    with pytest.raises(Backpressure, match="handed over to n2"):
        desk.guard.propose(b"b")
    desk.sync()
    desk.say("n3", ack(term, 3))
    desk.tick()
    assert desk.sent_of(TimeoutNow) == []
    desk.say("n2", ack(term, 3))
    desk.tick()
    assert desk.sent_of(TimeoutNow) == [("n2", TimeoutNow(term))]
    desk.tick()
    assert desk.sent_of(TimeoutNow) == []
    desk.say("n2", Stale(term + 1))
    assert (desk.raw_role, desk.guard.transfer_target) == (adapter.FOLLOWER, None)


def test_what_is_not_synced_here_is_not_had_by_syncobj_and_waits_too(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.guard.transfer("n2", desk.now_s)
    desk.say("n2", ack(term, 3))
    desk.tick()
    assert desk.sent_of(TimeoutNow) == []
    desk.sync()
    desk.tick()
    assert desk.sent_of(TimeoutNow) == [("n2", TimeoutNow(term))]


def test_after_the_deadline_the_old_leader_goes_on(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.sync()
    desk.guard.transfer("n2", desk.now_s)
    for _ in range(13):
        desk.say("n3", ack(term, 3))
        desk.wait(0.1)
    assert desk.guard.transfer_target is None
    desk.propose(b"b")
    desk.say("n2", ack(term, 4))
    desk.tick()
    assert desk.sent_of(TimeoutNow) == []


def test_without_a_target_the_member_that_has_most_is_taken(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.say("n3", ack(term, 3))
    assert desk.guard.transfer(None, desk.now_s) == "n3"


def test_among_some_it_is_the_one_of_them_that_has_most(desk):
    term = desk.lead()
    desk.propose(b"a")
    desk.say("n3", ack(term, 3))
    assert desk.guard.transfer(None, desk.now_s, ["n2"]) == "n2"
    assert desk.guard.transfer(None, desk.now_s, ["n2", "n3"]) == "n3"


def test_who_cannot_hand_over_says_so(desk):
    with pytest.raises(NotLeader):
        desk.guard.transfer("n2", desk.now_s)
    desk.lead()
    for target in ("n1", "n9", ""):
        with pytest.raises(InvalidRequest, match="one of the other members: n2, n3"):
            desk.guard.transfer(target, desk.now_s)
    alone = Desk(size=1)
    alone.tick()
    alone.sync()
    alone.tick()
    with pytest.raises(InvalidRequest):
        alone.guard.transfer(None, alone.now_s)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_group_under_load_hands_over_and_loses_nothing(size):
    group = SimGroup(2, size)
    group.start_all()
    old = group.elect()
    for number in range(20):
        group.propose(old, b"%d" % number)
    target = group.node(old).transfer()
    group.members[old].wake_ms = group.now_ms
    took_ms = group.run_until(lambda: group.leader() == target, 2_000, "the new leader")
    assert took_ms < 60  # no time-out was waited for
    assert len(group.leaders.by_term) == 2
    group.finish()
    assert [entry.data for entry in group.committed.entries.values() if entry.data][:20] == [
        b"%d" % n for n in range(20)
    ]
