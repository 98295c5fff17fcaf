"""What clients write: tasks, the ends of tasks, the settings of queues. Each becomes one command, and the log answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from tq import limits, spec
from tq.broker.bounds import bounded, bounded_bytes, text_bytes
from tq.broker.claims import Claims
from tq.broker.connection import Connection
from tq.broker.replies import replying
from tq.broker.services import Propose
from tq.errors import DiskFull, InvalidRequest, TqError
from tq.machine import commands, queries
from tq.protocol import messages as m

JOB_RETRY: Final = 0
JOB_PURGE: Final = 1
JOB_BYTES: Final = 256
"""Of a filter in a command; roughly."""


class WriteFacts(Protocol):
    """What is asked of the node (``tq.broker.broker.Broker``)."""

    @property
    def disk_is_low(self) -> bool: ...
    def monotonic_s(self) -> float: ...
    def submitted(self, began_s: float) -> None:
        """A submission that came then is answered now."""
        ...


class Writes:
    def __init__(self, facts: WriteFacts, propose: Propose, claims: Claims) -> None:
        self._facts = facts
        self._propose = propose
        self._claims = claims

    def submit(self, connection: Connection, message: m.SubmitTask) -> None:
        specs = message.specs
        bounded("specs", len(specs), 1, limits.BATCH_TASKS_MAX)
        size = sum(map(len, specs))
        bounded_bytes("specs", size, "tasks")
        if self._facts.disk_is_low:
            raise DiskFull(
                "too many disks are below their watermark (limits.disk_free_min_bytes), the leader's or those of a majority: "
                "submissions are refused until there is room; workers go on",
                retry_after=5,
            )
        rid = message.rid
        began_s = self._facts.monotonic_s()

        def reply(answer: Any, index: int) -> m.Message:
            self._facts.submitted(began_s)
            return m.SubmitReply(rid, index, answer)

        self._propose(commands.Submit(specs, message.atomic), len(specs), size, replying(connection, rid, reply))
        if self._claims:
            self._expect(specs)

    def cancel(self, connection: Connection, message: m.CancelTask) -> None:
        ids, rid = message.ids, message.rid
        bounded("ids", len(ids), 1, limits.BATCH_TASKS_MAX)
        bounded("grace_ms", message.grace_ms, 0, limits.DAY_MS)
        self._propose(
            commands.Cancel(ids, message.grace_ms),
            len(ids),
            len(ids) * limits.ID_BYTES,
            replying(connection, rid, lambda items, index: m.CancelReply(rid, index, items)),
        )

    def retry(self, connection: Connection, message: m.RetryTasks) -> None:
        bounded("delay_ms", message.delay_ms, 0, limits.DURATION_MS_MAX)
        operation, delay_ms = message.operation, message.delay_ms
        self._choose(
            connection,
            message,
            m.RetryReply,
            lambda ids: commands.Retry(operation, ids, delay_ms),
            lambda filter_: commands.JobStart(operation, JOB_RETRY, filter_, message.limit, delay_ms),
        )

    def purge(self, connection: Connection, message: m.PurgeTasks) -> None:
        operation = message.operation
        self._choose(
            connection,
            message,
            m.PurgeReply,
            lambda ids: commands.Purge(operation, ids),
            lambda filter_: commands.JobStart(operation, JOB_PURGE, filter_, message.limit),
        )

    def set_queue(self, connection: Connection, message: m.SetQueue) -> None:
        rid = message.rid
        changes: list[list[object]] = [[name, message.changes[name]] for name in sorted(message.changes)]
        self._propose(
            commands.QueueSet(message.operation, message.queue, message.by, changes),
            1,
            64 + text_bytes([message.queue, message.by]) + sum([_change_bytes(*change) for change in changes]),
            replying(connection, rid, lambda settings, index: m.SetQueueReply(rid, index, settings)),
        )

    def _expect(self, specs: list[bytes]) -> None:
        """Parked claims may be fed by these tasks."""
        try:
            first = spec.parse(specs[0])
        except TqError:
            return  # it is refused by the log, as it would be without claims
        if not first.delay_ms and first.not_before_ms is None:
            self._claims.expect(first.queue, first.type, len(specs))

    def _choose(
        self,
        connection: Connection,
        message: m.RetryTasks | m.PurgeTasks,
        reply: Callable[[int, int, Any, Any], m.Message],
        by_ids: Callable[[list[bytes]], commands.Command],
        by_filter: Callable[[list[object]], commands.Command],
    ) -> None:
        """Tasks that are named are done in one entry, and the reply says what became of each; those of a filter are a job,
        and the reply is its status."""
        rid, ids, filter_ = message.rid, message.ids, message.filter
        if ids is not None and filter_ is None:
            bounded("ids", len(ids), 1, limits.BATCH_TASKS_MAX)
            self._propose(
                by_ids(ids),
                len(ids),
                len(ids) * limits.ID_BYTES,
                replying(connection, rid, lambda items, index: reply(rid, index, items, None)),
            )
        elif filter_ is not None and ids is None:
            self._propose(
                by_filter(queries.filter_to_command(filter_)),
                1,
                JOB_BYTES,
                replying(connection, rid, lambda job, index: reply(rid, index, None, job)),
            )
        else:
            given = "neither" if ids is None else "both"
            raise InvalidRequest.of("filter", given, "give either ids or a filter, not " + given)


def _change_bytes(name: object, value: object) -> int:
    """At most, of one setting in a command."""
    return 64 + len(str(name).encode()) + (len(value.encode()) if isinstance(value, str) else 0)
