from __future__ import annotations

import pytest

from tq import limits
from tq.errors import DataDamaged, InternalError, NotLeader, StorageFailed, Unsupported
from tq.raft.node import Entry, Node, Role
from tq.raft.sync import InlineSync, ThreadSync
from tq.sim.clock import VirtualClock
from tq.sim.disk import SimDisk
from tq.sim.group import SimGroup
from tq.sim.late_sync import LateSync
from tq.sim.random import SeededRandom
from tq.world import RealClock, RealDisk, RealRandom

from .rig import commit, leader_on, node_on, take_all


def test_one_turn_makes_a_leader_and_one_commits_an_entry():
    node = node_on(SimDisk())
    assert (node.role, node.is_leader, node.leader_id, node.wait_ms()) == (Role.FOLLOWER, False, None, 0)
    with pytest.raises(NotLeader):
        node.propose(b"x")
    node.turn()
    assert (node.role, node.is_leader, node.leader_id, node.term) == (Role.LEADER, True, "n1", 1)
    assert node.wait_ms() == limits.RAFT_ALONE_WAKE_MS
    assert take_all(node) == [Entry(1, 0, b""), Entry(2, 1, b"")]
    assert node.propose(b"a") == (1, 3)
    assert node.propose(b"b") == (1, 4)
    assert node.wait_ms() == 0
    node.turn()
    assert take_all(node) == [Entry(3, 1, b"a"), Entry(4, 1, b"b")]
    assert (node.last_index, node.durable_index, node.commit_index) == (4, 4, 4)
    assert take_all(node) == []


def test_entries_are_handed_out_within_the_bytes_asked_for_but_at_least_one():
    node = leader_on(SimDisk())
    for size in (10, 10, 10, 500, 10):
        node.propose(bytes(size))
    node.turn()
    taken = []
    while some := node.take_committed(25):
        taken.append([len(entry.data) for entry in some])
    assert taken == [[10, 10], [10], [500], [10]]


def test_a_restart_begins_behind_what_the_store_has_applied():
    disk = SimDisk()
    commit(leader_on(disk), b"a", b"b", b"c")
    disk.crash()
    node = leader_on(disk, applied=5)
    assert (node.term, node.last_index) == (2, 6)
    disk.crash()
    node = node_on(disk, applied=3)
    node.turn()
    assert take_all(node) == [Entry(4, 1, b"b"), Entry(5, 1, b"c"), Entry(6, 2, b""), Entry(7, 3, b"")]


def test_a_leader_has_handed_out_all_before_it_is_one():
    """What was synced and not known to be committed is committed before LEADER is told."""
    disk = SimDisk()
    commit(leader_on(disk), b"a", b"b")
    disk.crash()
    node = node_on(disk)
    assert node.commit_index < 4
    node.turn()
    assert node.is_leader
    assert [entry.data for entry in take_all(node)] == [b"", b"", b"a", b"b", b""]


def test_each_entry_is_handed_out_once_even_if_its_taker_fails():
    """H8: the entry whose apply raised does not come again, nor does the one before."""
    node = leader_on(SimDisk())
    node.propose(b"a")
    node.propose(b"b")
    node.turn()
    first = node.take_committed(1)
    node.turn()
    assert [entry.data for entry in first + take_all(node)] == [b"a", b"b"]


def test_committed_entries_can_be_read_again():
    node = leader_on(SimDisk(), tail_bytes=0)
    commit(node, b"a", b"b", b"c")
    assert [entry.data for entry in node.read(3, 5)] == [b"a", b"b"]
    node.propose(b"d")
    with pytest.raises(InternalError, match="not committed"):
        node.read(3, 7)


def test_with_a_thread_nothing_is_committed_before_the_sync_and_the_turn_does_not_wait():
    late = LateSync()
    node = node_on(SimDisk(), sync=late)
    rings = []
    node.wake = lambda: rings.append(1)
    node.turn()
    assert late.in_flight
    assert node.role is Role.CANDIDATE
    assert (node.commit_index, node.durable_index, node.last_index) == (1, 1, 2)
    node.turn()  # nothing to do, and no harm
    assert node.wait_ms() > 0
    late.run()
    assert rings == [1]
    node.turn()
    assert node.is_leader
    node.propose(b"a")
    node.turn()
    node.propose(b"b")
    node.turn()
    assert [entry.data for entry in take_all(node)] == [b"", b""]
    assert (node.last_index, node.durable_index) == (3, 2)
    late.run()
    assert [entry.data for entry in take_all(node)] == []  # the turn takes note, not the thread
    node.turn()
    assert [entry.data for entry in take_all(node)] == [b"a"]
    late.run()
    node.turn()
    assert [entry.data for entry in take_all(node)] == [b"b"]
    assert node.wait_ms() == limits.RAFT_ALONE_WAKE_MS


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("fault", ["sync", "full"])
def test_a_failing_disk_stops_the_node_before_it_commits(late, fault):
    disk = SimDisk()
    sync = LateSync() if late else None
    node = node_on(disk, sync=sync)
    node.turn()
    if sync is not None:
        sync.run()
        node.turn()
    take_all(node)
    node.propose(b"a")
    if fault == "sync":
        disk.fail_sync()
    else:
        disk.fill_after(10)
    if sync is not None:
        node.turn()
        sync.run()
    with pytest.raises(StorageFailed):
        node.turn()
    disk.fill_after(1 << 30)
    assert node.commit_index == 2
    steps = disk.steps
    for attempt in (node.turn, lambda: node.propose(b"b"), lambda: node.take_committed(1), lambda: node.compact(1)):
        with pytest.raises(StorageFailed):
            attempt()
    assert disk.steps == steps
    node.close()


