"""The client for threads: each verb returns when it is answered, or raises a ``TqError``.

Theory. ``core`` decides, ``verbs`` and ``session`` know the requests, ``shell`` has the threads; this file is the
names, the defaults and the words. One client may be used by many threads: their requests share one connection
and do not wait for each other. Ids of tasks are UUID text; text, 16 bytes and ``uuid.UUID`` are taken.

Times are seconds. No call waits longer than its ``timeout`` (the client's, 30 s, unless given). When that is over,
``BrokerUnavailable`` says whether the request may have been done; repeating it with the same ids is safe.
"""

from __future__ import annotations

import os
import queue as queues_
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from tq import limits
from tq.client import session as s
from tq.client.core import ClientCore, Subscription
from tq.client.ids import TaskId, to_bytes, to_text
from tq.client.models import (
    ENDS,
    Beat,
    CancelRequest,
    Changed,
    Explanation,
    Grant,
    Job,
    Outcome,
    Page,
    QueueInfo,
    Submitted,
    TaskEvent,
    TaskInfo,
    WorkerInfo,
)
from tq.client.shell import Shell
from tq.client.specs import TaskSpec, to_ms
from tq.client.verbs import PARTS_ALL, Verbs, filter_of
from tq.errors import Backpressure, InvalidRequest, TqError
from tq.protocol.addresses import Addresses, parse
from tq.world import Clock, Random, RealClock, RealRandom

BROKERS_DEFAULT = f"127.0.0.1:{limits.PORT_CLIENT}"
TIMEOUT_DEFAULT = 30.0
ListOf = list
"""Where a class has a verb ``list``, the type needs another name."""
CONTENT_TYPE_DEFAULT = "application/octet-stream"


def brokers_default() -> str:
    """Where the brokers are when nobody says it."""
    return os.environ.get("TQ_BROKERS") or BROKERS_DEFAULT


