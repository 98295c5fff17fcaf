from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.broker import snapshot_making
from tq.broker.snapshot_making import SnapshotMaking
from tq.errors import DataDamaged
from tq.raft.snapshots import DIRECTORY, digest_of
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore
from tq.store.store import READERS_MAX, CopyFailed

from .snapshot_rig import Rig

FREE_BYTES_MIN = 1_000


class MakingRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.fill(9)
        self.making = self.new()

    def new(self) -> SnapshotMaking:
        return SnapshotMaking(
            self.node, self.store, self.disk, self.clock, self.work, FREE_BYTES_MIN, self.wake, self.log
        )

    def make(self) -> Any:
        """Have one made; it is returned."""
        self.node.wants_snapshot = True
        self.making.look()
        self.making.look()
        return self.node.offers[-1]

    def turns(self, count: int = 1) -> None:
        for _ in range(count):
            self.making.before_turn()


@pytest.fixture
def rig() -> MakingRig:
    return MakingRig()


def test_nothing_is_made_while_nobody_needs_one(rig):
    rig.making.look()
    assert (rig.work.job, rig.files(), rig.making.hold_index) == (None, [], None)


def test_it_is_the_last_checkpoint_and_says_so(rig):
    digest = state_digest(rig.store.txn)
    rig.node.wants_snapshot = True
    rig.work.is_held = True
    rig.making.look()
    rig.fill(12)  # the store goes on
    rig.work.is_held = False
    rig.making.look()
    source = rig.node.offers[-1]
    assert (source.id.index, source.id.term) == (9, 5)
    file = rig.disk.open(f"{DIRECTORY}/{rig.files()[0]}")
    assert (file.size(), digest_of(file, file.size())) == (source.id.size, source.id.digest)
    other = MemoryStore()
    intake = other.intake()
    intake.write(source.read(0, source.id.size))
    intake.finish(9)
    other.adopt(intake)
    assert state_digest(other.txn) == digest
    assert rig.wakes == 1
    assert rig.store.statistics().readers == 0


def test_the_log_is_held_while_it_is_made_and_until_it_is_sent(rig):
    rig.node.wants_snapshot = True
    rig.work.is_held = True
    rig.making.look()
    rig.clock.advance_ms(60_000)
    rig.making.look()
    assert rig.making.hold_index == 9
    rig.work.is_held = False
    rig.making.look()
    assert rig.making.hold_index == 9
    rig.clock.advance_ms(limits.SNAPSHOT_OFFER_HOLD_MS)
    assert rig.making.hold_index is None


def test_it_is_kept_while_it_is_read_and_removed_after_a_turn(rig):
    source = rig.make()
    for _ in range(5):
        rig.clock.advance_ms(limits.SNAPSHOT_KEEP_MS - 1)
        source.read(0, 10)
        rig.making.look()
    assert rig.node.offers == [source]
    rig.clock.advance_ms(limits.SNAPSHOT_KEEP_MS)
    rig.making.look()
    assert rig.node.offers == [source, None]
    rig.turns()
    rig.making.look()
    assert len(rig.files()) == 1, "the node may read it until the turn is over"
    source.read(0, 10)
    rig.turns()
    rig.making.look()
    assert rig.files() == []
    assert rig.wakes > 1, "an idle node must turn for this"
    rig.making.look()
    assert rig.work.job is None


def test_one_that_is_no_good_any_more_goes_before_the_next_is_made(rig):
    first = rig.make()
    rig.fill(20)
    rig.node.base_index = 15
    rig.node.wants_snapshot = True
    rig.making.look()
    assert rig.node.offers == [first, None]
    rig.node.wants_snapshot = True
    rig.turns(2)
    rig.making.look()
    assert rig.files() == []
    second = rig.make()
    assert second.id.index == 20
    assert len(rig.files()) == 1


def test_none_is_made_of_a_state_that_the_log_is_ahead_of(rig):
    rig.node.base_index = 10
    rig.node.wants_snapshot = True
    rig.making.look()
    assert rig.work.job is None


