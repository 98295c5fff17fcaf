"""What the test's clients and handlers saw, and whether the contract was kept: judged when a simulated cluster closes.

The checkers are those of our own simulation (``tq/sim/checkers``): no accepted task is lost, none is invented, each fence
has one run, the recorded end is one that was reported, reads do not go back, and the log makes the same state on all nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from tq.client.core import Call, Make
from tq.client.models import SUBMIT_OUTCOMES, state_name
from tq.errors import InvalidRequest, NotFound, PayloadTooLarge, Unsupported
from tq.machine import queries
from tq.machine.commands import Outcome
from tq.protocol import messages as m
from tq.sim.checkers import records
from tq.sim.checkers.history import check
from tq.spec import Spec, parse
from tq.store.txn import ReadTxn
from tq.worker.job import Job
from tq.worker.outcomes import COMPLETE, Said

CLIENT = "client"
OUTCOMES = {int(outcome): outcome.name.lower() for outcome in Outcome}
REPORTED = ("applied", "already")


@attrs.define
class Asked:
    """A request under way."""

    message: m.Message
    start: int


class History:
    """
    Args:
        now_ms: the virtual time.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.records = records.History()
        self._now_ms = now_ms
        self._ticks = 0

    def time(self) -> int:
        """In ns; no two moments are alike."""
        self._ticks += 1
        return self._now_ms() * 1_000_000 + self._ticks

    # ---- requests ---------------------------------------------------------------------------------------------

    def called(self, make: Make) -> Asked:
        return Asked(make(1), self.time())

    def answered(self, call: Call) -> None:
        """It is over: answered, refused, or given up."""
        asked = call.waiter
        if not isinstance(asked, Asked):
            return
        reply = call.reply
        end = None if reply is None else self.time()  # without one it may be done later
        index = getattr(reply, "index", None)
        if index and end is not None:
            self.records.seen.append(records.Seen(CLIENT, asked.start, end, index))
        match asked.message:
            case m.SubmitTask(specs=raws):
                self._submitted(asked, raws, reply, end)
            case m.GetTask(id=id, min_index=min_index) | m.WaitTask(id=id, min_index=min_index):
                if isinstance(reply, m.GetReply | m.WaitReply) and end is not None:
                    task = reply.task
                    fence = task["fence"] or 0
                    read = records.Read(
                        CLIENT, asked.start, end, min_index, reply.index, id.hex(), task["state"], fence
                    )
                    self.records.reads.append(read)
            case m.CancelTask() | m.RetryTasks() | m.PurgeTasks():
                self._changed(asked, call, end)
            case m.TaskResult(items=items):
                answers = reply.items if isinstance(reply, m.ResultReply) else [None] * len(items)
                for item, answer in zip(items, answers, strict=True):
                    said = None if answer is None else "stale" if isinstance(answer, list) else REPORTED[answer]
                    self._reported(asked.start, end, item, said)

    def _submitted(self, asked: Asked, raws: list[bytes], reply: Any, end: int | None) -> None:
        items = reply.items if isinstance(reply, m.SubmitReply) else [None] * len(raws)
        index = getattr(reply, "index", None)
        for raw, item in zip(raws, items, strict=True):
            try:
                spec = parse(raw)
            except (InvalidRequest, PayloadTooLarge, Unsupported):
                continue  # refused by the broker, too
            answer, holder = ("created", None) if item == 0 else (None, None)
            if isinstance(item, list):
                answer = SUBMIT_OUTCOMES[item[0]]
                holder = item[2].hex() if item[2] else None
            self.records.submits.append(_submit(asked.start, end, index, raw, spec, answer, holder))

    def _changed(self, asked: Asked, call: Call, end: int | None) -> None:
        message: Any = asked.message
        verb = {m.CancelTask: "cancel", m.RetryTasks: "retry", m.PurgeTasks: "purge"}[type(message)]
        items = getattr(call.reply, "items", None)
        if message.ids is None:
            # By a filter: any task may be meant.
            known = dict.fromkeys(submit.id for submit in self.records.submits)
            self.records.changes += [records.Change(verb, CLIENT, asked.start, None, id) for id in known]
            return
        for at, id in enumerate(message.ids):
            state, error = (None, None) if items is None else items[at]
            name = None if state is None else state_name(state)
            code = None if error is None else error[0]
            index = getattr(call.reply, "index", None)
            self.records.changes.append(records.Change(verb, CLIENT, asked.start, end, id.hex(), index, name, code))

    def _reported(self, start: int, end: int | None, item: list[Any], answer: str | None) -> None:
        id, fence, outcome, body = item
        text = bytes(body[1]).hex() if outcome == COMPLETE else None
        report = records.Report(CLIENT, start, end, None, id.hex(), fence, OUTCOMES[outcome], text, answer)
        self.records.reports.append(report)

    # ---- handlers ---------------------------------------------------------------------------------------------

    def ran(self, worker: str, job: Job) -> None:
        context = job.context
        grant = records.Grant(
            worker, None, self.time(), None, job.id.hex(), job.fence, context.attempt, context.crashes, True
        )
        self.records.grants.append(grant)

    def said(self, job: Job, said: Said) -> None:
        if said[0] in OUTCOMES:
            self._reported(self.time(), None, [job.id, job.fence, said[0], said[1]], None)

    # ---- the end ----------------------------------------------------------------------------------------------

    def breaches(self, txn: ReadTxn, tombstone_keep_ms: int) -> list[str]:
        """What is wrong with what was seen, given how it ended. What is older than a tombstone may have been forgotten."""
        forgets_before = (self._now_ms() - tombstone_keep_ms) * 1_000_000
        history = self.records
        gone = set()
        bodies = {(report.id, report.fence): report.body for report in history.reports if report.outcome == "complete"}
        for id, start in {submit.id: submit.start for submit in history.submits}.items():
            try:
                task = queries.get_task(txn, bytes.fromhex(id), queries.PART_RESULT | queries.PART_HISTORY)
            except NotFound as missing:
                if missing.detail.get("purged") or start < forgets_before:
                    gone.add(id)
                continue
            history.finals.append(_final(id, task, bodies))
        kept = attrs.evolve(history)
        for name in ("submits", "grants", "reports", "reads", "changes"):
            setattr(kept, name, [record for record in getattr(history, name) if record.id not in gone])
        return [str(breach) for breach in check(kept, drained=False)]


def _submit(
    start: int, end: int | None, index: int | None, raw: bytes, spec: Spec, answer: str | None, holder: str | None
) -> records.Submit:
    is_timed = bool(spec.delay_ms or spec.not_before_ms or spec.expires_in_ms or spec.unique)
    return records.Submit(
        CLIENT, start, end, index, spec.id.hex(), raw.hex(), spec.type, spec.queue, spec.priority, is_timed, answer,
        holder, spec.delay_ms, bool(spec.expires_in_ms), bool(spec.deadline_ms),
    )  # fmt: skip


def _final(id: str, task: dict[str, Any], bodies: dict[tuple[str, int], str | None]) -> records.Final:
    rows = [row for row in task["history"] if row["fence"] and row["outcome"] != "stale"]
    body = bodies.get((id, task["fence"])) if task["result"] is None else bytes(task["result"]).hex()
    if task["state"] != "completed":
        body = None
    return records.Final(
        id, task["state"], task["fence"] or 0, task["attempt"], task["crashes"], task["reason"], body,
        tuple(row["fence"] for row in rows), tuple(row["outcome"] for row in rows), task["history_dropped"],
    )  # fmt: skip
