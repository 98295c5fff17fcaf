"""What workers say: that they are there and alive, that they want tasks, and how far those are or how they ended.

Sessions, claims, results and checkpoints are commands; signs of life and progress are the leader's memory.
"""

from __future__ import annotations

from typing import Any

import attrs

from tq import limits
from tq.broker.bounds import ITEM_BYTES, bounded, bounded_bytes, text_bytes
from tq.broker.claims import Claims
from tq.broker.connection import Connection
from tq.broker.holders import Holders
from tq.broker.leases import Leases, SessionLife
from tq.broker.replies import replying
from tq.broker.services import Propose
from tq.errors import SessionLost
from tq.machine import commands
from tq.protocol import messages as m
from tq.world import Random

DRAW_MAX = 1 << 32


@attrs.frozen
class Heartbeats:
    """What a worker is told when it registers."""

    lease_ms: int
    heartbeat_ms: int
    session_ms: int


class WorkerRequests:
    def __init__(
        self,
        propose: Propose,
        claims: Claims,
        leases: Leases,
        holders: Holders,
        heartbeats: Heartbeats,
        random: Random,
    ) -> None:
        self._propose = propose
        self._claims = claims
        self._leases = leases
        self._holders = holders
        self._heartbeats = heartbeats
        self._random = random

    # ---- sessions ----------------------------------------------------------------------------------

    def register(self, connection: Connection, message: m.RegisterWorker) -> None:
        types, queues = message.types, message.queues
        bounded("types", len(types), 1, limits.SESSION_TYPES_MAX)
        bounded("queues", len(queues), 1, limits.SESSION_QUEUES_MAX)

        def reply(_answer: Any, index: int) -> m.Message:
            life = self._leases.sessions.get(message.session)
            if life is not None:
                life.info = message.info
            told = self._heartbeats
            return m.RegisterReply(message.rid, index, told.lease_ms, told.heartbeat_ms, told.session_ms)

        self._propose(
            commands.SessionOpen(message.session, message.name, types, queues),
            1,
            64 + text_bytes(types) + text_bytes(queues),
            replying(connection, message.rid, reply),
        )

    def deregister(self, connection: Connection, message: m.DeregisterWorker) -> None:
        rid = message.rid
        self._propose(
            commands.SessionClose(message.session),
            limits.SESSION_TASKS_MAX,
            32,
            replying(connection, rid, lambda _answer, index: m.DeregisterReply(rid, index)),
        )

    def heartbeat(self, connection: Connection, message: m.Heartbeat) -> None:
        bounded("tasks", len(message.tasks), 0, limits.SESSION_TASKS_MAX)
        life = self._alive(message.session)
        life.stats = message.stats
        cancel, lost = self._leases.heartbeat(message.session, message.tasks)
        connection.send(m.HeartbeatReply(message.rid, cancel, lost, life.draining))

    # ---- tasks -------------------------------------------------------------------------------------

    def claim(self, connection: Connection, message: m.ClaimTask) -> None:
        bounded("max_n", message.max_n, 1, limits.CLAIM_TASKS_MAX)
        bounded("wait_ms", message.wait_ms, 0, limits.CLAIM_WAIT_MS_MAX)
        session = message.session
        life = self._alive(session)
        self._holders.claims_over(session, connection)
        queues = tuple(message.queues) or life.queues
        claim = commands.Claim(session, message.seq, list(queues), message.max_n)
        self._claims.claim(connection, message.rid, claim, queues, life.types, message.wait_ms)

    def report(self, connection: Connection, message: m.TaskResult) -> None:
        items, rid = message.items, message.rid
        bounded("items", len(items), 1, limits.BATCH_TASKS_MAX)
        self._leases.touch(message.session)
        size = 0
        for item in items:
            body = item[3]
            if item[2] == commands.Outcome.COMPLETE:
                size += len(body[1])
            elif item[2] == commands.Outcome.FAIL:
                size += sum([len(text.encode()) for text in body[0]])
        bounded_bytes("items", size, "results")
        self._propose(
            commands.Report(message.session, items, self._random.below(DRAW_MAX)),
            len(items),
            size + len(items) * ITEM_BYTES,
            replying(connection, rid, lambda answers, index: m.ResultReply(rid, index, answers)),
        )

    def progress(self, connection: Connection, message: m.Progress) -> None:
        bounded("items", len(message.items), 0, limits.SESSION_TASKS_MAX)
        self._alive(message.session)
        self._leases.progress(message.session, message.items)
        connection.send(m.ProgressReply(message.rid))

    def checkpoint(self, connection: Connection, message: m.Checkpoint) -> None:
        items, rid = message.items, message.rid
        bounded("items", len(items), 1, limits.SESSION_TASKS_MAX)
        self._leases.touch(message.session)
        size = sum([len(data or b"") for _id, _fence, _number, data in items])
        bounded_bytes("items", size, "checkpoints")
        self._propose(
            commands.Checkpoint(items),
            len(items),
            size + len(items) * ITEM_BYTES,
            replying(connection, rid, lambda answers, index: m.CheckpointReply(rid, index, answers)),
        )

    def _alive(self, session: bytes) -> SessionLife:
        """It has shown life. Raises SessionLost."""
        if not self._leases.touch(session):
            raise session_lost()
        return self._leases.sessions[session]


def session_lost() -> SessionLost:
    return SessionLost("this worker session has ended: open a new one with REGISTER_WORKER")