class Client:
    """A connection to a cluster, made at the first call and kept.

    Args:
        brokers: ``"host:port,host:port"`` or a list; ``TQ_BROKERS``, then ``127.0.0.1:7379`` unless given.
        timeout: seconds a call may take, unless it has a time-out of its own.
        reach: seconds after which calls fail when no broker can be reached at all; None: at their time-out.
        name: how this client names itself to the broker.
        clock, random: for tests.
    """

    def __init__(
        self,
        brokers: str | Iterable[str] | None = None,
        *,
        timeout: float = TIMEOUT_DEFAULT,
        reach: float | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        given = brokers_default() if brokers is None else brokers
        self._clock = clock or RealClock()
        self._random = random or RealRandom()
        reach_ms = None if reach is None else to_ms("reach", reach)
        self._core = ClientCore(
            Addresses(parse(given)), self._clock, self._random, name or f"tq-python/{os.getpid()}", reach_ms
        )
        self._verbs = Verbs(self._core, self._clock, self._random, to_ms("timeout", timeout))
        self._shell = Shell(self._core, self._clock)
        self._run = self._shell.run

    def close(self) -> None:
        """End calls under way and close the connection. Sessions are not closed: their leases run out."""
        self._shell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def last_index(self) -> int:
        """The highest applied index that an answer named. Reads see at least this one."""
        return self._core.last_index

    @property
    def cluster_id(self) -> str | None:
        """Of the cluster this client last spoke to."""
        raw = self._core.cluster_id
        return None if raw is None else to_text(raw)

    # ---- submit ------------------------------------------------------------------------------------

    def submit(
        self, type: str, payload: bytes = b"", *, request_timeout: float | None = None, **fields: Any
    ) -> Submitted:
        """Submit one task.

        Args:
            fields: those of ``TaskSpec``: queue, priority, delay, timeout (of one attempt) ...
            request_timeout: seconds this call may take.

        Returns:
            outcome ``created``; or ``duplicate``, with the id and state of the task that is there.

        Raises:
            InvalidRequest, PayloadTooLarge, Conflict, QueueFull, Unsupported: about the task.
            Backpressure, BrokerUnavailable: about the broker.
        """
        return self._run(self._verbs.submit(TaskSpec(type, payload, **fields), request_timeout))

    def submit_spec(self, spec: TaskSpec, *, timeout: float | None = None) -> Submitted:
        """Like ``submit``, of a task made before."""
        return self._run(self._verbs.submit(spec, timeout))

    def submit_many(
        self, specs: Iterable[TaskSpec], *, atomic: bool = False, timeout: float | None = None
    ) -> list[Submitted]:
        """Submit many tasks; a result for each, in order. What is wrong with one is in its result, not raised.

        Up to 1,000 tasks are one request; more are several, and then a failed request is told by its items
        too: outcome ``not_done``, or ``unknown`` when no answer came (submit those again with their ids).
        atomic: all or none, at most 1,000.

        Raises:
            BatchRefused: an atomic batch has a task that is refused; ``items`` tells which.
            Backpressure, BrokerUnavailable: the one request was refused, or not answered.
        """
        return self._run(self._verbs.submit_many(specs, atomic, timeout))

    # ---- one task ----------------------------------------------------------------------------------

    def get(
        self,
        id: TaskId,
        *,
        parts: int = PARTS_ALL,
        min_index: int = 0,
        linearizable: bool = False,
        timeout: float | None = None,
    ) -> TaskInfo:
        """The task as it is now.

        Args:
            parts: sum of 1 payload, 2 result, 4 history.
            min_index: see at least this index (what this client saw before it sees in any case).
            linearizable: the node makes sure that it leads before it answers.

        Raises:
            NotFound: unknown; ``detail["purged"]`` where it once was.
        """
        return self._run(self._verbs.get(id, parts, min_index, linearizable, timeout))

    def wait(self, id: TaskId, timeout: float | None = None, *, min_index: int = 0) -> TaskInfo:
        """The task when it has ended, however it ended. timeout None: wait without end.

        Raises:
            WaitTimeout: it has not ended in time; it goes on.
            NotFound: unknown, or purged meanwhile.
        """
        return self._run(self._verbs.wait(id, timeout, min_index))

    def cancel(
        self, id: TaskId, *, grace: float | None = None, wait: float | None = None, timeout: float | None = None
    ) -> str:
        """Cancel a task; of an ended one nothing changes. Returns its state: an end, or ``cancelling``.

        Args:
            grace: seconds a running handler has to stop before its fence is revoked (10).
            wait: wait so many seconds for the end and return it.

        Raises:
            NotFound: unknown. WaitTimeout: ``wait`` is over.
        """
        state = _one(self._run(self._verbs.cancel([id], grace, timeout)))
        if wait is None or state in ENDS:
            return state
        return self.wait(id, wait).state

    def cancel_many(
        self, ids: Sequence[TaskId], *, grace: float | None = None, timeout: float | None = None
    ) -> list[Changed]:
        """Cancel many: state or error of each, in order."""
        return self._run(self._verbs.cancel(ids, grace, timeout))

    def retry(self, id: TaskId, *, delay: float = 0, timeout: float | None = None) -> str:
        """Run a dead, cancelled, expired or skipped task again, attempts from 0. Returns its new state.

        Raises:
            NotFound: unknown. InvalidState: it is live, or completed.
        """
        return _one(self._run(self._verbs.retry([id], delay, timeout)))

    def retry_many(self, ids: Sequence[TaskId], *, delay: float = 0, timeout: float | None = None) -> list[Changed]:
        return self._run(self._verbs.retry(ids, delay, timeout))

    def purge(self, id: TaskId, *, timeout: float | None = None) -> str:
        """Forget an ended task, all but its id. Returns the state it ended in.

        Raises:
            NotFound: unknown. InvalidState: it is live; cancel it first.
        """
        return _one(self._run(self._verbs.purge([id], timeout)))

    def purge_many(self, ids: Sequence[TaskId], *, timeout: float | None = None) -> list[Changed]:
        return self._run(self._verbs.purge(ids, timeout))

    def explain(self, id: TaskId, *, timeout: float | None = None) -> Explanation:
        """Why the task is where it is. Raises NotFound."""
        return self._run(self._verbs.explain(id, timeout))

    # ---- many tasks --------------------------------------------------------------------------------

    def list(
        self,
        *,
        state: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        older_than: float | None = None,
        limit: int = 100,
        cursor: bytes | None = None,
        min_index: int = 0,
        linearizable: bool = False,
        timeout: float | None = None,
    ) -> Page:
        """One page of tasks without payloads; give ``cursor`` back for the next. older_than: seconds since the end."""
        filter_ = filter_of(self._clock, state, type, queue, tag, older_than)
        return self._run(self._verbs.list_page(filter_, limit, cursor, min_index, linearizable, timeout))

    def list_all(self, *, limit: int | None = None, **filter: Any) -> Iterator[TaskInfo]:
        """All tasks of a filter (state, type, queue, tag, older_than), page by page, at most ``limit``."""
        cursor: bytes | None = None
        left = limit
        while left is None or left > 0:
            count = limits.LIST_TASKS_MAX if left is None else min(left, limits.LIST_TASKS_MAX)
            page = self.list(limit=count, cursor=cursor, **filter)
            yield from page.tasks
            cursor = page.cursor
            if cursor is None:
                return
            if left is not None:
                left -= len(page.tasks)

    def retry_where(
        self,
        *,
        state: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        older_than: float | None = None,
        limit: int | None = None,
        delay: float = 0,
        progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Retry all ended tasks of a filter, in the background of the broker; returns when it is finished.

        progress is called with the state of the job, now and then. After ``timeout`` seconds WaitTimeout is raised
        and the job goes on.
        """
        filter_ = filter_of(self._clock, state, type, queue, tag, older_than)
        return self._run(self._verbs.retry_where(filter_, limit, delay, progress, timeout))

    def purge_where(
        self,
        *,
        state: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        older_than: float | None = None,
        limit: int | None = None,
        progress: Callable[[Job], None] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Forget all ended tasks of a filter; as ``retry_where``."""
        filter_ = filter_of(self._clock, state, type, queue, tag, older_than)
        return self._run(self._verbs.purge_where(filter_, limit, progress, timeout))

    # ---- looking -----------------------------------------------------------------------------------

    def events(
        self,
        id: TaskId | None = None,
        *,
        after: tuple[int, int] | None = None,
        timeout: float | None = None,
    ) -> Events:
        """What happens from now on (or behind the event ``after``), of one task or of all; subscribed when this returns.

        timeout: seconds the iterator waits for the next event before it ends; None: without end.
        """
        events = Events(self._shell, None if id is None else to_bytes("id", id), after, timeout)
        self._shell.subscribe(events.subscription, self._verbs.deadline_ms(None))
        return events

    def queues(self, *, min_index: int = 0, timeout: float | None = None) -> ListOf[QueueInfo]:
        return self._run(self._verbs.queues(min_index, timeout))

    def workers(self, *, timeout: float | None = None) -> ListOf[WorkerInfo]:
        return self._run(self._verbs.workers(timeout))

    def stats(self, *, timeout: float | None = None) -> dict[str, Any]:
        return self._run(self._verbs.stats(timeout))

    def cluster_status(self, *, timeout: float | None = None) -> dict[str, Any]:
        return self._run(self._verbs.cluster_status(timeout))

    # ---- workers -----------------------------------------------------------------------------------

    def register_worker(
        self,
        types: Sequence[str],
        queues: Sequence[str] = ("default",),
        *,
        name: str | None = None,
        info: dict[str, Any] | None = None,
        on_cancel: Callable[[ListOf[CancelRequest]], None] | None = None,
        timeout: float | None = None,
    ) -> Session:
        """Open a worker session: the tasks of ``types`` in ``queues`` are its to claim.

        name: ``host-pid-random`` unless given. on_cancel: called on the client's I/O thread when tasks that this
        session holds are to stop; it must not block nor use the client. Heartbeats tell the same.
        """
        if isinstance(types, str) or isinstance(queues, str):
            raise InvalidRequest.of("types", types, "types and queues are lists of texts")
        if name is None:
            name = f"{socket.gethostname()}-{os.getpid()}-{self._random.bytes(4).hex()}"
        verbs = s.SessionVerbs(self._verbs, types, queues, name)
        session = Session(self._shell, self._core, verbs, on_cancel)
        self._run(verbs.open(info or {}, timeout))
        return session


class Session:
    """A worker session; see ``tq/client/session.py``. ``task`` is what ``claim`` returned, or (id, fence).

    Outcomes return ``applied``, or ``already`` when the same was reported before; a stale one raises ``StaleFence``
    (in a batch it stands in the list). All may raise ``SessionLost``: open a new session.
    """

    def __init__(
        self,
        shell: Shell,
        core: ClientCore,
        verbs: s.SessionVerbs,
        on_cancel: Callable[[list[CancelRequest]], None] | None,
    ) -> None:
        self._run = shell.run
        self._core = core
        self._verbs = verbs
        self._is_closed = False
        if on_cancel is not None:
            told = on_cancel
            core.on_cancel[verbs.id] = lambda rows: told([CancelRequest.of(row) for row in rows])

    @property
    def id(self) -> str:
        return to_text(self._verbs.id)

    @property
    def name(self) -> str:
        return self._verbs.name

    @property
    def lease(self) -> float:
        """Seconds a lease lasts."""
        return self._told("lease_ms")

    @property
    def heartbeat_every(self) -> float:
        """Seconds between heartbeats, as the broker wishes."""
        return self._told("heartbeat_ms")

    @property
    def held(self) -> dict[str, int]:
        """What it holds: id -> fence."""
        return {to_text(task): fence for task, fence in list(self._verbs.held.items())}

    def _told(self, name: str) -> float:
        value: int = getattr(self._verbs.told, name)
        return value / 1000

    def claim(
        self,
        max_n: int = 1,
        wait: float = 0,
        *,
        queues: Sequence[str] = (),
        seq: int | None = None,
        timeout: float | None = None,
    ) -> list[Grant]:
        """Up to ``max_n`` tasks; waits up to ``wait`` seconds for the first. One claim at a time.

        queues: only these, in this order. seq: the number of the claim, for tests; a claim that failed is
        repeated with its number by itself.
        """
        return self._run(self._verbs.claim(max_n, wait, queues, seq, timeout))

    def heartbeat(
        self,
        tasks: Iterable[s.Held] | None = None,
        *,
        stats: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Beat:
        """Renew the leases of ``tasks`` (all it holds), and hear what to cancel and what was lost."""
        return self._run(self._verbs.heartbeat(tasks, stats or {}, timeout))

    def complete(
        self,
        task: s.Held,
        result: bytes = b"",
        *,
        content_type: str = CONTENT_TYPE_DEFAULT,
        timeout: float | None = None,
    ) -> Outcome:
        return self._run(self._verbs.report_one(s.completed(task, result, content_type), timeout))

    def fail(
        self,
        task: s.Held,
        error: str | BaseException,
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """The attempt failed. permanent: no further attempt. retry_after: seconds, instead of the backoff."""
        return self._run(self._verbs.report_one(s.failed(task, error, permanent, retry_after), timeout))

    def release(self, task: s.Held, *, timeout: float | None = None) -> Outcome:
        """Give it back: pending again, the attempt is not counted."""
        return self._run(self._verbs.report_one(s.released(task), timeout))

    def snooze(self, task: s.Held, seconds: float, *, timeout: float | None = None) -> Outcome:
        """Not now: scheduled again in so many seconds, the attempt is not counted."""
        return self._run(self._verbs.report_one(s.snoozed(task, seconds), timeout))

    def cancelled(self, task: s.Held, *, timeout: float | None = None) -> Outcome:
        """The handler has stopped because of a cancel."""
        return self._run(self._verbs.report_one(s.cancelled(task), timeout))

    def complete_many(
        self,
        results: Iterable[tuple[s.Held, bytes]],
        *,
        content_type: str = CONTENT_TYPE_DEFAULT,
        timeout: float | None = None,
    ) -> list[s.Said]:
        return self.report_many([s.completed(task, result, content_type) for task, result in results], timeout=timeout)

    def fail_many(
        self,
        errors: Iterable[tuple[s.Held, str | BaseException]],
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        timeout: float | None = None,
    ) -> list[s.Said]:
        items = [s.failed(task, error, permanent, retry_after) for task, error in errors]
        return self.report_many(items, timeout=timeout)

    def release_many(self, tasks: Iterable[s.Held], *, timeout: float | None = None) -> list[s.Said]:
        return self.report_many([s.released(task) for task in tasks], timeout=timeout)

    def snooze_many(self, tasks: Iterable[tuple[s.Held, float]], *, timeout: float | None = None) -> list[s.Said]:
        return self.report_many([s.snoozed(task, seconds) for task, seconds in tasks], timeout=timeout)

    def cancelled_many(self, tasks: Iterable[s.Held], *, timeout: float | None = None) -> list[s.Said]:
        return self.report_many([s.cancelled(task) for task in tasks], timeout=timeout)

    def report_many(self, items: Sequence[s.Item], *, timeout: float | None = None) -> list[s.Said]:
        """Outcomes of different kinds in one request; items as ``tq.client.session`` makes them."""
        return self._run(self._verbs.report(items, timeout))

    def close(self, *, timeout: float | None = None) -> None:
        """Say good-bye: what it holds goes back at once, uncounted. Safe to call twice."""
        if self._is_closed:
            return
        self._run(self._verbs.close(timeout))
        self._is_closed = True
        self._core.on_cancel.pop(self._verbs.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Events:
    """Iterator over events; a context manager. It goes on over lost connections.

    complete: False once events may be missing (the broker keeps a bounded number for those who return).
    """

    def __init__(self, shell: Shell, id: bytes | None, after: tuple[int, int] | None, timeout: float | None) -> None:
        self.subscription = Subscription(id, after, self._sink)
        self._shell = shell
        self._timeout = timeout
        self._rows: queues_.SimpleQueue[list[Any] | TqError] = queues_.SimpleQueue()
        self._is_closed = False

    def _sink(self, rows: list[list[Any]] | TqError) -> None:
        """On the I/O thread, under its lock."""
        if isinstance(rows, TqError):
            self._rows.put(rows)
        elif self._rows.qsize() + len(rows) > 2 * limits.SUBSCRIBER_EVENTS_MAX:
            self._rows.put(Backpressure("events were not read as fast as they came; go on with after="))
            self.subscription.sink = lambda _rows: None
        else:
            for row in rows:
                self._rows.put(row)

    @property
    def complete(self) -> bool:
        return self.subscription.complete

    def __iter__(self) -> Iterator[TaskEvent]:
        return self

    def __next__(self) -> TaskEvent:
        """The next event. StopIteration after ``timeout`` seconds without one, or when closed.

        Raises:
            Backpressure: too many events were not read. BrokerUnavailable: the client was closed.
        """
        if self._is_closed:
            raise StopIteration
        try:
            row = self._rows.get(timeout=self._timeout)
        except queues_.Empty:
            raise StopIteration from None
        if isinstance(row, TqError):
            self.close()
            raise row
        return TaskEvent.of(row)

    def close(self) -> None:
        """End the subscription. Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            self._shell.unsubscribe(self.subscription)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _one(changes: list[Changed]) -> str:
    """The state of the one that was changed, or its error."""
    change = changes[0]
    if change.error is not None:
        raise change.error
    return change.state or "unknown"
