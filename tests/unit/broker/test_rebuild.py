from __future__ import annotations

import pytest

from tq.broker import rebuild
from tq.errors import ConfigError, InternalError
from tq.raft.identity import FILE_NAME, Identity, peek
from tq.sim.disk import PowerLoss, SimDisk
from tq.sim.random import SeededRandom

IDS = ["n1", "n2", "n3"]


def used() -> SimDisk:
    """The directory of a member."""
    disk = SimDisk()
    Identity(disk, SeededRandom(1), node_id="n2", peers=IDS, has_journal=False)
    disk.make_directory("raft")
    disk.sync_directory()
    file = disk.open("raft/term-a", create=True)
    file.append(b"votes")
    file.sync()
    disk.sync_directory("raft")
    return disk


def start(disk: SimDisk) -> Identity:
    return Identity(disk, SeededRandom(2), node_id="n2", peers=IDS, has_journal=disk.exists("raft"))


def finish(disk: SimDisk, incarnation: bytes) -> None:
    members = {"n1": b"1" * 16, "n2": incarnation, "n3": b"3" * 16}
    rebuild.finish(disk, b"c" * 16, members, 9)


def test_what_was_there_is_put_aside_and_the_directory_joins_when_it_is_admitted() -> None:
    disk = used()
    before = start(disk).ident().incarnation
    incarnation, aside = rebuild.begin(disk, SeededRandom(3), "n2")
    assert (aside, incarnation != before) == ("lost-1", True)
    assert disk.list(aside or "") == [FILE_NAME, "raft"]
    assert not disk.exists("raft")
    with pytest.raises(ConfigError, match="has not admitted it yet: run tq cluster rebuild"):
        start(disk)
    assert not rebuild.is_done(disk, "n2")
    finish(disk, incarnation)
    assert rebuild.is_done(disk, "n2")
    identity = start(disk)
    assert (identity.is_formed, identity.joins, identity.ident().admitted_index) == (True, True, 9)
    assert (identity.ident().incarnation, identity.cluster_id) == (incarnation, b"c" * 16)


def test_an_empty_disk_has_nothing_to_put_aside() -> None:
    disk = SimDisk()
    incarnation, aside = rebuild.begin(disk, SeededRandom(3), "n2")
    assert aside is None
    assert rebuild.begin(disk, SeededRandom(4), "n2") == (incarnation, None)


def test_it_may_be_lost_again_and_each_time_has_a_place_of_its_own() -> None:
    disk = used()
    first, _ = rebuild.begin(disk, SeededRandom(3), "n2")
    finish(disk, first)
    disk.make_directory("raft")
    disk.sync_directory()
    assert not rebuild.is_done(disk, "n2")
    second, aside = rebuild.begin(disk, SeededRandom(4), "n2")
    assert (aside, second != first) == ("lost-2", True)
    assert disk.list() == [FILE_NAME, "lost-1", "lost-2"]


def test_another_nodes_directory_and_one_that_was_not_admitted_are_refused() -> None:
    disk = used()
    with pytest.raises(ConfigError, match='belongs to "n2"'):
        rebuild.is_done(disk, "n3")
    with pytest.raises(InternalError):
        finish(disk, b"x" * 16)


def test_the_power_may_go_at_any_step() -> None:
    """A broker then starts on what was there, or not at all; and the same call makes it good."""
    step = 0
    while True:
        step += 1
        disk = used()
        before = start(disk).ident().incarnation
        disk.stop_at(disk.steps + step)
        try:
            rebuild.begin(disk, SeededRandom(3), "n2")
            done = True
        except PowerLoss:
            done = False
        disk.stop_at(None)
        disk.power_loss(SeededRandom(step))
        is_old = disk.exists("raft/term-a") and not getattr(peek(disk), "joins", True)
        if is_old:
            assert start(disk).ident().incarnation == before
        else:
            with pytest.raises(ConfigError, match="being rebuilt"):
                start(disk)
        incarnation, aside = rebuild.begin(disk, SeededRandom(4), "n2")
        assert aside is not None
        assert disk.list(aside)[0] == FILE_NAME
        assert not disk.exists("raft")  # this disk may tear a rename from one directory to another, and lose it
        assert incarnation != before
        assert rebuild.begin(disk, SeededRandom(5), "n2") == (incarnation, aside)
        finish(disk, incarnation)
        assert start(disk).joins
        if done:
            break
    assert step > 5
