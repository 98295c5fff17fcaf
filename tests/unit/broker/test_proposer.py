from __future__ import annotations

from typing import Any

import pytest

from tq import cbor, limits
from tq.broker.proposer import Proposer
from tq.errors import Backpressure, BrokerUnavailable, NotLeader, TqError
from tq.machine.commands import Op, SessionClose, SessionOpen


class Log:
    """Plays the node: takes entries, never commits by itself."""

    def __init__(self) -> None:
        self.is_leader = True
        self.transfer_target: str | None = None
        self.term = 3
        self.entries: list[bytes] = []

    def propose(self, data: bytes) -> tuple[int, int]:
        self.entries.append(data)
        return self.term, 10 + len(self.entries)

    def commands(self, at: int) -> list[Any]:
        format_, time_ms, commands = cbor.loads_entry(self.entries[at])
        assert (format_, time_ms) == (1, 777)
        return commands


class Time:
    def next_ms(self) -> int:
        return 777


class Rig:
    def __init__(self) -> None:
        self.log = Log()
        self.wakes = 0
        self.proposer = Proposer(self.log, Time(), self._wake)
        self.answers: list[tuple[int, object, int]] = []

    def _wake(self) -> None:
        self.wakes += 1

    def give(self, number: int, operations: int = 1, size: int = 10) -> None:
        self.proposer.propose(
            SessionClose(bytes([number % 256]) * 16), operations, size,
            lambda answer, index: self.answers.append((number, answer, index)),
        )  # fmt: skip


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_waits_is_one_entry(rig):
    for number in range(5):
        rig.give(number)
    rig.proposer.before_turn()
    assert len(rig.log.entries) == 1
    commands = rig.log.commands(0)
    assert [command[0] for command in commands] == [Op.SESSION_CLOSE] * 5
    assert [command[1][0] for command in commands] == [0, 1, 2, 3, 4]


def test_nothing_is_proposed_without_commands(rig):
    rig.proposer.before_turn()
    assert rig.log.entries == []


def test_one_entry_is_in_flight_at_a_time(rig):
    rig.give(0)
    rig.proposer.before_turn()
    rig.give(1)
    rig.give(2)
    rig.proposer.before_turn()
    assert len(rig.log.entries) == 1
    rig.proposer.applied(3, 11, ["zero"])
    assert rig.answers == [(0, "zero", 11)]
    rig.proposer.before_turn()
    assert len(rig.log.commands(1)) == 2


def test_nobody_is_answered_before_the_entry_is_applied(rig):
    rig.give(0)
    rig.proposer.before_turn()
    rig.proposer.applied(3, 10, [])  # an entry before ours
    assert rig.answers == []
    assert not rig.proposer.is_idle


def test_answers_go_to_those_who_asked_in_order(rig):
    for number in range(3):
        rig.give(number)
    rig.proposer.before_turn()
    rig.proposer.applied(3, 11, ["a", "b", "c"])
    assert rig.answers == [(0, "a", 11), (1, "b", 11), (2, "c", 11)]
    assert rig.proposer.is_idle


def test_it_asks_for_a_turn_when_there_is_something_and_when_more_waits(rig):
    rig.give(0)
    assert rig.wakes >= 1
    rig.proposer.before_turn()
    rig.give(1)
    before = rig.wakes
    rig.proposer.applied(3, 11, ["a"])
    assert rig.wakes > before or rig.proposer.has_work


def test_an_entry_is_closed_at_its_bound_of_tasks(rig):
    for number in range(5):
        rig.give(number, operations=400)
    sizes = []
    for index in range(11, 14):
        rig.proposer.before_turn()
        sizes.append(len(rig.log.commands(index - 11)))
        rig.proposer.applied(3, index, ["ok"] * sizes[-1])
    assert sizes == [2, 2, 1]
    assert limits.ENTRY_OPERATIONS_MAX == 1_000


def test_an_entry_is_closed_at_its_bound_of_bytes(rig):
    half = limits.ENTRY_TARGET_BYTES // 2
    for number in range(3):
        rig.give(number, size=half)
    rig.proposer.before_turn()
    assert len(rig.log.commands(0)) == 2


def test_a_command_above_the_bounds_goes_alone(rig):
    rig.give(0)
    rig.give(1, operations=5_000, size=limits.ENTRY_TARGET_BYTES * 3)
    rig.give(2)
    sizes = []
    for index in range(11, 14):
        rig.proposer.before_turn()
        sizes.append(len(rig.log.commands(index - 11)))
        rig.proposer.applied(3, index, ["ok"] * sizes[-1])
    assert sizes == [1, 1, 1]
    assert [number for number, _, _ in rig.answers] == [0, 1, 2]


def test_another_leader_wrote_at_our_index(rig):
    rig.give(0)
    rig.give(1)
    rig.proposer.before_turn()
    rig.proposer.applied(4, 11, ["theirs", "and more", "and more"])
    assert [number for number, _, _ in rig.answers] == [0, 1]
    assert all(isinstance(answer, BrokerUnavailable) for _, answer, _ in rig.answers)
    assert "unknown" in str(rig.answers[0][1])


