"""The rule ``kept``: a grant brings the last checkpoint that was acknowledged to an earlier attempt, or one sent later.

Checkpoints of a task are ordered by fence and number. One that was answered *applied* or *already* stood in the log while its
attempt ran, so before every later grant. What a grant brings was sent before it was answered, under an earlier
fence, was not always refused, and is not before what was acknowledged. A task that ended has none any more: after a retry there may
be nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tq.sim.checkers.records import History, Keep
from tq.sim.checkers.tasks import Breach, Task

Place = tuple[int, int]
"""Fence and number."""


def check_kept(history: History, tasks: dict[str, Task]) -> Iterator[Breach]:
    if not history.keeps:
        return
    by_task: dict[str, list[Keep]] = {}
    for keep in history.keeps:
        by_task.setdefault(keep.id, []).append(keep)
    for id, task in tasks.items():
        for grant in task.grants:
            if grant.kept is not None:
                before = [keep for keep in by_task.get(id, ()) if keep.fence < grant.fence]
                why = _wrong(grant.kept[0], grant.end, before, is_retried=task.may_be("retry"))
                if why is not None:
                    yield Breach("kept", id, f"fence {grant.fence} {why}")


def _wrong(brought: str | None, end: int, before: list[Keep], *, is_retried: bool) -> str | None:
    acknowledged = max(
        ((keep.place, keep.data) for keep in before if keep.is_kept), default=None, key=lambda one: one[0]
    )
    least: Place = (0, 0) if acknowledged is None else acknowledged[0]
    if brought is None:
        may_be_nothing = acknowledged is None or is_retried
        dropped = any(keep.data is None and keep.place >= least for keep in before)
        return None if may_be_nothing or dropped else f"brought nothing, {least} was acknowledged"
    sent = [keep for keep in before if keep.data == brought and keep.start < end]
    if not sent:
        return f"brought {brought!r}, which nobody had sent"
    if all(keep.answer == "stale" for keep in sent):
        return f"brought {brought!r}, which was refused"
    if sent[0].place < least:
        return f"brought {brought!r} of {sent[0].place}, {least} was acknowledged"
    return None
