from __future__ import annotations

import errno

import pytest

from tq.errors import DataDamaged, InternalError, StorageFailed
from tq.raft.journal import FIRST_BASE_INDEX, Journal
from tq.raft.records import HEADER_BYTES, RECORD_BYTES
from tq.sim.disk import PowerLoss, SimDisk
from tq.sim.random import SeededRandom

from .rig import content, fill, journal_on, segment_paths

RECORD = RECORD_BYTES + 51  # of ``fill``'s entries


def stored(journal: Journal) -> list[tuple[int, int, bytes]]:
    return [
        (index, journal.term_at(index), journal.payload(index))
        for index in range(journal.base_index + 1, journal.last_index + 1)
    ]


def expected(first: int, last: int, term: int = 1) -> list[tuple[int, int, bytes]]:
    return [(index, term, b"\x01" + content(index)) for index in range(first, last + 1)]


def reopened(disk: SimDisk, **options) -> Journal:
    disk.crash()
    return journal_on(disk, **options)


# ---- what it keeps -----------------------------------------------------------------------------------


def test_an_empty_disk_gets_an_empty_log():
    journal = journal_on(SimDisk())
    assert (journal.base_index, journal.last_index, journal.durable_index, journal.term) == (FIRST_BASE_INDEX, 1, 1, 0)
    assert stored(journal) == []


def test_entries_terms_and_votes_are_there_after_power_loss():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 3)
    journal.set_term(4, None)
    fill(journal, 20, term=4)
    journal.set_term(6, "n2")
    journal.sync()
    disk.power_loss(SeededRandom(1))
    journal = journal_on(disk)
    assert stored(journal) == expected(2, 4) + expected(5, 24, term=4)
    assert (journal.term, journal.vote, journal.durable_index, journal.last_term) == (6, "n2", 24, 4)
    assert [journal.term_at(index) for index in (1, 2, 4, 5, 24)] == [0, 1, 1, 4, 4]


def test_nothing_is_durable_before_the_sync():
    journal = journal_on(SimDisk())
    fill(journal, 1)
    fill(journal, 2, synced=False)
    assert (journal.last_index, journal.durable_index, journal.needs_sync) == (4, 2, True)
    job = journal.begin_sync()
    fill(journal, 1, synced=False)
    assert journal.durable_index == 2
    job.run()
    assert journal.durable_index == 2
    journal.end_sync(job, None)
    assert (journal.last_index, journal.durable_index, journal.needs_sync) == (5, 4, True)


def test_a_group_is_one_write_and_one_sync():
    disk = SimDisk()
    journal = journal_on(disk, segment_bytes=1 << 20)
    fill(journal, 1)
    steps = disk.steps
    fill(journal, 500, synced=False)
    journal.sync()
    assert disk.steps == steps + 2
    assert journal.durable_index == 502


def test_term_alone_wants_a_sync_and_is_stored_before_entries():
    disk = SimDisk()
    journal = journal_on(disk)
    journal.set_term(3, "n1")
    assert journal.needs_sync
    journal.sync()
    assert not journal.needs_sync
    journal.set_term(4, "n1")
    fill(journal, 1, term=4, synced=False)
    disk.stop_at(disk.steps + 4)  # the second copy of term and vote
    with pytest.raises(PowerLoss):
        journal.sync()
    disk.power_loss(SeededRandom(1))
    journal = journal_on(disk)
    assert journal.last_index == 1
    assert journal.term in (3, 4)


def test_a_term_set_while_a_sync_runs_still_waits():
    disk = SimDisk()
    journal = journal_on(disk)
    journal.set_term(3, "n1")
    job = journal.begin_sync()
    journal.set_term(4, None)
    job.run()
    journal.end_sync(job, None)
    assert journal.needs_sync
    journal.sync()
    disk.power_loss(SeededRandom(1))
    assert journal_on(disk).term == 4


def test_payloads_are_read_back_and_memory_is_bounded():
    journal = journal_on(SimDisk(), tail_bytes=200)
    fill(journal, 60)
    assert journal.statistics().tail_bytes <= 200
    assert journal.in_memory(2) is None
    assert journal.in_memory(61) is not None
    assert stored(journal) == expected(2, 61)


def test_what_is_not_synced_stays_in_memory_whatever_its_size():
    journal = journal_on(SimDisk(), tail_bytes=10)
    fill(journal, 20, synced=False)
    assert stored(journal) == expected(2, 21)
    journal.sync()
    assert journal.statistics().tail_bytes == 0
    assert stored(journal) == expected(2, 21)


