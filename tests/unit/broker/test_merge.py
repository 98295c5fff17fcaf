from __future__ import annotations

from typing import Any

import pytest

from tq import limits
from tq.broker.merge import SMALL_TASKS_MAX, merge
from tq.errors import BrokerUnavailable
from tq.machine.commands import SessionClose, Submit

CLOSE = SessionClose(bytes(16))


class Asked:
    """Commands by name, and what each was answered."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, Any]] = []
        self.answers: dict[str, list[tuple[object, int]]] = {}

    def ask(self, name: str, command: Any) -> None:
        answers = self.answers[name] = []
        self.commands.append((command, lambda answer, index: answers.append((answer, index))))

    def submit(self, name: str, count: int, atomic: bool = False) -> None:
        self.ask(name, Submit([f"{name}{number}".encode() for number in range(count)], atomic))


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_neighbours_become_one_and_each_gets_its_own_answers(asked):
    asked.submit("a", 1)
    asked.submit("b", 3)
    asked.submit("c", 1)
    ((command, done),) = merge(asked.commands)
    assert command == Submit([b"a0", b"b0", b"b1", b"b2", b"c0"])
    done([1, 2, 3, 4, 5], 7)
    assert asked.answers == {"a": [([1], 7)], "b": [([2, 3, 4], 7)], "c": [([5], 7)]}


def test_the_order_of_commands_stays(asked):
    asked.submit("a", 1)
    asked.ask("close", CLOSE)
    asked.submit("b", 1)
    asked.submit("c", 1)
    assert [command for command, _ in merge(asked.commands)] == [Submit([b"a0"]), CLOSE, Submit([b"b0", b"c0"])]


def test_an_error_is_everybodys(asked):
    asked.submit("a", 1)
    asked.submit("b", 2)
    error = BrokerUnavailable("lost")
    merge(asked.commands)[0][1](error, 0)
    assert asked.answers == {"a": [(error, 0)], "b": [(error, 0)]}


def test_atomic_and_large_ones_stay_alone(asked):
    asked.submit("a", 2)
    asked.submit("atomic", 2, atomic=True)
    asked.submit("large", SMALL_TASKS_MAX + 1)
    asked.submit("b", SMALL_TASKS_MAX)
    merged = merge(asked.commands)
    assert [command.atomic for command, _ in merged] == [False, True, False, False]
    assert [len(command.specs) for command, _ in merged] == [2, 2, SMALL_TASKS_MAX + 1, SMALL_TASKS_MAX]
    merged[1][1]([0, 0], 3)
    assert asked.answers["atomic"] == [([0, 0], 3)]


def test_what_is_joined_is_a_submission_that_the_machine_takes(asked):
    clients = limits.BATCH_TASKS_MAX // SMALL_TASKS_MAX + 2
    for number in range(clients):
        asked.submit(str(number), SMALL_TASKS_MAX)
    merged = merge(asked.commands)
    sizes = [len(command.specs) for command, _ in merged]
    assert max(sizes) <= limits.BATCH_TASKS_MAX
    assert sum(sizes) == clients * SMALL_TASKS_MAX
    for command, done in merged:
        done(command.specs, 1)
    for number in range(clients):
        ((answer, _),) = asked.answers[str(number)]
        assert answer == [f"{number}{item}".encode() for item in range(SMALL_TASKS_MAX)]


def test_the_callers_lists_are_left_alone(asked):
    asked.submit("a", 1)
    asked.submit("b", 1)
    merge(asked.commands)
    assert [command.specs for command, _ in asked.commands] == [[b"a0"], [b"b0"]]


def test_an_answer_of_another_length_stops_the_node(asked):
    asked.submit("a", 1)
    asked.submit("b", 1)
    with pytest.raises(AssertionError, match="an answer to each"):
        merge(asked.commands)[0][1]([0], 1)
