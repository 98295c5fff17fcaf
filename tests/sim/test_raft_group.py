"""Scripts for a whole group: nodes, disks and network are simulated, the rest is what runs in production."""

from __future__ import annotations

import pytest

from tq import limits
from tq.errors import DataDamaged, InternalError, NotLeader, StorageFailed
from tq.raft.guard import ProposalEnd
from tq.raft.node import Entry, Node
from tq.raft.sync import InlineSync
from tq.sim.checkers.breach import Breach
from tq.sim.disk import PowerLoss
from tq.sim.group import ELECTION_MS, SimGroup
from tq.sim.platter import Platter


def started(size: int = 3, seed: int = 1, **options: object) -> SimGroup:
    group = SimGroup(seed, size, **options)  # type: ignore[arg-type]
    group.start_all()
    group.elect()
    return group


def others(group: SimGroup, name: str) -> list[str]:
    return [other for other in group.members if other != name]


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_a_group_forms_and_commits(size):
    group = started(size)
    for number in range(20):
        group.commit(b"%d" % number)
    assert len(group.leaders.by_term) == 1
    group.finish()


@pytest.mark.parametrize("size", [3, 5, 7])
def test_it_goes_on_while_a_majority_lives_and_no_further(size):
    group = started(size)
    for number in range(size // 2):
        leader = group.elect()
        group.commit(b"before %d" % number)
        group.kill(leader)
        group.commit(b"after %d" % number)
    group.kill(group.elect())
    group.run(3_000)
    assert group.leader() is None
    group.finish()


def test_a_change_of_leader_takes_about_an_election():
    for seed in range(10):
        group = started(3, seed)
        group.commit(b"x")
        group.kill(group.elect())
        took_ms = group.run_until(lambda group=group: group.leader() is not None, 5_000, "a new leader")  # type: ignore[misc]
        assert took_ms < 2 * ELECTION_MS[1]


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_leader_whose_process_ends_is_replaced_at_once(size):
    for seed in range(20):
        group = started(size, seed)
        group.commit(b"x")
        group.kill(group.elect())
        took_ms = group.run_until(lambda group=group: group.leader() is not None, 5_000, "a new leader")  # type: ignore[misc]
        assert took_ms < ELECTION_MS[0] / 3, seed
        assert len(group.leaders.by_term) == 2, seed


def test_who_is_told_of_an_end_that_is_none_deposes_nobody():
    """Again and again, at one of them: the others hear the leader."""
    group = started()
    leader = group.elect()
    for _ in range(100):
        group.tell_gone(others(group, leader)[0], leader)
        group.run(30)
    assert (group.leader(), len(group.leaders.by_term)) == (leader, 1)
    group.finish()


def test_who_is_cut_off_and_told_of_an_end_that_is_none_deposes_nobody():
    group = started()
    leader = group.elect()
    away = others(group, leader)[0]
    group.network.cut(leader, away)
    for _ in range(20):
        group.tell_gone(away, leader)
        group.run(200)
    assert (group.leader(), len(group.leaders.by_term)) == (leader, 1)
    group.finish()


def test_untruths_all_around_cost_elections_and_nothing_else():
    """Terms begun are few, too: a word is good for one round of turns."""
    group = started()
    for number in range(100):
        leader = group.elect()
        for other in others(group, leader):
            group.tell_gone(other, leader)
        group.commit(b"%d" % number)
        group.run(20)
    assert max(group.leaders.by_term) <= 101
    group.finish()


def test_an_idle_group_keeps_its_leader():
    group = started(5)
    group.run(20_000)
    assert len(group.leaders.by_term) == 1


def test_a_node_that_comes_back_from_a_partition_deposes_nobody():
    """H16."""
    group = started()
    leader = group.elect()
    away = others(group, leader)[0]
    group.network.isolate(away, group.members)
    group.run(20_000)
    group.commit(b"x")
    group.network.heal()
    group.run(5_000)
    assert (group.leader(), len(group.leaders.by_term)) == (leader, 1)
    group.finish()


def test_a_node_that_only_hears_deposes_nobody():
    """It hears the leader, and nobody hears it; then the other way round, as a switch may fail."""
    group = started(5)
    leader = group.elect()
    away = others(group, leader)[0]
    for other in others(group, away):
        group.network.cut(away, other)
    group.run(10_000)
    group.network.heal()
    group.network.cut(leader, away)
    group.run(10_000)
    assert (group.leader(), len(group.leaders.by_term)) == (leader, 1)
    group.finish()


def test_a_leader_that_is_cut_off_steps_down_and_its_tail_is_replaced():
    """H9: its proposals end, its reads too, and nobody reads what is old."""
    group = started()
    old = group.elect()
    group.commit(b"before")
    group.network.isolate(old, group.members)
    for number in range(5):
        group.propose(old, b"tail %d" % number)
    group.read_index(old)
    group.run(2 * ELECTION_MS[1])
    assert not group.node(old).is_leader
    assert group.promises.ends[ProposalEnd.UNKNOWN] == 5
    assert group.promises.reads_answered == 0
    with pytest.raises(NotLeader):
        group.read_index(old)
    group.commit(b"of the new leader")
    group.finish()
    assert b"tail 0" not in [entry.data for entry in group.committed.entries.values()]


def test_a_leader_that_hears_nobody_but_is_heard_steps_down():
    """One-way: its heartbeats keep the others quiet until check-quorum ends it."""
    group = started()
    old = group.elect()
    for other in others(group, old):
        group.network.cut(other, old)
    group.run_until(lambda: group.leader() not in (None, old), 5_000, "another leader")
    group.commit(b"x")
    group.finish()


def test_a_paused_leader_comes_back_to_another_term():
    group = started()
    old = group.elect()
    group.commit(b"a")
    group.propose(old, b"under way")
    group.members[old].paused = True
    group.run(3_000)
    group.commit(b"b")
    group.members[old].paused = False
    group.read_index(old)  # it does not know yet
    group.run(1_000)
    group.finish()


def test_all_disks_keep_what_was_told_when_the_power_goes_everywhere():
    group = started(5)
    for number in range(30):
        group.commit(b"%d" % number)
    for name in list(group.members):
        group.power_loss(name)
    group.start_all()
    group.finish()
    assert [entry.data for entry in group.committed.entries.values() if entry.data][:30] == [
        b"%d" % n for n in range(30)
    ]


def test_the_stored_commit_index_is_not_ahead_of_the_group():
    """H5: a leader has synced a tail over several segments that nobody else has; after a restart it is not committed."""
    group = started(segment_bytes=600)
    old = group.elect()
    group.commit(b"before")
    group.network.isolate(old, group.members)
    committed = group.node(old).commit_index
    for number in range(20):
        group.propose(old, b"tail %d" % number + bytes(100))
        group.run(5)
    assert group.node(old).durable_index > committed + 15
    group.power_loss(old)
    group.start(old)
    assert group.node(old).commit_index <= committed
    group.run(2_000)
    group.commit(b"after")
    group.finish()


def test_a_node_with_an_empty_log_catches_up_under_load():
    group = started(segment_bytes=4096)
    late = others(group, group.elect())[0]
    group.kill(late)
    for number in range(300):
        group.commit(b"%d " % number + bytes(200))
    group.start(late)
    for number in range(50):
        group.commit(b"more %d" % number)
    group.finish()


def test_catching_up_costs_about_what_is_missing():
    """H2, H14: nothing is sent again and again."""
    group = started()
    late = others(group, group.elect())[0]
    group.kill(late)
    data = bytes(10_000)
    for _ in range(100):
        group.commit(data)
    sizes: list[int] = []
    send = group.network.send

    def count(now_ms: int, sender: str, to: str, message: bytes) -> None:
        if to == late:
            sizes.append(len(message))
        send(now_ms, sender, to, message)

    group.network.send = count  # type: ignore[method-assign]
    group.start(late)
    group.finish()
    assert 900_000 < sum(sizes) < 2_500_000


@pytest.mark.parametrize("size", [128 * limits.KIB, 5 * limits.MIB])
def test_large_entries_pass(size):
    """H12."""
    group = started()
    index = group.commit(bytes(size))
    group.finish()
    assert group.committed.entries[index].data == bytes(size)


def test_slow_disks_cost_no_leader():
    """Signs of life do not wait for a sync, even if it takes longer than an election."""
    group = SimGroup(3, 3)
    for member in group.members.values():
        member.sync_ms = (1, 2)
    group.start_all()
    leader = group.elect()
    for member in group.members.values():
        member.sync_ms = (450, 600)
    for number in range(30):
        group.propose(leader, b"%d" % number)
        group.run(100)
    group.run(3_000)
    assert len(group.leaders.by_term) == 1
    group.finish()


def test_a_disk_that_fails_stops_its_node_and_no_other():
    group = started(expected=(StorageFailed,))
    leader = group.elect()
    group.commit(b"before")
    group.members[leader].disk.fail_sync()
    group.propose(leader, b"never synced by the leader")
    group.run(10)
    assert group.members[leader].node is None
    group.commit(b"after")
    group.finish()


def test_a_full_disk_acknowledges_nothing():
    """H5: stock acknowledges on ENOSPC."""
    group = started(expected=(StorageFailed,))
    leader = group.elect()
    for name in others(group, leader):
        group.members[name].disk.fill_after(300)
    try:
        for number in range(5):
            group.propose(leader, b"%d " % number + bytes(200))
            group.run(20)
    except NotLeader:
        pass
    stopped = [name for name in group.members if group.members[name].node is None]
    assert sorted(stopped) == others(group, leader)
    for name in stopped:
        group.members[name].disk.fill_after(1 << 40)
    group.finish()


@pytest.mark.parametrize("seed", range(6))
def test_a_disk_that_skips_most_syncs_is_found_or_does_no_harm(seed):
    """It may lose what was acknowledged, and then cannot be safe; what can be known is told, and nothing is forged:
    a node that lost entries refuses to start, is told by the leader, or has lost only what the others still have."""
    group = SimGroup(seed, 3, expected=(DataDamaged, InternalError))
    liar = group.members["n1"]
    chance = group.random.fork()
    group.start_all()
    group.elect()
    group.trusted = False
    liar.disk.lie(lambda: chance.below(100) < 80)
    found = 0
    for number in range(6):
        for at in range(6):
            group.commit(b"%d %d" % (number, at))
        if liar.node is not None:
            group.power_loss("n1")
        try:
            if liar.node is None:
                group.start("n1")
        except DataDamaged:
            found += 1
            break
        group.run(500)
        if liar.failures:
            found += 1
            break
    assert found or len(liar.applied) >= 36
    # the two honest disks are a majority and have all of it
    liar.disk.lie(None)
    if liar.node is not None:
        group.kill("n1")
    data = [entry.data for entry in group.committed.entries.values() if entry.data]
    assert data[:6] == [b"0 %d" % at for at in range(6)]
    group.commit(b"still going")


def test_a_follower_that_lost_what_it_acknowledged_stops():
    group = started(expected=(DataDamaged,))
    leader = group.elect()
    liar = others(group, leader)[0]
    copy = group.members[liar].disk.clone()
    for number in range(5):
        group.commit(b"%d" % number)
    group.run(100)
    group.kill(liar)
    group.members[liar].disk = copy  # an old copy of its directory
    group.trusted = False
    group.start(liar)
    group.run(1_000)
    [failure] = group.members[liar].failures
    assert "acknowledged the log up to entry" in str(failure)


def left_behind(group: SimGroup) -> str:
    """A member that needs a snapshot, and is down."""
    late = others(group, group.elect())[0]
    group.kill(late)
    for number in range(60):
        group.commit(b"%d " % number + bytes(200))
    for name in others(group, late):
        group.checkpoint(name, compact=True)
        assert group.node(name).journal.base_index > 20
    return late


def test_a_member_that_needs_what_is_compacted_gets_a_snapshot():
    group = started(segment_bytes=600)
    late = left_behind(group)
    group.start(late)
    for number in range(20):
        group.commit(b"more %d" % number)
    group.finish()
    assert group.installations == 1
    assert group.node(late).journal.base_index > 20


def test_a_snapshot_is_sent_in_parts_and_goes_on_after_a_restart_of_the_receiver():
    group = started(segment_bytes=600)
    late = left_behind(group)
    group.start(late)
    disk = group.members[late].disk
    group.run_until(lambda: any(disk.list("snapshot")), 2_000, "a part")
    group.run(8)
    name = next(iter(disk.list("snapshot")))
    size = disk.open(f"snapshot/{name}").size()
    assert name.endswith(".part")
    assert size > 2_000
    group.power_loss(late)
    group.start(late)
    kept = disk.open(f"snapshot/{name}").size()
    assert kept >= size
    group.finish()
    assert group.installations == 1


def test_a_snapshot_survives_a_change_of_leader():
    group = started(5, segment_bytes=600)
    late = left_behind(group)
    group.start(late)
    group.run_until(lambda: any(group.members[late].disk.list("snapshot")), 2_000, "a part")
    group.kill(group.elect())
    group.commit(b"x")
    group.finish()
    assert group.installations >= 1


def test_an_installation_that_is_cut_short_is_finished_at_whatever_step():
    """H6, H10: the power goes at each change and sync of the disk from the first part to the end of the installation."""
    seen = set()
    for step in range(1, 40):
        group = started(segment_bytes=600)
        late = left_behind(group)
        assert group.start(late)
        disk = group.members[late].disk
        group.run_until(lambda disk=disk: any(disk.list("snapshot")), 2_000, "a part")  # type: ignore[misc]
        disk.stop_at(disk.steps + step)
        life = group.members[late].lives
        group.run(200)
        went_out = group.members[late].node is None
        seen |= {name.rpartition(".")[2] for name in disk.list("snapshot")} if went_out else set()
        if went_out:
            group.start(late)
        group.run(300)
        group.finish()
        assert group.members[late].lives == life + went_out
    assert seen == {"part", "whole"}


def test_a_store_that_took_the_snapshot_before_the_crash_does_not_take_it_twice():
    group = started(segment_bytes=600)
    late = left_behind(group)
    group.start(late)
    disk = group.members[late].disk
    take_state = group.members[late].take_state

    def take_and_lose_power(state: list[Entry]) -> None:
        take_state(state)
        raise PowerLoss

    group.members[late].take_state = take_and_lose_power  # type: ignore[method-assign]
    group.run_until(lambda: group.members[late].node is None, 5_000, "the installation")
    assert [name.rpartition(".")[2] for name in disk.list("snapshot")] == ["whole"]
    checkpointed = group.members[late].checkpointed
    group.members[late].take_state = lambda _state: pytest.fail("it has it")  # type: ignore[method-assign]
    group.start(late)
    assert group.members[late].checkpointed == checkpointed
    assert disk.list("snapshot") == []
    group.finish()


def test_a_store_that_did_not_take_a_pending_snapshot_is_told_to():
    group = started(segment_bytes=600)
    late = left_behind(group)
    group.start(late)
    member = group.members[late]

    def lose_power(_state: list[Entry]) -> None:
        raise PowerLoss

    take_state, member.take_state = member.take_state, lose_power  # type: ignore[method-assign]
    group.run_until(lambda: member.node is None, 5_000, "the installation")
    with pytest.raises(InternalError, match=r"install snapshot/.*\.whole in it first"):
        Node(
            node_id=late, peers=others(group, late), disk=member.disk, clock=member.clock, random=group.random,
            sync=InlineSync(member.clock), applied_index=member.checkpointed, election_ms=(200, 400), heartbeat_ms=50,
        )  # fmt: skip
    member.take_state = take_state  # type: ignore[method-assign]
    group.start(late)
    group.finish()


def test_the_log_is_kept_for_members_that_were_away_for_a_while():
    group = SimGroup(1, 3, segment_bytes=600)
    group.keep_bytes = 20_000
    group.start_all()
    late = others(group, group.elect())[0]
    group.kill(late)
    for number in range(40):
        group.commit(b"%d " % number + bytes(200))
    for name in others(group, late):
        group.checkpoint(name, compact=True)
    group.start(late)
    group.finish()
    assert group.installations == 0


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_member_without_room_for_a_snapshot_goes_on_without_it_and_gets_it_when_there_is_room(seed):
    group = started(seed=seed, segment_bytes=600)
    late = left_behind(group)
    disk = group.members[late].disk
    disk.fill_after(4_000)
    group.start(late)
    for number in range(20):
        group.commit(b"beside it %d" % number)
        group.run(100)
    assert group.node(late).snapshot_refusal is not None
    assert group.installations == 0
    assert len(group.leaders.by_term) == 1, "it answers, and deposes nobody"
    disk.mend()
    group.finish()
    assert group.installations == 1
    assert group.node(late).snapshot_refusal is None


def test_the_group_notices_what_it_is_there_to_notice():
    """The watch itself: an entry that is handed out and is on one disk only."""
    group = started()
    group.commit(b"x")
    group.members["n1"].platter = Platter()
    group.members["n2"].platter = Platter()
    with pytest.raises(Breach):
        group.committed.on_majority(group.committed.entries[3], group._holders(group.committed.entries[3]), 3)
    with pytest.raises(Breach, match="not within"):
        group.run_until(lambda: False, 100, "never")


def test_the_same_seed_is_the_same_story():
    def story() -> list[object]:
        group = started(5, 9)
        group.network.loss_permille = 50
        for number in range(20):
            group.commit(b"%d" % number)
        group.kill(group.elect())
        group.commit(b"x")
        return [group.now_ms, group.network.sent, sorted(group.leaders.by_term.items())]

    assert story() == story()


def test_no_entry_is_handed_out_before_the_store_has_the_snapshot():
    group = started(segment_bytes=600)
    late = left_behind(group)
    group.start(late)
    node = group.node(late)
    install, installed = group._install, []
    group._install = lambda member, _node: installed.append(member.name)  # type: ignore[method-assign, assignment]
    group.run_until(lambda: bool(installed), 5_000, "the installation")
    group.commit(b"more")
    group.run(200)
    assert node.installation is not None
    assert node.take_committed(1 << 20) == []
    assert len(group.members[late].applied) < 3
    assert [name.rpartition(".")[2] for name in group.members[late].disk.list("snapshot")] == ["whole"]
    group._install = install  # type: ignore[method-assign]
    group.finish()


def test_a_jump_of_its_own_clock_is_not_taken_for_one_of_a_member_that_is_silent():
    """Else the median of the clocks moves with it, and log time jumps."""
    group = started()
    leader = group.elect()
    follower = others(group, leader)[0]
    group.run(200)
    group.kill(leader)
    group.members[follower].clock.jump_wall_ms(3_600_000)
    assert abs(group.node(follower).clock_offsets_ms[leader] + 3_600_000) < 10
