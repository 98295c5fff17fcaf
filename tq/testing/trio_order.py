# ruff: noqa: TID251 - plays the draws of trio itself
"""Trio, in an order that a seed repeats.

Trio runs the tasks that are ready together forwards or backwards, by chance, so that nobody relies on an order. It keeps the
switch below for tools that must repeat a run; pytest-trio throws it for Hypothesis. It counts for all that runs on trio
in this process meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from trio._core import _run


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Within the block the order is that of the seed. A trio without these names goes on as it likes."""
    if not (hasattr(_run, "_r") and hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")):
        yield
        return
    before = _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING = Random(seed), True  # type: ignore[misc]
    try:
        yield
    finally:
        _run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
