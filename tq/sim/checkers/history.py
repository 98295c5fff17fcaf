"""Was the contract kept? Reads a history (records.py) and what the broker says at the end, and finds each breach.

The checker knows nothing of the broker's inside. It reasons from two orders only:

- **real time**: what was answered before something else was asked for came first;
- **the log**: a fence names the entry of its grant (``fence // FENCE_ORDINALS``), and a reply's index is at or
  behind the entry of what it answers.

Each rule is sound for requests that overlap, for outcomes that are unknown and for grants that nobody lived to
write down: where an order is not certain, nothing is claimed. So every breach is a bug of the broker, the client
or the worker.

Rules (the names stand in a breach):
    lost          an accepted task that the end does not know, or, after a drain, that has not ended
    invented      a task that no one submitted, or that was purged and is back
    outcome       the recorded end is one that a worker reported under the recorded fence; one that was answered
                  "applied" and ends a task is the recorded one; an end that was shown stays
    fence         a fence belongs to one grant; what was granted later has a higher one; a handler runs once per fence
    stale         an outcome under a fence older than a grant already handed out is not applied
    order         inside one queue and type: the higher priority first, then the earlier submitted
    read          no reply is behind min_index or behind what its asker saw; a read shows what is at or before its
                  index, and the same as any other at this index; a linearizable one is behind nobody
    count         each applied outcome is in the history, and attempt and crashes are what the history adds up to
    early         nothing is granted before its delay is over
    duplicate     one "created" per id or idempotency key; the same again is "duplicate", other content "conflict"
    unique        no second task of a unique key while the first lives
    paused        nothing is granted from a queue that was paused before and not resumed since, by the log
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from tq.limits import FENCE_ORDINALS
from tq.sim.checkers.accounts import check_accounts
from tq.sim.checkers.kept import check_kept
from tq.sim.checkers.paused import check_paused
from tq.sim.checkers.reads import check_reads
from tq.sim.checkers.records import Final, Grant, History, Report, Submit
from tq.sim.checkers.tasks import ENDED, LIVE, Breach, Task, gather

__all__ = ["Breach", "check", "fence_highest"]


def check(history: History, *, drained: bool, fence_floor: int = 0) -> list[Breach]:
    """Every breach found, in the order of the rules.

    drained: the run ended with all work done, so a task that has not ended is lost.
    fence_floor: the highest fence of an earlier part of the run; all of this part lie above.
    """
    tasks = gather(history)
    breaches: list[Breach] = []
    for key, task in tasks.items():
        breaches.extend(_lost_or_invented(key, task, drained))
        breaches.extend(_outcome(key, task))
        breaches.extend(_stale(key, task))
    breaches.extend(_fences(history, tasks, fence_floor))
    breaches.extend(_order(tasks))
    breaches.extend(check_reads(history, tasks))
    breaches.extend(check_accounts(history, tasks))
    breaches.extend(check_paused(history, tasks))
    breaches.extend(check_kept(history, tasks))
    return breaches


def fence_highest(history: History) -> int:
    """For ``fence_floor`` of the next part."""
    seen = max((grant.fence for grant in history.grants), default=0)
    return max(seen, max((final.fence for final in history.finals), default=0))


# ---- none lost, none invented ----------------------------------------------------------------------


def _lost_or_invented(id: str, task: Task, drained: bool) -> Iterator[Breach]:
    accepted = [submit for submit in task.submits if submit.is_accepted]
    if not task.submits and (task.final is not None or task.grants):
        yield Breach("invented", id, "nobody submitted it")
    purged = [change for change in task.changes if change.verb == "purge" and change.state is not None]
    if purged and task.final is not None:
        yield Breach("invented", id, f"purged for {purged[0].by} at {purged[0].index}, and {task.final.state} now")
    if task.final is None:
        if accepted and not task.may_be("purge"):
            yield Breach("lost", id, f"accepted by {accepted[0].by} in index {accepted[0].index}, unknown at the end")
        elif task.grants and not accepted and not task.may_be("purge"):
            yield Breach("lost", id, f"granted under fence {task.grants[0].fence}, unknown at the end")
    elif task.final.state not in LIVE and task.final.state not in ENDED:
        yield Breach("lost", id, f"state {task.final.state!r} does not exist")
    elif drained and task.final.state not in ENDED:
        yield Breach("lost", id, f"still {task.final.state} after the drain")


# ---- one recorded outcome, reported under its fence ------------------------------------------------


def _outcome(id: str, task: Task) -> Iterator[Breach]:
    final = task.final
    if final is None:
        return
    if final.state == "completed":
        yield from _completed_as_reported(id, task, final)
    elif final.state == "cancelled" and not task.may_be("cancel"):
        yield Breach("outcome", id, "cancelled, and nobody asked for it")
    elif final.state in ("expired", "skipped") and not any(submit.expires for submit in task.submits):
        yield Breach("outcome", id, f"{final.state}, and it has no time limit")
    elif final.state == "dead":
        yield from _died_as_told(id, task, final)
    for report in task.reports:
        if report.outcome != "complete" or report.answer not in ("applied", "already"):
            continue
        if final.state != "completed":
            yield Breach("outcome", id, f"complete under {report.fence} was {report.answer}, the end is {final.state}")
        elif final.fence != report.fence:
            yield Breach("outcome", id, f"complete under {report.fence} was {report.answer}, recorded is {final.fence}")
        elif final.body != report.body:
            yield Breach("outcome", id, f"{report.answer} {report.body!r}, recorded is {final.body!r}")
    yield from _one_outcome_a_fence(id, task)


def _died_as_told(id: str, task: Task, final: Final) -> Iterator[Breach]:
    if final.reason == "poison" and final.crashes == 0:
        yield Breach("outcome", id, "dead of crashes without a crash")
    elif final.reason == "deadline" and not any(submit.deadline for submit in task.submits):
        yield Breach("outcome", id, "dead of a deadline that it has not")
    elif final.reason in ("attempts", "permanent") and not _failed(task, final):
        yield Breach("outcome", id, f"dead, reason {final.reason}, and no attempt failed")


def _failed(task: Task, final: Final) -> bool:
    """An attempt failed as a worker told, or its time ran out, which nobody tells."""
    return "timed_out" in final.outcomes or any(report.outcome == "fail" for report in task.reports)


def _completed_as_reported(id: str, task: Task, final: Final) -> Iterator[Breach]:
    completes = [report for report in task.reports if report.outcome == "complete"]
    matching = [report for report in completes if report.fence == final.fence and report.body == final.body]
    if not matching:
        told = [(report.fence, report.body) for report in completes][:3]
        yield Breach("outcome", id, f"nobody reported {final.body!r} under fence {final.fence}; reported: {told}")
    elif all(report.answer == "stale" for report in matching):
        yield Breach("outcome", id, f"refused as stale under fence {final.fence}, and yet recorded")


def _one_outcome_a_fence(id: str, task: Task) -> Iterator[Breach]:
    applied: dict[int, Report] = {}
    for report in task.reports:
        if report.answer != "applied":
            continue
        first = applied.setdefault(report.fence, report)
        if (first.outcome, first.body) != (report.outcome, report.body):
            yield Breach("outcome", id, f"two outcomes applied under fence {report.fence}")


# ---- fences ----------------------------------------------------------------------------------------


def _fences(history: History, tasks: dict[str, Task], floor: int) -> Iterator[Breach]:
    owner: dict[int, Grant] = {}
    ran: set[int] = set()
    for grant in history.grants:
        first = owner.setdefault(grant.fence, grant)
        if first.id != grant.id or (first.by != grant.by and first.ran == grant.ran):
            yield Breach("fence", grant.id, f"fence {grant.fence} given to {grant.by} and for {first.id} to {first.by}")
        if grant.ran:
            if grant.fence in ran:
                yield Breach("fence", grant.id, f"ran twice under fence {grant.fence}")
            ran.add(grant.fence)
        if grant.fence <= floor:
            yield Breach("fence", grant.id, f"fence {grant.fence} is not above the earlier {floor}")
        if grant.index is not None and grant.fence // FENCE_ORDINALS > grant.index:
            yield Breach("fence", grant.id, f"fence {grant.fence} lies behind index {grant.index} that handed it out")
    yield from _fences_rise(history)
    for key, task in tasks.items():
        if task.final is not None:
            rows = [fence for fence in task.final.fences if fence]
            if any(late <= early for early, late in itertools.pairwise(rows)):
                yield Breach("fence", key, f"its history does not rise: {rows}")
            if task.final.fence and task.final.fence < max(task.fences()):
                yield Breach("fence", key, f"ended under {task.final.fence}, granted under {max(task.fences())}")


def _fences_rise(history: History) -> Iterator[Breach]:
    """What was claimed after a grant was handed out has a higher fence, over all tasks, unless it is that claim again."""
    starts = sorted((g for g in history.grants if g.start is not None), key=lambda g: g.start or 0)
    ends = sorted(history.grants, key=lambda g: g.end)
    first_end: dict[int, int] = {}
    for grant in ends:
        first_end.setdefault(grant.fence, grant.end)
    done, highest = 0, 0
    for grant in starts:
        start = grant.start or 0
        while done < len(ends) and ends[done].end < start:
            highest = max(highest, ends[done].fence)
            done += 1
        if grant.fence < highest and first_end[grant.fence] > start:
            yield Breach("fence", grant.id, f"fence {grant.fence} handed out after {highest}")


# ---- stale outcomes --------------------------------------------------------------------------------


def _stale(id: str, task: Task) -> Iterator[Breach]:
    for report in task.reports:
        if report.answer != "applied":
            continue
        later = [grant for grant in task.grants if grant.fence > report.fence]
        if any(grant.end < report.start for grant in later):
            yield Breach(
                "stale", id, f"{report.outcome} under {report.fence} applied, after {later[0].fence} was granted"
            )
        elif report.outcome == "complete" and later:
            yield Breach("stale", id, f"granted under {later[0].fence}, completed under {report.fence}")


# ---- order -----------------------------------------------------------------------------------------


def _order(tasks: dict[str, Task]) -> Iterator[Breach]:
    groups: defaultdict[tuple[str, str], list[tuple[Submit, int, bool]]] = defaultdict(list)
    for task in tasks.values():
        fences = task.fences()
        if not fences or not task.submits or task.changes:
            continue
        submit = min(task.submits, key=lambda item: item.start)
        if submit.timed or len({item.content for item in task.submits}) > 1:
            continue
        groups[submit.queue, submit.type].append((submit, min(fences), _went_once(task)))
    for members in groups.values():
        yield from _earlier_first(members)
        yield from _higher_first(members)


def _went_once(task: Task) -> bool:
    """It entered ``pending`` once, by its submission, so its one fence tells when it left."""
    final = task.final
    return (
        len(task.submits) == 1
        and task.submits[0].answer == "created"
        and len(task.fences()) == 1
        and final is not None
        and final.attempt == 1
        and final.crashes == 0
        and len(final.fences) <= 1
    )


def _earlier_first(members: list[tuple[Submit, int, bool]]) -> Iterator[Breach]:
    """A was accepted before B was sent, same priority: A's grant is not behind B's first."""
    by_priority: defaultdict[int, list[tuple[Submit, int, bool]]] = defaultdict(list)
    for member in members:
        by_priority[member[0].priority].append(member)
    for equals in by_priority.values():
        early = sorted(
            ((submit.end, fence, submit.id) for submit, fence, once in equals if once and submit.end is not None),
        )
        done, highest = 0, (0, "")
        for submit, fence, _once in sorted(equals, key=lambda member: member[0].start):
            while done < len(early) and early[done][0] < submit.start:
                highest = max(highest, (early[done][1], early[done][2]))
                done += 1
            if highest[0] > fence:
                message = f"granted under {fence}, before {highest[1]} ({highest[0]}) that was submitted earlier"
                yield Breach("order", submit.id, message)


def _higher_first(members: list[tuple[Submit, int, bool]]) -> Iterator[Breach]:
    """A of higher priority was in the log before the entry that granted B: A's grant is not behind B's first."""
    for priority in sorted({member[0].priority for member in members}):
        high = sorted(
            (submit.index, fence, submit.id)
            for submit, fence, once in members
            if once and submit.priority > priority and submit.index is not None
        )
        low = sorted((fence, submit.id) for submit, fence, _once in members if submit.priority == priority)
        done, highest = 0, (0, "")
        for fence, key in low:
            while done < len(high) and high[done][0] < fence // FENCE_ORDINALS:
                highest = max(highest, (high[done][1], high[done][2]))
                done += 1
            if highest[0] > fence:
                yield Breach(
                    "order", key, f"granted under {fence}, before {highest[1]} ({highest[0]}) of higher priority"
                )
