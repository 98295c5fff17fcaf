"""Ids: version 7, rising, and read back from every form a caller has."""

from __future__ import annotations

import uuid

import pytest

from tq.client.ids import IdMaker, to_bytes, to_text
from tq.errors import InvalidRequest
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom


def made(maker: IdMaker, count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in maker.take(count)]


def test_they_are_uuids_of_version_7_with_the_time_in_front() -> None:
    clock = VirtualClock()
    maker = IdMaker(clock, SeededRandom(1))
    for _ in range(50):
        clock.advance_ms(1)
        (raw,) = made(maker, 1)
        read = uuid.UUID(bytes=raw)
        assert (read.version, read.variant) == (7, uuid.RFC_4122)
        assert int.from_bytes(raw[:6], "big") == clock.wall_ms()


def test_they_rise_over_batches_milliseconds_and_a_clock_that_steps_back() -> None:
    clock = VirtualClock()
    maker = IdMaker(clock, SeededRandom(2))
    ids: list[bytes] = []
    for by_ms in (0, 0, 1, -5_000, 0, 3, 10_000):
        clock.jump_wall_ms(by_ms)
        ids += made(maker, 1_000)
    assert ids == sorted(set(ids))


def test_they_rise_when_a_millisecond_is_used_up() -> None:
    class Highest(SeededRandom):
        def bytes(self, count: int) -> bytes:
            return b"\xff" * count

    maker = IdMaker(VirtualClock(), Highest(0))
    first = made(maker, 1)[0]
    maker._tail = (1 << 62) - 10  # as after some 10**18 ids
    ids = [first, *made(maker, 9), *made(maker, 9)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(bytes=raw).version for raw in ids} == {7}


def test_two_makers_do_not_meet() -> None:
    clock = VirtualClock()
    one, two = IdMaker(clock, SeededRandom(1)), IdMaker(clock, SeededRandom(2))
    assert not set(made(one, 1_000)) & set(made(two, 1_000))


@pytest.mark.parametrize("form", [str, lambda u: u.bytes, lambda u: u, lambda u: bytearray(u.bytes), lambda u: u.hex])
def test_any_form_is_read(form: object) -> None:
    read = uuid.UUID("0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90")
    assert to_bytes("id", form(read)) == read.bytes  # type: ignore[operator]
    assert to_text(read.bytes) == str(read)


@pytest.mark.parametrize("value", ["", "nope", b"short", 5, None])
def test_other_things_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest, match="parent is"):
        to_bytes("parent", value)  # type: ignore[arg-type]
