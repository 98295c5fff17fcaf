"""At once after a good connection, or when the peer calls; else less and less often."""

from __future__ import annotations

from tq import limits
from tq.raft.transport.redial import SERVED_MS, STUCK_MS, Redial
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom

MIN_MS, MAX_MS = limits.PEER_DIAL_MS_MIN, limits.PEER_DIAL_MS_MAX


class Desk:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.redial = Redial(self.clock, SeededRandom(1))

    @property
    def pause_ms(self) -> int:
        return self.redial.due_ms - self.clock.monotonic_ms()

    def fail(self) -> int:
        """One try that comes to nothing; the pause after it."""
        self.clock.advance_ms(max(0, self.pause_ms))
        self.redial.ended()
        return self.pause_ms


def test_the_first_try_is_at_once():
    assert Desk().pause_ms == 0


def test_pauses_grow_up_to_a_bound():
    desk = Desk()
    pauses = [desk.fail() for _ in range(30)]
    assert MIN_MS // 2 <= pauses[0] < MIN_MS * 3 // 2
    assert MIN_MS <= pauses[1] < MIN_MS * 3
    assert all(MAX_MS // 2 <= pause < MAX_MS * 3 // 2 for pause in pauses[10:])
    assert len(set(pauses[10:])) > 10, "nodes must not knock in step"


def test_a_connection_that_served_is_made_anew_at_once():
    desk = Desk()
    for _ in range(10):
        desk.fail()
    desk.redial.is_usable()
    desk.clock.advance_ms(SERVED_MS)
    desk.redial.ended()
    assert desk.pause_ms == 0
    assert desk.fail() < MIN_MS * 3 // 2, "and if that fails the pauses begin anew"


def test_a_connection_that_ends_at_once_is_a_failure():
    desk = Desk()
    for _ in range(10):
        desk.redial.is_usable()
        desk.clock.advance_ms(SERVED_MS - 1)
        desk.redial.ended()
    assert desk.pause_ms >= MAX_MS // 2


def test_a_connection_that_was_never_of_use_is_a_failure():
    desk = Desk()
    desk.redial.is_usable()
    desk.clock.advance_ms(SERVED_MS)
    desk.redial.ended()
    desk.clock.advance_ms(10 * SERVED_MS)  # until the handshake is given up
    desk.redial.ended()
    assert desk.pause_ms >= MIN_MS // 2


def test_a_peer_that_calls_is_dialed_at_once():
    desk = Desk()
    for _ in range(10):
        desk.fail()
    desk.redial.peer_is_there()
    assert desk.pause_ms == 0
    assert desk.fail() < MIN_MS * 3 // 2


def test_a_call_does_not_put_off_what_is_due():
    desk = Desk()
    desk.clock.advance_ms(500)
    desk.redial.peer_is_there()
    assert desk.pause_ms == -500


def test_what_this_node_ends_is_made_anew_soon():
    desk = Desk()
    for _ in range(10):
        desk.fail()
    desk.redial.begin_anew()
    desk.redial.ended()
    assert desk.pause_ms < MIN_MS * 3 // 2


def test_a_try_that_is_under_way_for_long_is_given_up_when_the_peer_calls():
    desk = Desk()
    desk.fail()
    desk.clock.advance_ms(10_000)
    desk.redial.begins()
    assert not desk.redial.peer_is_there()
    desk.clock.advance_ms(STUCK_MS)
    assert desk.redial.peer_is_there()
    desk.redial.is_usable()
    assert not desk.redial.peer_is_there(), "that is no try any more"
