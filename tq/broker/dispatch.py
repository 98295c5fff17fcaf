"""Who answers a request, and where.

- A read is answered here and now, from the open transaction at the applied index (``reads.py``).
- A write is made a command and given to the proposer, and the log answers (``writes.py``, ``worker_requests.py``).
- The rest belongs to the memory of this node, or of the leader (``worker_requests.py``, ``operator_requests.py``,
  ``subscriptions.py``).

Which of them only the leader answers is said here, in one table, and asked before a handler is called: no handler
has to. Requests are judged only as far as the machine cannot: sizes before they enter the log, who may answer, whether
there is room.

Every request is answered exactly once, by a reply or an error with its rid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tq.broker.claims import Claims
from tq.broker.connection import Connection
from tq.broker.events import Events
from tq.broker.holders import Holders
from tq.broker.leases import Leases
from tq.broker.operator_requests import OperatorFacts, OperatorRequests
from tq.broker.reads import ReadFacts, Reads
from tq.broker.services import Propose
from tq.broker.subscriptions import SubscriptionFacts, Subscriptions
from tq.broker.waits import Waits
from tq.broker.worker_requests import Heartbeats, WorkerRequests
from tq.broker.writes import WriteFacts, Writes
from tq.errors import BrokerUnavailable, TqError, Unsupported
from tq.machine import queries
from tq.protocol import messages as m
from tq.world import Random

Handlers = dict[type[m.Message], Callable[[Connection, Any], None]]


class Facts(WriteFacts, ReadFacts, OperatorFacts, SubscriptionFacts, Protocol):
    """What is asked of the node around (``tq.broker.broker.Broker``)."""

    @property
    def is_stopping(self) -> bool: ...
    def hello(self, rid: int) -> m.HelloReply: ...
    def forward(self, connection: Connection, message: m.Message) -> None:
        """Have the leader answer it. Raises NotLeader."""
        ...


class Dispatch:
    def __init__(
        self,
        facts: Facts,
        propose: Propose,
        claims: Claims,
        leases: Leases,
        holders: Holders,
        waits: Waits,
        events: Events,
        heartbeats: Heartbeats,
        random: Random,
    ) -> None:
        self._facts = facts
        self._claims = claims
        self._holders = holders
        writes = Writes(facts, propose, claims)
        reads = Reads(facts, leases, waits)
        workers = WorkerRequests(propose, claims, leases, holders, heartbeats, random)
        operators = OperatorRequests(facts, leases)
        subscriptions = Subscriptions(facts, events)
        leaders: Handlers = {
            m.SubmitTask: writes.submit,
            m.CancelTask: writes.cancel,
            m.RetryTasks: writes.retry,
            m.PurgeTasks: writes.purge,
            m.SetQueue: writes.set_queue,
            m.RegisterWorker: workers.register,
            m.DeregisterWorker: workers.deregister,
            m.Heartbeat: workers.heartbeat,
            m.ClaimTask: workers.claim,
            m.TaskResult: workers.report,
            m.Progress: workers.progress,
            m.Checkpoint: workers.checkpoint,
            m.Workers: operators.workers,
            m.ChangeCluster: operators.change_cluster,
        }
        every_nodes: Handlers = {
            m.Hello: self._hello,
            m.Ping: self._ping,
            m.GetTask: reads.get,
            m.ListTasks: reads.list,
            m.WaitTask: reads.wait,
            m.ExplainTask: reads.explain,
            m.Queues: reads.queues,
            m.Stats: operators.stats,
            m.ClusterStatus: operators.cluster_status,
            m.Subscribe: subscriptions.subscribe,
            m.Unsubscribe: subscriptions.unsubscribe,
            m.GiveUp: self._give_up,
        }
        self._leaders = frozenset(leaders)
        self._handlers = leaders | every_nodes

    def request(self, connection: Connection, message: m.Message) -> None:
        """Answer ``message``, now or later. Raises nothing that the peer can cause."""
        handler = self._handlers.get(type(message))
        rid: int = message.rid  # type: ignore[attr-defined]  # every request has one
        try:
            if handler is None:
                raise Unsupported(f"{type(message).__name__} is not a request that this broker answers")
            if self._facts.is_stopping:
                raise BrokerUnavailable("this broker is stopping; nothing was done", retry_after=0.2)
            if not self._facts.is_serving and self._needs_leader(message):
                self._facts.forward(connection, message)
            else:
                handler(connection, message)
        except TqError as error:
            connection.send_error(rid, error)

    def _needs_leader(self, message: m.Message) -> bool:
        if type(message) in self._leaders:
            return True
        if isinstance(message, m.GiveUp):
            return message.claim is not None
        return getattr(message, "linearizable", False)

    # ---- the connection itself ---------------------------------------------------------------------

    def _hello(self, connection: Connection, message: m.Hello) -> None:
        connection.send(self._facts.hello(message.rid))

    def _ping(self, connection: Connection, message: m.Ping) -> None:
        connection.send(m.PingReply(message.rid, self._facts.applied_index))

    def _give_up(self, connection: Connection, message: m.GiveUp) -> None:
        """Nobody waits for that request any more: it is answered, and what a claim was granted goes back."""
        forget = connection.on_close.pop(message.request, None)
        if forget is not None:
            forget()
            connection.send_error(message.request, BrokerUnavailable("this request was given up by who made it"))
        elif message.claim is not None:
            session, seq = message.claim
            if not self._claims.give_up(connection, message.request, session):
                self._holders.release(session, queries.held_of_claim(self._facts.txn, session, seq))
        connection.send(m.GiveUpReply(message.rid))
