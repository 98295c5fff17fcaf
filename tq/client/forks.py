"""Locks in the child of a ``fork``. A thread that is not there may have held one, and it would be waited for without end.

Who has a lock of his own registers himself, and is told in the child, before anything else runs there, to take a new one.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    def begin_anew(self) -> None:
        """In the child, where there is one thread."""
        ...


_KNOWN: weakref.WeakSet[Forked] = weakref.WeakSet()


def told_of_forks(one: Forked) -> None:
    """``one`` is told as long as it lives."""
    _KNOWN.add(one)


def _tell() -> None:
    for one in list(_KNOWN):
        one.begin_anew()


os.register_at_fork(after_in_child=_tell)
