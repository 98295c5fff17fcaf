"""What the checkers take for synced is what a power loss leaves."""

from __future__ import annotations

from tests.unit.raft.rig import content, journal_on
from tq.raft.journal import Journal
from tq.raft.node import Entry
from tq.sim.disk import SimDisk
from tq.sim.platter import Platter


def write(journal: Journal, count: int, term: int = 1) -> None:
    for index in range(journal.last_index + 1, journal.last_index + 1 + count):
        journal.append(b"\x01" + content(index), index, term)


def held(platter: Platter, journal: Journal) -> list[tuple[int, int]]:
    return [
        (index, term)
        for index in range(2, journal.last_index + 10)
        for term in range(1, 9)
        if platter.has(Entry(index, term, b""))
    ]


def test_what_is_written_is_not_synced():
    journal, platter = journal_on(SimDisk()), Platter()
    journal.set_term(1, None)
    write(journal, 3)
    platter.note(journal)
    assert held(platter, journal) == []
    journal.sync()
    platter.note(journal)
    assert held(platter, journal) == [(2, 1), (3, 1), (4, 1)]


def test_what_is_cut_is_gone_and_what_takes_its_place_has_its_term():
    journal, platter = journal_on(SimDisk()), Platter()
    journal.set_term(1, None)
    write(journal, 4)
    journal.sync()
    platter.note(journal)
    journal.set_term(3, None)
    journal.truncate_from(4)
    platter.note(journal)
    assert held(platter, journal) == [(2, 1), (3, 1)]
    write(journal, 3, term=3)
    platter.note(journal)
    assert held(platter, journal) == [(2, 1), (3, 1)]
    journal.sync()
    platter.note(journal)
    assert held(platter, journal) == [(2, 1), (3, 1), (4, 3), (5, 3), (6, 3)]


def test_a_cut_that_nobody_saw_in_between_is_seen_after_it():
    journal, platter = journal_on(SimDisk()), Platter()
    journal.set_term(1, None)
    write(journal, 4)
    journal.sync()
    platter.note(journal)
    journal.set_term(2, None)
    journal.truncate_from(3)
    write(journal, 5, term=2)
    journal.sync()
    platter.note(journal)
    assert held(platter, journal) == [(2, 1), *[(index, 2) for index in range(3, 8)]]
