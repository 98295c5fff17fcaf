"""Randomness that a seed repeats."""
# ruff: noqa: TID251 - plays world.Random

from __future__ import annotations

import random


class SeededRandom:
    """The same seed gives the same run. ``seed`` is kept so that a failure can print it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._source = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._source.randbytes(count)

    def below(self, bound: int) -> int:
        return self._source.randrange(bound)

    def fork(self) -> SeededRandom:
        """A stream of its own for one part, so that what the others draw does not change it."""
        return SeededRandom(self._source.getrandbits(64))
