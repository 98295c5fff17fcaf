"""A member loses its disk and comes back under its name with an empty one, while the lost one may come back too."""

from __future__ import annotations

import pytest

from tq.raft.node import Entry
from tq.sim.group import Member, SimGroup


def started(size: int = 3, seed: int = 1, **options: object) -> SimGroup:
    group = SimGroup(seed, size, **options)  # type: ignore[arg-type]
    group.start_all()
    group.elect()
    return group


def others(group: SimGroup, *names: str) -> list[str]:
    return [other for other in group.members if other not in names]


def replace(group: SimGroup, name: str, within_ms: int = 10_000) -> None:
    group.run_until(lambda: group.admit(name), within_ms, f"{name} admitted")
    group.run_until(
        lambda: name in (group.node(leader).voters if (leader := group.leader()) else ()), within_ms, f"{name} votes"
    )


def payloads(entries: list[Entry]) -> list[bytes]:
    return [entry.data for entry in entries if entry.data]


@pytest.mark.parametrize("compact", [False, True], ids=["by log", "by snapshot"])
def test_it_gets_everything_and_makes_a_majority_with_any_other(compact):
    group = started(segment_bytes=600)
    for number in range(50):
        group.commit(b"%d " % number + bytes(100))
    lost = others(group, group.elect())[0]
    group.lose_disk(lost)
    for name in others(group, lost):
        group.checkpoint(name, compact=compact)
    group.commit(b"while it is away")
    replace(group, lost)
    group.commit(b"with it")
    group.run(1_000)
    assert (group.installations > 0) == compact
    for gone in others(group, lost):
        group.kill(gone)
        group.commit(b"without " + gone.encode())
        group.start(gone)
        group.run(1_000)
    group.finish()
    assert len(payloads(group.members[lost].applied)) == 55
    assert group.members[lost].applied == group.members[group.elect()].applied


def test_what_only_the_lost_disk_and_the_leader_had_is_on_another_before_the_new_one_votes():
    """n1 and n2 have it, n2 is lost, n1 dies as soon as n2 votes again: n2 and n3 must have it."""
    group = started()
    leader = group.elect()
    lost, late = others(group, leader)
    group.network.isolate(late, group.members)
    group.commit(b"accepted")
    group.lose_disk(lost)
    group.network.heal()
    group.run_until(lambda: group.admit(lost), 10_000, "admission")
    assert b"accepted" in [
        group.node(late).journal.payload(index)[1:] for index in range(2, group.node(late).last_index + 1)
    ]
    group.run_until(lambda: lost in group.node(group.elect()).voters, 5_000, "its vote")
    group.kill(group.elect())
    group.commit(b"after")
    group.finish()
    assert payloads(group.members[lost].applied)[:1] == [b"accepted"]


def test_the_next_leader_gives_the_vote_if_the_one_that_admitted_it_dies_in_between():
    group = started(5)
    leader = group.elect()
    lost = others(group, leader)[0]
    group.lose_disk(lost)
    group.admit(lost)
    group.run_until(lambda: lost not in group.node(leader).voters, 1_000, "the first list")
    group.run_until(
        lambda: sum(lost not in group.node(name).voters for name in others(group, lost)) >= 3, 1_000, "on three of four"
    )
    group.kill(leader)
    replace(group, lost)
    assert group.leader() != leader
    group.finish()


def test_an_admission_that_only_the_dead_leader_had_is_undone_and_the_old_disk_counts_again():
    """It was not committed: the truncated tail takes the list with it, and what the old disk promised holds."""
    group = started()
    old_leader = group.elect()
    lost, other = others(group, old_leader)
    group.commit(b"before")
    group.lose_disk(lost)
    group.network.isolate(old_leader, group.members)
    group.admit(lost)
    group.run(20)
    assert group.node(old_leader).joining == [lost]
    group.kill(old_leader)
    group.network.heal()
    [disk] = group.old
    group.start_old(disk)
    both = (group.node(other), disk.node)
    group.run_until(lambda: any(node and node.is_leader for node in both), 5_000, "one of the two leads")
    group.start(old_leader)
    group.run_until(lambda: group.node(old_leader).voters == ("n1", "n2", "n3"), 5_000, "the tail is cut")
    assert group.node(old_leader).admitted[lost].incarnation == disk.incarnation
    group.stop_old(disk)
    replace(group, lost)
    group.finish()