def test_what_comes_while_a_sync_runs_stays_in_memory():
    journal = journal_on(SimDisk(), tail_bytes=0)
    fill(journal, 3, synced=False)
    job = journal.begin_sync()
    fill(journal, 3, synced=False)
    job.run()
    journal.end_sync(job, None)
    assert [journal.in_memory(index) is None for index in range(2, 8)] == [True] * 3 + [False] * 3
    assert stored(journal) == expected(2, 7)


@pytest.mark.parametrize(("index", "term", "payload"), [(4, 1, b"\x01"), (2, 1, b"\x01"), (3, 0, b"\x01"), (3, 1, b"")])
def test_an_entry_that_cannot_follow_is_a_bug(index, term, payload):
    journal = journal_on(SimDisk())
    fill(journal, 1)
    with pytest.raises(InternalError):
        journal.append(payload, index, term)


@pytest.mark.parametrize(("term", "vote"), [(2, "n1"), (3, "n2"), (3, None)])
def test_terms_do_not_go_back_and_votes_do_not_change(term, vote):
    journal = journal_on(SimDisk())
    journal.set_term(3, "n1")
    with pytest.raises(InternalError):
        journal.set_term(term, vote)


def test_a_second_sync_cannot_begin_while_one_runs():
    journal = journal_on(SimDisk())
    fill(journal, 1, synced=False)
    journal.begin_sync()
    with pytest.raises(InternalError):
        journal.begin_sync()


# ---- the commit index ------------------------------------------------------------------------------


def test_the_commit_index_is_stored_with_the_next_entries():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 4)
    journal.set_commit(4)
    fill(journal, 1)
    assert reopened(disk).commit_index == 4


@pytest.mark.parametrize("seed", range(30))
def test_the_stored_commit_index_never_runs_ahead_of_the_log(seed):
    """H5. What a majority committed may not be synced here: the index that is stored must not say so."""
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 3)
    fill(journal, 5, synced=False)
    journal.set_commit(9)
    job = journal.begin_sync()
    disk.stop_at(disk.steps + 2)
    with pytest.raises(PowerLoss):
        job.run()
    disk.power_loss(SeededRandom(seed))
    journal = journal_on(disk)
    assert 4 <= journal.last_index <= 9
    assert journal.commit_index <= 4
    assert journal.durable_index == journal.last_index


def test_what_the_store_has_applied_counts_as_committed():
    disk = SimDisk()
    fill(journal_on(disk), 5)
    assert reopened(disk, floor=6).commit_index == 6


# ---- segments, compaction ------------------------------------------------------------------------------


def test_segments_roll_and_are_read_as_one_log():
    disk = SimDisk()
    fill(journal_on(disk), 40)
    assert len(segment_paths(disk)) > 4
    journal = reopened(disk)
    assert stored(journal) == expected(2, 41)
    assert journal.statistics().bytes == sum(len(disk.synced(path) or b"") for path in segment_paths(disk))


def test_compaction_drops_whole_segments_and_keeps_a_base():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 10)
    fill(journal, 30, term=2)
    before = journal.statistics()
    removed = journal.compact(30)
    assert removed > 2
    assert journal.statistics().segments == before.segments - removed
    base = journal.base_index
    assert 20 < base <= 30
    assert (journal.base_term, journal.term_at(base)) == (2, 2)
    assert stored(journal) == expected(base + 1, 41, term=2)
    with pytest.raises(InternalError):
        journal.term_at(base - 1)
    with pytest.raises(InternalError):
        journal.payload(base)
    journal = reopened(disk, floor=30)
    assert journal.base_index == base
    assert stored(journal) == expected(base + 1, 41, term=2)
    fill(journal, 3, term=2)
    assert reopened(disk, floor=30).last_index == 44


def test_compaction_keeps_the_last_segment_and_all_above_the_index():
    journal = journal_on(SimDisk())
    fill(journal, 40)
    assert journal.compact(1) == 0
    journal.compact(41)
    assert journal.statistics().segments == 1
    assert journal.base_index < 41
    with pytest.raises(InternalError, match="not durable"):
        journal.compact(42)


@pytest.mark.parametrize("seed", range(6))
def test_compaction_is_safe_at_every_step(seed):
    """H6: the log is never wiped by a compaction that was cut short."""
    steps = 0
    while True:
        disk = SimDisk()
        journal = journal_on(disk)
        fill(journal, 40)
        steps += 1
        disk.stop_at(disk.steps + steps)
        try:
            journal.compact(35)
            break
        except PowerLoss:
            disk.power_loss(SeededRandom(seed))
        journal = journal_on(disk, floor=35)
        assert stored(journal) == expected(journal.base_index + 1, 41)
        assert journal.base_index <= 35
    assert steps > 8


