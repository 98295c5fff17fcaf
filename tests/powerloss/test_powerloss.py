"""The short form of ``make powerloss``: one recording, the power lost at some of its calls. TQ_LONG=1 does all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import pytest
import structlog

from tests.powerloss import preload, run, strace
from tests.powerloss.calls import (
    Call,
    Create,
    MakeDirectory,
    Mark,
    RecordingFailed,
    Rename,
    Sync,
    Translator,
    Truncate,
    Write,
)
from tests.powerloss.platter import Platter
from tq.errors import DataDamaged
from tq.sim.random import SeededRandom

LONG = os.environ.get("TQ_LONG") == "1"
SEED = int(os.environ.get("TQ_POWERLOSS_SEED", "7"))
LIVES, STEPS = 3, 24
ONE_IN = 6  # calls at which the power goes


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def recording() -> list[Call]:
    if (reason := run.why_none()) is not None:
        pytest.skip(f"the calls of a process cannot be recorded here: {reason}")
    return run.record(run.recorders()[0], SEED, LIVES, STEPS)


@pytest.mark.timeout(600)
def test_nothing_that_was_told_is_lost(recording: list[Call]) -> None:
    report = run.Report()
    run.lose_power(recording, SEED, run.everywhere if LONG else run.some(SEED, ONE_IN), report)
    print("\n".join(report.lines()))
    assert report.points > 20


def kill_points(calls: list[Call]) -> list[int]:
    """Where it matters most: behind the rename of the new store, in the middle of a commit, and of a new segment."""
    meta = [n for n, call in enumerate(calls) if isinstance(call, Write) and call.is_synced]
    renames = [n for n, call in enumerate(calls) if isinstance(call, Rename)]
    store = next(n for n in renames if calls[n] == Rename("store.new", "store"))
    return [store, meta[-1], renames[len(renames) // 2], *SeededRandom(SEED).bytes(20 if LONG else 1)]


@pytest.mark.timeout(600)
def test_the_power_goes_when_a_killed_process_was_started_again(recording: list[Call]) -> None:
    """What the killed one had not synced shows to the next one, and is gone with the power unless that one syncs it."""
    report = run.Report()
    for number in kill_points(recording):
        killed = run.Killed.at(recording, number)
        again = run.record(run.recorders()[0], SEED + number, 1, 15, killed)
        try:
            run.lose_power(again, SEED, run.everywhere if LONG else run.some(SEED + number, ONE_IN), report, killed)
        except BaseException as error:
            error.add_note(f"the process before was killed behind call {number}, {recording[number]}")
            raise
    print("\n".join(report.lines()))


def test_the_store_is_synced_as_its_theory_says(recording: list[Call]) -> None:
    """Data pages, a sync, then one meta page that is durable when its write returns."""
    commits = 0
    unsynced = 0
    for call in recording:
        if isinstance(call, Write) and call.path.endswith("data.mdb"):
            if call.is_synced:
                assert call.offset is not None
                assert call.offset // 4096 in (0, 1)
                assert len(call.data) <= 512
                assert unsynced == 0, "a meta page was written before the pages it names were synced"
                commits += 1
            else:
                unsynced += 1
        elif isinstance(call, Sync) and call.path.endswith("data.mdb"):
            unsynced = 0
    assert commits > 5


@pytest.mark.parametrize("of", ["raft/", "store"])
def test_without_its_syncs_the_same_run_loses_something(recording: list[Call], of: str) -> None:
    """The checks can fail: a recording without the syncs of the log, or of the store, breaks a promise."""
    calls = [call for call in recording if not (isinstance(call, Sync) and call.path.startswith(of))]
    report = run.Report()
    with pytest.raises((AssertionError, DataDamaged)):
        run.lose_power(calls, SEED, run.everywhere, report)


@pytest.mark.parametrize("recorder", [strace, preload], ids=["strace", "preload"])
def test_both_recorders_see_the_same(recording: list[Call], recorder: ModuleType) -> None:
    if (reason := recorder.why_not()) is not None:
        pytest.skip(reason)
    assert run.record(recorder, SEED, LIVES, STEPS) == recording
    assert any(isinstance(call, Mark) for call in recording)


# ---- the platter ------------------------------------------------------------------------------------


def lost(calls: list[Call], how: str, seed: int = 0) -> dict[str, bytes]:
    """Files that are left when the power goes behind the last call."""
    platter = Platter()
    for call in calls:
        platter.begin(call)
        platter.end(call)
    with run.scratch() as folder:
        platter.lost(how, SeededRandom(seed)).write_to(folder / "d")
        return {
            str(path.relative_to(folder / "d")): path.read_bytes()
            for path in (folder / "d").rglob("*")
            if path.is_file()
        }


def test_only_what_was_synced_is_sure() -> None:
    calls = [Create("f"), Write("f", None, b"ab"), Sync("f"), Sync(""), Write("f", None, b"cd"), Write("f", 0, b"X")]
    assert lost(calls, "nothing") == {"f": b"ab"}
    assert lost(calls, "everything") == {"f": b"Xbcd"}
    assert lost(calls, "last") == {"f": b"Xb"}
    assert {lost(calls, "sectors", seed)["f"] for seed in range(40)} == {b"ab", b"Xb", b"abcd", b"Xbcd"}
    assert lost([*calls, Sync("f")], "nothing") == {"f": b"Xbcd"}


def test_a_name_is_sure_when_its_directory_was_synced() -> None:
    calls = [MakeDirectory("d"), Create("d/f"), Write("d/f", None, b"ab"), Sync("d/f"), Sync("d")]
    assert lost(calls, "nothing") == {}
    assert lost([*calls, Sync("")], "nothing") == {"d/f": b"ab"}
    renamed = [*calls, Sync(""), Rename("d", "e"), Write("e/f", None, b"c"), Sync("e/f")]
    assert lost(renamed, "nothing") == {"d/f": b"abc"}
    assert lost(renamed, "everything") == {"e/f": b"abc"}


def test_writes_are_torn_between_sectors_only() -> None:
    calls = [Create("f"), Write("f", 0, bytes(1024)), Sync("f"), Sync(""), Write("f", 100, b"x" * 1000)]
    seen = {lost(calls, "sectors", seed)["f"].replace(b"\0", b".") for seed in range(40)}
    first, second, third = b"x" * 412, b"x" * 512, b"x" * 76
    assert b"." * 1024 in seen
    assert b"." * 512 + second in seen
    assert b"." * 100 + first + b"." * 512 in seen
    assert all(
        content[100:512] in (first, b"." * 412)
        and content[512:1024] in (second, b"." * 512)
        and content[1024:] in (third, b"")
        for content in seen
    )


def test_a_synchronous_write_is_durable_and_nothing_else_with_it() -> None:
    calls = [Create("f"), Truncate("f", 4), Sync("f"), Sync(""), Write("f", 0, b"a"), Write("f", 1, b"b", True)]
    assert lost(calls, "nothing") == {"f": b"\0b\0\0"}


# ---- strace -----------------------------------------------------------------------------------------


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def read_trace(*lines: str) -> list[Call]:
    reader = strace._Reader(Translator("/d", "/diary"))
    for line in lines:
        reader.take(line)
    return reader.to.calls


def test_calls_of_others_may_overlap_and_ours_may_not() -> None:
    ours = f"7 fsync(3<{hexed('/d/f')}>"
    other = f"8 lseek(4<{hexed('pipe:[1]')}>, 0, SEEK_CUR"
    assert read_trace(
        other + " <unfinished ...>", ours + ") = 0", "8 <... lseek resumed>) = -1 ESPIPE (Illegal seek)"
    ) == [Sync("f")]
    with pytest.raises(RecordingFailed, match="two threads"):
        read_trace(ours + " <unfinished ...>", other + ") = 0", "7 <... fsync resumed>) = 0")


def test_what_the_recorder_does_not_know_is_no_recording() -> None:
    for line in (
        f"7 fallocate(3<{hexed('/d/f')}>, 0, 0, 4096) = 0",
        f"7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{hexed('/d/f')}>, 0) = 0x7f0000000000",
        f'7 write(3<{hexed("/d/f")}>, "{hexed("ab")}", 2) = 1',
        f'7 write(3<{hexed("/d/f")}>, "{hexed("ab")}"..., 5) = 5',
        "7 something else",
    ):
        with pytest.raises(RecordingFailed):
            read_trace(line)
    assert read_trace(f"7 fallocate(3<{hexed('/other')}>, 0, 0, 4096) = 0") == []
