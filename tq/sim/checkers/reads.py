"""The rule ``read``: what is read is the state at the index the answer names, and time does not run backwards."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tq.sim.checkers.records import History, Read
from tq.sim.checkers.tasks import ENDED, Breach, Task


def check_reads(history: History, tasks: dict[str, Task]) -> Iterator[Breach]:
    yield from _never_back(history)
    yield from _linear(history)
    for key, task in tasks.items():
        for read in task.reads:
            yield from _read(read, task)
        yield from _one_state_an_index(key, task)
        yield from _ends_stay(key, task)


def _read(read: Read, task: Task) -> Iterator[Breach]:
    """Each read shows what was answered at or before its index."""
    if read.index < read.min_index:
        yield Breach("read", read.id, f"answered at {read.index}, asked for {read.min_index}")
    if read.state is None:
        known = [s for s in task.submits if s.is_accepted and s.index is not None and s.index <= read.index]
        if known and not task.may_be("purge"):
            yield Breach("read", read.id, f"not found at {read.index}, accepted at {known[0].index}")
        return
    for grant in task.grants:
        if grant.index is not None and grant.index <= read.index and read.fence < grant.fence:
            yield Breach("read", read.id, f"fence {read.fence} at {read.index}, granted {grant.fence} before")
    for report in task.reports:
        applied = report.outcome == "complete" and report.answer in ("applied", "already")
        if applied and report.index is not None and report.index <= read.index and read.state != "completed":
            yield Breach("read", read.id, f"{read.state} at {read.index}, completed at {report.index}")


def _one_state_an_index(id: str, task: Task) -> Iterator[Breach]:
    """Whoever asks, and whichever node answers: at one index a task has one state, and its fence never falls."""
    shown = sorted((read.index, read.fence, read.state) for read in task.reads if read.state is not None)
    for (index, fence, state), (next_index, next_fence, next_state) in itertools.pairwise(shown):
        if index == next_index and (fence, state) != (next_fence, next_state):
            yield Breach("read", id, f"at index {index} {state} under {fence}, and {next_state} under {next_fence}")
    by_time = sorted((read.index, read.fence) for read in task.reads if read.state is not None)
    for (index, fence), (next_index, next_fence) in itertools.pairwise(by_time):
        if next_fence < fence:
            yield Breach("read", id, f"fence {fence} at {index}, and {next_fence} at {next_index}")


def _ends_stay(id: str, task: Task) -> Iterator[Breach]:
    """An end that was shown is the end, unless somebody asked for a retry; a completed task has no other, under no
    other fence."""
    ends = [(read.index, read.state, read.fence) for read in task.reads if read.state in ENDED]
    for change in task.changes:
        if change.verb == "cancel" and change.state in ENDED and change.index is not None:
            ends.append((change.index, change.state, 0))
    is_retried = task.may_be("retry")
    final = task.final
    for index, end, fence in ends:
        if is_retried and end != "completed":
            continue
        other = [read for read in task.reads if read.index >= index and _differs(read.state, read.fence, end, fence)]
        if other:
            shown = f"{other[0].state} under {other[0].fence} at {other[0].index}"
            yield Breach("read", id, f"{end} under {fence} at {index}, and {shown}")
        elif final is not None and _differs(final.state, final.fence, end, fence):
            yield Breach("outcome", id, f"{end} under {fence} at {index}, and at the end {final.state} {final.fence}")
        else:
            continue
        return


def _differs(state: str | None, fence: int, end: str | None, end_fence: int) -> bool:
    """Not that end, or that of another attempt; where the fence of the end was not shown, it is 0."""
    return state is not None and (state != end or (fence != end_fence and end_fence != 0))


def _never_back(history: History) -> Iterator[Breach]:
    """What a writer is answered is never behind what it had been answered before it asked."""
    by_writer: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for seen in history.seen:
        by_writer[seen.by].append((seen.start, seen.end, seen.index))
    for by, answers in by_writer.items():
        ends = [(end, index) for _start, end, index in answers]
        for index, highest in _behind(ends, ((start, index) for start, _end, index in answers)):
            yield Breach("read", by, f"answered at index {index}, had seen {highest}")


def _linear(history: History) -> Iterator[Breach]:
    """A linearizable read is not behind what anybody had been answered before it was asked."""
    ends = [(seen.end, seen.index) for seen in history.seen]
    linear = {(read.start, read.index) for read in history.reads if read.linear}
    for index, highest in _behind(ends, linear):
        yield Breach("read", "", f"a linearizable read was answered at {index}, after somebody had seen {highest}")


def _behind(ends: Iterable[tuple[int, int]], asked: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(index, highest) for each (start, index) that is below the highest index of those that ended before start."""
    ordered = sorted(ends)
    done, highest = 0, 0
    for start, index in sorted(asked):
        while done < len(ordered) and ordered[done][0] < start:
            highest = max(highest, ordered[done][1])
            done += 1
        if index < highest:
            yield index, highest
