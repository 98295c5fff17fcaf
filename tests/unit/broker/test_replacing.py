"""The leader's part, played by a simulated group: who is asked is its leader."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from tq.broker import replacing
from tq.broker.replacing import Replacing
from tq.errors import Backpressure, InvalidRequest, NotLeader, TqError
from tq.sim.group import SimGroup

NEW = b"n" * 16


class Asked:
    def __init__(self, size: int = 3) -> None:
        self.group = SimGroup(1, size)
        self.group.start_all()
        self.leader = self.group.elect()
        self.others = [name for name in self.group.members if name != self.leader]
        self.reachable = set(self.others)
        self.answers: list[dict[str, Any] | TqError] = []
        self.replacing = self.at(self.leader)

    def at(self, name: str) -> Replacing:
        log = structlog.get_logger("test")
        node = self.group.node(name)
        return Replacing(node, name, b"c" * 16, lambda: self.reachable, lambda: self.wake(name), log)

    def wake(self, name: str) -> None:
        self.group.members[name].wake_ms = self.group.now_ms

    def lose(self, name: str) -> None:
        self.group.kill(name)
        self.reachable.discard(name)

    def ask(self, name: object, incarnation: object = NEW) -> None:
        self.replacing.ask(name, incarnation, self.answers.append)


def test_it_is_answered_when_the_admission_is_committed_and_again_the_same() -> None:
    asked = Asked()
    lost, other = asked.others
    asked.lose(lost)
    asked.ask(lost, None)
    assert asked.answers.pop() == {}
    asked.ask(lost)
    asked.ask(lost)  # another connection, after a time-out
    assert asked.answers == []
    asked.group._ends.clear()
    node = asked.group.node(asked.leader)
    asked.group.promises.proposed(asked.group.members[asked.leader].life, node.term, node.last_index + 1, b"")
    asked.group.run_until(lambda: bool(asked.replacing.run_once() or asked.answers), 3_000, "an answer")
    first, second = asked.answers
    assert first == second
    assert isinstance(first, dict)
    assert first["cluster"] == b"c" * 16
    assert first["members"][lost] == NEW
    assert first["members"][other] == asked.group.members[other].incarnation
    assert node.admitted[lost].index == first["index"] <= node.commit_index
    asked.ask(lost)
    assert asked.answers[2] == first
    assert len(asked.answers) == 3


def test_those_who_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "WAITING_MAX", 1)
    asked = Asked()
    asked.lose(asked.others[0])
    asked.ask(asked.others[0])
    with pytest.raises(Backpressure):
        asked.ask(asked.others[0])
    assert asked.answers == []


@pytest.mark.parametrize("incarnation", [None, NEW])
def test_what_would_do_harm_is_refused_and_told_why(incarnation: bytes | None) -> None:
    asked = Asked()
    lost, other = asked.others
    last_index = asked.group.node(asked.leader).last_index
    with pytest.raises(InvalidRequest, match="runs with the data directory that it has: stop its broker"):
        asked.ask(lost, incarnation)
    with pytest.raises(InvalidRequest, match="runs, and leads the cluster"):
        asked.ask(asked.leader, incarnation)
    with pytest.raises(InvalidRequest, match="one of n1, n2, n3"):
        asked.ask("n9", incarnation)
    asked.lose(lost)
    asked.reachable.discard(other)
    with pytest.raises(InvalidRequest, match=r"takes 2 of the other nodes, n. can be reached"):
        asked.ask(lost, incarnation)
    with pytest.raises(NotLeader):
        asked.at(other).ask(lost, incarnation, asked.answers.append)
    asked.group.run(50)
    assert asked.group.node(asked.leader).last_index == last_index
    assert asked.answers == []


@pytest.mark.parametrize(("name", "incarnation"), [(1, NEW), (None, NEW), ("n2", b"short"), ("n2", "text")])
def test_arguments_of_another_kind_are_refused(name: object, incarnation: object) -> None:
    with pytest.raises(InvalidRequest):
        Asked().ask(name, incarnation)


def test_another_change_that_is_under_way_comes_first() -> None:
    asked = Asked(5)
    first, second, *_ = asked.others
    asked.lose(first)
    asked.lose(second)
    asked.ask(first)
    with pytest.raises(Backpressure):
        asked.ask(second)


def test_who_waits_for_a_leader_that_leads_no_more_is_told() -> None:
    asked = Asked()
    lost, other = asked.others
    asked.lose(lost)
    asked.ask(lost)
    node = asked.group.node(asked.leader)
    asked.group.promises.proposed(asked.group.members[asked.leader].life, node.term, node.last_index + 1, b"")
    asked.group.kill(other)
    asked.group.run(2_000)
    asked.replacing.run_once()
    [answer] = asked.answers
    assert isinstance(answer, NotLeader)
