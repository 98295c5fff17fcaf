"""Submitting: one task, or many in requests that the broker takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import Any, Unpack

from tq import limits
from tq.client.asking import Asking
from tq.client.core import Call, ClientCore
from tq.client.ids import to_bytes
from tq.client.middleware import Chain
from tq.client.models import Submitted
from tq.client.specs import TaskFields, TaskSpec, encode
from tq.client.steps import Ask, Await, Begin, Verb, bind, expect
from tq.errors import BatchRefused, BrokerUnavailable, InvalidRequest, NotDone, PayloadTooLarge, ProtocolError, TqError
from tq.protocol import messages as m
from tq.world import Clock, Random

BATCHES_BEGUN_MAX = 4  # of one submit_many, not yet answered
REFUSALS = frozenset({"conflict", "queue_full", "too_large", "invalid", "not_done"})


class Submits(Asking):
    def __init__(
        self, core: ClientCore, clock: Clock, random: Random, timeout_ms: int, chain: Chain | None = None
    ) -> None:
        super().__init__(core, clock, random, timeout_ms)
        self._chain = chain if chain is not None and chain.sees_submits else None

    def submit(
        self, type: str, payload: bytes = b"", *, request_timeout: float | None = None, **fields: Unpack[TaskFields]
    ) -> Verb[Submitted]:
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
        return self.submit_spec(TaskSpec(type, payload, **fields), timeout=request_timeout)

    def submit_spec(self, spec: TaskSpec, *, timeout: float | None = None) -> Verb[Submitted]:
        """Like ``submit``, of a task made before."""
        chain = self._chain
        if chain is not None:
            spec = chain.before(spec)
        key = self.ids.take(1)[0].to_bytes(16, "big") if spec.id is None else to_bytes("id", spec.id)
        raw = encode(spec, key)
        if len(raw) > limits.SPEC_BYTES_MAX:
            raise _too_large(spec)
        reply = yield Ask(lambda rid: m.SubmitTask(rid, [raw]), self.deadline_ms(timeout))
        item = expect(reply, m.SubmitReply).items[0]
        result = Submitted(key) if item == 0 else Submitted.of(item, key)
        if chain is not None:
            chain.after(spec, result)
        if result.error is not None:
            raise result.error
        return result

    def submit_many(
        self, specs: Iterable[TaskSpec], *, atomic: bool = False, timeout: float | None = None
    ) -> Verb[list[Submitted]]:
        """Submit many tasks; a result for each, in order. What is wrong with one is in its result, not raised.

        Up to 1,000 tasks are one request; more are several, and then a failed request is told by its items
        too: outcome ``not_done``, or ``unknown`` when no answer came (submit those again with their ids).
        atomic: all or none, at most 1,000.

        Raises:
            BatchRefused: an atomic batch has a task that is refused; ``items`` tells which.
            Backpressure, BrokerUnavailable: the one request was refused, or not answered.
        """
        tasks = list(specs)
        if not tasks:
            return []
        if self._chain is not None:
            tasks = [self._chain.before(task) for task in tasks]
        ids, raws, refused = self._encode_all(tasks)
        if atomic:
            items = yield from self._submit_atomic(ids, raws, refused, timeout)
        elif not refused and len(raws) <= limits.BATCH_TASKS_MAX and sum(map(len, raws)) <= limits.BATCH_BYTES_MAX:
            reply = yield Ask(lambda rid: m.SubmitTask(rid, raws), self.deadline_ms(timeout))
            items = _submitted(reply, ids)
        else:
            items = yield from self._submit_batches(ids, raws, refused, timeout)
        if self._chain is not None:
            for task, item in zip(tasks, items, strict=True):
                self._chain.after(task, item)
        if atomic:
            _raise_refused(items)
        return items

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
            return [wrong.get(position) or _not_done(key) for position, key in enumerate(ids)]
        reply = yield Ask(lambda rid: m.SubmitTask(rid, raws, True), self.deadline_ms(timeout))
        return _submitted(reply, ids)

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


def _submitted(reply: Any, ids: list[bytes]) -> list[Submitted]:
    items = expect(reply, m.SubmitReply).items
    if len(items) != len(ids):
        raise ProtocolError(f"{len(ids)} tasks were submitted, {len(items)} answered")
    if not any(items):  # all are new and pending: the common case
        return [Submitted(key) for key in ids]
    return [Submitted.of(item, key) for item, key in zip(items, ids, strict=True)]


def _raise_refused(items: list[Submitted]) -> None:
    refused = [item for item in items if item.outcome in REFUSALS]
    if refused:
        first = next((item for item in refused if item.outcome != "not_done"), refused[0])
        why = "" if first.error is None else f": {first.error.message}"
        raise BatchRefused(
            f"the batch was refused, no task of it was taken; {first.id} {first.outcome}{why}", items=items
        )


def _too_large(spec: TaskSpec) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the payload has {len(spec.payload)} bytes: at most {limits.PAYLOAD_BYTES_MAX} are taken",
        detail={"field": "payload", "value": len(spec.payload), "bound": limits.PAYLOAD_BYTES_MAX},
    )


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
