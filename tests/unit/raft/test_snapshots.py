"""A snapshot that arrives: whole or not there, whatever happens in between; and what the guard makes of it."""

from __future__ import annotations

import errno

import attrs
import pytest

from tq.errors import DataDamaged, InternalError
from tq.raft.guard import Guard, Role
from tq.raft.members import Voters, pack
from tq.raft.messages import Append, Reject, SnapshotAck, SnapshotPart, Stale, encode
from tq.raft.recovery import open_journal
from tq.raft.snapshots import DIRECTORY, FileSource, Incoming, SnapshotId, digest_of, new_digest, pending_snapshot
from tq.sim.disk import PowerLoss, SimDisk, SimFile
from tq.sim.late_sync import LateSync
from tq.sim.random import SeededRandom

from .desk import Desk, ack, append, reject
from .rig import node_on

PART_FIELDS = [field.name for field in attrs.fields(SnapshotPart)]
DATA = bytes(range(256)) * 20


def id_of(data: bytes = DATA, index: int = 50, term: int = 3) -> SnapshotId:
    digest = new_digest()
    digest.update(data)
    return SnapshotId(index, term, len(data), digest.digest())


def part(offset: int, data: bytes, snapshot: SnapshotId, *, term: int = 5) -> SnapshotPart:
    return SnapshotPart(term, 0, snapshot.index, snapshot.term, snapshot.size, snapshot.digest, b"", offset, data)


class Bytes:
    def __init__(self, data: bytes, index: int, term: int) -> None:
        self.data = data
        self.id = id_of(data, index, term)

    def read(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]


# ---- the place of an arriving one -------------------------------------------------------------------------


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk()


def test_a_name_tells_all_of_it():
    assert SnapshotId.of_name(id_of().name) == id_of()


def test_parts_are_taken_in_order_and_once(disk):
    incoming = Incoming(disk)
    assert incoming.take(id_of(), 0, b"") == 0
    assert incoming.take(id_of(), 0, DATA[:100]) == 100
    assert incoming.take(id_of(), 0, DATA[:100]) == 100
    assert incoming.take(id_of(), 300, DATA[300:400]) == 100
    assert incoming.take(id_of(), 100, DATA[100:] + b"more") == 100
    assert incoming.take(id_of(), 100, DATA[100:]) == len(DATA)
    assert incoming.finish()
    assert incoming.whole == id_of()
    source = pending_snapshot(disk)
    assert source is not None
    assert source.read(0, 1 << 20) == DATA


def test_it_goes_on_where_it_was_after_a_restart(disk):
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA[:1000])
    disk.power_loss(SeededRandom(3))
    incoming = Incoming(disk)
    assert incoming.take(id_of(), 0, b"") == 1000
    incoming.take(id_of(), 1000, DATA[1000:])
    assert incoming.finish()


def test_one_without_room_is_refused_and_taken_when_there_is_room(disk):
    """Twice its size: the store that is made of it needs as much."""
    incoming = Incoming(disk)
    assert incoming.take(id_of(), 0, DATA[:1000]) == 1000
    assert (incoming.refusal, incoming.arriving) == (None, (1000, len(DATA)))
    disk.fill_after(2 * len(DATA) - 1001)
    written = disk.steps
    assert incoming.take(id_of(), 1000, DATA[1000:2000]) == 1000
    assert disk.steps == written
    assert incoming.refusal == "a snapshot of 5120 bytes needs 9240 bytes, 9239 are free"
    disk.fill_after(2 * len(DATA) - 1000)
    assert incoming.take(id_of(), 1000, DATA[1000:]) == len(DATA)
    assert incoming.refusal is None
    assert incoming.finish()


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_disk_that_is_full_all_the_same_takes_the_whole_file_with_it(disk, monkeypatch, call):
    """After a sync that failed nobody knows what the file holds."""
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA[:1000])
    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(disk, "take_bytes", lambda count: count // 2)
        else:
            full = OSError(errno.ENOSPC, "no space left on device")
            patch.setattr(SimFile, "sync", lambda _self: (_ for _ in ()).throw(full))
        assert incoming.take(id_of(), 1000, DATA[1000:]) == 0
    assert "the disk was full" in str(incoming.refusal)
    assert (disk.list(DIRECTORY), incoming.arriving) == ([], None)
    assert incoming.take(id_of(), 0, DATA) == len(DATA)
    assert incoming.finish()


def test_a_disk_that_fails_otherwise_stops_the_node(disk):
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA[:1000])
    disk.fail_sync()
    with pytest.raises(OSError, match="input/output"):
        incoming.take(id_of(), 1000, DATA[1000:])


