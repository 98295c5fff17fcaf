"""A name with another data directory. Lists of voters alone are in test_members.py, whole groups in tests/sim/test_lost_disks.py."""

from __future__ import annotations

import pytest

from tq.errors import Backpressure, InvalidRequest
from tq.raft import members
from tq.raft.guard import Guard
from tq.raft.journal import Journal
from tq.raft.members import Admission, Voters
from tq.raft.messages import Ack, PreVoteReply, Vote, encode
from tq.raft.voting import Voting
from tq.sim.disk import SimDisk
from tq.sim.random import SeededRandom

from .rig import journal_on

OLD = {name: name.encode() * 8 for name in ("n1", "n2", "n3")}
NEW = b"n" * 16


def voting_on(journal: Journal) -> Voting:
    return Voting("n1", ("n1", "n2", "n3"), journal, OLD)


@pytest.fixture
def journal() -> Journal:
    journal = journal_on(SimDisk())
    journal.set_term(1, "n1")
    return journal


def append(journal: Journal, payload: bytes) -> int:
    journal.append(payload, journal.last_index + 1, 1)
    journal.sync()
    return journal.last_index


def test_a_list_with_directories_comes_back_and_an_entry_names_itself():
    admitted = {"a": Admission(b"a" * 16, 0), "b": Admission(NEW, 3)}
    payload = members.encode(["a"], admitted, "b")
    assert members.decode(payload, 9) == Voters(9, ("a",), {**admitted, "b": Admission(NEW, 9)})
    assert members.decode(payload, 9).joining == ["b"]
    voters = Voters(7, ("a", "b"), admitted)
    assert members.unpack(members.pack(voters)) == voters
    for seat in (b"short", [b"short", 0], [NEW, 10], [NEW, -1], [NEW, "x"], [NEW]):
        with pytest.raises(ValueError):
            members.decode(b"\x01\xff" + members.cbor.dumps([["a"], {"b": seat}]), 9)


def test_a_replacement_is_two_lists_and_the_second_waits_until_the_first_is_committed(journal):
    voting = voting_on(journal)
    assert voting.give_vote(1, waits=False) is None
    first = append(journal, voting.replace("n2", NEW, 1, waits=False))
    assert voting.take()
    assert (voting.voters, voting.joining, voting.admitted["n2"]) == (("n1", "n3"), ["n2"], Admission(NEW, first))
    assert voting.give_vote(first - 1, waits=False) is None
    assert voting.give_vote(first, waits=True) is None
    with pytest.raises(Backpressure):
        voting.replace("n3", NEW, first, waits=False)
    with pytest.raises(Backpressure):
        voting.change(["n1"], first, waits=False)
    payload = voting.give_vote(first, waits=False)
    assert payload is not None
    append(journal, payload)
    assert voting.take()
    assert (voting.voters, voting.joining, voting.admitted["n2"]) == (("n1", "n2", "n3"), [], Admission(NEW, first))
    journal.truncate_from(first)
    assert voting.take()
    assert voting.admitted["n2"] == Admission(OLD["n2"], 0)


@pytest.mark.parametrize(("name", "why"), [("n1", "this one leads"), ("n9", "one of n1, n2, n3"), ("", "one of")])
def test_who_cannot_be_replaced(journal, name, why):
    with pytest.raises(InvalidRequest, match=why):
        voting_on(journal).replace(name, NEW, 1, waits=False)


def test_of_two_none_is_replaced(journal):
    voting = Voting("n1", ("n1", "n2"), journal, {id: OLD[id] for id in ("n1", "n2")})
    with pytest.raises(InvalidRequest, match="a group of 3 or more"):
        voting.replace("n2", NEW, 1, waits=False)


def test_who_is_added_is_known_by_its_directory(journal):
    voting = voting_on(journal)
    with pytest.raises(InvalidRequest, match="the data directory of n4 must be known"):
        voting.change(["n1", "n2", "n3", "n4"], 1, waits=False)
    index = append(journal, voting.change(["n1", "n2", "n3", "n4"], 1, waits=False, incarnation=NEW))
    voting.take()
    assert voting.admitted["n4"] == Admission(NEW, index)
    append(journal, voting.change(["n1", "n2", "n3"], index, waits=False))
    voting.take()
    assert (voting.joining, sorted(voting.admitted)) == ([], ["n1", "n2", "n3"])


def test_an_answer_counts_from_the_directory_in_force_alone(journal):
    voting = voting_on(journal)
    assert voting.counts("n2", OLD["n2"])
    assert not voting.counts("n2", NEW)
    assert not voting.counts("n2", None)
    assert not voting.counts("n1", OLD["n1"])
    first = append(journal, voting.replace("n2", NEW, 1, waits=False))
    voting.take()
    assert not voting.counts("n2", OLD["n2"])
    assert not voting.counts("n2", NEW)
    append(journal, voting.give_vote(first, waits=False) or b"")
    voting.take()
    assert voting.counts("n2", NEW)
    assert not voting.counts("n2", OLD["n2"])


def test_only_what_is_committed_rules_a_directory_out(journal):
    voting = voting_on(journal)
    old = OLD["n2"]
    assert voting.refusal("n2", old, 0, 1) is None
    assert "than when the cluster was formed" in (voting.refusal("n2", NEW, 0, 1) or "")
    assert voting.refusal("n2", NEW, 5, 1) is None, "a later entry may admit it"
    assert voting.refusal("n9", NEW, 0, 1) is None
    first = append(journal, voting.replace("n2", NEW, 1, waits=False))
    voting.take()
    assert voting.refusal("n2", old, 0, 1) is None, "the list may be cut away"
    assert voting.refusal("n2", NEW, first, 1) is None
    assert f"which entry {first} of the log admits" in (voting.refusal("n2", old, 0, first) or "")
    assert voting.refusal("n2", NEW, first, first) is None
    assert voting.refusal("n2", b"x" * 16, first, first) is not None


def test_the_guard_drops_answers_of_another_directory_and_tells_when_others_may_count(journal):
    told: list[int] = []
    guard = Guard(
        node_id="n1", peers=["n2", "n3"], journal=journal, random=SeededRandom(1), now_s=0.0, election_ms=(600, 1_200),
        heartbeat_ms=150, founders=OLD,
    )  # fmt: skip
    guard.on_members = lambda: told.append(guard.committed_index)
    for answer in (Vote(1), Ack(1, 1, 1, 0, 1), PreVoteReply(1, 1, True)):
        guard.receive("n2", encode(answer), 0.0, NEW)
    assert guard.strangers == 3
    guard.receive("n2", encode(Vote(1)), 0.0, OLD["n2"])
    assert (guard.strangers, told) == (3, [])
