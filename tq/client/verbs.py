"""The verbs of a client: what each asks for, and makes of the answer. Names, defaults and words are here, once.

``blocking.py`` and ``asynchronous.py`` give each of them to users under its name, with these arguments; ``steps.py`` says
what a verb is. A class with a verb ``list`` needs another name for the type: ``ListOf``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import attrs

from tq import limits
from tq.client import records
from tq.client.core import Make, Subscription
from tq.client.filters import Filters, filter_of
from tq.client.ids import TaskId, to_bytes, to_text
from tq.client.models import (
    ENDS,
    Changed,
    Explanation,
    Job,
    Page,
    QueueInfo,
    TaskInfo,
    WorkerInfo,
)
from tq.client.queue_verbs import QueueVerbs
from tq.client.specs import to_ms
from tq.client.steps import Ask, Listen, Pause, Verb, bind, expect
from tq.client.submits import Submits
from tq.errors import BrokerUnavailable, ProtocolError, WaitTimeout
from tq.protocol import messages as m

PARTS_ALL = 7
PARTS_END = 6  # result and history
JOB_POLL_MS_MIN = 50
JOB_POLL_MS_MAX = 1_000
TRANSFER_POLL_MS = 50
TRANSFER_MS = 5_000  # some elections
LIST_SPARE_MS = 5_000  # of the time for a page, left for its last request
ListOf = list


class Verbs(Submits, QueueVerbs):
    # ---- one task ----------------------------------------------------------------------------------

    def get(
        self,
        id: TaskId,
        *,
        parts: int = PARTS_ALL,
        min_index: int = 0,
        linearizable: bool = False,
        timeout: float | None = None,
    ) -> Verb[TaskInfo]:
        """The task as it is now.

        Args:
            parts: sum of 1 payload, 2 result, 4 history.
            min_index: see at least this index (what this client saw before it sees in any case).
            linearizable: the node makes sure that it leads before it answers.

        Raises:
            NotFound: unknown; ``detail["purged"]`` where it once was.
        """
        raw = to_bytes("id", id)
        reply = yield from self.ask(
            lambda rid: m.GetTask(rid, raw, parts, self.seen(min_index), linearizable), m.GetReply, timeout
        )
        return records.task_info(reply.task, reply.index)

    def wait(self, id: TaskId, timeout: float | None = None, *, min_index: int = 0) -> Verb[TaskInfo]:
        """The task when it has ended, however it ended. timeout None: wait without end.

        Raises:
            WaitTimeout: it has not ended in time; it goes on.
            NotFound: unknown, or purged meanwhile.
        """
        raw = to_bytes("id", id)
        end_ms = None if timeout is None else self.deadline_ms(timeout)
        while True:
            left_ms = limits.WAIT_MS_MAX if end_ms is None else max(0, end_ms - self.clock.monotonic_ms())
            wait_ms = min(left_ms, limits.WAIT_MS_MAX)
            deadline_ms = self.clock.monotonic_ms() + wait_ms + self.timeout_ms
            if end_ms is not None and timeout:
                deadline_ms = min(deadline_ms, end_ms)

            def make(rid: int, wait_ms: int = wait_ms) -> m.Message:
                return m.WaitTask(rid, raw, wait_ms, PARTS_END, self.seen(min_index))

            try:
                reply = expect((yield Ask(make, deadline_ms)), m.WaitReply)
            except BrokerUnavailable as error:
                if end_ms is not None and self.clock.monotonic_ms() >= end_ms and self.core.is_on_its_way:
                    raise WaitTimeout(f"task {to_text(raw)} has not ended within {timeout:g} s; it goes on") from error
                raise
            info = records.task_info(reply.task, reply.index)
            if reply.ended or info.ended:
                return info
            if end_ms is not None and self.clock.monotonic_ms() >= end_ms:
                raise WaitTimeout(
                    f"task {info.id} has not ended within {timeout:g} s: it is {info.state} and goes on",
                    detail={"state": info.state},
                )

    def cancel(
        self, id: TaskId, *, grace: float | None = None, wait: float | None = None, timeout: float | None = None
    ) -> Verb[str]:
        """Cancel a task; of an ended one nothing changes. Returns its state: an end, or ``cancelling``.

        Args:
            grace: seconds a running handler has to stop before its fence is revoked (10).
            wait: wait so many seconds for the end and return it.

        Raises:
            NotFound: unknown. WaitTimeout: ``wait`` is over.
        """
        state = _one((yield from self.cancel_many([id], grace=grace, timeout=timeout)))
        if wait is None or state in ENDS:
            return state
        return (yield from self.wait(id, wait)).state

    def cancel_many(
        self, ids: Sequence[TaskId], *, grace: float | None = None, timeout: float | None = None
    ) -> Verb[ListOf[Changed]]:
        """Cancel many: state or error of each, in order."""
        grace_ms = limits.CANCEL_GRACE_MS_DEFAULT if grace is None else to_ms("grace", grace)
        found: ListOf[Changed] = []
        for part in _parts(_raw_ids(ids)):
            reply = yield from self.ask(
                bind(part, lambda rid, ids: m.CancelTask(rid, ids, grace_ms)), m.CancelReply, timeout
            )
            for key, item in zip(part, reply.items, strict=True):
                changed = Changed.of(key, item)
                # Still running after a cancel: the handler was told, the cancel is not over.
                found.append(attrs.evolve(changed, state="cancelling") if changed.state == "running" else changed)
        return found

    def retry(self, id: TaskId, *, delay: float = 0, timeout: float | None = None) -> Verb[str]:
        """Run a dead, cancelled, expired or skipped task again, attempts from 0. Returns its new state.

        Raises:
            NotFound: unknown. InvalidState: it is live, or completed.
        """
        return _one((yield from self.retry_many([id], delay=delay, timeout=timeout)))

    def retry_many(
        self, ids: Sequence[TaskId], *, delay: float = 0, timeout: float | None = None
    ) -> Verb[ListOf[Changed]]:
        """Retry many: state or error of each, in order."""
        delay_ms = to_ms("delay", delay)
        return (
            yield from self._change(
                ids,
                lambda rid, operation, part: m.RetryTasks(rid, operation, part, None, None, delay_ms),
                timeout,
            )
        )

    def purge(self, id: TaskId, *, timeout: float | None = None) -> Verb[str]:
        """Forget an ended task, all but its id. Returns the state it ended in.

        Raises:
            NotFound: unknown. InvalidState: it is live; cancel it first.
        """
        return _one((yield from self.purge_many([id], timeout=timeout)))

    def purge_many(self, ids: Sequence[TaskId], *, timeout: float | None = None) -> Verb[ListOf[Changed]]:
        """Forget many: their last state or error of each, in order."""
        return (yield from self._change(ids, lambda rid, op, part: m.PurgeTasks(rid, op, part), timeout))

    def _change(
        self, ids: Sequence[TaskId], request: Callable[[int, bytes, ListOf[bytes]], m.Message], timeout: float | None
    ) -> Verb[ListOf[Changed]]:
        found: ListOf[Changed] = []
        for part in _parts(_raw_ids(ids)):
            operation = self.new_id()
            reply = yield Ask(bind((operation, part), lambda rid, args: request(rid, *args)), self.deadline_ms(timeout))
            items = expect_bulk(reply).items
            if items is None:
                raise ProtocolError("a change by ids was answered as a job")
            found.extend(Changed.of(key, item) for key, item in zip(part, items, strict=True))
        return found

    def explain(self, id: TaskId, *, timeout: float | None = None) -> Verb[Explanation]:
        """Why the task is where it is. Raises NotFound."""
        raw = to_bytes("id", id)
        reply = yield from self.ask(lambda rid: m.ExplainTask(rid, raw, self.seen()), m.ExplainReply, timeout)
        return records.explanation(reply.why, reply.facts)

    # ---- many tasks --------------------------------------------------------------------------------

    def list(
        self,
        *,
        limit: int = 100,
        cursor: bytes | None = None,
        oldest_first: bool = False,
        min_index: int = 0,
        linearizable: bool = False,
        timeout: float | None = None,
        **filter: Unpack[Filters],
    ) -> Verb[Page]:
        """One page of the tasks that meet a filter (see ``Filters``), without payloads; give ``cursor`` back for the next.

        The order is by id, that is by the time of submission; by the time of the end if only ended tasks are asked for. The
        newest come first unless ``oldest_first``. A page that has fewer than ``limit`` tasks and a cursor took as long as it may
        (``timeout``). A task that meets the filter all the while and keeps its place in the order is seen once on the way through all
        pages; what changes meanwhile may be seen or not.
        """
        asked = filter_of(self.clock, filter)
        end_ms = self.deadline_ms(timeout)
        tasks: list[TaskInfo] = []
        while True:  # a broker looks at a bounded number of tasks for one reply

            def make(rid: int, left: int = limit - len(tasks), cursor: bytes | None = cursor) -> m.Message:
                return m.ListTasks(rid, asked, left, cursor, self.seen(min_index), linearizable, oldest_first)

            reply = expect((yield Ask(make, end_ms)), m.ListReply)
            tasks += [records.task_info(row, reply.index) for row in reply.tasks]
            cursor = reply.cursor
            is_late = self.clock.monotonic_ms() + LIST_SPARE_MS >= end_ms
            if cursor is None or len(tasks) >= limit or is_late:
                return Page(tasks, cursor, reply.index)

    def retry_where(
        self,
        *,
        limit: int | None = None,
        delay: float = 0,
        progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
        **filter: Unpack[Filters],
    ) -> Verb[Job]:
        """Retry all ended tasks of a filter, in the background of the broker; returns when it is finished.

        progress is called with the state of the job, now and then. After ``timeout`` seconds WaitTimeout is raised
        and the job goes on.
        """
        asked = filter_of(self.clock, filter)
        delay_ms = to_ms("delay", delay)
        operation = self.new_id()
        return (
            yield from self._job(
                lambda rid: m.RetryTasks(rid, operation, None, asked, limit, delay_ms), progress, timeout
            )
        )

    def purge_where(
        self,
        *,
        limit: int | None = None,
        progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
        **filter: Unpack[Filters],
    ) -> Verb[Job]:
        """Forget all ended tasks of a filter; as ``retry_where``."""
        asked = filter_of(self.clock, filter)
        operation = self.new_id()
        return (yield from self._job(lambda rid: m.PurgeTasks(rid, operation, None, asked, limit), progress, timeout))

    def _job(self, make: Make, progress: Callable[[Job], None] | None, timeout: float | None) -> Verb[Job]:
        """Start it and ask again, with the same operation, until it is finished or ``timeout`` seconds are over."""
        end_ms = None if timeout is None else self.deadline_ms(timeout)
        pause_ms = JOB_POLL_MS_MIN
        while True:
            deadline_ms = self.deadline_ms(None)
            reply = expect_bulk((yield Ask(make, deadline_ms if end_ms is None else min(deadline_ms, end_ms))))
            if reply.job is None:
                raise ProtocolError("a job was answered without its status")
            job = Job.of(reply.job)
            if progress is not None:
                progress(job)
            if job.finished:
                return job
            if end_ms is not None and self.clock.monotonic_ms() + pause_ms >= end_ms:
                raise WaitTimeout(
                    f"{job.verb} has changed {job.done} tasks so far; it goes on", detail={"done": job.done}
                )
            yield Pause(pause_ms)
            pause_ms = min(pause_ms * 2, JOB_POLL_MS_MAX)

    # ---- looking -----------------------------------------------------------------------------------

    def listen(self, subscription: Subscription) -> Verb[None]:
        yield Listen(subscription, self.deadline_ms(None))

    def queues(self, *, min_index: int = 0, timeout: float | None = None) -> Verb[ListOf[QueueInfo]]:
        """All queues that have tasks or settings: how many tasks stand where, and what was decided."""
        reply = yield from self.ask(lambda rid: m.Queues(rid, self.seen(min_index)), m.QueuesReply, timeout)
        return [records.queue_info(row) for row in reply.queues]

    def workers(self, *, timeout: float | None = None) -> Verb[ListOf[WorkerInfo]]:
        """The worker sessions that are open."""
        reply = yield from self.ask(m.Workers, m.WorkersReply, timeout)
        return [records.worker_info(row) for row in reply.workers]

    def stats(self, *, timeout: float | None = None) -> Verb[dict[str, Any]]:
        """Counters and gauges of the broker that is asked."""
        return (yield from self.ask(m.Stats, m.StatsReply, timeout)).stats

    def cluster_status(self, *, timeout: float | None = None) -> Verb[dict[str, Any]]:
        """Who leads, how far each node is, and how many more may be lost, as the broker that is asked sees it."""
        return (yield from self.ask(m.ClusterStatus, m.ClusterStatusReply, timeout)).status

    def transfer_leadership(self, to: str | None = None, *, timeout: float | None = None) -> Verb[str]:
        """Let another node lead: this one, or that which has most. Returns the id of who leads then.

        Raises:
            InvalidRequest: there is no such node, or it cannot lead now; the message says why.
            BrokerUnavailable: nobody took over; the old one leads on.
        """
        before = (yield from self.cluster_status(timeout=timeout))["cluster"]["leader"]
        arguments = {"from": before, "to": to}
        reply = yield from self.ask(
            lambda rid: m.ChangeCluster(rid, "transfer", arguments), m.ChangeClusterReply, timeout
        )
        end_ms = self.clock.monotonic_ms() + TRANSFER_MS
        while True:
            leader = (yield from self.cluster_status(timeout=timeout))["cluster"]["leader"]
            if leader is not None and (leader != before or leader == to):
                return str(leader)
            if self.clock.monotonic_ms() >= end_ms:
                named = reply.answer["to"] or "the other node"
                raise BrokerUnavailable(f"{named} did not take over within {TRANSFER_MS} ms; see tq cluster-status")
            yield Pause(TRANSFER_POLL_MS)

    def replace_node(
        self, node: str, incarnation: bytes | None, *, timeout: float | None = None
    ) -> Verb[dict[str, Any]]:
        """Have the cluster admit another data directory for a node that lost its own; it must not run. None: ask only whether
        that could be done now. See docs/operations.md. Returns {} then, else cluster, index and members, for the directory.

        Raises:
            InvalidRequest: it cannot be done now; the message says why.
        """
        arguments = {"node": node, "incarnation": incarnation}
        reply = yield from self.ask(
            lambda rid: m.ChangeCluster(rid, "replace", arguments), m.ChangeClusterReply, timeout
        )
        return reply.answer


class Pages:
    """All tasks of a filter, page by page, at most ``limit``."""

    def __init__(self, verbs: Verbs, limit: int | None, filter: Filters, *, oldest_first: bool = False) -> None:
        self._verbs = verbs
        self._is_oldest_first = oldest_first
        self._left = limit
        self._filter = filter
        self._cursor: bytes | None = None
        self._is_first = True

    @property
    def goes_on(self) -> bool:
        return (self._is_first or self._cursor is not None) and (self._left is None or self._left > 0)

    def take(self) -> Verb[list[TaskInfo]]:
        count = limits.LIST_TASKS_MAX if self._left is None else min(self._left, limits.LIST_TASKS_MAX)
        page = yield from self._verbs.list(
            limit=count, cursor=self._cursor, oldest_first=self._is_oldest_first, **self._filter
        )
        self._is_first = False
        self._cursor = page.cursor
        if self._left is not None:
            self._left -= len(page.tasks)
        return page.tasks


def expect_bulk(reply: Any) -> Any:
    """A reply to RETRY or PURGE: ``items`` by id, or ``job``."""
    if not hasattr(reply, "job"):
        raise ProtocolError(f"the broker answered {type(reply).__name__} to a retry or purge")
    return reply


def _one(changes: list[Changed]) -> str:
    """The state of the one that was changed, or its error."""
    change = changes[0]
    if change.error is not None:
        raise change.error
    return change.state or "unknown"


def _raw_ids(ids: Sequence[TaskId]) -> list[bytes]:
    return [to_bytes("id", key) for key in ids]


def _parts(raws: list[bytes]) -> list[list[bytes]]:
    return [raws[at : at + limits.BATCH_TASKS_MAX] for at in range(0, len(raws), limits.BATCH_TASKS_MAX)]