def test_the_old_disk_is_heard_by_nobody_once_another_is_admitted():
    group = started()
    leader = group.elect()
    lost = others(group, leader)[0]
    group.lose_disk(lost)
    replace(group, lost)
    group.commit(b"x")
    [disk] = group.old
    terms = len(group.leaders.by_term)
    group.start_old(disk)
    group.run(5_000)
    assert disk.node is not None
    assert not any(group._hears(member, disk) for member in group.members.values())
    assert len(group.leaders.by_term) == terms
    group.finish()
    assert b"the last one" not in payloads(disk.applied)


def test_the_old_disk_and_one_that_is_behind_cannot_lead_beside_the_new_one():
    """Both steps in one list would allow it: the old disk and n1 are a majority of the old list, the new one and n3 of the
    new list."""
    for seed in range(8):
        group = started(seed=seed)
        leader = group.elect()
        lost, behind = others(group, leader)
        group.commit(b"before")
        group.lose_disk(lost)
        group.network.isolate(behind, group.members)
        new, [disk] = group.members[lost], group.old
        group.admit(lost)
        group.run(50)
        new.admitted_index = group.node(leader).last_index  # an operator who does not wait
        new.told = {name: seat.incarnation for name, seat in group.node(leader).admitted.items()}
        group.start(lost)
        group.run(200)
        for number in range(5):
            if group.node(leader).is_leader:
                group.propose(leader, b"of one side %d" % number)
            group.run(20)
        group.network.heal()
        group.network.partition([leader, new.address], [behind, disk.address])
        group.start_old(disk)
        for _ in range(10):
            group.run(300)
            for member in group.live():
                if member.node is not None and member.node.is_leader:
                    group.propose(member.name, b"of " + member.name.encode())
        group.stop_old(disk)
        group.network.heal()
        if group.node(group.elect()).admitted[lost].incarnation != new.incarnation:
            group.kill(lost)  # what admitted it was never committed
            new.admitted_index = None
        group.finish()


def test_who_is_behind_hears_a_leader_that_it_does_not_know_and_does_not_count_it():
    """It has neither list: for it the name still has the old disk."""
    group = started(5)
    leader = group.elect()
    lost, behind = others(group, leader)[:2]
    group.network.isolate(behind, group.members)
    group.lose_disk(lost)
    replace(group, lost)
    group.commit(b"x")
    group.run(500)
    target = group.node(leader).transfer(lost)
    group.members[leader].wake_ms = group.now_ms
    group.run_until(lambda: group.leader() == target == lost, 3_000, "the rebuilt one leads")
    assert group.node(behind).admitted[lost].incarnation == group.old[0].incarnation
    group.network.heal()
    group.run_until(lambda: len(group.members[behind].applied) >= group.committed.last_index, 5_000, "it catches up")
    assert group.leader() == lost
    assert group.node(behind).admitted[lost].incarnation == group.members[lost].incarnation
    group.finish()


def test_a_disk_is_lost_twice_and_others_after_it():
    group = started()
    for number in range(6):
        group.commit(b"%d" % number)
        leader = group.elect()
        lost = others(group, leader)[number % 2]
        group.lose_disk(lost)
        replace(group, lost)
        for member in group.old:
            if member.node is None:
                group.start_old(member)
    group.commit(b"x")
    group.finish()
    assert payloads(group.members["n1"].applied)[:6] == [b"%d" % number for number in range(6)]


def test_an_empty_disk_that_nobody_admitted_does_not_take_part():
    group = started()
    lost = others(group, group.elect())[0]
    group.lose_disk(lost)
    assert not group.start(lost)
    member: Member = group.members[lost]
    member.admitted_index, member.told = 0, {name: other.incarnation for name, other in group.members.items()}
    group.start(lost)
    group.run(3_000)
    assert group.node(lost).last_index == 1
    assert not group.node(lost).voters
    group.kill(lost)
    member.admitted_index = None
    replace(group, lost)
    group.finish()
