"""Answers a client from the real state machine on a store in memory: one command an entry, nothing waits, no leases run out."""

from __future__ import annotations

import threading
import time
from typing import Any

from tq.errors import TqError, to_wire
from tq.machine import commands as c
from tq.machine import queries
from tq.machine.apply import Machine, encode_entry
from tq.machine.states import ENDS
from tq.protocol import messages as m
from tq.store.memory import MemoryStore

END_NAMES = {state.name.lower() for state in ENDS}


class MachineBroker:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.machine = Machine(self.store.txn)
        self._lock = threading.Lock()

    def __call__(self, request: Any) -> m.Message:
        with self._lock:
            try:
                return self._answer(request)
            except TqError as error:
                return m.ErrorReply(request.rid, to_wire(error))

    def apply(self, command: c.Command) -> Any:
        entry = encode_entry(time.time_ns() // 1_000_000, [command])
        answer = self.machine.apply(self.machine.index + 1, entry).answers[0]
        if isinstance(answer, TqError):
            raise answer
        return answer

    def _answer(self, request: Any) -> m.Message:
        rid, apply, txn = request.rid, self.apply, self.store.txn
        match request:
            case m.SubmitTask():
                items = apply(c.Submit(request.specs, request.atomic))
                return m.SubmitReply(rid, self.machine.index, items)
            case m.RegisterWorker():
                apply(c.SessionOpen(request.session, request.name, request.types, request.queues))
                return m.RegisterReply(rid, self.machine.index, 30_000, 15_000, 30_000)
            case m.DeregisterWorker():
                apply(c.SessionClose(request.session))
                return m.DeregisterReply(rid, self.machine.index)
            case m.ClaimTask():
                grants = apply(c.Claim(request.session, request.seq, request.queues, request.max_n))
                return m.ClaimReply(rid, self.machine.index, grants)
            case m.TaskResult():
                items = apply(c.Report(request.session, request.items, 0))
                return m.ResultReply(rid, self.machine.index, items)
            case m.CancelTask():
                items = apply(c.Cancel(request.ids, request.grace_ms))
                return m.CancelReply(rid, self.machine.index, items)
            case m.RetryTasks() | m.PurgeTasks():
                return self._bulk(request)
            case m.Checkpoint():
                return m.CheckpointReply(rid, self.machine.index, self.apply(c.Checkpoint(request.items)))
            case m.GetTask():
                return m.GetReply(rid, self.machine.index, queries.get_task(txn, request.id, request.parts))
            case m.WaitTask():
                task = queries.get_task(txn, request.id, request.parts)
                return m.WaitReply(rid, self.machine.index, task["state"] in END_NAMES, task)
            case m.ListTasks():
                tasks, cursor = queries.list_tasks(
                    txn, request.filter, request.limit, request.cursor, oldest_first=request.oldest_first
                )
                return m.ListReply(rid, self.machine.index, tasks, cursor)
            case m.ExplainTask():
                why, facts = queries.explain(txn, request.id, self.machine.time_ms, set())
                return m.ExplainReply(rid, self.machine.index, why, facts)
            case m.SetQueue():
                changes = [[name, value] for name, value in request.changes.items()]
                settings = apply(c.QueueSet(request.operation, request.queue, request.by, changes))
                return m.SetQueueReply(rid, self.machine.index, settings)
            case m.Queues():
                return m.QueuesReply(rid, self.machine.index, queries.queues(txn, queries.log_time_ms(txn)))
        raise AssertionError(request)

    def _bulk(self, request: m.RetryTasks | m.PurgeTasks) -> m.Message:
        is_retry = isinstance(request, m.RetryTasks)
        reply = m.RetryReply if is_retry else m.PurgeReply
        delay_ms = request.delay_ms if isinstance(request, m.RetryTasks) else 0
        if request.ids is not None:
            if is_retry:
                items = self.apply(c.Retry(request.operation, request.ids, delay_ms))
            else:
                items = self.apply(c.Purge(request.operation, request.ids))
            return reply(request.rid, self.machine.index, items, None)
        filter_ = queries.filter_to_command(request.filter or {})
        job = self.apply(c.JobStart(request.operation, 0 if is_retry else 1, filter_, request.limit, delay_ms))
        if not job[4]:
            self.apply(c.JobStep(request.operation, 2))  # a small slice each time somebody asks
        return reply(request.rid, self.machine.index, None, job)
