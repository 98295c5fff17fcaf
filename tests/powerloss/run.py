"""Record a node, take its power away at calls of the recording, start it from each disk that may be left."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import attrs

from tests.powerloss import preload, strace
from tests.powerloss.calls import Call, Mark, RecordingFailed
from tests.powerloss.platter import LOSSES, Platter
from tests.powerloss.restart import restart
from tq.sim.random import SeededRandom

RECORDERS: tuple[ModuleType, ...] = (strace, preload)
MEMORY = Path("/dev/shm")


@attrs.define
class Report:
    """calls: recorded, by kind. points: where the power went. starts: by the way in which it went."""

    calls: Counter[str] = attrs.field(factory=Counter)
    points: int = 0
    starts: Counter[str] = attrs.field(factory=Counter)

    def lines(self) -> Iterator[str]:
        yield f"{sum(self.calls.values())} calls: " + _counts(self.calls)
        yield f"{self.points} points, {sum(self.starts.values())} starts: " + _counts(self.starts)


@attrs.frozen
class Killed:
    """A process that was killed, not stopped: what it had written and not synced is in the kernel's cache still."""

    platter: Platter
    diary: list[str]

    @staticmethod
    def at(calls: list[Call], number: int) -> Killed:
        """Behind that call."""
        platter = Platter()
        for call in calls[: number + 1]:
            platter.begin(call)
            platter.end(call)
        return Killed(platter, [call.line for call in calls[: number + 1] if isinstance(call, Mark)])


def why_none() -> str | None:
    """Why nothing can be recorded here; None: it can."""
    reasons = [recorder.why_not() for recorder in RECORDERS]
    return None if None in reasons else "; ".join(map(str, reasons))


def recorders() -> list[ModuleType]:
    return [recorder for recorder in RECORDERS if recorder.why_not() is None]


def record(recorder: ModuleType, seed: int, lives: int, steps: int, killed: Killed | None = None) -> list[Call]:
    """The calls of one run of recorded.py, on an empty disk or behind a process that was killed."""
    with scratch() as folder:
        root, diary = folder / "data", folder / "diary"
        if killed is not None:
            killed.platter.lost("everything", SeededRandom(0)).write_to(root)
            diary.write_text("".join(line + "\n" for line in killed.diary))
        argv = [
            sys.executable,
            "-m",
            "tests.powerloss.recorded",
            str(root),
            str(diary),
            str(seed),
            str(lives),
            str(steps),
        ]
        calls: list[Call] = recorder.record(argv, root, diary, folder)
    if not any(isinstance(call, Mark) for call in calls):
        raise RecordingFailed("nothing was told to anybody: the recording proves nothing")
    return calls


def lose_power(
    calls: list[Call], seed: int, wanted: Callable[[int], tuple[str, ...]], report: Report, killed: Killed | None = None
) -> None:
    """At each call, in each of the ways that ``wanted`` gives for its number.

    killed: who wrote to this disk before, if anybody did.

    Raises AssertionError or DataDamaged with a note of where it was.
    """
    random = SeededRandom(seed)
    platter = Platter() if killed is None else killed.platter.copy()
    diary = [] if killed is None else list(killed.diary)
    report.calls.update(type(call).__name__ for call in calls)
    for number, call in enumerate(calls):
        platter.begin(call)
        if isinstance(call, Mark):
            diary.append(call.line)
        else:
            ways = wanted(number)
            report.points += bool(ways)
            for how in ways:
                report.starts[how] += 1
                try:
                    _start(platter.lost(how, random), diary, random.below(1 << 30))
                except BaseException as error:
                    error.add_note(f"seed {seed}, power lost in call {number} of {len(calls)}, {call}, kept: {how}")
                    raise
        platter.end(call)


def everywhere(_number: int) -> tuple[str, ...]:
    return LOSSES


def some(seed: int, one_in: int) -> Callable[[int], tuple[str, ...]]:
    """One way at one call in ``one_in``, drawn by chance."""
    random = SeededRandom(seed)

    def wanted(_number: int) -> tuple[str, ...]:
        return (LOSSES[random.below(len(LOSSES))],) if random.below(one_in) == 0 else ()

    return wanted


def _start(platter: Platter, diary: list[str], seed: int) -> None:
    with scratch() as folder:
        platter.write_to(folder / "data")
        restart(folder / "data", diary, seed)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder, in memory where there is such a thing: thousands of starts, a few syncs each."""
    above = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="tq-powerloss-", dir=above))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