def test_another_one_takes_its_place(disk):
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA[:1000])
    assert incoming.take(id_of(b"x" * 50, 60), 0, b"") == 0
    assert len(disk.list(DIRECTORY)) == 1


def test_a_damaged_one_is_removed_and_nothing_is_pending(disk):
    """H10."""
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA[:1000])
    incoming.drop()
    disk.rot(f"{DIRECTORY}/{disk.list(DIRECTORY)[0]}", 17)
    assert incoming.take(id_of(), 0, b"") == 1000
    incoming.take(id_of(), 1000, DATA[1000:])
    assert not incoming.finish()
    assert (incoming.whole, disk.list(DIRECTORY), pending_snapshot(disk)) == (None, [], None)
    assert incoming.take(id_of(), 0, DATA) == len(DATA)
    assert incoming.finish()


def test_one_that_rotted_after_it_was_whole_stops_the_node(disk):
    """H10: stock ignores a bad dump and leads empty."""
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA)
    incoming.finish()
    disk.rot(incoming.path, 99)
    with pytest.raises(DataDamaged, match="not whole any more"):
        pending_snapshot(disk)


def test_a_later_one_may_arrive_while_the_store_takes_one(disk):
    incoming = Incoming(disk)
    incoming.take(id_of(), 0, DATA)
    incoming.finish()
    later = id_of(DATA[1:], index=90)
    incoming.take(later, 0, DATA[1:100])
    incoming.installed()
    incoming.take(later, 99, DATA[100:])
    assert incoming.finish()
    assert incoming.whole == later
    incoming.take(id_of(DATA[2:], index=95), 0, DATA[2:])
    assert incoming.finish()
    incoming.installed()
    assert (disk.list(DIRECTORY), pending_snapshot(disk)) == ([], None)


def test_the_power_may_go_at_any_step(disk):
    for step in range(60):
        disk = SimDisk()
        chance = SeededRandom(step)
        incoming = Incoming(disk)
        disk.stop_at(disk.steps + 1 + step)
        told: list[str] = []
        try:
            incoming.take(id_of(), 0, DATA[:3000])
            incoming.take(id_of(), 3000, DATA[3000:])
            incoming.finish()
            told.append("whole")
            incoming.installed()
            told.append("installed")
        except PowerLoss:
            pass
        disk.stop_at(None)
        disk.power_loss(chance)
        source = pending_snapshot(disk)
        if told == ["whole"] and source is None:
            assert disk.list(DIRECTORY) == [], "the mark went by installed() alone"
        if told == ["whole", "installed"]:
            assert source is None
        if source is not None:
            assert source.read(0, 1 << 20) == DATA
        elif told != ["whole", "installed"]:
            incoming = Incoming(disk)
            offset = incoming.take(id_of(), 0, b"")
            incoming.take(id_of(), offset, DATA[offset:])
            if not incoming.finish():
                incoming.take(id_of(), 0, DATA)
                assert incoming.finish()


def test_digests_need_no_more_memory_than_a_part(disk):
    file = disk.open("x", create=True)
    file.append(DATA * 300)
    assert digest_of(file, len(DATA) * 300) == id_of(DATA * 300).digest


# ---- the log behind it ------------------------------------------------------------------------------------


def with_log(disk: SimDisk, count: int, term: int = 2):
    journal = open_journal(disk, SeededRandom(1), floor_index=0, segment_bytes=300)
    journal.set_term(term, "n2")
    for index in range(2, count + 2):
        journal.append(b"\x01" + b"x" * 50, index, term)
        journal.sync()
    return journal


@pytest.mark.parametrize("count", [0, 5, 80])
def test_the_log_begins_anew_behind_a_snapshot_whatever_step_is_the_last(count):
    for step in range(200):
        disk = SimDisk()
        journal = with_log(disk, count)
        journal.set_term(5, "n3")
        disk.stop_at(disk.steps + 1 + step)
        try:
            journal.reset(50, 3)
            done = True
        except PowerLoss:
            done = False
        disk.stop_at(None)
        disk.power_loss(SeededRandom(step))
        again = open_journal(disk, SeededRandom(2), floor_index=50, snapshot=(50, 3))
        assert (again.base_index, again.base_term, again.last_index, again.commit_index) == (50, 3, 50, 50)
        assert again.term >= 3
        if done:
            assert (again.term, again.vote) == (5, "n3")
            break
    else:
        pytest.fail("it never came to its end")


