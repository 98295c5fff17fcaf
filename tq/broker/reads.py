"""What is asked of the tasks and queues: answered from the open transaction, at the applied index of the node that is asked.

Two things can be waited for first: an index that the client has seen elsewhere (``min_index``), and the word of a
majority that no other node leads (``linearizable``). WAIT_TASK waits for the end of its task besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from tq import limits
from tq.broker.bounds import bounded
from tq.broker.connection import Connection
from tq.broker.leases import Leases
from tq.broker.replies import attempt
from tq.broker.waits import Waits
from tq.errors import BrokerUnavailable, NotLeader
from tq.machine import queries
from tq.machine.states import ENDS
from tq.protocol import messages as m
from tq.store.txn import ReadTxn

END_NAMES: Final = frozenset(state.name.lower() for state in ENDS)


class ReadFacts(Protocol):
    """What is asked of the node (``tq.broker.broker.Broker``)."""

    @property
    def txn(self) -> ReadTxn: ...
    @property
    def applied_index(self) -> int: ...
    @property
    def is_serving(self) -> bool: ...
    def log_time_ms(self) -> int: ...
    def read_index(self, done: Callable[[int | None], None]) -> None:
        """Confirm that this node leads: done gets the index that a linearizable read needs, or None."""
        ...


class Reads:
    def __init__(self, facts: ReadFacts, leases: Leases, waits: Waits) -> None:
        self._facts = facts
        self._leases = leases
        self._waits = waits

    def get(self, connection: Connection, message: m.GetTask) -> None:
        facts = self._facts

        def answer() -> m.Message:
            return m.GetReply(message.rid, facts.applied_index, self._task(message.id, message.parts))

        self._at(connection, message.rid, message.min_index, answer, linearizable=message.linearizable)

    def list(self, connection: Connection, message: m.ListTasks) -> None:
        bounded("limit", message.limit, 1, limits.LIST_TASKS_MAX)
        facts = self._facts

        def answer() -> m.Message:
            tasks, cursor = queries.list_tasks(
                facts.txn, message.filter, message.limit, message.cursor, oldest_first=message.oldest_first
            )
            return m.ListReply(message.rid, facts.applied_index, list(map(self._with_progress, tasks)), cursor)

        self._at(connection, message.rid, message.min_index, answer, linearizable=message.linearizable)

    def wait(self, connection: Connection, message: m.WaitTask) -> None:
        bounded("wait_ms", message.wait_ms, 0, limits.WAIT_MS_MAX)
        id, rid = message.id, message.rid

        def reply() -> m.WaitReply:
            task = self._task(id, message.parts)
            return m.WaitReply(rid, self._facts.applied_index, task["state"] in END_NAMES, task)

        def ended(_in_time: bool) -> None:
            connection.on_close.pop(rid, None)
            attempt(connection, rid, lambda: connection.send(reply()))  # it may be purged meanwhile

        def look() -> None:
            now = reply()
            if now.ended or message.wait_ms == 0:
                connection.send(now)
            else:
                connection.on_close[rid] = self._waits.for_end(id, message.wait_ms, ended)

        self._once_applied(connection, rid, message.min_index, look)

    def explain(self, connection: Connection, message: m.ExplainTask) -> None:
        facts = self._facts

        def answer() -> m.Message:
            txn = facts.txn
            why, task = queries.explain(txn, message.id, facts.log_time_ms(), queries.worked(txn))
            return m.ExplainReply(message.rid, facts.applied_index, why, self._with_progress(task))

        self._at(connection, message.rid, message.min_index, answer)

    def queues(self, connection: Connection, message: m.Queues) -> None:
        facts = self._facts

        def answer() -> m.Message:
            return m.QueuesReply(message.rid, facts.applied_index, queries.queues(facts.txn, facts.log_time_ms()))

        self._at(connection, message.rid, message.min_index, answer)

    # ---- what is shown -----------------------------------------------------------------------------

    def _task(self, id: bytes, parts: int) -> dict[str, Any]:
        return self._with_progress(queries.get_task(self._facts.txn, id, parts))

    def _with_progress(self, task: dict[str, Any]) -> dict[str, Any]:
        """What a running task's handler said last stands in the leader's memory; any other node says that it does not know."""
        if task["state"] == "running":
            task["progress_known"] = self._facts.is_serving
            task["progress"] = self._leases.progress_of(task["fence"])
        return task

    # ---- when it is shown --------------------------------------------------------------------------

    def _at(
        self,
        connection: Connection,
        rid: int,
        min_index: int,
        answer: Callable[[], m.Message],
        *,
        linearizable: bool = False,
    ) -> None:
        """Answer once ``min_index`` is applied here; a linearizable read, once it is known that this node leads."""
        if linearizable:
            self._confirm(connection, rid, lambda index: self._at(connection, rid, max(min_index, index), answer))
        else:
            self._once_applied(connection, rid, min_index, lambda: connection.send(answer()))

    def _once_applied(self, connection: Connection, rid: int, min_index: int, go_on: Callable[[], object]) -> None:
        """Go on now, or once ``min_index`` is applied here. The wait dies with its connection."""
        if min_index <= self._facts.applied_index:
            go_on()
            return

        def reached(in_time: bool) -> None:
            connection.on_close.pop(rid, None)
            if in_time:
                attempt(connection, rid, go_on)
            else:
                late = BrokerUnavailable(f"this node has not applied index {min_index} in time", retry_after=0.1)
                connection.send_error(rid, late)

        connection.on_close[rid] = self._waits.for_index(min_index, limits.CLAIM_WAIT_MS_MAX, reached)

    def _confirm(self, connection: Connection, rid: int, go_on: Callable[[int], None]) -> None:
        """Go on with the index that was committed when leadership was confirmed."""

        def confirmed(index: int | None) -> None:
            if index is None:
                not_now = NotLeader("this node does not lead the cluster any more", retry_after=0.1)
                connection.send_error(rid, not_now)
            else:
                attempt(connection, rid, lambda: go_on(index))

        self._facts.read_index(confirmed)
