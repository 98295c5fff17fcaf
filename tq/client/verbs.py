"""What each verb asks and makes of the answer, as generators: no thread, no socket, no waiting in here.

A verb yields steps and is sent their results; a shell runs it (``Client`` with threads, an async one by await):

    Ask     send a request, come back with its reply
    Begin   send a request, come back at once with the call, so that several are under way
    Await   come back with the reply of a call that was begun
    Pause   let time pass

The error of a call is raised at the step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

import attrs

from tq import limits
from tq.client import records
from tq.client.core import Call, ClientCore, Make
from tq.client.ids import IdMaker, TaskId, to_bytes, to_text
from tq.client.models import (
    Changed,
    Explanation,
    Job,
    Page,
    QueueInfo,
    Submitted,
    TaskInfo,
    WorkerInfo,
)
from tq.client.specs import TaskSpec, encode, to_ms
from tq.errors import (
    BatchRefused,
    BrokerUnavailable,
    InvalidRequest,
    NotDone,
    PayloadTooLarge,
    ProtocolError,
    TqError,
    WaitTimeout,
)
from tq.protocol import messages as m
from tq.world import Clock, Random

T = TypeVar("T")
R = TypeVar("R", bound=m.Message)
PARTS_ALL = 7
PARTS_END = 6  # result and history
BATCHES_BEGUN_MAX = 4  # of one submit_many, not yet answered
JOB_POLL_MS_MIN = 50
JOB_POLL_MS_MAX = 1_000
REFUSALS = frozenset({"conflict", "queue_full", "too_large", "invalid", "not_done"})


@attrs.frozen
class Ask:
    make: Make
    deadline_ms: int | None


@attrs.frozen
class Begin:
    make: Make
    deadline_ms: int | None


@attrs.frozen
class Await:
    call: Call


@attrs.frozen
class Pause:
    wait_ms: int


Step = Ask | Begin | Await | Pause
Verb = Generator[Step, Any, T]


class Verbs:
    """The verbs of one client. Collaborators are shared with its shell."""

    def __init__(self, core: ClientCore, clock: Clock, random: Random, timeout_ms: int) -> None:
        self.core = core
        self.clock = clock
        self.random = random
        self.timeout_ms = timeout_ms
        self.ids = IdMaker(clock, random)

    def deadline_ms(self, timeout: float | None) -> int:
        """Of a request that begins now. timeout: seconds, None: the client's."""
        wait_ms = self.timeout_ms if timeout is None else to_ms("timeout", timeout)
        return self.clock.monotonic_ms() + wait_ms

    def ask(self, make: Make, kind: type[R], timeout: float | None) -> Verb[R]:
        reply = yield Ask(make, self.deadline_ms(timeout))
        return expect(reply, kind)

    # ---- submit ------------------------------------------------------------------------------------

    def submit(self, spec: TaskSpec, timeout: float | None) -> Verb[Submitted]:
        key = self.ids.take(1)[0].to_bytes(16, "big") if spec.id is None else to_bytes("id", spec.id)
        raw = encode(spec, key)
        if len(raw) > limits.SPEC_BYTES_MAX:
            raise _too_large(spec)
        reply = yield Ask(lambda rid: m.SubmitTask(rid, [raw]), self.deadline_ms(timeout))
        item = expect(reply, m.SubmitReply).items[0]
        if item == 0:
            return Submitted(key)
        result = Submitted.of(item, key)
        if result.error is not None:
            raise result.error
        return result

    def submit_many(self, specs: Iterable[TaskSpec], atomic: bool, timeout: float | None) -> Verb[list[Submitted]]:
        tasks = list(specs)
        if not tasks:
            return []
        ids, raws, refused = self._encode_all(tasks)
        if atomic:
            return (yield from self._submit_atomic(ids, raws, refused, timeout))
        if not refused and len(raws) <= limits.BATCH_TASKS_MAX and sum(map(len, raws)) <= limits.BATCH_BYTES_MAX:
            reply = yield Ask(lambda rid: m.SubmitTask(rid, raws), self.deadline_ms(timeout))
            return _submitted(reply, ids)
        return (yield from self._submit_batches(ids, raws, refused, timeout))

    def _encode_all(self, tasks: list[TaskSpec]) -> tuple[list[bytes], list[bytes], dict[int, Submitted]]:
        """Ids and bytes of all; by position, those that have no bytes (theirs are empty)."""
        made = self.ids.take(len(tasks))
        ids: list[bytes] = []
        raws: list[bytes] = []
        refused: dict[int, Submitted] = {}
        for number, task in zip(made, tasks, strict=True):
            key = number.to_bytes(16, "big")
            try:
                if task.id is not None:
                    key = to_bytes("id", task.id)
                raw = encode(task, key)
                if len(raw) > limits.SPEC_BYTES_MAX:
                    raise _too_large(task)
            except InvalidRequest as error:
                raw = b""
                refused[len(ids)] = Submitted(key, "invalid", None, error)
            except PayloadTooLarge as error:
                raw = b""
                refused[len(ids)] = Submitted(key, "too_large", None, error)
            ids.append(key)
            raws.append(raw)
        return ids, raws, refused

    def _submit_atomic(
        self, ids: list[bytes], raws: list[bytes], wrong: dict[int, Submitted], timeout: float | None
    ) -> Verb[list[Submitted]]:
        if len(ids) > limits.BATCH_TASKS_MAX:
            raise InvalidRequest.of("specs", len(ids), f"an atomic batch has at most {limits.BATCH_TASKS_MAX} tasks")
        size = sum(map(len, raws))
        if size > limits.BATCH_BYTES_MAX:
            raise PayloadTooLarge(f"an atomic batch has at most {limits.BATCH_BYTES_MAX} bytes, this one has {size}")
        if wrong:
            items = [wrong.get(position) or _not_done(key) for position, key in enumerate(ids)]
        else:
            reply = yield Ask(lambda rid: m.SubmitTask(rid, raws, True), self.deadline_ms(timeout))
            items = _submitted(reply, ids)
        refused = [item for item in items if item.outcome in REFUSALS]
        if refused:
            first = next((item for item in refused if item.outcome != "not_done"), refused[0])
            why = "" if first.error is None else f": {first.error.message}"
            raise BatchRefused(
                f"the batch was refused, no task of it was taken; {first.id} {first.outcome}{why}", items=items
            )
        return items

    def _submit_batches(
        self, ids: list[bytes], raws: list[bytes], refused: dict[int, Submitted], timeout: float | None
    ) -> Verb[list[Submitted]]:
        """Send in requests that the broker takes, some of them ahead of their answers."""
        results: dict[int, Submitted] = dict(refused)
        begun: deque[tuple[Call, list[int]]] = deque()
        for positions in _batches(raws):
            batch = [raws[position] for position in positions]
            call = yield Begin(bind(batch, m.SubmitTask), self.deadline_ms(timeout))
            begun.append((call, positions))
            if len(begun) == BATCHES_BEGUN_MAX:
                yield from self._answered(*begun.popleft(), ids, results)
        for call, positions in begun:
            yield from self._answered(call, positions, ids, results)
        return [results[position] for position in range(len(ids))]

    def _answered(
        self, call: Call, positions: list[int], ids: list[bytes], results: dict[int, Submitted]
    ) -> Verb[None]:
        named = [ids[position] for position in positions]
        try:
            items = _submitted((yield Await(call)), named)
        except TqError as error:
            # Other batches were taken, so each item tells its own fate: the caller needs the ids.
            outcome = "unknown" if isinstance(error, BrokerUnavailable) else "not_done"
            items = [Submitted(key, outcome, None, error) for key in named]
        results.update(zip(positions, items, strict=True))

    # ---- one task ----------------------------------------------------------------------------------

    def get(self, id: TaskId, parts: int, min_index: int, linearizable: bool, timeout: float | None) -> Verb[TaskInfo]:
        raw = to_bytes("id", id)
        reply = yield from self.ask(
            lambda rid: m.GetTask(rid, raw, parts, self._seen(min_index), linearizable), m.GetReply, timeout
        )
        return records.task_info(reply.task, reply.index)

    def wait(self, id: TaskId, timeout: float | None, min_index: int) -> Verb[TaskInfo]:
        raw = to_bytes("id", id)
        end_ms = None if timeout is None else self.deadline_ms(timeout)
        while True:
            left_ms = limits.WAIT_MS_MAX if end_ms is None else max(0, end_ms - self.clock.monotonic_ms())
            wait_ms = min(left_ms, limits.WAIT_MS_MAX)
            deadline_ms = self.clock.monotonic_ms() + wait_ms + self.timeout_ms
            if end_ms is not None and timeout:
                deadline_ms = min(deadline_ms, end_ms)

            def make(rid: int, wait_ms: int = wait_ms) -> m.Message:
                return m.WaitTask(rid, raw, wait_ms, PARTS_END, self._seen(min_index))

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

    def explain(self, id: TaskId, timeout: float | None) -> Verb[Explanation]:
        raw = to_bytes("id", id)
        reply = yield from self.ask(lambda rid: m.ExplainTask(rid, raw, self._seen(0)), m.ExplainReply, timeout)
        return records.explanation(reply.why, reply.facts)

    def cancel(self, ids: Sequence[TaskId], grace: float | None, timeout: float | None) -> Verb[list[Changed]]:
        raws = _raw_ids(ids)
        grace_ms = limits.CANCEL_GRACE_MS_DEFAULT if grace is None else to_ms("grace", grace)
        found: list[Changed] = []
        for part in _parts(raws):
            reply = yield from self.ask(
                bind(part, lambda rid, ids: m.CancelTask(rid, ids, grace_ms)), m.CancelReply, timeout
            )
            for key, item in zip(part, reply.items, strict=True):
                changed = Changed.of(key, item)
                # Still running after a cancel: the handler was told, the cancel is not over.
                found.append(attrs.evolve(changed, state="cancelling") if changed.state == "running" else changed)
        return found

    def retry(self, ids: Sequence[TaskId], delay: float, timeout: float | None) -> Verb[list[Changed]]:
        delay_ms = to_ms("delay", delay)
        return (
            yield from self._change(
                ids,
                lambda rid, operation, part: m.RetryTasks(rid, operation, part, None, None, delay_ms),
                timeout,
            )
        )

    def purge(self, ids: Sequence[TaskId], timeout: float | None) -> Verb[list[Changed]]:
        return (yield from self._change(ids, lambda rid, op, part: m.PurgeTasks(rid, op, part), timeout))

    def _change(
        self, ids: Sequence[TaskId], request: Callable[[int, bytes, list[bytes]], m.Message], timeout: float | None
    ) -> Verb[list[Changed]]:
        found: list[Changed] = []
        for part in _parts(_raw_ids(ids)):
            operation = self.new_id()
            reply = yield Ask(bind((operation, part), lambda rid, args: request(rid, *args)), self.deadline_ms(timeout))
            items = expect_bulk(reply).items
            if items is None:
                raise ProtocolError("a change by ids was answered as a job")
            found.extend(Changed.of(key, item) for key, item in zip(part, items, strict=True))
        return found

    # ---- many tasks --------------------------------------------------------------------------------

    def list_page(
        self, filter_: dict[str, Any], limit: int, cursor: bytes | None, min_index: int, linearizable: bool,
        timeout: float | None,
    ) -> Verb[Page]:  # fmt: skip
        reply = yield from self.ask(
            lambda rid: m.ListTasks(rid, filter_, limit, cursor, self._seen(min_index), linearizable),
            m.ListReply,
            timeout,
        )
        return Page([records.task_info(row, reply.index) for row in reply.tasks], reply.cursor, reply.index)

    def retry_where(
        self, filter_: dict[str, Any], limit: int | None, delay: float, progress: Callable[[Job], None] | None,
        timeout: float | None,
    ) -> Verb[Job]:  # fmt: skip
        delay_ms = to_ms("delay", delay)
        operation = self.new_id()
        return (
            yield from self._job(
                lambda rid: m.RetryTasks(rid, operation, None, filter_, limit, delay_ms), progress, timeout
            )
        )

    def purge_where(
        self, filter_: dict[str, Any], limit: int | None, progress: Callable[[Job], None] | None, timeout: float | None
    ) -> Verb[Job]:
        operation = self.new_id()
        return (yield from self._job(lambda rid: m.PurgeTasks(rid, operation, None, filter_, limit), progress, timeout))

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

    def queues(self, min_index: int, timeout: float | None) -> Verb[list[QueueInfo]]:
        reply = yield from self.ask(lambda rid: m.Queues(rid, self._seen(min_index)), m.QueuesReply, timeout)
        return [records.queue_info(row) for row in reply.queues]

    def workers(self, timeout: float | None) -> Verb[list[WorkerInfo]]:
        reply = yield from self.ask(m.Workers, m.WorkersReply, timeout)
        return [records.worker_info(row) for row in reply.workers]

    def stats(self, timeout: float | None) -> Verb[dict[str, Any]]:
        return (yield from self.ask(m.Stats, m.StatsReply, timeout)).stats

    def cluster_status(self, timeout: float | None) -> Verb[dict[str, Any]]:
        return (yield from self.ask(m.ClusterStatus, m.ClusterStatusReply, timeout)).status

    # ---- small things ------------------------------------------------------------------------------

    def new_id(self) -> bytes:
        return self.ids.take(1)[0].to_bytes(16, "big")

    def _seen(self, min_index: int) -> int:
        return max(min_index, self.core.last_index)


