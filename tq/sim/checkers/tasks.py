"""All that a history says of one task, and what a rule says of it."""

from __future__ import annotations

from collections import defaultdict

import attrs

from tq.sim.checkers.records import Change, Final, Grant, History, Read, Report, Submit

LIVE = ("waiting", "scheduled", "pending", "running")
ENDED = ("completed", "cancelled", "expired", "skipped", "dead")


@attrs.frozen
class Breach:
    rule: str
    id: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.id}: {self.message}"


@attrs.define
class Task:
    """All that is known of one id."""

    submits: list[Submit] = attrs.field(factory=list)
    grants: list[Grant] = attrs.field(factory=list)
    reports: list[Report] = attrs.field(factory=list)
    reads: list[Read] = attrs.field(factory=list)
    changes: list[Change] = attrs.field(factory=list)
    final: Final | None = None

    def fences(self) -> set[int]:
        known = {grant.fence for grant in self.grants}
        if self.final is not None:
            known.update(self.final.fences)
            if self.final.fence:
                known.add(self.final.fence)
        return known

    def may_be(self, verb: str) -> bool:
        """Somebody cancelled, retried or purged it, as far as is known: asked, and was not refused."""
        return any(change.verb == verb and change.error is None for change in self.changes)


def gather(history: History) -> dict[str, Task]:
    tasks: defaultdict[str, Task] = defaultdict(Task)
    for submit in history.submits:
        tasks[submit.id].submits.append(submit)
    for grant in history.grants:
        tasks[grant.id].grants.append(grant)
    for report in history.reports:
        tasks[report.id].reports.append(report)
    for read in history.reads:
        tasks[read.id].reads.append(read)
    for change in history.changes:
        tasks[change.id].changes.append(change)
    for final in history.finals:
        tasks[final.id].final = final
    return tasks