def test_a_log_that_begins_behind_the_snapshot_already_is_kept():
    disk = SimDisk()
    journal = with_log(disk, 5)
    journal.set_term(5, None)
    journal.reset(50, 3)
    journal.append(b"\x01new", 51, 5)
    journal.sync()
    disk.crash()
    again = open_journal(disk, SeededRandom(2), floor_index=50, snapshot=(50, 3))
    assert (again.base_index, again.last_index, again.payload(51)) == (50, 51, b"\x01new")


def test_a_log_cannot_begin_anew_below_what_is_committed():
    journal = with_log(SimDisk(), 20)
    journal.set_commit(15)
    with pytest.raises(InternalError):
        journal.reset(15, 2)


# ---- a follower -------------------------------------------------------------------------------------------


def follower(disk: SimDisk | None = None) -> tuple[Desk, Incoming]:
    desk = Desk(disk=disk)
    incoming = Incoming(desk.disk)
    desk.guard = Guard(
        node_id="n1", peers=["n2", "n3"], journal=desk.journal, random=SeededRandom(1), now_s=desk.now_s,
        election_ms=(600, 1_200), heartbeat_ms=150, incoming=incoming,
    )  # fmt: skip
    return desk, incoming


def test_it_is_asked_for_part_by_part_and_acknowledged_when_all_is_durable():
    """H10."""
    desk, incoming = follower()
    snapshot = id_of()
    desk.say("n2", part(0, b"", snapshot))
    assert desk.answer(SnapshotAck).offset == 0
    desk.say("n2", part(0, DATA[:2000], snapshot))
    assert (desk.answer(SnapshotAck).offset, desk.guard.committed_index) == (2000, 1)
    desk.say("n2", part(2000, DATA[2000:], snapshot))
    answer = desk.answer(SnapshotAck)
    assert (answer.done, incoming.whole) == (True, snapshot)
    assert (desk.journal.base_index, desk.journal.last_index, desk.guard.committed_index) == (50, 50, 50)
    assert desk.guard.leader_id == "n2"
    desk.say("n2", append(5, 50, 3, ((5, b"\x01x"),), commit=51))
    desk.sync()
    assert desk.guard.committed_index == 51


def test_one_with_a_wrong_digest_is_fetched_again():
    desk, incoming = follower()
    snapshot = id_of()
    desk.say("n2", part(0, b"x" * len(DATA), snapshot))
    answer = desk.answer(SnapshotAck)
    assert (answer.done, answer.offset, incoming.whole, desk.journal.base_index) == (False, 0, None, 1)
    desk.say("n2", part(0, DATA, snapshot))
    assert desk.answer(SnapshotAck).done


def test_it_commits_nothing_of_a_tail_that_was_not_compared():
    """H1: 60 entries of an older leader stand here; the snapshot ends at 50, in another term."""
    desk, _ = follower()
    desk.follow(*[1] * 60)
    desk.sync()
    desk.sent()
    desk.say("n3", part(0, DATA, id_of()))
    assert (desk.journal.last_index, desk.guard.committed_index, desk.journal.last_term) == (50, 50, 3)


def test_what_is_here_already_is_not_installed_again():
    """Nothing of what was acknowledged is dropped."""
    desk, incoming = follower()
    desk.follow(*[3] * 60, term=5)
    desk.sync()
    desk.sent()
    desk.say("n2", part(0, DATA, id_of()))
    assert desk.answer(SnapshotAck).done
    assert (desk.journal.last_index, desk.journal.base_index, incoming.whole) == (61, 1, None)
    desk.say("n3", part(0, DATA, id_of(), term=6))  # a leader that nothing was matched with yet
    desk.sync()
    assert (desk.journal.last_index, desk.journal.base_index, incoming.whole) == (61, 1, None)


def test_what_is_here_but_not_synced_is_not_acknowledged():
    desk, _ = follower()
    desk.follow(*[3] * 60, term=5)
    desk.sent()
    desk.say("n2", part(0, DATA, id_of()))
    assert desk.sent_of(SnapshotAck) == []
    desk.sync()
    desk.say("n2", part(0, DATA, id_of()))
    assert desk.sent_of(SnapshotAck)[-1][1].done


