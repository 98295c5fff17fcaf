"""What each request asks for, and who answers it.

A request is a query, answered here and now from the open transaction at the applied index; or a write, made a
command and given to the proposer, which calls back with the answer of the log; or it belongs to the leader's
memory (claims, heartbeats, workers). Requests are judged here only as far as the machine cannot: sizes before
they enter the log, who may answer, whether there is room.

Every request is answered exactly once, by a reply or an error with its rid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs

from tq import limits, spec
from tq.broker.claims import Claims
from tq.broker.connection import Connection
from tq.broker.events import CONNECTION_SUBSCRIPTIONS_MAX, ORDINAL_MAX, Events
from tq.broker.leases import Leases
from tq.broker.waits import Waits
from tq.errors import (
    Backpressure,
    BrokerUnavailable,
    DiskFull,
    InvalidRequest,
    NotLeader,
    PayloadTooLarge,
    SessionLost,
    TqError,
    Unsupported,
)
from tq.machine import commands, queries
from tq.machine.states import ENDS, State
from tq.protocol import messages as m
from tq.store.txn import ReadTxn
from tq.world import Random

Answer = Callable[[object, int], m.Message]
"""Makes the reply out of a command's answer and the index of its entry."""

ID_BYTES = limits.ID_BYTES
LEADER_ONLY = frozenset(
    {
        m.SubmitTask,
        m.ClaimTask,
        m.TaskResult,
        m.Heartbeat,
        m.Progress,
        m.Checkpoint,
        m.RegisterWorker,
        m.DeregisterWorker,
        m.CancelTask,
        m.RetryTasks,
        m.PurgeTasks,
        m.SetQueue,
        m.Workers,
        m.ChangeCluster,
    }
)
END_NAMES = frozenset(state.name.lower() for state in ENDS)


class Facts(Protocol):
    """What dispatch asks of the node around it (``tq.broker.broker.Broker``)."""

    @property
    def txn(self) -> ReadTxn: ...
    @property
    def applied_index(self) -> int: ...
    @property
    def told_index(self) -> int:
        """Committed as far as this node has heard, applied here or not."""
        ...

    @property
    def is_serving(self) -> bool: ...
    @property
    def leader_address(self) -> str | None: ...
    @property
    def disk_is_low(self) -> bool: ...
    @property
    def is_stopping(self) -> bool: ...
    def hello(self, rid: int) -> m.HelloReply: ...
    def propose(
        self, command: commands.Command, operations: int, size: int, done: Callable[[object, int], None]
    ) -> None: ...
    def forward(self, connection: Connection, message: m.Message) -> None:
        """Have the leader answer it. Raises NotLeader."""
        ...

    def read_index(self, done: Callable[[int | None], None]) -> None:
        """Confirm that this node leads: done gets the index that a linearizable read needs, or None."""
        ...

    def stats(self) -> dict[str, Any]: ...
    def cluster_status(self, done: Callable[[dict[str, Any]], None]) -> None: ...
    def transfer(self, leader: str | None, to: str | None) -> dict[str, Any]:
        """Let another node lead. Raises InvalidRequest, Backpressure."""
        ...

    def replace(self, node: object, incarnation: object, done: Callable[[dict[str, Any] | TqError], None]) -> None:
        """Another data directory for a node. Raises InvalidRequest, Backpressure."""
        ...

    def log_time_ms(self) -> int: ...
    def monotonic_s(self) -> float: ...
    def submitted(self, began_s: float) -> None:
        """A submission that came then is answered now."""
        ...


@attrs.frozen
class Heartbeats:
    """What a worker is told when it registers."""

    lease_ms: int
    heartbeat_ms: int
    session_ms: int


