from __future__ import annotations

from typing import Any

import pytest

from tq.broker import holding
from tq.broker.holding import HOLD_MS, Holding
from tq.errors import NotLeader, TqError
from tq.protocol import messages as m
from tq.sim.clock import VirtualClock


class Wire:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.is_closed = False
        self.errors: list[tuple[int | None, TqError]] = []

    def send_error(self, rid: int | None, error: TqError) -> None:
        self.errors.append((rid, error))


class Rig:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.asked: list[tuple[Any, int]] = []
        self.has_leader = True
        self.holding = Holding(self.clock, self._ask)
        self.wire = Wire()

    def _ask(self, wire: Any, message: Any) -> None:
        if self.has_leader:
            self.asked.append((wire, message.rid))
        else:
            self.holding.hold(wire, message)

    def hold(self, *rids: int, wire: Wire | None = None, size: int = 1) -> None:
        for rid in rids:
            self.holding.hold(wire or self.wire, m.SubmitTask(rid, [bytes(size)]))  # type: ignore[arg-type]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_held_is_asked_for_again_once_and_in_order(rig):
    other = Wire()
    rig.hold(1, 2)
    rig.hold(3, wire=other)
    rig.holding.release()
    rig.holding.release()
    assert rig.asked == [(rig.wire, 1), (rig.wire, 2), (other, 3)]
    rig.clock.advance_ms(HOLD_MS)
    rig.holding.look()
    assert rig.wire.errors == other.errors == []


def test_it_is_refused_when_no_leader_comes(rig):
    rig.hold(1)
    rig.clock.advance_ms(HOLD_MS - 1)
    rig.hold(2)
    rig.holding.look()
    assert rig.wire.errors == []
    rig.clock.advance_ms(1)
    rig.holding.look()
    [(rid, error)] = rig.wire.errors
    assert (rid, type(error), error.retry_after) == (1, NotLeader, 0.1)
    assert len(rig.holding) == 1


def test_a_client_that_left_is_not_asked_for(rig):
    rig.hold(1)
    rig.wire.is_closed = True
    rig.holding.release()
    assert (rig.asked, len(rig.holding)) == ([], 0)


def test_what_finds_no_leader_again_is_held_again(rig):
    rig.hold(1, 2)
    rig.has_leader = False
    rig.holding.release()
    assert len(rig.holding) == 2
    rig.has_leader = True
    rig.holding.release()
    assert [rid for _wire, rid in rig.asked] == [1, 2]


def test_nothing_is_held_for_longer_because_it_was_asked_for_again(rig):
    rig.hold(1)
    rig.has_leader = False
    rig.clock.advance_ms(HOLD_MS - 1)
    rig.holding.release()
    rig.hold(2)
    rig.clock.advance_ms(1)
    rig.holding.look()
    assert [rid for rid, _error in rig.wire.errors] == [1]
    assert len(rig.holding) == 1


def test_it_is_bounded_in_number(rig, monkeypatch):
    monkeypatch.setattr(holding, "HELD_MAX", 2)
    rig.hold(1, 2)
    with pytest.raises(NotLeader):
        rig.hold(3)
    rig.holding.release()
    rig.hold(4)


def test_it_is_bounded_in_bytes_and_room_comes_back(rig, monkeypatch):
    monkeypatch.setattr(holding, "HELD_BYTES_MAX", 10_000)
    for _ in range(3):
        rig.hold(1, size=9_000)
        with pytest.raises(NotLeader):
            rig.hold(2, size=9_000)
        rig.clock.advance_ms(HOLD_MS)
        rig.holding.look()
    rig.hold(3, size=9_000)
    rig.holding.release()
    rig.hold(4, size=9_000)