def test_none_is_made_that_would_fill_the_disk(rig):
    rig.disk.fill_after(rig.store.statistics().used_bytes + FREE_BYTES_MIN - 1)
    rig.node.wants_snapshot = True
    rig.making.look()
    assert (rig.work.job, rig.files(), rig.making.given_up) == (None, [], 1)
    rig.making.look()
    assert rig.making.given_up == 1, "it is not tried again and again"
    rig.disk.fill_after(1 << 30)
    rig.clock.advance_ms(limits.SNAPSHOT_RETRY_MS)
    assert rig.make().id.index == 9


def test_one_under_way_is_given_up_when_the_disk_fills(rig, monkeypatch):
    monkeypatch.setattr(snapshot_making, "LOOK_BYTES", 1)
    rig.node.wants_snapshot = True
    rig.making.look()
    rig.disk.fill_after(FREE_BYTES_MIN + 10)
    rig.making.look()
    assert (rig.files(), rig.making.given_up, rig.node.offers) == ([], 1, [])
    assert "no room" in rig.log.lines[-1]
    assert rig.store.statistics().readers == 0


def test_a_write_that_fails_gives_it_up_and_nothing_else(rig):
    rig.node.wants_snapshot = True
    rig.making.look()
    rig.disk.fill_after(FREE_BYTES_MIN)  # it is looked at before, and full within a write
    rig.making.look()
    assert (rig.files(), rig.making.given_up) == ([], 1)


def test_a_store_that_must_grow_ends_it(rig):
    rig.node.wants_snapshot = True
    rig.making.look()
    rig.store.grow()
    rig.making.look()
    assert (rig.files(), rig.making.given_up) == ([], 1)
    rig.clock.advance_ms(limits.SNAPSHOT_RETRY_MS)
    assert rig.make().id.index == 9


def test_one_that_takes_too_long_is_ended(rig):
    rig.node.wants_snapshot = True
    rig.work.is_held = True
    rig.making.look()
    rig.clock.advance_ms(limits.SNAPSHOT_MAKE_MS_MAX)
    rig.fill(10)  # the next checkpoint looks at its readers
    rig.work.is_held = False
    rig.making.look()
    assert rig.making.given_up == 1


def test_who_leads_no_more_gives_it_up(rig):
    rig.node.wants_snapshot = True
    rig.making.look()
    rig.node.leads_term = 0
    rig.making.look()
    assert (rig.files(), rig.making.given_up, rig.node.offers) == ([], 1, [])


def test_a_store_that_cannot_be_copied_goes_on(rig, monkeypatch):
    class Copy:
        applied_index = 9
        error: Exception = CopyFailed("pages are lost")

        def read(self) -> bytes:
            raise self.error

        def close(self) -> None:
            pass

    monkeypatch.setattr(rig.store, "copy", lambda limit_ms: Copy())
    rig.node.wants_snapshot = True
    rig.making.look()
    rig.making.look()
    assert (rig.making.given_up, rig.files()) == (1, [])
    assert "pages are lost" in rig.log.lines[-1]
    Copy.error = DataDamaged("the store is damaged")
    rig.clock.advance_ms(limits.SNAPSHOT_RETRY_MS)
    rig.making.look()
    with pytest.raises(DataDamaged):
        rig.making.look()


def test_many_long_reads_are_waited_for(rig):
    copies = [rig.store.copy(1 << 30) for _ in range(READERS_MAX)]
    rig.node.wants_snapshot = True
    rig.making.look()
    assert rig.making.given_up == 1
    copies[0].close()
    rig.clock.advance_ms(limits.SNAPSHOT_RETRY_MS)
    assert rig.make().id.index == 9


def test_a_start_removes_what_an_end_left(rig):
    rig.make()
    rig.disk.open(f"{DIRECTORY}/1-1-1-aa.part", create=True).close()
    rig.disk.crash()
    rig.node.offers.clear()
    making = rig.new()
    assert rig.files() == ["1-1-1-aa.part"]
    assert making.offered is None


def test_the_end_of_the_process_ends_one_under_way(rig):
    rig.node.wants_snapshot = True
    rig.making.look()
    rig.making.close()
    assert rig.work.closed
    assert rig.store.statistics().readers == 0
    rig.making.close()