class Dispatch:
    def __init__(
        self,
        facts: Facts,
        claims: Claims,
        leases: Leases,
        waits: Waits,
        events: Events,
        heartbeats: Heartbeats,
        random: Random,
    ) -> None:
        self._facts = facts
        self._claims = claims
        self._leases = leases
        self._waits = waits
        self._events = events
        self._heartbeats = heartbeats
        self._random = random
        self._holders: dict[bytes, Connection] = {}  # session -> where its claims come from
        self._handlers: dict[type[m.Message], Callable[[Connection, Any], None]] = {
            m.Hello: self._hello,
            m.Ping: self._ping,
            m.SubmitTask: self._submit,
            m.ClaimTask: self._claim,
            m.TaskResult: self._report,
            m.Heartbeat: self._heartbeat,
            m.Progress: self._progress,
            m.Checkpoint: self._checkpoint,
            m.RegisterWorker: self._register,
            m.DeregisterWorker: self._deregister,
            m.GetTask: self._get,
            m.ListTasks: self._list,
            m.WaitTask: self._wait,
            m.CancelTask: self._cancel,
            m.RetryTasks: self._retry,
            m.PurgeTasks: self._purge,
            m.ExplainTask: self._explain,
            m.Queues: self._queues,
            m.SetQueue: self._set_queue,
            m.Workers: self._workers,
            m.Stats: self._stats,
            m.ClusterStatus: self._cluster_status,
            m.ChangeCluster: self._change_cluster,
            m.Subscribe: self._subscribe,
            m.Unsubscribe: self._unsubscribe,
            m.GiveUp: self._give_up,
        }

    def request(self, connection: Connection, message: m.Message) -> None:
        """Answer ``message``, now or later. Raises nothing that the peer can cause."""
        handler = self._handlers.get(type(message))
        rid: int = message.rid  # type: ignore[attr-defined]  # every request has one
        try:
            if handler is None:
                raise Unsupported(f"{type(message).__name__} is not a request that this broker answers")
            if self._facts.is_stopping:
                raise BrokerUnavailable("this broker is stopping; nothing was done", retry_after=0.2)
            if not self._facts.is_serving and _needs_leader(message):
                self._facts.forward(connection, message)
            else:
                handler(connection, message)
        except TqError as error:
            connection.send_error(rid, error)

    # ---- writes ------------------------------------------------------------------------------------

    def _write(
        self, connection: Connection, rid: int, command: commands.Command, operations: int, size: int, reply: Answer
    ) -> None:
        def done(answer: object, index: int) -> None:
            if isinstance(answer, TqError):
                connection.send_error(rid, answer)
            else:
                connection.send(reply(answer, index))

        self._need_leader()
        self._facts.propose(command, operations, size, done)

    def _need_leader(self) -> None:
        if not self._facts.is_serving:
            raise NotLeader(
                "this node does not lead the cluster", retry_after=0.1, leader=self._facts.leader_address
            )  # fmt: skip

    def _submit(self, connection: Connection, message: m.SubmitTask) -> None:
        specs = message.specs
        _bounded("specs", len(specs), 1, limits.BATCH_TASKS_MAX)
        size = sum(map(len, specs))
        if size > limits.BATCH_BYTES_MAX:
            raise PayloadTooLarge(
                f"this batch has {size} bytes: at most {limits.BATCH_BYTES_MAX} go into one; send smaller batches",
                detail={"field": "specs", "value": size, "bound": limits.BATCH_BYTES_MAX},
            )
        if self._facts.disk_is_low:
            raise DiskFull(
                "too many disks are below their watermark (limits.disk_free_min_bytes), the leader's or those of a majority: "
                "submissions are refused until there is room; workers go on",
                retry_after=5,
            )
        rid = message.rid
        began_s = self._facts.monotonic_s()

        def reply(answer: object, index: int) -> m.Message:
            self._facts.submitted(began_s)
            return m.SubmitReply(rid, index, answer)  # type: ignore[arg-type]

        self._write(connection, rid, commands.Submit(specs, message.atomic), len(specs), size, reply)
        if self._claims:
            self._expect(specs)

    def _expect(self, specs: list[bytes]) -> None:
        """Parked claims may be fed by these tasks."""
        try:
            first = spec.parse(specs[0])
        except TqError:
            return  # it is refused by the log, as it would be without claims
        if not first.delay_ms and first.not_before_ms is None:
            self._claims.expect(first.queue, first.type, len(specs))

    def _cancel(self, connection: Connection, message: m.CancelTask) -> None:
        _bounded("ids", len(message.ids), 1, limits.BATCH_TASKS_MAX)
        _bounded("grace_ms", message.grace_ms, 0, limits.DAY_MS)
        rid = message.rid
        self._write(
            connection,
            rid,
            commands.Cancel(message.ids, message.grace_ms),
            len(message.ids),
            len(message.ids) * ID_BYTES,
            lambda answer, index: m.CancelReply(rid, index, answer),  # type: ignore[arg-type]
        )

    def _retry(self, connection: Connection, message: m.RetryTasks) -> None:
        _bounded("delay_ms", message.delay_ms, 0, limits.DURATION_MS_MAX)
        _one_selection(message.ids, message.filter)
        if message.ids is not None:
            command: commands.Command = commands.Retry(message.operation, message.ids, message.delay_ms)
        else:
            command = commands.JobStart(
                message.operation, 0, _filter(message.filter), message.limit, message.delay_ms
            )  # fmt: skip
        self._bulk(connection, message.rid, command, message.ids, m.RetryReply)

    def _purge(self, connection: Connection, message: m.PurgeTasks) -> None:
        _one_selection(message.ids, message.filter)
        if message.ids is not None:
            command: commands.Command = commands.Purge(message.operation, message.ids)
        else:
            command = commands.JobStart(message.operation, 1, _filter(message.filter), message.limit)
        self._bulk(connection, message.rid, command, message.ids, m.PurgeReply)

    def _bulk(
        self,
        connection: Connection,
        rid: int,
        command: commands.Command,
        ids: list[bytes] | None,
        reply: Callable[[int, int, Any, Any], m.Message],
    ) -> None:
        if ids is None:
            self._write(connection, rid, command, 1, 256, lambda answer, index: reply(rid, index, None, answer))
        else:
            _bounded("ids", len(ids), 1, limits.BATCH_TASKS_MAX)
            size = len(ids) * ID_BYTES
            self._write(
                connection, rid, command, len(ids), size, lambda answer, index: reply(rid, index, answer, None)
            )  # fmt: skip

    def _set_queue(self, connection: Connection, message: m.SetQueue) -> None:
        rid = message.rid
        changes: list[list[object]] = [[name, message.changes[name]] for name in sorted(message.changes)]
        size = 64 + _text_bytes([message.queue, message.by]) + sum([_change_bytes(*change) for change in changes])
        self._write(
            connection,
            rid,
            commands.QueueSet(message.operation, message.queue, message.by, changes),
            1,
            size,
            lambda answer, index: m.SetQueueReply(rid, index, answer),  # type: ignore[arg-type]
        )

    # ---- workers -----------------------------------------------------------------------------------

    def _register(self, connection: Connection, message: m.RegisterWorker) -> None:
        _bounded("types", len(message.types), 1, limits.SESSION_TYPES_MAX)
        _bounded("queues", len(message.queues), 1, limits.SESSION_QUEUES_MAX)
        session = message.session

        def reply(_answer: object, index: int) -> m.Message:
            life = self._leases.sessions.get(session)
            if life is not None:
                life.info = message.info
            told = self._heartbeats
            return m.RegisterReply(message.rid, index, told.lease_ms, told.heartbeat_ms, told.session_ms)

        command = commands.SessionOpen(session, message.name, message.types, message.queues)
        size = _text_bytes(message.types) + _text_bytes(message.queues) + 64
        self._write(connection, message.rid, command, 1, size, reply)

    def _deregister(self, connection: Connection, message: m.DeregisterWorker) -> None:
        self._write(
            connection,
            message.rid,
            commands.SessionClose(message.session),
            limits.SESSION_TASKS_MAX,
            32,
            lambda _answer, index: m.DeregisterReply(message.rid, index),
        )

    def _claim(self, connection: Connection, message: m.ClaimTask) -> None:
        self._need_leader()
        _bounded("max_n", message.max_n, 1, limits.CLAIM_TASKS_MAX)
        _bounded("wait_ms", message.wait_ms, 0, limits.CLAIM_WAIT_MS_MAX)
        session = message.session
        life = self._leases.sessions.get(session)
        if life is None:
            raise session_lost()
        self._leases.touch(session)
        holder = self._holders.get(session)
        if holder is not connection:
            self._holders[session] = connection
            connection.on_close[session] = lambda: self._forget_holder(session, connection)
        queues = tuple(message.queues) or life.queues
        claim = commands.Claim(session, message.seq, list(queues), message.max_n)
        self._claims.claim(connection, message.rid, claim, queues, life.types, message.wait_ms)

    def _report(self, connection: Connection, message: m.TaskResult) -> None:
        items = message.items
        _bounded("items", len(items), 1, limits.BATCH_TASKS_MAX)
        self._leases.touch(message.session)
        rid = message.rid
        size = 0
        for item in items:
            body = item[3]
            if item[2] == commands.Outcome.COMPLETE:
                size += len(body[1])
            elif item[2] == commands.Outcome.FAIL:
                size += sum([len(text.encode()) for text in body[0]])
            size += 40
        if size > limits.BATCH_BYTES_MAX + len(items) * 40:
            raise PayloadTooLarge(
                f"these results have {size} bytes: at most {limits.BATCH_BYTES_MAX} go into one batch",
                detail={"field": "items", "value": size, "bound": limits.BATCH_BYTES_MAX},
            )
        self._write(
            connection,
            rid,
            commands.Report(message.session, items, self._random.below(1 << 32)),
            len(items),
            size,
            lambda answer, index: m.ResultReply(rid, index, answer),  # type: ignore[arg-type]
        )

    def _heartbeat(self, connection: Connection, message: m.Heartbeat) -> None:
        self._need_leader()
        _bounded("tasks", len(message.tasks), 0, limits.SESSION_TASKS_MAX)
        if not self._leases.touch(message.session):
            raise session_lost()
        life = self._leases.sessions[message.session]
        life.stats = message.stats
        cancel, lost = self._leases.heartbeat(message.session, message.tasks)
        connection.send(m.HeartbeatReply(message.rid, cancel, lost, life.draining))

    def _progress(self, connection: Connection, message: m.Progress) -> None:
        self._need_leader()
        _bounded("items", len(message.items), 0, limits.SESSION_TASKS_MAX)
        if not self._leases.touch(message.session):
            raise session_lost()
        self._leases.progress(message.session, message.items)
        connection.send(m.ProgressReply(message.rid))

    def _checkpoint(self, connection: Connection, message: m.Checkpoint) -> None:
        items = message.items
        _bounded("items", len(items), 1, limits.SESSION_TASKS_MAX)
        self._leases.touch(message.session)
        size = sum([len(data or b"") + 40 for _id, _fence, _number, data in items])
        if size > limits.BATCH_BYTES_MAX + len(items) * 40:
            raise PayloadTooLarge(
                f"these checkpoints have {size} bytes: at most {limits.BATCH_BYTES_MAX} go into one request",
                detail={"field": "items", "value": size, "bound": limits.BATCH_BYTES_MAX},
            )
        self._write(
            connection,
            message.rid,
            commands.Checkpoint(items),
            len(items),
            size,
            lambda answer, index: m.CheckpointReply(message.rid, index, answer),  # type: ignore[arg-type]
        )

    def _with_progress(self, task: dict[str, Any]) -> dict[str, Any]:
        """What a running task's handler said last stands in the leader's memory; any other node says that it does not know."""
        if task["state"] == "running":
            task["progress_known"] = self._facts.is_serving
            task["progress"] = self._leases.progress_of(task["fence"])
        return task

    def push_cancels(self, cancels: list[tuple[bytes, int, bytes, int]]) -> None:
        """Tell the holders of running tasks that were cancelled; each heartbeat's reply repeats it."""
        for id, fence, session, grace_ms in cancels:
            self._leases.cancelling(fence, grace_ms)
            holder = self._holders.get(session)
            if holder is not None:
                holder.send(m.CancelRunning(session, [[id, fence, grace_ms]]))

    def release_undelivered(self, session: bytes, grants: list[Any]) -> None:
        """Give back grants that never left this node: no attempt, no crash. If that is refused, the leases run out.

        Not if the worker is back already and has asked for them again: it would be told of a grant that is gone."""
        if self._claims.repeats(session):
            return
        self._release(session, [(bytes(queries.id_of_spec(grant[0])), grant[3]) for grant in grants])

    def _release(self, session: bytes, held: list[tuple[bytes, int]]) -> None:
        if not held:
            return
        items: list[list[object]] = [[id, fence, int(commands.Outcome.RELEASE), None] for id, fence in held]
        try:
            self._need_leader()
            self._facts.propose(
                commands.Report(session, items, 0), len(items), len(items) * 40, lambda _answer, _index: None
            )  # fmt: skip
        except (NotLeader, Backpressure):
            return

    def session_ended(self, session: bytes) -> None:
        holder = self._holders.pop(session, None)
        if holder is not None:
            holder.on_close.pop(session, None)

    def _forget_holder(self, session: bytes, connection: Connection) -> None:
        if self._holders.get(session) is connection:
            del self._holders[session]

    # ---- queries -----------------------------------------------------------------------------------

    def _at(
        self,
        connection: Connection,
        rid: int,
        min_index: int,
        answer: Callable[[], m.Message],
        *,
        linearizable: bool = False,
    ) -> None:
        """Answer a read, once ``min_index`` is applied here; a linearizable one, once it is known that this node leads."""
        if linearizable:
            self._confirm(connection, rid, lambda index: self._at(connection, rid, max(min_index, index), answer))
            return
        if min_index <= self._facts.applied_index:
            connection.send(answer())
            return

        self._when_applied(connection, rid, min_index, lambda: connection.send(answer()))

    def _when_applied(self, connection: Connection, rid: int, min_index: int, go_on: Callable[[], object]) -> None:
        """Go on once ``min_index`` is applied here. The wait dies with its connection."""

        def reached(in_time: bool) -> None:
            connection.on_close.pop(rid, None)
            try:
                if not in_time:
                    raise BrokerUnavailable(f"this node has not applied index {min_index} in time", retry_after=0.1)
                go_on()
            except TqError as error:
                connection.send_error(rid, error)

        connection.on_close[rid] = self._waits.for_index(min_index, limits.CLAIM_WAIT_MS_MAX, reached)

    def _confirm(self, connection: Connection, rid: int, go_on: Callable[[int], None]) -> None:
        """Go on with the index that was committed when leadership was confirmed."""
        self._need_leader()

        def confirmed(index: int | None) -> None:
            try:
                if index is None:
                    raise NotLeader("this node does not lead the cluster any more", retry_after=0.1)
                go_on(index)
            except TqError as error:
                connection.send_error(rid, error)

        self._facts.read_index(confirmed)

    def _get(self, connection: Connection, message: m.GetTask) -> None:
        facts = self._facts
        self._at(
            connection,
            message.rid,
            message.min_index,
            lambda: m.GetReply(
                message.rid,
                facts.applied_index,
                self._with_progress(queries.get_task(facts.txn, message.id, message.parts)),
            ),
            linearizable=message.linearizable,
        )

    def _list(self, connection: Connection, message: m.ListTasks) -> None:
        _bounded("limit", message.limit, 1, limits.LIST_TASKS_MAX)

        def answer() -> m.Message:
            tasks, cursor = queries.list_tasks(
                self._facts.txn, message.filter, message.limit, message.cursor, oldest_first=message.oldest_first
            )
            return m.ListReply(message.rid, self._facts.applied_index, list(map(self._with_progress, tasks)), cursor)

        self._at(connection, message.rid, message.min_index, answer, linearizable=message.linearizable)

    def _wait(self, connection: Connection, message: m.WaitTask) -> None:
        _bounded("wait_ms", message.wait_ms, 0, limits.WAIT_MS_MAX)
        id, rid, parts = message.id, message.rid, message.parts

        def reply() -> m.WaitReply:
            task = self._with_progress(queries.get_task(self._facts.txn, id, parts))
            return m.WaitReply(rid, self._facts.applied_index, task["state"] in END_NAMES, task)

        def later(_ended: bool) -> None:
            connection.on_close.pop(rid, None)
            try:
                connection.send(reply())
            except TqError as error:  # purged meanwhile
                connection.send_error(rid, error)

        def now() -> None:
            """Answer if it has ended or does not wait; else park."""
            first = reply()
            if first.ended or message.wait_ms == 0:
                connection.send(first)
                return
            connection.on_close[rid] = self._waits.for_end(id, message.wait_ms, later)

        if message.min_index <= self._facts.applied_index:
            now()
            return

        self._when_applied(connection, rid, message.min_index, now)

    def _explain(self, connection: Connection, message: m.ExplainTask) -> None:
        def answer() -> m.Message:
            txn = self._facts.txn
            workers = queries.worked(txn)
            why, facts = queries.explain(txn, message.id, self._facts.log_time_ms(), workers)
            return m.ExplainReply(message.rid, self._facts.applied_index, why, self._with_progress(facts))

        self._at(connection, message.rid, message.min_index, answer)

    def _queues(self, connection: Connection, message: m.Queues) -> None:
        facts = self._facts
        self._at(
            connection,
            message.rid,
            message.min_index,
            lambda: m.QueuesReply(message.rid, facts.applied_index, queries.queues(facts.txn, facts.log_time_ms())),
        )

    def _workers(self, connection: Connection, message: m.Workers) -> None:
        self._need_leader()
        held = self._leases.held()
        workers = [
            {
                "session": session,
                "name": life.name,
                "types": list(life.types),
                "queues": list(life.queues),
                "running": held[session],
                "opened_ms": life.opened_wall_ms,
                "heard_ms": life.heard_wall_ms,
                "draining": life.draining,
                "info": life.info,
                "stats": life.stats,
            }
            for session, life in sorted(self._leases.sessions.items(), key=lambda item: item[1].name)
        ]
        connection.send(m.WorkersReply(message.rid, self._facts.applied_index, workers))

    def _stats(self, connection: Connection, message: m.Stats) -> None:
        connection.send(m.StatsReply(message.rid, self._facts.applied_index, self._facts.stats()))

    def _cluster_status(self, connection: Connection, message: m.ClusterStatus) -> None:
        rid = message.rid

        def gathered(status: dict[str, Any]) -> None:
            connection.send(m.ClusterStatusReply(rid, status))

        self._facts.cluster_status(gathered)

    def _change_cluster(self, connection: Connection, message: m.ChangeCluster) -> None:
        self._need_leader()
        if message.change == "replace":
            self._replace(connection, message)
            return
        if message.change != "transfer":
            raise Unsupported(f'this broker knows no change "{message.change[:80]}" of a cluster')
        names = [message.arguments.get("from"), message.arguments.get("to")]
        if not all(name is None or isinstance(name, str) for name in names):
            raise InvalidRequest.of("arguments", message.arguments, '{"from": a node or nil, "to": a node or nil}')
        connection.send(m.ChangeClusterReply(message.rid, self._facts.transfer(*names)))

    def _replace(self, connection: Connection, message: m.ChangeCluster) -> None:
        def done(answer: dict[str, Any] | TqError) -> None:
            if isinstance(answer, TqError):
                connection.send_error(message.rid, answer)
            else:
                connection.send(m.ChangeClusterReply(message.rid, answer))

        self._facts.replace(message.arguments.get("node"), message.arguments.get("incarnation"), done)

    def _subscribe(self, connection: Connection, message: m.Subscribe) -> None:
        if self._events.count(connection) >= CONNECTION_SUBSCRIPTIONS_MAX:
            raise Backpressure(f"a connection has at most {CONNECTION_SUBSCRIPTIONS_MAX} subscriptions")
        if message.after is not None and len(message.after) != 2:
            raise InvalidRequest.of("after", message.after, "an index and an ordinal")
        now_index = self._facts.told_index
        after = message.after
        if after is None and now_index > self._facts.applied_index:
            after = [now_index, ORDINAL_MAX]  # what this node catches up with is not news
        is_complete = self._events.subscribe(connection, message.rid, message.id, after)
        connection.send(m.SubscribeReply(message.rid, self._facts.applied_index, is_complete))
        if message.after is not None:
            self._events.replay(connection, message.rid, message.after)

    def _unsubscribe(self, connection: Connection, message: m.Unsubscribe) -> None:
        self._events.unsubscribe(connection, message.subscription)
        connection.send(m.UnsubscribeReply(message.rid))

    def _give_up(self, connection: Connection, message: m.GiveUp) -> None:
        forget = connection.on_close.pop(message.request, None)
        if forget is not None:
            forget()
            connection.send_error(message.request, BrokerUnavailable("this request was given up by who made it"))
        elif message.claim is not None:
            session, seq = message.claim
            if not self._claims.give_up(connection, message.request, session):
                self._release(session, queries.held_of_claim(self._facts.txn, session, seq))
        connection.send(m.GiveUpReply(message.rid))

    def _ping(self, connection: Connection, message: m.Ping) -> None:
        connection.send(m.PingReply(message.rid, self._facts.applied_index))

    def _hello(self, connection: Connection, message: m.Hello) -> None:
        connection.send(self._facts.hello(message.rid))


def _needs_leader(message: m.Message) -> bool:
    if type(message) in LEADER_ONLY:
        return True
    if isinstance(message, m.GiveUp):
        return message.claim is not None
    return getattr(message, "linearizable", False)


def session_lost() -> SessionLost:
    return SessionLost("this worker session has ended: open a new one with REGISTER_WORKER")


def _bounded(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidRequest.of(field, value, f"must be between {low} and {high}")


def _text_bytes(texts: list[str]) -> int:
    return sum([len(text.encode()) + 2 for text in texts])


def _change_bytes(name: object, value: object) -> int:
    """At most, of one setting in a command."""
    return 64 + len(str(name).encode()) + (len(value.encode()) if isinstance(value, str) else 0)


def _one_selection(ids: list[bytes] | None, filter_: dict[str, Any] | None) -> None:
    if (ids is None) == (filter_ is None):
        given = "neither" if ids is None else "both"
        raise InvalidRequest.of("filter", given, "give either ids or a filter, not " + given)


def _filter(filter_: dict[str, Any] | None) -> list[object]:
    if filter_ is None:
        raise InvalidRequest.of("ids", None, "give ids or a filter")
    return queries.filter_to_command(filter_)


assert State.COMPLETED in ENDS
