from __future__ import annotations

import itertools

import attrs
import pytest

from tq.errors import ConfigError, DataDamaged, StorageFailed
from tq.raft.identity import FILE_NAME, Identity
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom

IDS = ["n1", "n2", "n3"]
PAIRS = [("n1", "n2"), ("n1", "n3"), ("n2", "n3")]


class Group:
    """Nodes with disks; two of them meet when ``meet`` says so."""

    def __init__(self, ids: list[str] = IDS) -> None:
        self.ids = ids
        self.disks = {id: SimDisk() for id in ids}
        self.random = SeededRandom(1)
        self.nodes = {id: self.open(id) for id in ids}

    def open(self, id: str, has_journal: bool = False) -> Identity:
        return Identity(self.disks[id], self.random, node_id=id, peers=self.ids, has_journal=has_journal)

    def restart(self, id: str) -> Identity:
        self.disks[id].power_loss(self.random)
        self.nodes[id] = self.open(id)
        return self.nodes[id]

    def meet(self, one: str, other: str) -> tuple[str | None, str | None]:
        """Each judges the other. What each says of the other."""
        first, second = self.nodes[one], self.nodes[other]
        mine, theirs = first.ident(), second.ident()
        return first.judge(theirs), second.judge(mine)


def test_a_group_of_one_is_formed_at_once_and_stays() -> None:
    group = Group(["n1"])
    first = group.nodes["n1"].ident()
    assert first.cluster_id is not None
    assert group.restart("n1").ident() == first


@pytest.mark.parametrize("order", list(itertools.permutations(PAIRS)))
def test_all_compute_the_same_cluster_whatever_the_order(order: list[tuple[str, str]]) -> None:
    group = Group()
    for one, other in order * 2:
        assert group.meet(one, other) == (None, None)
    for one, other in order:
        group.meet(one, other)
    assert {node.cluster_id for node in group.nodes.values()} == {group.nodes["n1"].cluster_id}
    assert all(node.is_formed for node in group.nodes.values())


def test_it_takes_all_twice() -> None:
    group = Group()
    n1 = group.nodes["n1"]
    group.meet("n1", "n2")
    assert n1.waits_for == ["n3"]
    assert n1.cluster_id is None
    group.meet("n1", "n3")  # n1 has promised; the others have not heard of each other
    assert n1.cluster_id is not None
    assert not n1.is_formed
    assert n1.waits_for == ["n2", "n3"]
    group.meet("n2", "n3")
    assert n1.waits_for == ["n2", "n3"]
    group.meet("n1", "n2")
    group.meet("n1", "n3")
    assert n1.is_formed


def test_a_promise_and_a_forming_outlive_restarts() -> None:
    group = Group()
    group.meet("n1", "n2")
    group.meet("n1", "n3")
    promised = group.nodes["n1"].cluster_id
    for id in IDS:
        group.restart(id)
    assert group.nodes["n1"].cluster_id == promised
    group.meet("n2", "n3")
    group.meet("n2", "n1")
    group.meet("n3", "n1")
    assert group.meet("n1", "n2") == (None, None)
    assert group.meet("n1", "n3") == (None, None)
    assert group.nodes["n1"].is_formed
    assert group.restart("n1").is_formed
    assert group.nodes["n1"].cluster_id == promised


@pytest.mark.parametrize("meetings", range(1, 12))
def test_no_disk_is_lost_unnoticed_once_anybody_may_vote(meetings: int) -> None:
    """Whoever is wiped after that is refused by both others, whatever they had heard by then; so no two groups form."""
    for wiped in IDS:
        group = Group()
        for one, other in (PAIRS * 4)[:meetings]:
            group.meet(one, other)
        voters = [id for id in IDS if group.nodes[id].is_formed]
        if not voters:
            continue
        group.disks[wiped] = SimDisk()
        group.nodes[wiped] = group.open(wiped)
        for _ in range(3):
            for one, other in PAIRS:
                said = group.meet(one, other)
                if wiped in (one, other):
                    assert "another data directory" in (said[1] if one == wiped else said[0] or "")
        assert not group.nodes[wiped].is_formed
        assert {group.nodes[id].cluster_id for id in IDS if id != wiped} == {
            group.nodes[voters[0]].cluster_id or b""
        } or (wiped in voters)


