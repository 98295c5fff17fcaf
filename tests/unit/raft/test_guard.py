from __future__ import annotations

import pytest

from tq import limits
from tq.errors import Backpressure, InternalError, InvalidRequest, NotLeader, Unsupported
from tq.raft.guard import Guard, Outcome, ProposalEnd, Role, RoleChange
from tq.raft.journal import Journal
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom

from .rig import depose, journal_on


def guard_on(journal: Journal, peers: list[str] | None = None) -> Guard:
    return Guard(
        node_id="n1", peers=peers or [], journal=journal, random=SeededRandom(1), now_s=0.0,
        election_ms=(600, 1_200), heartbeat_ms=150,
    )  # fmt: skip


def sync(guard: Guard, journal: Journal) -> None:
    journal.sync()
    guard.synced()


@pytest.fixture
def journal() -> Journal:
    return journal_on(SimDisk())


@pytest.fixture
def leader(journal) -> Guard:
    guard = guard_on(journal)
    guard.tick(0.0)
    sync(guard, journal)
    guard.tick(0.0)
    assert guard.role is Role.LEADER
    guard.take_changes()
    return guard


def test_alone_it_leads_at_once_but_says_so_only_when_its_first_entry_is_synced(journal):
    guard = guard_on(journal)
    assert guard.wants_tick
    guard.tick(0.0)
    assert (guard.role, guard.term, guard.committed_index) == (Role.CANDIDATE, 1, 1)
    assert journal.needs_sync
    with pytest.raises(NotLeader):
        guard.propose(b"x")
    assert guard._core.commit_index == 2  # SyncObj counts itself; the guard does not
    sync(guard, journal)
    assert (guard.role, guard.leader_id, guard.committed_index) == (Role.LEADER, "n1", 2)
    assert guard.take_changes() == [RoleChange(Role.CANDIDATE, 1, None), RoleChange(Role.LEADER, 1, "n1")]
    assert guard.take_changes() == []
    assert not guard.wants_tick


def test_it_never_ticks_over_what_is_not_synced(leader, journal):
    """SyncObj would count the entry as committed (H5; line 660)."""
    leader.propose(b"x")
    leader.tick(0.1)
    assert (journal.last_index, leader.committed_index) == (3, 2)
    assert not leader.may_tick
    with pytest.raises(InternalError, match="may not tick before its log is synced"):
        leader.tick(0.2)
    job = journal.begin_sync()
    assert not leader.may_tick
    job.run()
    leader.synced()
    assert leader.committed_index == 2
    journal.end_sync(job, None)
    leader.synced()
    assert leader.may_tick
    leader.tick(0.3)
    assert leader.committed_index == 3


def test_it_does_not_campaign_over_what_is_not_synced(journal):
    guard = guard_on(journal)
    journal.set_term(4, None)
    with pytest.raises(InternalError, match="may not tick"):
        guard.tick(0.0)


def test_proposals_get_the_term_and_index_they_are_committed_at(leader, journal):
    places = [leader.propose(b"a"), leader.propose(b"b"), leader.propose(b"c")]
    assert places == [(1, 3), (1, 4), (1, 5)]
    leader.tick(0.1)
    assert leader.propose(b"d") == (1, 6)
    sync(leader, journal)
    leader.tick(0.2)
    assert leader.committed_index == 5
    assert [journal.payload(index) for index in (3, 4, 5)] == [b"\x01a", b"\x01b", b"\x01c"]
    assert leader.take_outcomes() == [Outcome(1, index, ProposalEnd.COMMITTED) for index in (3, 4, 5)]
    sync(leader, journal)
    leader.tick(0.3)
    assert leader.take_outcomes() == [Outcome(1, 6, ProposalEnd.COMMITTED)]
    assert leader.take_outcomes() == []


def test_when_leadership_goes_all_proposals_end(leader, journal):
    """H9: none may hang."""
    leader.propose(b"in the log")
    leader.tick(0.1)
    leader.propose(b"waiting")
    depose(leader, term=7)
    sync(leader, journal)
    assert (leader.role, leader.term, leader.leader_id) == (Role.FOLLOWER, 7, None)
    assert leader.take_outcomes() == [Outcome(1, 3, ProposalEnd.UNKNOWN), Outcome(1, 4, ProposalEnd.LOST)]
    with pytest.raises(NotLeader):
        leader.propose(b"x")
    leader.tick(0.2)
    sync(leader, journal)
    leader.tick(0.3)
    assert (leader.role, leader.term, leader.committed_index) == (Role.LEADER, 8, 4)
    assert [change.term for change in leader.take_changes()] == [7, 8, 8]
    assert leader.propose(b"y") == (8, 5)
    assert leader.take_outcomes() == []


@pytest.mark.parametrize("size", [0, limits.ENTRY_BYTES_MAX + 1])
def test_entries_have_bounds(leader, size):
    with pytest.raises(InvalidRequest):
        leader.propose(bytes(size))


def test_proposals_in_flight_have_bounds(leader, journal):
    for _ in range(limits.RAFT_PROPOSALS_MAX):
        leader.propose(b"x")
    with pytest.raises(Backpressure):
        leader.propose(b"x")
    leader.tick(0.1)
    with pytest.raises(Backpressure):
        leader.propose(b"x")
    sync(leader, journal)
    leader.tick(0.2)
    big = bytes(limits.ENTRY_BYTES_MAX)
    for _ in range(limits.RAFT_PROPOSALS_BYTES_MAX // limits.ENTRY_BYTES_MAX):
        leader.propose(big)
    with pytest.raises(Backpressure):
        leader.propose(b"x")


def test_messages_of_strangers_are_dropped(leader, journal):
    """H7, H11: nobody is a member but this node, so no vote, append or admin message of anybody counts."""
    for message in (b"", b"\x80", b'{"type": "response_vote"}'):
        leader.receive("n9", message, 0.1)
    leader.tick(0.1)
    assert (leader.strangers, leader.role, leader.term) == (3, Role.LEADER, 1)
    assert leader.take_messages() == []


def test_a_group_has_a_bound(journal):
    with pytest.raises(Unsupported, match="at most 7"):
        guard_on(journal, peers=[f"n{number}" for number in range(2, 9)])
    guard_on(journal, peers=["n1"])


def test_a_commit_index_that_goes_back_stops_the_node(leader):
    leader.committed_index += 1
    with pytest.raises(InternalError, match="went back"):
        leader.synced()
