"""Who holds tasks, as a connection: cancels are pushed to where a session claims from, and grants that do not get there
go back.

Both only make faster what happens without them: each heartbeat's reply repeats a cancel, and a lease runs out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tq.broker.bounds import ITEM_BYTES
from tq.broker.claims import Claims
from tq.broker.connection import Connection
from tq.broker.leases import Leases
from tq.broker.services import Propose
from tq.errors import Backpressure, NotLeader
from tq.machine import commands, queries
from tq.protocol import messages as m


class Holders:
    def __init__(self, claims: Claims, leases: Leases, propose: Propose, is_serving: Callable[[], bool]) -> None:
        self._claims = claims
        self._leases = leases
        self._propose = propose
        self._is_serving = is_serving
        self._connections: dict[bytes, Connection] = {}  # session -> where its claims come from

    def claims_over(self, session: bytes, connection: Connection) -> None:
        """The session claims over this connection now."""
        if self._connections.get(session) is not connection:
            self._connections[session] = connection
            connection.on_close[session] = lambda: self._gone(session, connection)

    def session_ended(self, session: bytes) -> None:
        connection = self._connections.pop(session, None)
        if connection is not None:
            connection.on_close.pop(session, None)

    def push_cancels(self, cancels: list[tuple[bytes, int, bytes, int]]) -> None:
        """``(id, fence, session, grace_ms)`` of running tasks that were cancelled: tell who holds them."""
        for id, fence, session, grace_ms in cancels:
            self._leases.cancelling(fence, grace_ms)
            connection = self._connections.get(session)
            if connection is not None:
                connection.send(m.CancelRunning(session, [[id, fence, grace_ms]]))

    def release_undelivered(self, session: bytes, grants: list[Any]) -> None:
        """Give back grants that never left this node.

        Not if the worker is back already and has asked for them again: it would be told of a grant that is gone."""
        if not self._claims.repeats(session):
            self.release(session, [(queries.id_of_spec(grant[0]), grant[3]) for grant in grants])

    def release(self, session: bytes, held: list[tuple[bytes, int]]) -> None:
        """``(id, fence)`` of tasks that nobody has begun: no attempt, no crash. If that is refused, their leases run out."""
        if not held or not self._is_serving():
            return
        items: list[list[object]] = [[id, fence, int(commands.Outcome.RELEASE), None] for id, fence in held]
        try:
            self._propose(
                commands.Report(session, items, 0), len(items), len(items) * ITEM_BYTES, lambda _answer, _index: None
            )
        except (NotLeader, Backpressure):
            return

    def _gone(self, session: bytes, connection: Connection) -> None:
        if self._connections.get(session) is connection:
            del self._connections[session]
