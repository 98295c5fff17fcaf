from __future__ import annotations

import pytest

from tq.broker.snapshots import Snapshots
from tq.raft.node import Installation

from .snapshot_rig import HeldWork, Rig


class BothRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.fill(9)
        self.works: list[HeldWork] = []
        self.snapshots = Snapshots(
            self.node, self.store, self.disk, self.clock, self._new_work, 0, lambda: None, self.wake, self.log
        )

    def _new_work(self) -> HeldWork:
        self.works.append(HeldWork())
        return self.works[-1]


@pytest.fixture
def rig() -> BothRig:
    return BothRig()


def test_the_log_may_be_cut_up_to_one_that_is_made(rig):
    assert rig.snapshots.compactable(20) == 20
    rig.node.wants_snapshot = True
    rig.snapshots.look()
    assert rig.snapshots.statistics()["is_making"]
    assert (rig.snapshots.compactable(20), rig.snapshots.compactable(5)) == (9, 5)


def test_what_is_told_of_them(rig):
    assert rig.snapshots.statistics() == {
        "made": 0, "given_up": 0, "installed": 0, "is_making": False, "is_installing": False, "offered_index": None,
        "offered_bytes": 0,
    }  # fmt: skip
    rig.node.wants_snapshot = True
    rig.snapshots.look()
    rig.snapshots.look()
    told = rig.snapshots.statistics()
    assert (told["made"], told["offered_index"]) == (1, 9)
    assert told["offered_bytes"] == rig.disk.open("snapshot/" + rig.files()[0]).size()


def test_what_is_under_way_is_told_in_a_word(rig):
    assert rig.snapshots.state() is None
    rig.node.wants_snapshot = True
    rig.works[0].is_held = True
    rig.snapshots.look()
    assert rig.snapshots.state() == "makes"
    rig.node.snapshot_arriving = (5, 90)
    assert rig.snapshots.state() == "receives: 5 of 90 bytes"
    rig.node.snapshot_arriving = None
    rig.works[0].is_held = False
    rig.snapshots.look()
    assert rig.snapshots.state() == "sends"


def test_a_refusal_is_logged_when_it_begins_and_when_it_is_over(rig):
    for refusal in (None, "4 bytes are free", "3 bytes are free", None, None):
        rig.node.snapshot_refusal = refusal
        rig.snapshots.look()
    told = [line for line in rig.log.lines if "the snapshot that it needs" in line]
    assert told == [
        "does not take the snapshot that it needs, and tries again {'reason': '4 bytes are free'}",
        "takes the snapshot that it needs again {}",
    ]


def test_a_leader_that_was_making_one_can_be_sent_one(rig):
    rig.node.wants_snapshot = True
    rig.works[0].is_held = True
    rig.snapshots.look()
    rig.node.leads_term = 0
    rig.node.wants_snapshot = False
    name = "00000000000000000030-5-0-" + "00" * 32
    rig.disk.open(f"snapshot/{name}.whole", create=True).close()
    rig.node.installation = Installation(30, 5, f"snapshot/{name}.whole")
    rig.snapshots.look()
    assert all(work.job is not None for work in rig.works)


def test_close_ends_both(rig):
    rig.snapshots.close()
    assert [work.closed for work in rig.works] == [True, True]
