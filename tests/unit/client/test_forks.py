"""Who is told in the child of a fork, and for how long."""

from __future__ import annotations

import os
import weakref

import pytest

from tq.client.forks import told_of_forks
from tq.client.ids import IdMaker
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom
from tq.world import RealRandom


class Told:
    def __init__(self) -> None:
        self.times = 0
        told_of_forks(self)

    def begin_anew(self) -> None:
        self.times += 1


def in_child(look: object) -> int:
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = look()  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_child_is_told_once_and_the_parent_is_not() -> None:
    told = Told()
    assert in_child(lambda: told.times) == 1
    assert told.times == 0


def test_who_is_gone_is_not_kept() -> None:
    told = Told()
    seen = weakref.ref(told)
    del told
    assert seen() is None


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_child_makes_other_ids_than_its_parent() -> None:
    ids = IdMaker(VirtualClock(), RealRandom())
    ids.take(1)
    told, tell = os.pipe()
    assert in_child(lambda: 0 if os.write(tell, ids.take(1)[0].to_bytes(16, "big")) == 16 else 1) == 0
    assert os.read(told, 16) != ids.take(1)[0].to_bytes(16, "big")
    os.close(told)
    os.close(tell)


def test_ids_rise_over_a_new_beginning() -> None:
    ids = IdMaker(VirtualClock(), SeededRandom(1))
    first = ids.take(1)[0]
    ids.begin_anew()
    assert ids.take(1)[0] > first
