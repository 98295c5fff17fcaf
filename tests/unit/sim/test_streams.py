from __future__ import annotations

import pytest

from tq.sim.random import SeededRandom
from tq.sim.streams import KERNEL_BYTES, Arrival, Sign, SimStreams, Wire


@pytest.fixture
def streams() -> SimStreams:
    streams = SimStreams(SeededRandom(1))
    streams.powered |= {"a", "b"}
    streams.listening |= {"a", "b"}
    return streams


def connected(streams: SimStreams) -> Wire:
    wire = streams.connect(0, "a", "b")
    assert [arrival.sign for arrival in streams.take_due(10)] == [Sign.CALL]
    assert [arrival.sign for arrival in streams.take_due(20)] == [Sign.ACCEPT]
    return wire


def signs(arrivals: list[Arrival]) -> list[tuple[str, Sign, bytes]]:
    return [(arrival.to, arrival.sign, arrival.data) for arrival in arrivals]


def test_bytes_come_in_order_whatever_their_delays(streams):
    wire = connected(streams)
    streams.delay_ms = (1, 50)
    for number in range(20):
        streams.send(20, wire, "a", b"%d" % number)
    assert streams.next_due_ms() is not None
    assert [arrival.data for arrival in streams.take_due(100)] == [b"%d" % number for number in range(20)]


def test_a_cut_is_one_way_and_holds_back(streams):
    wire = connected(streams)
    streams.cut("a", "b")
    streams.send(20, wire, "a", b"there")
    streams.send(20, wire, "b", b"back")
    assert signs(streams.take_due(1_000)) == [("a", Sign.DATA, b"back")]
    assert streams.next_due_ms() is None
    streams.heal()
    assert signs(streams.take_due(1_000)) == [("b", Sign.DATA, b"there")]


def test_nobody_listens(streams):
    streams.listening.discard("b")
    streams.connect(0, "a", "b")
    assert streams.take_due(10) == []
    assert signs(streams.take_due(20)) == [("a", Sign.REFUSE, b"")]


def test_a_machine_without_power_answers_nothing(streams):
    streams.powered.discard("b")
    streams.connect(0, "a", "b")
    assert streams.take_due(10) == streams.take_due(100) == []


def test_what_was_sent_before_a_close_arrives(streams):
    wire = connected(streams)
    streams.send(20, wire, "a", b"last")
    streams.close(20, wire, "a")
    assert signs(streams.take_due(30)) == [("b", Sign.DATA, b"last"), ("b", Sign.END, b"")]
    streams.send(30, wire, "b", b"to nobody")
    assert streams.take_due(40) == []
    assert signs(streams.take_due(50)) == [("b", Sign.REFUSE, b"")]
    streams.close(50, wire, "b")
    assert streams.take_due(60) == []
    assert streams.wires() == []


@pytest.mark.parametrize("seed", range(10))
def test_a_process_that_dies_leaves_an_end_and_a_machine_leaves_nothing_until_it_is_back(seed):
    for dies in (True, False):
        streams = SimStreams(SeededRandom(seed))
        streams.powered |= {"a", "b"}
        streams.listening |= {"a", "b"}
        wire = connected(streams)
        for number in range(5):
            streams.send(20, wire, "a", b"%d" % number)
        if dies:
            streams.died(20, "a")
        else:
            streams.lost_power("a")
        arrived = signs(streams.take_due(40))
        data = [item[2] for item in arrived if item[1] is Sign.DATA]
        assert data == [b"%d" % number for number in range(len(data))]
        assert any(item[1] in (Sign.END, Sign.REFUSE) for item in arrived) == dies
        if not dies:
            streams.send(50, wire, "b", b"are you there")
            assert streams.take_due(60) == streams.take_due(70) == []
            streams.powered.add("a")
            streams.send(80, wire, "b", b"and now")
            assert streams.take_due(90) == []
            assert signs(streams.take_due(100)) == [("b", Sign.REFUSE, b"")]


def test_a_reset_is_heard_by_both(streams):
    wire = connected(streams)
    streams.send(20, wire, "a", b"x")
    streams.reset(20, wire)
    heard = signs(streams.take_due(40))
    assert {item[0] for item in heard if item[1] is Sign.REFUSE} == {"a", "b"}


def test_the_kernel_has_no_room_for_ever(streams):
    wire = connected(streams)
    assert streams.room(wire, "a") == KERNEL_BYTES
    streams.send(20, wire, "a", bytes(1_000))
    streams.take_due(40)
    assert streams.room(wire, "a") == KERNEL_BYTES - 1_000
    wire.unread["b"] -= 1_000  # it reads
    assert streams.room(wire, "a") == KERNEL_BYTES
    streams.send(20, wire, "a", bytes(1_000))
    streams.lose(wire)
    assert streams.room(wire, "a") == KERNEL_BYTES