# ---- damage, and what only looks like it ---------------------------------------------------------------


def test_a_torn_tail_is_cut_at_every_length():
    disk = SimDisk()
    journal = journal_on(disk, segment_bytes=1 << 20)
    fill(journal, 5)
    path = segment_paths(disk)[0]
    whole = disk.open(path).size()
    for size in range(whole - 1, whole - RECORD - 1, -1):
        twin = disk.clone()
        twin.open(path).truncate(size)
        journal = journal_on(twin)
        assert stored(journal) == expected(2, 5)
        fill(journal, 2)
        assert stored(reopened(twin)) == expected(2, 7)


def test_a_bad_last_record_is_cut_and_its_bytes_do_not_come_back():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 3)
    disk.crash()
    disk.rot(segment_paths(disk)[0], HEADER_BYTES + 2 * RECORD + RECORD - 1)
    journal = journal_on(disk)
    assert stored(journal) == expected(2, 3)
    assert (disk.synced(segment_paths(disk)[0]) or b"").count(b"entry") == 2


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 5, 9, 13, 21, 29, 37, 44, RECORD - 1])
def test_damage_of_a_synced_record_stops_the_node_and_says_where(which, at):
    disk = SimDisk()
    journal = journal_on(disk, segment_bytes=1 << 20)
    fill(journal, 4)  # the fourth says that the third was synced
    disk.crash()
    path = segment_paths(disk)[0]
    disk.rot(path, HEADER_BYTES + which * RECORD + at)
    with pytest.raises(DataDamaged) as caught:
        journal_on(disk)
    text = caught.value.message
    assert text.startswith(f"{path}, offset {HEADER_BYTES + which * RECORD}: entry {2 + which} was synced")
    assert "If it is alone, restore a backup. If it is one of several, the others go on without it" in text
    assert "run tq cluster rebuild" in text


def test_damage_of_the_last_record_is_seen_when_the_store_has_applied_it():
    disk = SimDisk()
    fill(journal_on(disk), 4)
    disk.crash()
    disk.rot(segment_paths(disk)[0], HEADER_BYTES + 3 * RECORD + 50)
    with pytest.raises(DataDamaged, match="entry 5 was synced"):
        journal_on(disk, floor=5)
    assert journal_on(disk, floor=4).last_index == 4


def test_damage_at_the_end_of_a_segment_that_is_not_the_last():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 6)
    fill(journal, 1)
    first, _second = segment_paths(disk)
    disk.crash()
    file = disk.open(first)
    file.truncate(file.size() - 1)
    with pytest.raises(DataDamaged, match="entry 7 was synced"):
        journal_on(disk)


def test_holes_in_what_was_never_synced_are_a_torn_tail():
    """A good record behind a bad one is no damage if both were written after the last sync."""
    disk = SimDisk()
    journal = journal_on(disk, segment_bytes=1 << 20)
    fill(journal, 3)
    fill(journal, 4, synced=False)
    disk.fail_sync()
    with pytest.raises(StorageFailed):
        journal.sync()
    disk.crash()
    path = segment_paths(disk)[0]
    disk.rot(path, HEADER_BYTES + 4 * RECORD + 50)
    journal = journal_on(disk)
    assert stored(journal) == expected(2, 5)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_segment_is_damage(which):
    disk = SimDisk()
    fill(journal_on(disk), 24)
    paths = segment_paths(disk)
    assert len(paths) == 4
    disk.crash()
    disk.remove(paths[which])
    with pytest.raises(DataDamaged, match=r"begins behind"):
        journal_on(disk)


def test_a_missing_last_segment_is_damage_if_the_store_has_applied_it():
    disk = SimDisk()
    fill(journal_on(disk), 24)
    disk.crash()
    disk.remove(segment_paths(disk)[-1])
    with pytest.raises(DataDamaged, match="the log ends at entry"):
        journal_on(disk, floor=25)


def test_a_lost_journal_is_not_taken_for_a_new_one():
    disk = SimDisk()
    fill(journal_on(disk), 3)
    disk.crash()
    for path in segment_paths(disk):
        disk.remove(path)
    with pytest.raises(DataDamaged, match="no segment is there"):
        journal_on(disk)
    with pytest.raises(DataDamaged, match="no segment is there"):
        journal_on(SimDisk(), floor=3)


