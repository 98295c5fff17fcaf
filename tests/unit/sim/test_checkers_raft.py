"""Each checker is silent about what is right, and speaks when a promise is broken."""

from __future__ import annotations

import pytest

from tq.raft.guard import Outcome, ProposalEnd, ReadEnd
from tq.raft.journal import Journal
from tq.raft.node import Entry
from tq.raft.recovery import open_journal
from tq.sim.checkers.breach import Breach
from tq.sim.checkers.raft_committed import RaftCommitted
from tq.sim.checkers.raft_leaders import RaftLeaders
from tq.sim.checkers.raft_logs import RaftLogs
from tq.sim.checkers.raft_promises import RaftPromises
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom


def journal_of(*entries: tuple[int, bytes]) -> Journal:
    journal = open_journal(SimDisk(), SeededRandom(1), floor_index=0)
    for index, (term, data) in enumerate(entries, 2):
        journal.append(b"\x01" + data, index, term)
    return journal


def test_one_leader_a_term():
    leaders = RaftLeaders()
    assert leaders.leads("a", 1)
    assert not leaders.leads("a", 1)
    assert leaders.leads("b", 2)
    with pytest.raises(Breach, match="a and b both lead term 1"):
        leaders.leads("b", 1)


def test_logs_match():
    logs = RaftLogs()
    logs.look("a", journal_of((1, b"x"), (1, b"y"), (3, b"z")))
    logs.look("b", journal_of((1, b"x"), (2, b"other")))
    logs.look("c", journal_of((1, b"x"), (1, b"y")))
    with pytest.raises(Breach, match="entry 3 of term 1"):
        logs.look("d", journal_of((1, b"x"), (1, b"not y")))
    with pytest.raises(Breach, match="entry 4 of term 3"):
        logs.look("e", journal_of((1, b"x"), (2, b"other"), (3, b"z")))


def test_logs_are_looked_at_again_behind_a_cut():
    logs = RaftLogs()
    journal = journal_of((1, b"x"), (1, b"y"))
    logs.look("a", journal)
    journal.truncate_from(3)
    journal.append(b"\x01new", 3, 2)
    logs.look("a", journal)
    with pytest.raises(Breach):
        logs.look("b", journal_of((1, b"x"), (2, b"not new")))


def test_committed_entries_are_the_same_everywhere_and_without_gaps():
    committed = RaftCommitted()
    assert committed.handed_out("a", Entry(1, 0, b""))
    assert committed.handed_out("a", Entry(2, 1, b"x"))
    assert not committed.handed_out("b", Entry(2, 1, b"x"))
    with pytest.raises(Breach, match="before that it was"):
        committed.handed_out("b", Entry(2, 2, b"x"))
    with pytest.raises(Breach, match="3 never was"):
        committed.handed_out("b", Entry(4, 2, b"x"))


def test_a_leader_has_all_that_is_committed():
    committed = RaftCommitted()
    for entry in (Entry(1, 0, b""), Entry(2, 1, b"x"), Entry(3, 2, b"y")):
        committed.handed_out("a", entry)
    committed.new_leader("b", 3, journal_of((1, b"x"), (2, b"y"), (3, b"")))
    with pytest.raises(Breach, match="without entry 3"):
        committed.new_leader("b", 3, journal_of((1, b"x")))
    with pytest.raises(Breach, match="without entry 3"):
        committed.new_leader("b", 3, journal_of((1, b"x"), (1, b"y")))


def test_an_old_leader_that_is_seen_late_need_not_have_what_was_committed_since():
    """It won its votes, and hears of it when another one leads already."""
    committed = RaftCommitted()
    for entry in (Entry(1, 0, b""), Entry(2, 1, b"x"), Entry(3, 4, b"y")):
        committed.handed_out("a", entry)
    committed.new_leader("b", 3, journal_of((1, b"x")))
    with pytest.raises(Breach, match="without entry 3"):
        committed.new_leader("b", 5, journal_of((1, b"x")))


@pytest.mark.parametrize("voters", [1, 2, 3, 5, 7])
def test_committed_means_synced_on_a_majority(voters):
    committed = RaftCommitted()
    names = [str(number) for number in range(voters)]
    committed.on_majority(Entry(2, 1, b"x"), names[: voters // 2 + 1], voters)
    with pytest.raises(Breach, match="have it synced"):
        committed.on_majority(Entry(2, 1, b"x"), names[: voters // 2], voters)


def test_proposals_end_once_and_as_it_was_told():
    promises = RaftPromises()
    for index in (2, 3, 4):
        promises.proposed("a/1", 1, index, b"%d" % index)
    promises.ended("a/1", Outcome(1, 2, ProposalEnd.COMMITTED))
    promises.ended("a/1", Outcome(1, 3, ProposalEnd.LOST))
    with pytest.raises(Breach, match="twice"):
        promises.ended("a/1", Outcome(1, 3, ProposalEnd.COMMITTED))
    good = {2: Entry(2, 1, b"2"), 3: Entry(3, 2, b"3")}
    promises.check(good, {"a/1"})
    with pytest.raises(Breach, match="without an end"):
        promises.check(good, set())
    promises.died("a/1")
    promises.check(good, set())
    with pytest.raises(Breach, match="was committed at 2"):
        promises.check({2: Entry(2, 2, b"2")}, set())
    with pytest.raises(Breach, match="called lost"):
        promises.check({2: Entry(2, 1, b"2"), 3: Entry(3, 1, b"3")}, set())


def test_reads_are_not_behind():
    promises = RaftPromises()
    promises.read_began("a/1", 1, 7)
    promises.read_ended("a/1", ReadEnd(1, 7))
    promises.read_began("a/1", 2, 7)
    promises.read_ended("a/1", ReadEnd(2, None))
    assert promises.reads_answered == 1
    promises.read_began("a/1", 3, 7)
    with pytest.raises(Breach, match="answered at 6"):
        promises.read_ended("a/1", ReadEnd(3, 6))