def filter_of(
    clock: Clock, state: str | None, type: str | None, queue: str | None, tag: str | None, older_than: float | None
) -> dict[str, Any]:
    """The filter map of LIST, RETRY and PURGE. older_than: seconds since the end."""
    values: dict[str, Any] = {"state": state, "type": type, "queue": queue, "tag": tag}
    if older_than is not None:
        values["ended_before_ms"] = clock.wall_ms() - to_ms("older_than", older_than)
    return {name: value for name, value in values.items() if value is not None}


def expect(reply: Any, kind: type[R]) -> R:
    if not isinstance(reply, kind):
        raise ProtocolError(f"the broker answered {type(reply).__name__} where {kind.__name__} was due")
    return reply


def expect_bulk(reply: Any) -> Any:
    """A reply to RETRY or PURGE: ``items`` by id, or ``job``."""
    if not hasattr(reply, "job"):
        raise ProtocolError(f"the broker answered {type(reply).__name__} to a retry or purge")
    return reply


def _submitted(reply: Any, ids: list[bytes]) -> list[Submitted]:
    items = expect(reply, m.SubmitReply).items
    if len(items) != len(ids):
        raise ProtocolError(f"{len(ids)} tasks were submitted, {len(items)} answered")
    if not any(items):  # all are new and pending: the common case
        return [Submitted(key) for key in ids]
    return [Submitted.of(item, key) for item, key in zip(items, ids, strict=True)]


