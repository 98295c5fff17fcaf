"""One connection between two nodes, without its socket: handshake, who is it, messages, silence.

A connection carries messages one way, from the node that dialed to the one that accepted; back go only pings and words
of farewell. Each node dials each other, so two connections join a pair, and neither has to settle which of two that
crossed shall live.

Messages are pushed to ``outbox`` once ``peer`` is known. The shell moves bytes: ``receive`` what came, send ``data_to_send``, call ``tick`` when ``tick_at_ms`` is over, close
when ``is_over``. A ProtocolError from ``receive`` ends the connection too; ``farewell`` tells the peer why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from tq import cbor, limits
from tq.errors import ProtocolError
from tq.raft.transport import frames
from tq.raft.transport.frames import Inbox
from tq.raft.transport.handshake import Handshake, Side
from tq.raft.transport.outbox import Outbox
from tq.world import Clock, Random

ID_CHARS_MAX = limits.NAME_CHARS_MAX


@attrs.frozen
class Ident:
    """Who a node says it is, and to whom it believes to speak.

    cluster_id: 16 bytes, or None: it belongs to none yet. incarnation: 16 bytes, of its data directory, or None: it has
    none yet. admitted_index: of the entry of the log that admitted this directory; 0: it helped to form the cluster.
    """

    cluster_id: bytes | None
    node_id: str
    incarnation: bytes | None
    to_id: str
    admitted_index: int = 0

    def encode(self) -> bytes:
        fields: list[object] = [self.cluster_id, self.node_id, self.incarnation, self.to_id]
        return cbor.dumps([*fields, self.admitted_index] if self.admitted_index else fields)

    @staticmethod
    def decode(data: bytes) -> Ident:
        """Raises ProtocolError."""
        try:
            fields: Any = cbor.loads(data)
        except ValueError as error:
            raise ProtocolError(f"a peer's IDENT is no CBOR: {error}") from error
        match fields:
            case [cluster_id, str(node_id), incarnation, str(to_id), *rest] if (
                _is_id(cluster_id) and _is_id(incarnation) and _is_name(node_id) and _is_name(to_id) and _is_index(rest)
            ):
                return Ident(cluster_id, node_id, incarnation, to_id, *rest)
        raise ProtocolError("a peer's IDENT is not [cluster_id, node_id, incarnation, to_id] and perhaps an index")


def _is_id(value: object) -> bool:
    return value is None or (isinstance(value, bytes) and len(value) == limits.ID_BYTES)


def _is_index(rest: list[object]) -> bool:
    return not rest or (len(rest) == 1 and type(rest[0]) is int and 0 < rest[0] < 1 << 63)


def _is_name(value: str) -> bool:
    return 0 < len(value) <= ID_CHARS_MAX


Judge = Callable[[Ident], str | None]
"""Why a node that knows the secret is refused all the same, or None."""


class Link:
    """
    Args:
        ident: this node; its ``to_id`` is the peer that was dialed, or "" for one that accepts.
        judge: asked once, before any message of the peer is given out.
    """

    def __init__(self, side: Side, ident: Ident, secret: bytes, judge: Judge, clock: Clock, random: Random) -> None:
        self.peer: Ident | None = None  # once it is known and judged
        self.outbox = Outbox()
        self.is_over = False
        self.farewell_heard: str | None = None
        self._side = side
        self._ident = ident
        self._judge = judge
        self._clock = clock
        self._handshake: Handshake | None = Handshake(side, secret, random)
        self._inbox = Inbox()
        self._began_ms = self._heard_ms = clock.monotonic_ms()
        self._pinged_ms: int | None = None
        self._raw = b""  # of the handshake, to be sent

    # ---- bytes ------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """``(channel, message)`` of what became whole. Raises ProtocolError; the connection is then over. One that is over
        gives nothing out."""
        if self.is_over:
            return []
        self._heard_ms = self._clock.monotonic_ms()
        self._pinged_ms = None
        try:
            if self._handshake is not None:
                data = self._greet(self._handshake, data)
                if self._handshake is not None:
                    return []
            return self._read(data)
        except ProtocolError:
            self.is_over = True
            raise

    def data_to_send(self) -> bytes:
        if self._handshake is not None:
            return self._handshake.data_to_send()
        raw, self._raw = self._raw, b""
        return raw + self.outbox.take()

    @property
    def has_output(self) -> bool:
        """Whether ``data_to_send`` may have something."""
        return self._handshake is not None or bool(self._raw) or not self.outbox.is_empty

    def farewell(self, why: str) -> bytes:
        """The last bytes to send. Nothing, to a peer that has not proved itself."""
        self.is_over = True
        if self._handshake is not None:
            return b""
        self.outbox = Outbox()
        self.outbox.push_frame(frames.BYE, why.encode()[: limits.KIB])
        return self._raw + self.outbox.take()

    # ---- time -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Ask a silent peer, give up one that does not answer. Sets ``is_over``."""
        now_ms = self._clock.monotonic_ms()
        if self.peer is None:
            self.is_over = self.is_over or now_ms - self._began_ms >= limits.PEER_HANDSHAKE_MS
            return
        silent_ms = now_ms - self._heard_ms
        if silent_ms >= limits.PEER_SILENCE_MS:
            self.is_over = True
        elif silent_ms >= limits.PEER_PING_MS and self._pinged_ms is None:
            self._pinged_ms = now_ms
            self.outbox.push_frame(frames.PING, now_ms.to_bytes(frames.PING_BYTES))

    @property
    def tick_at_ms(self) -> int:
        if self.peer is None:
            return self._began_ms + limits.PEER_HANDSHAKE_MS
        wait_ms = limits.PEER_PING_MS if self._pinged_ms is None else limits.PEER_SILENCE_MS
        return self._heard_ms + wait_ms

    # ---- inside -----------------------------------------------------------------------------------

    def _greet(self, handshake: Handshake, data: bytes) -> bytes:
        handshake.receive(data)
        if not handshake.is_done:
            return b""
        self._raw = handshake.data_to_send()
        self._handshake = None
        if self._side is Side.DIALER:
            self.outbox.push_frame(frames.IDENT, self._ident.encode())
        return handshake.rest

    def _read(self, data: bytes) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        self._inbox.receive(data)
        while (frame := self._inbox.next()) is not None:
            type_, channel, body = frame
            if type_ == frames.BYE:
                self.farewell_heard = body.decode(errors="replace")
                self.is_over = True
                break
            if self.peer is None:
                self._identify(type_, body)
            elif type_ == frames.WHOLE:
                if self._side is Side.DIALER:
                    raise ProtocolError("a message came on a connection that we dialed: those go the other way")
                messages.append((channel, body))
            elif type_ == frames.PING:
                self.outbox.push_frame(frames.PONG, body)
            elif type_ == frames.IDENT:
                raise ProtocolError("a peer said twice who it is")
        return messages

    def _identify(self, type_: int, body: bytes) -> None:
        if type_ != frames.IDENT:
            raise ProtocolError("a peer did not say who it is")
        ident = Ident.decode(body)
        if ident.to_id != self._ident.node_id:
            raise ProtocolError(f"{ident.node_id} takes this node for {ident.to_id}, but it is {self._ident.node_id}")
        if self._side is Side.DIALER and ident.node_id != self._ident.to_id:
            raise ProtocolError(f"at the address of {self._ident.to_id} answers {ident.node_id}")
        refusal = self._judge(ident)
        if refusal is not None:
            raise ProtocolError(refusal)
        self.peer = ident
        self._inbox.identified()
        if self._side is Side.ACCEPTOR:
            answer = attrs.evolve(self._ident, to_id=ident.node_id)
            self.outbox.push_frame(frames.IDENT, answer.encode())
