"""A worker's life at the cluster: claims, outcomes, heartbeats. Names, defaults and words are here, as in ``verbs.py``.

A session sends no heartbeats of its own: ``heartbeat`` does, and claims and outcomes count as signs of life too.
It remembers what it holds, so a heartbeat renews all of it by default.

Claims are numbered. A claim whose answer was lost is repeated with its number, and answers what is still held
of that grant: no task is given to a session that does not know of it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tq import limits
from tq.client import records
from tq.client.asking import Asking
from tq.client.forks import told_of_forks
from tq.client.ids import to_bytes, to_text
from tq.client.models import Beat, CancelRequest, Grant, Outcome, state_name
from tq.client.specs import CONTENT_TYPE_DEFAULT, as_bytes, to_ms
from tq.client.steps import Ask, Verb, bind, expect
from tq.errors import InvalidRequest, PayloadTooLarge, StaleFence
from tq.protocol import messages as m

COMPLETE: Final = 0  # outcomes on the wire, as in docs/protocol.md
FAIL: Final = 1
RELEASE: Final = 2
SNOOZE: Final = 3
CANCELLED: Final = 4
ITEM_OVERHEAD_BYTES: Final = 64

Held = Grant | tuple[Any, int]
"""A task to report on: its grant, or (id, fence)."""
Said = Outcome | StaleFence
"""What became of one outcome: "applied", "already", or the refusal, not raised."""
Item = list[Any]
"""[id, fence, outcome, body], as it goes over the wire."""


class SessionVerbs:
    """``task`` is what ``claim`` returned, or (id, fence).

    Outcomes return ``applied``, or ``already`` when the same was reported before; a stale one raises ``StaleFence``
    (in a batch it stands in the list). All may raise ``SessionLost``: open a new session.
    """

    told: m.RegisterReply  # once it is open

    def __init__(
        self,
        asking: Asking,
        types: Sequence[str],
        queues: Sequence[str],
        name: str,
        on_cancel: Callable[[list[CancelRequest]], None] | None = None,
    ) -> None:
        self.id = asking.random.bytes(16)
        self.name = name
        self.types = list(types)
        self.queues = list(queues)
        self.seq = 0  # of the last claim that was answered
        self.held: dict[bytes, int] = {}  # id -> fence
        self._asking = asking
        self._on_cancel = on_cancel
        self._is_closed = False
        self._checkpoints = 0  # number of the last one
        self._lock = threading.Lock()  # of held
        told_of_forks(self)

    def begin_anew(self) -> None:
        """In the child of a fork, where the client will refuse what it is asked."""
        self._lock = threading.Lock()

    # ---- life --------------------------------------------------------------------------------------

    def open(self, info: dict[str, Any], timeout: float | None) -> Verb[None]:
        tell = self._on_cancel
        if tell is not None:
            self._asking.core.on_cancel[self.id] = lambda rows: tell([CancelRequest.of(row) for row in rows])
        try:
            self.told = yield from self._asking.ask(
                lambda rid: m.RegisterWorker(rid, self.id, self.name, self.types, self.queues, info),
                m.RegisterReply,
                timeout,
            )
        except BaseException:
            self._asking.core.on_cancel.pop(self.id, None)
            raise

    def close(self, *, timeout: float | None = None) -> Verb[None]:
        """Say good-bye: what it holds goes back at once, uncounted. Safe to call twice."""
        if self._is_closed:
            return
        yield from self._asking.ask(lambda rid: m.DeregisterWorker(rid, self.id), m.DeregisterReply, timeout)
        self._is_closed = True
        self._asking.core.on_cancel.pop(self.id, None)
        with self._lock:
            self.held.clear()

    def heartbeat(
        self,
        tasks: Iterable[Held] | None = None,
        *,
        stats: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Verb[Beat]:
        """Renew the leases of ``tasks`` (all it holds), and hear what to cancel and what was lost."""
        with self._lock:
            named = list(self.held.items()) if tasks is None else [id_and_fence(task) for task in tasks]
        rows = [[key, fence] for key, fence in named]
        reply = yield from self._asking.ask(
            lambda rid: m.Heartbeat(rid, self.id, rows, stats or {}), m.HeartbeatReply, timeout
        )
        with self._lock:
            for key, fence in reply.lost:
                self._let_go(key, fence)
        return Beat(
            tuple(CancelRequest.of(row) for row in reply.cancel),
            tuple((to_text(key), fence) for key, fence in reply.lost),
            reply.drain,
        )

    # ---- claims ------------------------------------------------------------------------------------

    def claim(
        self,
        max_n: int = 1,
        wait: float = 0,
        *,
        queues: Sequence[str] = (),
        seq: int | None = None,
        timeout: float | None = None,
    ) -> Verb[list[Grant]]:
        """Up to ``max_n`` tasks; waits up to ``wait`` seconds for the first. One claim at a time.

        queues: only these, in this order. seq: the number of the claim, for tests; a claim that failed is
        repeated with its number by itself.
        """
        asking = self._asking
        left_ms = to_ms("wait", wait)
        end_ms = asking.clock.monotonic_ms() + left_ms
        named = list(queues)
        while True:
            wait_ms = min(left_ms, limits.CLAIM_WAIT_MS_MAX)
            number = self.seq + 1 if seq is None else seq

            def make(rid: int, wait_ms: int = wait_ms, number: int = number) -> m.Message:
                return m.ClaimTask(rid, self.id, number, named, max_n, wait_ms)

            reply = expect((yield Ask(make, asking.deadline_ms(timeout) + wait_ms)), m.ClaimReply)
            self.seq = max(self.seq, number)
            grants = [records.grant(row) for row in reply.grants]
            left_ms = end_ms - asking.clock.monotonic_ms()
            if grants or left_ms <= 0 or seq is not None:
                with self._lock:
                    self.held.update((grant.spec.id, grant.fence) for grant in grants)
                return grants

    # ---- while it runs -----------------------------------------------------------------------------

    def progress(
        self,
        task: Held,
        done: float,
        total: float | None = None,
        note: str | None = None,
        *,
        timeout: float | None = None,
    ) -> Verb[None]:
        """Say how far the task is. The leader keeps the last word as long as the task runs, and loses it when another one leads."""
        item = [*id_and_fence(task), done, total, note]
        yield from self._asking.ask(lambda rid: m.Progress(rid, self.id, [item]), m.ProgressReply, timeout)

    def checkpoint(self, task: Held, data: bytes | None, *, timeout: float | None = None) -> Verb[Outcome]:
        """Keep something for the next attempt, if there is one; None: nothing any more. It is durable when this returns.

        One at a time for a task. ``already``: a later one is kept. Raises PayloadTooLarge above 64 KiB, StaleFence.
        """
        raw = None if data is None else as_bytes("data", data)
        if raw is not None and len(raw) > limits.CHECKPOINT_BYTES_MAX:
            raise PayloadTooLarge(
                f"the checkpoint has {len(raw)} bytes: at most {limits.CHECKPOINT_BYTES_MAX} are kept",
                detail={"field": "data", "value": len(raw), "bound": limits.CHECKPOINT_BYTES_MAX},
            )
        # Rises over the sessions of a worker, too, as far as its clock does.
        self._checkpoints = max(self._checkpoints + 1, self._asking.clock.wall_ms())
        item = [*id_and_fence(task), self._checkpoints, raw]
        reply = yield from self._asking.ask(lambda rid: m.Checkpoint(rid, self.id, [item]), m.CheckpointReply, timeout)
        said = "applied" if reply.items[0] == 0 else _said(item, reply.items[0])
        if isinstance(said, StaleFence):
            raise said
        return said

    # ---- outcomes ----------------------------------------------------------------------------------

    def complete(
        self,
        task: Held,
        result: bytes = b"",
        *,
        content_type: str = CONTENT_TYPE_DEFAULT,
        timeout: float | None = None,
    ) -> Verb[Outcome]:
        """The handler has returned. Raises InvalidRequest or PayloadTooLarge for a result that cannot be kept."""
        return self._report_one(completed(task, result, content_type), timeout)

    def fail(
        self,
        task: Held,
        error: str | BaseException,
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        timeout: float | None = None,
    ) -> Verb[Outcome]:
        """The attempt failed. permanent: no further attempt. retry_after: seconds, instead of the backoff."""
        return self._report_one(failed(task, error, permanent, retry_after), timeout)

    def release(self, task: Held, *, timeout: float | None = None) -> Verb[Outcome]:
        """Give it back: pending again, the attempt is not counted."""
        return self._report_one(released(task), timeout)

    def snooze(self, task: Held, seconds: float, *, timeout: float | None = None) -> Verb[Outcome]:
        """Not now: scheduled again in so many seconds, the attempt is not counted."""
        return self._report_one(snoozed(task, seconds), timeout)

    def cancelled(self, task: Held, *, timeout: float | None = None) -> Verb[Outcome]:
        """The handler has stopped because of a cancel."""
        return self._report_one(cancelled(task), timeout)

    def complete_many(
        self,
        results: Iterable[tuple[Held, bytes]],
        *,
        content_type: str = CONTENT_TYPE_DEFAULT,
        timeout: float | None = None,
    ) -> Verb[list[Said]]:
        """(task, result) of each; answers in order."""
        return self.report_many([completed(task, result, content_type) for task, result in results], timeout=timeout)

    def fail_many(
        self,
        errors: Iterable[tuple[Held, str | BaseException]],
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        timeout: float | None = None,
    ) -> Verb[list[Said]]:
        """(task, error) of each; answers in order."""
        return self.report_many(
            [failed(task, error, permanent, retry_after) for task, error in errors], timeout=timeout
        )

    def release_many(self, tasks: Iterable[Held], *, timeout: float | None = None) -> Verb[list[Said]]:
        """Give back many; answers in order."""
        return self.report_many([released(task) for task in tasks], timeout=timeout)

    def snooze_many(self, tasks: Iterable[tuple[Held, float]], *, timeout: float | None = None) -> Verb[list[Said]]:
        """(task, seconds) of each; answers in order."""
        return self.report_many([snoozed(task, seconds) for task, seconds in tasks], timeout=timeout)

    def cancelled_many(self, tasks: Iterable[Held], *, timeout: float | None = None) -> Verb[list[Said]]:
        """Their handlers have stopped because of a cancel; answers in order."""
        return self.report_many([cancelled(task) for task in tasks], timeout=timeout)

    def report_many(self, items: Sequence[Item], *, timeout: float | None = None) -> Verb[list[Said]]:
        """Outcomes of different kinds, as this module makes them, cut into requests that the broker takes."""
        said: list[Said] = []
        for part in _parts(items):
            reply = yield from self._asking.ask(
                bind(part, lambda rid, items: m.TaskResult(rid, self.id, items)), m.ResultReply, timeout
            )
            for item, answer in zip(part, reply.items, strict=True):
                said.append("applied" if answer == 0 else _said(item, answer))
            with self._lock:
                for item in part:
                    self._let_go(item[0], item[1])
        return said

    def _report_one(self, item: Item, timeout: float | None) -> Verb[Outcome]:
        said = (yield from self.report_many([item], timeout=timeout))[0]
        if isinstance(said, StaleFence):
            raise said
        return said

    def _let_go(self, id: bytes, fence: int) -> None:
        if self.held.get(id) == fence:
            del self.held[id]


# ---- items -----------------------------------------------------------------------------------------


def completed(task: Held, result: Any, content_type: str) -> Item:
    """Raises InvalidRequest or PayloadTooLarge for a result that cannot be kept."""
    body = result if result.__class__ is bytes else as_bytes("result", result)
    if len(body) > limits.RESULT_BYTES_MAX:
        raise PayloadTooLarge(
            f"the result has {len(body)} bytes: at most {limits.RESULT_BYTES_MAX} are kept",
            detail={"field": "result", "value": len(body), "bound": limits.RESULT_BYTES_MAX},
        )
    return [*id_and_fence(task), COMPLETE, [content_type, body]]


def failed(task: Held, error: str | BaseException, permanent: bool, retry_after: float | None) -> Item:
    after_ms = None if retry_after is None else to_ms("retry_after", retry_after)
    return [*id_and_fence(task), FAIL, [error_texts(error), permanent, after_ms]]


def released(task: Held) -> Item:
    return [*id_and_fence(task), RELEASE, None]


def snoozed(task: Held, seconds: float) -> Item:
    return [*id_and_fence(task), SNOOZE, to_ms("seconds", seconds)]


def cancelled(task: Held) -> Item:
    return [*id_and_fence(task), CANCELLED, None]


def error_texts(error: str | BaseException) -> list[str]:
    """[type, message, traceback]. The broker cuts what is too long, with a mark; here only what would not fit a frame."""
    if isinstance(error, BaseException):
        texts = [type(error).__name__, str(error), "".join(traceback.format_exception(error))]
    else:
        texts = ["", str(error), ""]
    return [text[: limits.ERROR_TEXT_BYTES_MAX + 1] for text in texts]


def id_and_fence(task: Held) -> tuple[bytes, int]:
    if isinstance(task, Grant):
        return task.spec.id, task.fence
    if isinstance(task, tuple) and len(task) == 2 and isinstance(task[1], int):
        return to_bytes("task", task[0]), task[1]
    raise InvalidRequest.of("task", task, "must be what claim returned, or (id, fence)")


def _said(item: Item, answer: Any) -> Said:
    if answer == 1:
        return "already"
    state = state_name(answer[1])
    now = "unknown here" if state is None else f"{state} now"
    return StaleFence(
        f"task {to_text(item[0])} is {now}: fence {item[1]} is no longer current, the outcome was dropped",
        detail={"id": to_text(item[0]), "fence": item[1], "state": state},
    )


def _parts(items: Sequence[Item]) -> list[list[Item]]:
    parts: list[list[Item]] = []
    part: list[Item] = []
    size = 0
    for item in items:
        bytes_ = ITEM_OVERHEAD_BYTES
        if item[2] == COMPLETE:
            bytes_ += len(item[3][1])
        elif item[2] == FAIL:
            bytes_ += 4 * sum(map(len, item[3][0]))
        if part and (len(part) == limits.BATCH_TASKS_MAX or size + bytes_ > limits.BATCH_BYTES_MAX):
            parts.append(part)
            part, size = [], 0
        part.append(item)
        size += bytes_
    if part:
        parts.append(part)
    return parts
