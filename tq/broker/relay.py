"""Requests that only the leader answers, sent to another node: carried there, answered there, brought back.

Theory. Each connection of a client at a follower that needs the leader gets a connection of its own at the leader, made
of messages between the two nodes instead of a socket: the bytes in them are those of the protocol, and the leader's end
is a ``Connection`` like any other. So parked claims, grants that could not be delivered, pushes and bounds behave as
they do for a client that is there.

Rules
- A relayed connection has an id that never comes again, not in another life of either node: a late answer finds nobody.
- Every request that was relayed is answered once: by the leader, or here when the way to the leader is lost or another
  one leads. Then whether it was done is unknown, and the error says so; requests carry ids, so sending them again is safe.
- The client's end closes the leader's end, and the other way round. An end that cannot be told now is told later: the
  way back may be lost while the way there holds, and who waits behind it would not learn that its answer is lost.
- What is queued here for our clients leaves when the caller flushes the broker.
- A client that reads slowly is bounded where it always is, at its own connection.

Rejected: naming the client's requests anew for one shared connection (who waits for what must be kept twice, and a
client's end could not be told from a quiet one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from tq import cbor, limits
from tq.broker.connection import Connection
from tq.errors import BrokerUnavailable, InternalError, NotLeader
from tq.protocol import messages as m
from tq.protocol.codec import REPLY_BIT, decode, encode
from tq.protocol.frames import FrameReader
from tq.world import Random

REQUEST: Final = 0  # [REQUEST, id, bytes]: from the follower's client
REPLY: Final = 1  # [REPLY, id, bytes]: of the leader
CLOSED: Final = 2  # [CLOSED, id]: by the client
DROPPED: Final = 3  # [DROPPED, id]: by the leader

EPOCH_BYTES: Final = 8
COUNTER_BYTES: Final = 8

Send = Callable[[str, bytes], bool]
"""(peer, message): queue it for the peer; False if it cannot be."""


@attrs.define(eq=False)
class Outgoing:
    """A client of ours, at the leader."""

    id: bytes
    leader: str
    connection: Connection
    reader: FrameReader
    in_flight: set[int] = attrs.field(factory=set)
    parked: set[int] = attrs.field(factory=set)  # of those: claims that wait for tasks, nobody is owed more than an end


class RelayedSocket:
    """What a ``Connection`` at the leader writes to."""

    def __init__(self, send: Send, peer: str, id: bytes, closed: Callable[[], None]) -> None:
        self._send = send
        self._peer = peer
        self._id = id
        self._closed = closed
        self.is_open = True

    def send(self, data: bytes) -> int:
        """All or nothing. Raises BrokenPipeError: the peer cannot be reached, or has no room."""
        if not self._send(self._peer, cbor.dumps([REPLY, self._id, data])):
            raise BrokenPipeError
        return len(data)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._closed()


class Relay:
    """Both ends: for our clients towards the leader, and for the clients of others when we lead.

    Args:
        send: see ``Send``.
        open_connection: makes the leader's end, ready for requests, from a socket and the peer's name.
        answer: lets the broker read and answer what a connection has received; False at its end.
    """

    def __init__(
        self,
        random: Random,
        send: Send,
        open_connection: Callable[[RelayedSocket, str], Connection],
        answer: Callable[[Connection], bool],
    ) -> None:
        self._epoch = random.bytes(EPOCH_BYTES)
        self._count = 0
        self._send = send
        self._open_connection = open_connection
        self._answer = answer
        self._outgoing: dict[bytes, Outgoing] = {}
        self._by_connection: dict[Connection, Outgoing] = {}
        self._incoming: dict[tuple[str, bytes], Connection] = {}
        self._untold: dict[tuple[str, int, bytes], None] = {}  # (peer, CLOSED or DROPPED, id), in order

    # ---- our clients ------------------------------------------------------------------------------

    def forward(self, leader: str, connection: Connection, message: m.Message) -> None:
        """Have ``leader`` answer it. Raises NotLeader: it cannot be reached now, nothing was done."""
        out = self._by_connection.get(connection)
        if out is not None and out.leader != leader:
            self._lose(out, "the leader changed while this was in flight")
            out = None
        if out is None:
            out = self._open(leader, connection)
        rid: int = message.rid  # type: ignore[attr-defined]  # every request has one
        if not self._send(leader, cbor.dumps([REQUEST, out.id, encode(message)])):
            raise NotLeader("this node cannot reach the leader; nothing was done", retry_after=0.1)
        out.in_flight.add(rid)
        if isinstance(message, m.ClaimTask) and message.wait_ms:
            out.parked.add(rid)

    def leader_is(self, leader: str | None) -> None:
        """What is in flight at any other node is answered: that one may never do it. None: nobody is heard to lead."""
        for out in [out for out in self._outgoing.values() if out.leader != leader]:
            why = "the leader changed" if leader is not None else "the leader was lost"
            self._lose(out, f"{why} while this was in flight")

    def tell_again(self) -> None:
        """Tell the ends that could not be told. Call it now and then, and when a peer can be reached again."""
        if self._untold:
            untold, self._untold = self._untold, {}
            for peer, kind, id in untold:
                self._tell(peer, kind, id)

    def peer_lost(self, peer: str) -> None:
        """Nothing can be sent to the peer now; what comes from it may still come, and finds nobody."""
        for out in [out for out in self._outgoing.values() if out.leader == peer]:
            self._lose(out, "the way to the leader was lost while this was in flight")
        for (node, _id), connection in list(self._incoming.items()):
            if node == peer:
                connection.close()

    def received(self, peer: str, data: bytes) -> None:
        """A message of a peer. What it cannot be is a bug of ours at the other end, and stops the node."""
        match cbor.loads(data):
            case [int(kind), bytes(id), bytes(body)] if kind == REQUEST:
                self._requested(peer, id, body)
            case [int(kind), bytes(id), bytes(body)] if kind == REPLY:
                self._replied(peer, id, body)
            case [int(kind), bytes(id)] if kind == CLOSED:
                connection = self._incoming.get((peer, id))
                if connection is not None:
                    connection.close()
                self._untold.pop((peer, DROPPED, id), None)  # it knows
            case [int(kind), bytes(id)] if kind == DROPPED:
                out = self._outgoing.get(id)
                if out is not None and out.leader == peer:
                    self._lose(out, "the leader closed the connection while this was in flight")
            case other:
                raise InternalError(f"{peer} relays {str(other)[:80]!r}")

    @property
    def is_idle(self) -> bool:
        """No client of ours waits for something that the leader may be doing."""
        return all(out.in_flight == out.parked for out in self._outgoing.values())

    def statistics(self) -> dict[str, int]:
        """Clients of ours at the leader, and of other nodes here."""
        return {"outgoing": len(self._outgoing), "incoming": len(self._incoming)}

    # ---- inside -----------------------------------------------------------------------------------

    def _open(self, leader: str, connection: Connection) -> Outgoing:
        self._count += 1
        id = self._epoch + self._count.to_bytes(COUNTER_BYTES)
        out = Outgoing(id, leader, connection, FrameReader(limits.FRAME_BYTES_MAX))
        self._outgoing[id] = out
        self._by_connection[connection] = out
        connection.on_close[out] = lambda: self._client_left(out)
        return out

    def _client_left(self, out: Outgoing) -> None:
        self._forget(out)
        self._tell(out.leader, CLOSED, out.id)

    def _tell(self, peer: str, kind: int, id: bytes) -> None:
        if not self._send(peer, cbor.dumps([kind, id])):
            self._untold[peer, kind, id] = None

    def _forget(self, out: Outgoing) -> None:
        del self._outgoing[out.id]
        del self._by_connection[out.connection]
        out.connection.on_close.pop(out, None)

    def _lose(self, out: Outgoing, why: str) -> None:
        self._forget(out)
        self._tell(out.leader, CLOSED, out.id)
        error = BrokerUnavailable(
            f"whether this was done is unknown: {why}; send it again with the same ids", retry_after=0
        )
        for rid in sorted(out.in_flight):
            out.connection.send_error(rid, error)

    def _replied(self, peer: str, id: bytes, body: bytes) -> None:
        out = self._outgoing.get(id)
        if out is None or out.leader != peer:
            return  # the client has left, or was answered otherwise
        out.reader.receive(body)
        while (frame := out.reader.next_frame()) is not None:
            message: Any = decode(*frame)
            if isinstance(message, m.GoAway):
                continue  # the leader stops, not this node: its other answers and DROPPED say the rest
            if message.TYPE & REPLY_BIT:
                out.in_flight.discard(message.rid)
                out.parked.discard(message.rid)
            out.connection.send(message)

    def _requested(self, peer: str, id: bytes, body: bytes) -> None:
        connection = self._incoming.get((peer, id))
        if connection is None:
            key = (peer, id)
            socket = RelayedSocket(self._send, peer, id, lambda: self._ended(key))
            connection = self._incoming[key] = self._open_connection(socket, f"a client of {peer}")
        connection.protocol.receive_data(body)
        if not self._answer(connection):
            connection.close()

    def _ended(self, key: tuple[str, bytes]) -> None:
        self._incoming.pop(key, None)
        peer, id = key
        self._tell(peer, DROPPED, id)