def test_nodes_of_two_clusters_refuse_each_other() -> None:
    one, two = Group(["n1", "n2"]), Group(["n1", "n2"])
    two.random = SeededRandom(2)
    one.meet("n1", "n2")
    one.meet("n1", "n2")
    two.disks = {id: SimDisk() for id in two.ids}
    two.nodes = {id: two.open(id) for id in two.ids}
    two.meet("n1", "n2")
    said = one.nodes["n1"].judge(two.nodes["n2"].ident())
    assert said == "n2 belongs to another cluster than n1"


def test_who_is_not_listed_or_has_our_name_is_refused() -> None:
    group = Group()
    ident = group.nodes["n2"].ident()
    n1 = group.nodes["n1"]
    assert "not in cluster.peers" in (n1.judge(attrs.evolve(ident, node_id="n9")) or "")
    assert "same node.id" in (n1.judge(attrs.evolve(ident, node_id="n1")) or "")
    assert "no incarnation" in (n1.judge(attrs.evolve(ident, incarnation=None)) or "")
    assert n1.waits_for == ["n2", "n3"]


def test_a_directory_of_another_node_is_refused() -> None:
    group = Group()
    group.disks["n2"] = group.disks["n1"]
    with pytest.raises(ConfigError, match='belongs to "n1"'):
        group.open("n2")


def test_a_changed_list_is_refused_once_formed() -> None:
    group = Group(["n1", "n2"])
    group.meet("n1", "n2")
    group.meet("n1", "n2")
    group.ids = ["n1", "n2", "n4"]
    with pytest.raises(ConfigError, match="was formed by n1, n2"):
        group.open("n1")


def test_a_lost_or_damaged_file_stops_the_node() -> None:
    group = Group(["n1"])
    disk = group.disks["n1"]
    file = disk.open(FILE_NAME)
    file.truncate(file.size() - 1)
    with pytest.raises(DataDamaged, match="checksum"):
        group.open("n1")
    disk.remove(FILE_NAME)
    with pytest.raises(DataDamaged, match="missing"):
        group.open("n1", has_journal=True)


def test_who_names_a_later_admission_is_heard_and_the_log_decides_when_there_is_one() -> None:
    group = Group()
    for one, other in PAIRS * 3:
        group.meet(one, other)
    n1 = group.nodes["n1"]
    founder = group.nodes["n2"].ident()
    lost = attrs.evolve(founder, incarnation=b"x" * 16)
    rebuilt = attrs.evolve(lost, admitted_index=9)
    assert (n1.judge(founder), n1.judge(rebuilt)) == (None, None)
    assert "run tq cluster rebuild" in (n1.judge(lost) or "")
    asked: list[tuple[str, bytes, int]] = []

    def refusal(name: str, incarnation: bytes, index: int) -> str | None:
        asked.append((name, incarnation, index))
        return "rebuilt" if incarnation == founder.incarnation else None

    n1.refusal = refusal
    assert (n1.judge(founder), n1.judge(rebuilt)) == ("rebuilt", None)
    assert asked[1] == ("n2", b"x" * 16, 9)
    assert n1.is_ruled_out(founder)
    assert not n1.is_ruled_out(rebuilt)
    assert "another cluster" in (n1.judge(attrs.evolve(rebuilt, cluster_id=b"o" * 16)) or "")


def test_a_disk_that_fails_stops_the_node_before_it_says_who_it_is() -> None:
    disk = SimDisk()
    disk.fail_sync()
    with pytest.raises(StorageFailed):
        Identity(disk, SeededRandom(1), node_id="n1", peers=IDS, has_journal=False)


def test_the_power_may_go_at_any_step_of_forming() -> None:
    """Either the group is formed, with the same id, or it is not yet; the incarnation never changes once told."""
    for seed in range(30):
        group = Group(["n1", "n2"])
        group.random = SeededRandom(seed)
        told = {id: node.ident().incarnation for id, node in group.nodes.items()}
        for _ in range(3):
            group.restart("n1")
            group.meet("n1", "n2")
            group.restart("n2")
        group.meet("n1", "n2")
        group.meet("n1", "n2")
        assert group.nodes["n1"].is_formed
        assert {id: node.ident().incarnation for id, node in group.nodes.items()} == told
        assert group.nodes["n1"].cluster_id == group.nodes["n2"].cluster_id is not None