@pytest.mark.parametrize("entries", [0, 3])
def test_lost_term_files_are_not_taken_for_no_vote(entries):
    disk = SimDisk()
    fill(journal_on(disk), entries)
    disk.crash()
    for name in ("raft/term-a", "raft/term-b"):
        disk.rot(name, 20)
    with pytest.raises(DataDamaged, match="term and vote"):
        journal_on(disk)


def test_term_files_older_than_the_log_are_damage():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 1)
    old = {name: disk.synced(name) for name in ("raft/term-a", "raft/term-b")}
    fill(journal, 1, term=2)
    disk.crash()
    for name, data in old.items():
        file = disk.open(name)
        file.truncate(0)
        file.append(data or b"")
    with pytest.raises(DataDamaged, match="entries of term 2, but the stored term is 1"):
        journal_on(disk)


def test_a_damaged_header_and_a_renamed_segment():
    disk = SimDisk()
    fill(journal_on(disk), 3)
    disk.crash()
    twin = disk.clone()
    path = segment_paths(disk)[0]
    disk.rot(path, 9)
    with pytest.raises(DataDamaged, match="header that fails its checksum"):
        journal_on(disk)
    twin.rename(path, "raft/00000000000000000009.seg")
    with pytest.raises(DataDamaged, match="begins behind entry 1"):
        journal_on(twin)


def test_a_log_that_begins_above_what_the_store_has_applied_is_damage():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 40)
    journal.compact(41)
    with pytest.raises(DataDamaged, match="the store has applied only 3"):
        reopened(disk, floor=3)


def test_an_entry_that_rots_while_the_node_runs_is_not_handed_out():
    disk = SimDisk()
    journal = journal_on(disk, tail_bytes=0, segment_bytes=1 << 20)
    fill(journal, 5)
    disk.rot(segment_paths(disk)[0], HEADER_BYTES + RECORD + 60)
    with pytest.raises(DataDamaged, match="entry 3 is not whole"):
        journal.payload(3)


# ---- the disk fails ------------------------------------------------------------------------------------


def assert_refuses_everything(journal: Journal) -> None:
    last = journal.last_index
    for attempt in (
        lambda: journal.append(b"\x01", last + 1, journal.term),
        journal.begin_sync,
        lambda: journal.compact(1),
        lambda: journal.truncate_from(last),
    ):
        with pytest.raises(StorageFailed, match="stops before it acknowledges"):
            attempt()


def test_a_full_disk_stops_the_journal_and_nothing_of_it_was_durable():
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 2)
    disk.fill_after(30)
    fill(journal, 1, synced=False)
    with pytest.raises(StorageFailed, match="no space left") as caught:
        journal.sync()
    assert caught.value.detail["errno"] == errno.ENOSPC
    assert journal.durable_index == 3
    disk.fill_after(1 << 30)
    assert_refuses_everything(journal)
    assert stored(reopened(disk)) == expected(2, 3)


@pytest.mark.parametrize("after", range(5))
def test_a_failed_sync_stops_the_journal_and_is_not_tried_again(after):
    """Wherever it strikes: the term files, a new segment, its directory, the entries."""
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 6)  # the segment is full
    journal.set_term(9, "n1")
    fill(journal, 1, term=9, synced=False)
    disk.fail_sync(after=after)
    with pytest.raises(StorageFailed):
        journal.sync()
    syncs = disk.syncs
    assert journal.durable_index == 7
    assert_refuses_everything(journal)
    assert disk.syncs == syncs


def test_reopened_after_a_failed_sync_the_log_is_rewritten_before_it_counts():
    """H5: the page cache shows the entry, the platter does not have it."""
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 2)
    fill(journal, 1, synced=False)
    disk.fail_sync()
    with pytest.raises(StorageFailed):
        journal.sync()
    journal = reopened(disk)
    assert journal.durable_index == 4  # read from the cache, and now written again
    disk.power_loss(SeededRandom(3))
    assert stored(journal_on(disk)) == expected(2, 4)


def test_a_disk_that_fails_at_open():
    disk = SimDisk()
    fill(journal_on(disk), 2)
    for after in range(5):
        disk.crash()
        disk.fail_sync(after=after)
        with pytest.raises(StorageFailed, match="opening the journal failed"):
            journal_on(disk)
    disk.crash()
    disk.fill_after(10)
    with pytest.raises(StorageFailed, match="no space"):
        journal_on(disk)
    disk.fill_after(1 << 30)
    assert stored(reopened(disk)) == expected(2, 3)