def test_it_keeps_the_election_timer_quiet():
    desk, _ = follower()
    snapshot = id_of()
    for at in range(20):
        desk.say("n2", part(at * 100, DATA[at * 100 : at * 100 + 100], snapshot))
        desk.wait(0.5)
    assert {type(message) for _, message in desk.sent()} == {SnapshotAck}


def test_the_installation_waits_for_a_sync_that_runs():
    desk, incoming = follower()
    desk.follow(1, 1)
    job = desk.journal.begin_sync()
    desk.say("n2", part(0, DATA, id_of()))
    assert incoming.whole is not None
    desk.say("n2", append(5, 3, 1, ((5, b"\x01late"),)))
    assert (desk.journal.base_index, desk.journal.last_index, desk.sent_of(SnapshotAck)) == (1, 3, [])
    job.run()
    desk.journal.end_sync(job, None)
    desk.guard.synced()
    assert (desk.journal.base_index, desk.journal.last_index) == (50, 50)
    desk.say("n2", part(0, b"", id_of()))
    assert desk.sent_of(SnapshotAck)[-1][1].done


def test_who_votes_comes_with_it_and_stays_over_a_restart():
    desk, incoming = follower()
    snapshot = id_of()
    message = part(0, DATA, snapshot)
    desk.say(
        "n2",
        SnapshotPart(
            *[getattr(message, name) for name in PART_FIELDS[:6]], pack(Voters(30, ("n1", "n2", "n7"))), 0, DATA
        ),
    )
    assert desk.guard.voters == ("n1", "n2", "n7")
    assert desk.journal.members.current == Voters(30, ("n1", "n2", "n7"))
    incoming.installed()
    desk.disk.power_loss(SeededRandom(1))
    assert Desk(disk=desk.disk, floor=50).guard.voters == ("n1", "n2", "n7")


def test_parts_of_a_lower_term_are_dropped():
    desk, incoming = follower()
    desk.say("n2", append(9, 1, 0))
    desk.say("n3", part(0, DATA, id_of(), term=8))
    assert (desk.guard.leader_id, incoming.whole) == ("n2", None)


# ---- a leader ---------------------------------------------------------------------------------------------


def leader_of_a_compacted_log() -> tuple[Desk, int]:
    """n2 needs what is gone; n3 has all."""
    desk = Desk(segment_bytes=100_000)
    term = desk.lead()
    for _ in range(8):
        desk.propose(bytes(50_000))
        desk.sync()
        desk.say("n3", ack(term, desk.journal.last_index))
        desk.tick()
    [last, *_] = [message for peer, message in reversed(desk.sent_of(Append)) if peer == "n2"]
    desk.journal.compact(desk.journal.last_index)
    desk.guard.compacted()
    desk.say("n2", reject(term, 2, sequence=last.sequence, prev=last.prev_index))
    desk.tick()
    assert desk.journal.base_index > 2
    return desk, term


def answer_of(source: Bytes, term: int, offset: int, *, done: bool = False) -> SnapshotAck:
    snapshot = source.id
    return SnapshotAck(term, 0, snapshot.index, snapshot.term, snapshot.size, snapshot.digest, offset, done)


def parts(desk: Desk) -> list[SnapshotPart]:
    return [message for _, message in desk.sent_of(SnapshotPart)]


def test_a_leader_says_that_a_snapshot_is_wanted_and_sends_it_part_by_part():
    """H15: nothing but a question goes out before the member answers, and one part at a time then."""
    desk, term = leader_of_a_compacted_log()
    assert desk.guard.wants_snapshot
    desk.sent()
    source = Bytes(bytes(2_500_000), desk.journal.last_index, term)
    desk.guard.offer_snapshot(source)
    assert not desk.guard.wants_snapshot
    for _ in range(3):
        desk.tick()
    assert [(question.offset, question.data) for question in parts(desk)] == [(0, b"")]
    for offset, size in ((0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 2_500_000 - (2 << 20))):
        for _ in range(3):
            desk.say("n2", answer_of(source, term, offset))
            desk.tick()
        [sent] = parts(desk)
        assert (sent.offset, len(sent.data)) == (offset, size)
    desk.say("n2", answer_of(source, term, 2_500_000, done=True))
    desk.propose(b"next")
    [message] = [message for peer, message in desk.sent_of(Append) if message.entries and peer == "n2"]
    assert message.prev_index == source.id.index