def test_another_leaders_entry_beyond_our_index(rig):
    """A snapshot may skip ours: whoever waits is told that the outcome is unknown."""
    rig.give(0)
    rig.proposer.before_turn()
    rig.proposer.applied(5, 40, [])
    assert isinstance(rig.answers[0][1], BrokerUnavailable)


def test_lost_leadership_answers_all_that_waits_once(rig):
    rig.give(0)
    rig.proposer.before_turn()
    rig.give(1)
    rig.proposer.leadership_lost("127.0.0.1:7389")
    (first, second) = rig.answers
    assert isinstance(first[1], BrokerUnavailable)  # in the log: unknown
    assert isinstance(second[1], NotLeader)  # never left: not done
    assert second[1].leader == "127.0.0.1:7389"
    rig.proposer.leadership_lost(None)
    rig.proposer.applied(3, 11, ["late"])
    assert len(rig.answers) == 2
    assert rig.proposer.is_idle
    assert rig.proposer.statistics().queued_bytes == 0


def test_a_follower_takes_nothing(rig):
    rig.log.is_leader = False
    with pytest.raises(NotLeader):
        rig.give(0)
    assert rig.proposer.is_idle


def test_what_waits_is_not_proposed_by_a_follower(rig):
    rig.give(0)
    rig.log.is_leader = False
    rig.proposer.before_turn()
    assert rig.log.entries == []
    rig.proposer.leadership_lost(None)
    assert isinstance(rig.answers[0][1], NotLeader)


def test_the_queue_is_bounded_in_commands(rig):
    for number in range(limits.PROPOSER_QUEUE_COMMANDS_MAX):
        rig.give(number)
    with pytest.raises(Backpressure) as refused:
        rig.give(0)
    assert refused.value.retry_after == limits.OVERLOAD_RETRY_AFTER_MS / 1000
    assert rig.proposer.statistics().queued_commands == limits.PROPOSER_QUEUE_COMMANDS_MAX
    assert rig.proposer.statistics().refused == 1
    rig.proposer.before_turn()
    rig.give(0)


def test_the_queue_is_bounded_in_bytes(rig):
    most = limits.PROPOSER_QUEUE_BYTES_MAX
    rig.give(0, size=most // 2)
    rig.give(1, size=most // 2)
    with pytest.raises(Backpressure):
        rig.give(2, size=2)
    assert rig.proposer.statistics().queued_bytes == most
    rig.proposer.before_turn()
    assert rig.proposer.statistics().queued_bytes == most // 2


def test_an_answer_may_ask_for_more(rig):
    """What is called with an answer may propose again, at once."""
    rig.proposer.propose(SessionClose(b"a" * 16), 1, 10, lambda answer, index: rig.give(7))
    rig.proposer.before_turn()
    rig.proposer.applied(3, 11, ["ok"])
    rig.proposer.before_turn()
    assert rig.log.commands(1)[0][1] == b"\x07" * 16


def test_an_entry_never_exceeds_what_the_log_takes(rig):
    """Sizes are said by the caller; should they be wrong, the entry is cut, and nobody is left without an answer."""
    big = "x" * (limits.ENTRY_BYTES_MAX // 3 + 1)
    answers: list[object] = []
    for _ in range(4):
        rig.proposer.propose(SessionOpen(b"s" * 16, big, [], []), 1, 10, lambda answer, index: answers.append(answer))
    for index in range(11, 16):
        rig.proposer.before_turn()
        if rig.proposer.is_idle:
            break
        assert len(rig.log.entries[-1]) <= limits.ENTRY_BYTES_MAX
        rig.proposer.applied(3, index, ["ok"] * len(rig.log.commands(index - 11)))
    assert answers == ["ok"] * 4


def test_a_command_that_fits_no_entry_is_refused(rig):
    answers: list[object] = []
    huge = "x" * (limits.ENTRY_BYTES_MAX + 1)
    rig.proposer.propose(SessionOpen(b"s" * 16, huge, [], []), 1, 10, lambda answer, index: answers.append(answer))
    rig.give(1)
    wakes = rig.wakes
    rig.proposer.before_turn()
    assert rig.wakes > wakes, "those behind it do not wait for the next event"
    rig.proposer.before_turn()
    assert isinstance(answers[0], TqError)
    assert answers[0].code == "TOO_LARGE"
    rig.proposer.applied(3, 11, ["ok"])
    assert rig.answers == [(1, "ok", 11)]


def test_while_leadership_is_handed_over_all_waits_for_how_that_ends(rig):
    rig.log.transfer_target = "n2"
    rig.give(1)
    rig.proposer.before_turn()
    assert (rig.log.entries, rig.answers) == ([], [])
    rig.log.transfer_target = None  # it came to nothing
    rig.proposer.before_turn()
    assert len(rig.log.entries) == 1
    rig.log.transfer_target = "n3"
    rig.give(2)
    rig.proposer.before_turn()
    rig.proposer.leadership_lost("there")
    assert [(number, type(answer)) for number, answer, _ in rig.answers] == [(1, BrokerUnavailable), (2, NotLeader)]
