"""The library in use is the one that was checked, as installed; and what we hand it holds its end up."""

from __future__ import annotations

import hashlib
import pickle
from importlib.metadata import version
from pathlib import Path

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj
from pysyncobj.node import Node as Member

from tq.errors import InternalError, StorageFailed
from tq.raft import adapter
from tq.raft.adapter import NO_OP, Core, StoredEntry, SyncObjLog
from tq.sim.disk import SimDisk

from .rig import content, fill, journal_on, leader_on

SYNCOBJ_SHA256 = "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4"


def core_on(journal, now_s: float = 0.0) -> Core:
    return Core("n1", [], journal, applied_index=journal.commit_index, now_s=now_s, fallback_s=1.2)


def test_the_library_is_the_version_that_was_checked():
    assert version("pysyncobj") == pysyncobj.syncobj.VERSION == adapter.VERSION


def test_its_file_is_unmodified():
    path = Path(pysyncobj.syncobj.__file__)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SYNCOBJ_SHA256


def test_the_object_in_use_is_a_plain_syncobj_with_its_own_methods():
    """No subclass, no method replaced on the class or the object, no name of the module left changed."""
    names = dict(vars(pysyncobj.syncobj))
    methods = dict(vars(SyncObj))
    node = leader_on(SimDisk())
    node.propose(b"x")
    node.turn()
    syncobj = node._guard._core._syncobj
    assert type(syncobj) is SyncObj
    assert {name for name, value in vars(syncobj).items() if callable(value)} <= {"_SyncObj__nodeClass"}
    assert dict(vars(SyncObj)) == methods
    assert dict(vars(pysyncobj.syncobj)) == names
    for name, function in methods.items():
        if callable(function) and hasattr(function, "__code__"):
            assert function.__code__.co_filename == pysyncobj.syncobj.__file__, name


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(pysyncobj.syncobj, "VERSION", "0.3.18")
    with pytest.raises(ImportError, match=r"0\.3\.18 is installed; tq was checked against 0\.3\.17"):
        adapter._check_library()


@pytest.mark.parametrize("name", ["createJournal", "monotonicTime"])
def test_a_missing_name_is_refused(monkeypatch, name):
    monkeypatch.delattr(pysyncobj.syncobj, name)
    with pytest.raises(ImportError, match="not the file that tq was checked against"):
        adapter._check_library()


def test_the_clock_is_ours_during_a_call_and_only_then():
    theirs = pysyncobj.syncobj.monotonicTime
    journal = journal_on(SimDisk())
    core = core_on(journal, now_s=0.0)
    core.campaign(0.0)
    assert core.role == adapter.LEADER
    assert pysyncobj.syncobj.monotonicTime is theirs
    journal.sync()
    journal._segments[-1].file.close()
    core.tick(5.0)
    assert core._clock() == 6.0
    core.queue(NO_OP + b"x")
    journal.close()
    with pytest.raises(StorageFailed):
        core.tick(6.0)
    assert pysyncobj.syncobj.monotonicTime is theirs


def test_its_own_timers_never_fire():
    journal = journal_on(SimDisk())
    core = core_on(journal)
    for now_s in range(0, 10_000_000, 1_000_000):
        core.tick(float(now_s))
    assert core.role == adapter.FOLLOWER
    assert journal.term == 0


def test_it_counts_itself_before_anything_is_synced():
    """The reason for the guard: SyncObj alone commits what is in memory only (hazard of lines 658-660)."""
    journal = journal_on(SimDisk())
    core = core_on(journal)
    core.campaign(0.0)
    core.queue(NO_OP + b"x")
    core.tick(0.1)
    core.tick(0.2)
    assert core.commit_index == 3
    assert journal.durable_index == 1


def test_a_leader_does_not_campaign():
    core = core_on(journal_on(SimDisk()))
    core.campaign(0.0)
    with pytest.raises(InternalError, match="a leader does not campaign"):
        core.campaign(0.1)