def test_a_part_that_got_lost_is_sent_again_after_a_heartbeat():
    desk, term = leader_of_a_compacted_log()
    source = Bytes(bytes(5_000), desk.journal.last_index, term)
    desk.guard.offer_snapshot(source)
    desk.tick()
    desk.sent()
    for _ in range(4):
        desk.wait(0.151)
        assert len(parts(desk)) == 1
        desk.say("n2", reject(term, 2, sequence=1 << 40, prev=1 << 40))
        desk.say("n3", ack(term, desk.journal.last_index))
        desk.tick()
        assert parts(desk) == []


def test_an_answer_of_an_earlier_leadership_commits_nothing():
    """H3."""
    desk = Desk(size=5)
    first = desk.lead()
    desk.say("n4", Stale(first + 1))
    second = desk.lead()
    desk.propose(b"a")
    desk.sync()
    source = Bytes(b"x", desk.journal.last_index, second)
    before = desk.guard.committed_index
    desk.say("n2", ack(second, desk.journal.last_index))
    desk.say("n3", answer_of(source, first, 1, done=True))
    desk.tick()
    assert desk.guard.committed_index == before


def test_one_that_always_arrives_damaged_is_given_up():
    desk, term = leader_of_a_compacted_log()
    source = Bytes(bytes(5_000), desk.journal.last_index, term)
    desk.guard.offer_snapshot(source)
    for _ in range(4):
        desk.say("n2", answer_of(source, term, 4_000), answer_of(source, term, 0))
        desk.tick()
        desk.say("n2", answer_of(source, term, 0))
        desk.tick()
    assert desk.guard.wants_snapshot


def test_a_snapshot_below_the_log_is_not_sent():
    desk, term = leader_of_a_compacted_log()
    desk.guard.offer_snapshot(Bytes(b"old", desk.journal.base_index - 1, term))
    desk.tick()
    assert parts(desk) == []
    assert desk.guard.wants_snapshot


def test_the_log_is_held_while_one_is_sent_but_not_for_ever():
    desk, term = leader_of_a_compacted_log()
    assert desk.guard.hold_index(desk.now_s) is None
    source = Bytes(bytes(5_000), desk.journal.last_index, term)
    desk.guard.offer_snapshot(source)
    desk.tick()
    assert desk.guard.hold_index(desk.now_s) == source.id.index
    assert desk.guard.hold_index(desk.now_s + 601) is None


def test_nothing_is_made_or_held_for_a_member_that_is_away():
    desk, term = leader_of_a_compacted_log()
    for _ in range(20):
        desk.wait(0.151)
        desk.say("n3", ack(term, desk.journal.last_index))
    assert not desk.guard.wants_snapshot
    assert desk.guard.role is Role.LEADER
    desk.say("n2", reject(term, 2, sequence=1 << 40, prev=1 << 40))
    assert desk.guard.wants_snapshot


def test_a_file_can_be_sent(disk):
    file = disk.open("dump", create=True)
    file.append(DATA)
    source = FileSource(disk, "dump", id_of())
    assert source.read(100, 50) == DATA[100:150]
    source.close()


def test_a_probe_below_the_log_is_answered(disk):
    desk, _ = follower()
    desk.say("n2", append(5, 40, 3))
    assert desk.answer(Reject).matched_index == 1


# ---- a node with one to install ---------------------------------------------------------------------------


def test_a_second_one_may_be_whole_while_a_sync_holds_up_its_log():
    """Between the two the log begins behind the first, whose state the store does not have: nothing is handed out."""
    disk, sync = SimDisk(), LateSync()
    node = node_on(disk, sync=sync, peers=["n1", "n2", "n3"])

    def say(message: Append | SnapshotPart) -> None:
        node.receive("n2", encode(message))

    say(append(5, 1, 0))
    node.turn()
    sync.run()
    node.turn()
    say(part(0, DATA, id_of()))
    first = node.installation
    assert first is not None
    say(append(5, 50, 3, ((5, b"\x01a"),), commit=51))
    node.turn()
    assert sync.in_flight
    say(part(0, DATA[:99], id_of(DATA[:99], 80, 5)))
    assert (node.installation, node.journal.base_index) == (None, 50)
    assert node.take_committed(1 << 20) == []
    sync.run()
    node.turn()
    second = node.installation
    assert second is not None
    assert (second.index, node.journal.base_index) == (80, 80)
    assert node.take_committed(1 << 20) == []
    node.installed()
    assert disk.list(DIRECTORY) == []
    node.close()