def _too_large(spec: TaskSpec) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the payload has {len(spec.payload)} bytes: at most {limits.PAYLOAD_BYTES_MAX} are taken",
        detail={"field": "payload", "value": len(spec.payload), "bound": limits.PAYLOAD_BYTES_MAX},
    )


def bind(value: T, make: Callable[[int, T], m.Message]) -> Make:
    """A request of this turn of a loop; a bare lambda would see the value of the last one."""
    return lambda rid: make(rid, value)


def _not_done(id: bytes) -> Submitted:
    return Submitted(id, "not_done", None, NotDone("another item of the batch was refused"))


def _batches(raws: list[bytes]) -> Generator[list[int], None, None]:
    """Positions cut into requests that the broker takes, by number and by bytes; empty ones are left out."""
    batch: list[int] = []
    size = 0
    for position, raw in enumerate(raws):
        if len(batch) == limits.BATCH_TASKS_MAX or size + len(raw) > limits.BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        if raw:
            batch.append(position)
            size += len(raw)
    if batch:
        yield batch


def _raw_ids(ids: Sequence[TaskId]) -> list[bytes]:
    return [to_bytes("id", key) for key in ids]


def _parts(raws: list[bytes]) -> list[list[bytes]]:
    return [raws[at : at + limits.BATCH_TASKS_MAX] for at in range(0, len(raws), limits.BATCH_TASKS_MAX)]