def test_a_lying_disk_is_found_out_by_what_the_store_has_applied():
    """Syncs that do nothing: only what others kept can tell; the journal does not start then."""
    found = 0
    for seed in range(20):
        disk = SimDisk()
        journal = journal_on(disk, segment_bytes=1 << 20)
        fill(journal, 2)
        disk.lie(lambda: True)
        fill(journal, 10)
        disk.power_loss(SeededRandom(seed))
        disk.lie(None)
        try:
            journal = journal_on(disk, floor=13)
        except DataDamaged:
            found += 1
        else:
            assert stored(journal) == expected(2, 13)
    assert found > 10


# ---- the cut of a follower ---------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [2, 7, 8, 20, 41, 44])
def test_cutting_and_going_on_in_another_term(index):
    disk = SimDisk()
    journal = journal_on(disk)
    fill(journal, 40)
    fill(journal, 3, synced=False)
    journal.truncate_from(index)
    assert (journal.last_index, journal.durable_index) == (index - 1, min(41, index - 1))
    assert stored(journal) == expected(2, index - 1)
    fill(journal, 2, term=3)
    want = expected(2, index - 1) + expected(index, index + 1, term=3)
    assert stored(journal) == want
    disk.power_loss(SeededRandom(index))
    assert stored(journal_on(disk)) == want


def test_what_is_committed_is_never_cut():
    journal = journal_on(SimDisk())
    fill(journal, 10)
    journal.set_commit(5)
    with pytest.raises(InternalError, match="committed 5"):
        journal.truncate_from(5)
    with pytest.raises(InternalError):
        journal.truncate_from(12)


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_safe_at_every_step(seed):
    """The log is then a prefix of the old one or of the new one, never a mixture.

    The entries that are cut have a higher term than those that follow, so that no order of terms gives them away.
    """
    old = expected(2, 14) + expected(15, 31, term=4)
    new = expected(2, 14) + expected(15, 24, term=3)
    steps = 0
    while True:
        disk = SimDisk()
        journal = journal_on(disk, segment_bytes=2_000)
        fill(journal, 13)
        fill(journal, 17, term=4)
        journal.set_term(5, None)
        journal.sync()
        steps += 1
        disk.stop_at(disk.steps + steps)
        try:
            journal.truncate_from(15)
            for index in range(15, 25):
                journal.append(b"\x01" + content(index), index, 3)
            journal.sync()
            break
        except PowerLoss:
            disk.power_loss(SeededRandom(seed * 100 + steps))
        got = stored(journal_on(disk))
        assert got in (old[: len(got)], new[: len(got)])
        assert len(got) >= 13
    assert steps > 5


# ---- creation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_creation_is_safe_at_every_step(seed):
    steps = 0
    while True:
        disk = SimDisk()
        steps += 1
        disk.stop_at(steps)
        try:
            fill(journal_on(disk), 1)
            break
        except PowerLoss:
            disk.power_loss(SeededRandom(seed * 100 + steps))
        journal = journal_on(disk)
        fill(journal, 1)
        assert stored(journal)[0] == (2, 1, b"\x01" + content(2))
    assert steps > 15


def test_leftovers_of_a_copy_are_removed():
    disk = SimDisk()
    fill(journal_on(disk), 2)
    disk.open(segment_paths(disk)[0] + ".tmp", create=True).append(b"half")
    assert stored(reopened(disk)) == expected(2, 3)
    assert not [name for name in disk.list("raft") if name.endswith(".tmp")]


# ---- several at once ---------------------------------------------------------------------------------------


def test_several_payloads_come_from_segments_and_memory_alike():
    journal = journal_on(SimDisk(), segment_bytes=300, tail_bytes=200)
    fill(journal, 20)
    fill(journal, 2, synced=False)
    assert journal.in_memory(3) is None
    assert journal.in_memory(23) is not None
    assert journal.payloads(2, 22) == [journal.payload(index) for index in range(2, 24)]
    assert journal.payloads(7, 3) == [journal.payload(index) for index in range(7, 10)]
    assert journal.payloads(7, 0) == []


def test_a_rotten_one_of_several_is_found():
    disk = SimDisk()
    journal = journal_on(disk, segment_bytes=3_000, tail_bytes=0)
    fill(journal, 20)
    disk.rot(segment_paths(disk)[0], 40 + 3 * 95 + 60)
    with pytest.raises(DataDamaged, match="entry 5 is not whole any more"):
        journal.payloads(2, 10)