def test_a_bug_stops_the_node():
    node = leader_on(SimDisk())
    node._guard.committed_index = 99
    with pytest.raises(InternalError):
        node.turn()
    with pytest.raises(InternalError, match="has failed before"):
        node.turn()
    with pytest.raises(InternalError, match="has failed before"):
        node.propose(b"x")


def test_compaction_and_restart_behind_it():
    disk = SimDisk()
    node = leader_on(disk)
    for number in range(60):
        commit(node, b"%d" % number * 20)
    before = node.statistics()
    node.compact(50)
    after = node.statistics()
    assert after.journal_segments < before.journal_segments
    assert 1 < after.base_index <= 50
    commit(node, b"later")
    disk.crash()
    node = node_on(disk, applied=50)
    node.turn()
    assert node.is_leader
    assert [entry.index for entry in take_all(node)] == list(range(51, 65))
    disk.crash()
    with pytest.raises(DataDamaged):
        node_on(disk, applied=0)


def test_what_was_not_handed_out_is_not_compacted():
    node = leader_on(SimDisk())
    node.propose(b"a")
    node.turn()
    with pytest.raises(InternalError, match="was not handed out"):
        node.compact(3)


def test_a_store_ahead_of_the_log_is_damage():
    disk = SimDisk()
    commit(leader_on(disk), b"a")
    disk.crash()
    with pytest.raises(DataDamaged, match="the log ends at entry 3, but the store has applied 9"):
        node_on(disk, applied=9)


def test_terms_rise_with_each_life_even_if_the_power_goes():
    disk = SimDisk()
    terms = []
    for seed in range(10):
        terms.append(leader_on(disk).term)
        disk.power_loss(SeededRandom(seed))
    assert terms == list(range(1, 11))


def test_an_idle_node_does_nothing_to_the_disk():
    disk, clock = SimDisk(), VirtualClock()
    node = leader_on(disk, clock=clock)
    steps = disk.steps
    for _ in range(100):
        clock.advance_ms(500)
        node.turn()
    assert disk.steps == steps
    assert (node.term, node.last_index) == (1, 2)


def test_too_many_peers_are_refused_and_the_files_closed():
    with pytest.raises(Unsupported):
        node_on(SimDisk(), peers=[f"n{number}" for number in range(2, 9)])


def test_statistics():
    clock = VirtualClock()
    node = leader_on(SimDisk(), clock=clock)
    commit(node, b"a")
    facts = node.statistics()
    assert (facts.role, facts.term, facts.leader_id) == (Role.LEADER, 1, "n1")
    assert (facts.last_index, facts.durable_index, facts.commit_index, facts.base_index) == (3, 3, 3, 1)
    assert (facts.syncs, facts.sync_mode, facts.terms_begun, facts.election_is_short) == (2, "inline", 1, False)
    assert facts.journal_bytes == 40 + 2 * 44 + 3
    assert facts.journal_segments == 1


def test_a_real_disk(tmp_path):
    """The same through the kernel's files: segments roll, are compacted, and come back."""
    clock = RealClock()

    def start(applied: int) -> Node:
        return Node(
            node_id="n1", peers=[], disk=RealDisk(str(tmp_path)), clock=clock, random=RealRandom(),
            sync=InlineSync(clock), applied_index=applied, election_ms=(600, 1_200), heartbeat_ms=150,
            segment_bytes=2_000, tail_bytes_max=0,
        )  # fmt: skip

    node = start(0)
    node.turn()
    take_all(node)
    for number in range(50):
        commit(node, b"%d" % number * 50)
    node.compact(30)
    node.close()
    node = start(30)
    node.turn()
    entries = take_all(node)
    assert [entry.index for entry in entries] == list(range(31, 54))
    assert entries[0].data == b"28" * 50
    assert node.is_leader
    node.close()


def test_close_waits_for_the_thread_and_is_final():
    node = leader_on_thread()
    node.close()
    node.close()
    with pytest.raises(InternalError, match="closed"):
        node.turn()


def leader_on_thread():
    clock = VirtualClock()
    node = node_on(SimDisk(), sync=ThreadSync(clock), clock=clock)
    node.turn()
    return node


def test_a_group_does_not_wait_for_a_sync_to_confirm_a_read():
    """A slow disk holds up what is written, and nothing else."""
    group = SimGroup(1, 3)
    for member in group.members.values():
        member.sync_ms = (1, 2)
    group.start_all()
    leader = group.elect()
    group.run(50)
    group.members[leader].sync_ms = (400, 500)
    node = group.node(leader)
    group.propose(leader, b"x")
    group.run(5)
    assert group.members[leader].late is not None
    assert group.members[leader].late.in_flight
    node.read_index()
    assert node.wait_ms() == 0
