"""The rules of what is counted and of what is held: ``count``, ``early``, ``duplicate`` and ``unique``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tq.limits import FENCE_ORDINALS
from tq.sim.checkers.records import ACCEPTED, Grant, History, Report, Submit
from tq.sim.checkers.tasks import Breach, Task

COUNTED = ("completed", "failed", "timed_out", "deadline")
ROWS_OF = {
    "complete": ("completed",),
    "fail": ("failed", "cancelled"),  # the latter where a cancel waited for it
    "release": ("released", "cancelled"),
    "snooze": ("snoozed", "cancelled", "failed"),
    "cancelled": ("cancelled",),
}
NS_PER_MS = 1_000_000
CLOCK_SLACK_MS = 20  # between the writers' clock and that of the log


def check_accounts(history: History, tasks: dict[str, Task]) -> Iterator[Breach]:
    for key, task in tasks.items():
        yield from _counts(key, task)
        yield from _early(key, task)
        yield from _duplicates(key, task)
    yield from _keys(history)
    yield from _unique(history, tasks)


# ---- attempts and crashes --------------------------------------------------------------------------


def _counts(id: str, task: Task) -> Iterator[Breach]:
    """The history has a row for each attempt, as it was reported; attempt and crashes are what the rows add up to."""
    final = task.final
    if final is None or len(final.outcomes) != len(final.fences) or final.dropped or task.may_be("retry"):
        return
    rows = dict(zip(final.fences, final.outcomes, strict=True))
    for report in task.reports:
        if report.answer == "applied":
            yield from _has_row(id, report, rows)
    for grant in task.grants:
        earlier = [outcome for fence, outcome in rows.items() if fence < grant.fence]
        yield from _granted_as_counted(id, grant, earlier)
    crashes = sum(outcome == "crashed" for outcome in rows.values())
    if final.crashes != crashes:
        yield Breach("count", id, f"crashes {final.crashes} at the end, {crashes} in its history")


def _has_row(id: str, report: Report, rows: dict[int, str]) -> Iterator[Breach]:
    row = rows.get(report.fence)
    if row not in ROWS_OF.get(report.outcome, ()):
        yield Breach("count", id, f"{report.outcome} under {report.fence} was applied, its history says {row}")


def _granted_as_counted(id: str, grant: Grant, earlier: list[str]) -> Iterator[Breach]:
    attempt = 1 + sum(outcome in COUNTED for outcome in earlier)
    if grant.attempt != attempt:
        yield Breach("count", id, f"granted under {grant.fence} as attempt {grant.attempt}, it is number {attempt}")
    crashes = sum(outcome == "crashed" for outcome in earlier)
    if grant.crashes != crashes:
        yield Breach("count", id, f"granted under {grant.fence} after {grant.crashes} crashes, there were {crashes}")


def _early(id: str, task: Task) -> Iterator[Breach]:
    if not task.submits or task.may_be("retry"):
        return
    first = min(task.submits, key=lambda submit: submit.start)
    due = first.start + (first.delay_ms - CLOCK_SLACK_MS) * NS_PER_MS
    for grant in task.grants:
        if first.delay_ms and grant.end < due:
            yield Breach("early", id, f"granted {(due - grant.end) // NS_PER_MS} ms before its delay was over")


# ---- identity --------------------------------------------------------------------------------------


def _duplicates(id: str, task: Task) -> Iterator[Breach]:
    created = [submit for submit in task.submits if submit.answer == "created"]
    if len(created) > 1:
        yield Breach("duplicate", id, f"created twice, for {created[0].by} and {created[1].by}")
    if not created:
        return
    first = created[0]
    for submit in task.submits:
        if submit.answer is None or first.end is None or submit.start < first.end:
            continue
        expected = "duplicate" if submit.content == first.content else "conflict"
        if submit.answer != expected:
            yield Breach("duplicate", id, f"sent again it was {submit.answer}, not {expected}")


def _keys(history: History) -> Iterator[Breach]:
    """An idempotency key names one task, and no other content."""
    by_key: defaultdict[str, list[Submit]] = defaultdict(list)
    for submit in history.submits:
        if submit.key is not None and submit.answer is not None:
            by_key[submit.key].append(submit)
    for key, submits in by_key.items():
        accepted = [submit for submit in submits if submit.answer in ACCEPTED]
        named = {submit.holder or submit.id for submit in accepted}
        if len(named) > 1:
            yield Breach("duplicate", "", f"the idempotency key {key!r} names {sorted(named)}")
        if not accepted:
            continue
        first = min(accepted, key=lambda submit: submit.end or 0)
        for submit in submits:
            if submit.start < (first.end or 0):
                continue
            expected = "duplicate" if submit.content == first.content else "conflict"
            if submit.answer != expected:
                yield Breach(
                    "duplicate", submit.id, f"under the used key {key!r} it was {submit.answer}, not {expected}"
                )


def _unique(history: History, tasks: dict[str, Task]) -> Iterator[Breach]:
    """Of the tasks of one unique key no second is created while the first is known to live."""
    by_key: defaultdict[str, list[Submit]] = defaultdict(list)
    for submit in history.submits:
        if submit.unique is not None and submit.answer == "created":
            by_key[submit.unique].append(submit)
    for key, submits in by_key.items():
        submits.sort(key=lambda submit: submit.start)
        for number, later in enumerate(submits):
            for earlier in submits[:number]:
                if earlier.end is not None and earlier.end < later.start and _lives_at(tasks[earlier.id], later.index):
                    message = f"created at {later.index}, while {earlier.id} had the unique key {key!r}"
                    yield Breach("unique", later.id, message)


def _lives_at(task: Task, index: int | None) -> bool:
    """Accepted before, and granted behind ``index`` without a retry: so it lived there."""
    if index is None or task.may_be("retry"):
        return False
    return any(fence // FENCE_ORDINALS > index for fence in task.fences())