def test_all_that_is_queued_is_appended_in_one_tick():
    journal = journal_on(SimDisk(), segment_bytes=1 << 30)
    core = core_on(journal)
    core.campaign(0.0)
    for _ in range(3000):
        core.queue(NO_OP + b"x" * 100)
    core.tick(0.1)
    assert journal.last_index == 3002


def test_a_tick_that_may_not_send_appends_and_the_next_one_sends():
    sent: list[tuple[str, int]] = []

    def on_append(peer: str, prev_index: int, _prev_term: int, count: int) -> bool:
        sent.append((peer, prev_index + count))
        return True

    journal = journal_on(SimDisk())
    core = Core(
        "n1", ["n2"], journal, applied_index=journal.commit_index, now_s=0.0, fallback_s=1.2, on_append=on_append
    )
    core.campaign(0.0)
    core.feed_vote("n2", 0.1)
    sent.clear()
    for number in range(3):
        core.queue(NO_OP + b"x")
        core.tick(0.2 + number, sends=False)
        assert (journal.last_index, sent) == (3 + number, [])
        core.tick(0.2 + number)
        assert sent == [("n2", 3 + number)]
        core.feed_ack("n2", 3 + number, 0.3 + number)
        sent.clear()


def test_a_member_is_the_same_however_often_it_is_made():
    """SyncObj pickles one that is added."""
    member = adapter.Member("n2")
    again = pickle.loads(pickle.dumps(member))
    assert again is not member
    assert {member} == {again} == {Member("n2")}
    assert adapter.Member("n3") not in {member}


# ---- the log as SyncObj sees it --------------------------------------------------------------------------


@pytest.fixture
def journal():
    journal = journal_on(SimDisk(), tail_bytes=120)
    fill(journal, 30, term=3)
    journal.compact(20)
    return journal


def test_the_log_begins_with_the_base_entry(journal):
    log = SyncObjLog(journal)
    base = journal.base_index
    assert base > 10
    assert len(log) == 31 - base + 1
    assert tuple(log[0][part] for part in range(3)) == (NO_OP, base, 3)
    assert log[-1] == (NO_OP + content(31), 31, 3)
    assert isinstance(log[1], StoredEntry)
    payload, index, term = (log[1][part] for part in range(3))
    assert (len(payload), payload[:1], index, term) == (len(content(base + 1)) + 1, NO_OP, base + 1, 3)
    with pytest.raises(InternalError, match="SyncObj looks into"):
        payload[1:]


def test_slices_copy_nothing_and_are_right(journal):
    log = SyncObjLog(journal)
    base = journal.base_index
    tail = log[3:]
    assert len(tail) == len(log) - 3
    assert [entry[1] for entry in tail] == list(range(base + 3, 32))
    assert [entry[1] for entry in tail[:2]] == [base + 3, base + 4]
    assert tail[-1][1] == 31
    assert not log[1000:]
    assert not log[5:5]
    with pytest.raises(IndexError):
        tail[len(tail)]


def test_what_syncobj_must_not_do_is_refused(journal):
    log = SyncObjLog(journal)
    for forbidden in (log.clear, lambda: log.deleteEntriesFrom(3), lambda: log.deleteEntriesTo(3)):
        with pytest.raises(InternalError):
            forbidden()
    for payload in (b"\x00pickle", b"\x02pickle", b"\x03pickle", b""):
        with pytest.raises(InternalError):
            log.add(payload, 32, 3)
    assert journal.last_index == 31


def test_term_vote_and_commit_go_to_the_journal(journal):
    log = SyncObjLog(journal)
    log.setCurrentTerm(8, "n3")
    log.setRaftCommitIndex(25)
    assert (log.getCurrentTerm(), log.getVotedForNodeId(), log.getRaftCommitIndex()) == (8, "n3", 25)
    assert (journal.term, journal.vote, journal.commit_index) == (8, "n3", 25)
