"""Trio in an order that a seed repeats."""

from __future__ import annotations

import trio
from trio._core import _run

from tq.testing.trio_order import repeatable


def order(seed: int) -> list[int]:
    found: list[int] = []

    async def one(number: int) -> None:
        found.append(number)

    async def all_of_them() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)

    with repeatable(seed):
        trio.run(all_of_them)
    return found


def test_the_seed_is_the_order() -> None:
    assert order(1) == order(1)
    assert order(1) != order(2)


def test_afterwards_all_is_as_before() -> None:
    before = _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING
    order(3)
    assert (_run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING) == before
