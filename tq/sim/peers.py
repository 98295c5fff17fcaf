"""A node's connections to the others, as ``raft/transport/shell.py`` and ``broker/peers.py`` keep them, on simulated streams.

The links, handshakes, identities and outboxes are the real ones; only what moves bytes and waits is played here, by the
same rules: one dialed connection to each peer, tried again and again; a known peer that dials again replaces its older
connection; silence ends a connection; what changes of the identity is told to all by dialing anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from tq import limits
from tq.errors import ProtocolError
from tq.raft.identity import Identity
from tq.raft.transport.handshake import Side
from tq.raft.transport.link import Ident, Link
from tq.raft.transport.redial import Redial
from tq.sim.streams import Arrival, Sign, SimStreams, Wire
from tq.world import Clock, Random

SECRET = b"the secret of a simulated cluster"
SEND_BYTES = 64 << 10

OnMessage = Callable[[Ident, int, bytes], None]
OnChange = Callable[[str, bool], None]
OnGone = Callable[[str], None]


@attrs.define(eq=False)
class Dialed:
    peer: str
    redial: Redial
    began_ms: int = 0
    wire: Wire | None = None
    link: Link | None = None
    is_usable: bool = False
    starts_again: bool = False
    is_refused: bool = False  # the last try found nobody who listens there


@attrs.define(eq=False)
class Accepted:
    link: Link
    is_known: bool = False


class SimPeers:
    """
    Args:
        true_ms: the time of the streams; ``clock`` is that of this node.
        changed: the identity has changed: it may be formed now.
    """

    def __init__(
        self, others: Sequence[str], identity: Identity, clock: Clock, random: Random, streams: SimStreams,
        true_ms: Callable[[], int], on_message: OnMessage, on_change: OnChange, on_gone: OnGone,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.name = identity.ident().node_id
        self.refusals: list[str] = []
        self._identity = identity
        self._clock = clock
        self._random = random
        self._streams = streams
        self._true_ms = true_ms
        self._on_message = on_message
        self._on_change = on_change
        self._on_gone = on_gone
        self._changed = changed
        self._dialed = {peer: Dialed(peer, Redial(clock, random)) for peer in others}
        self._by_wire: dict[Wire, Dialed] = {}
        self._accepted: dict[Wire, Accepted] = {}

    # ---- for the node -------------------------------------------------------------------------------

    def send(self, peer: str, channel: int, message: bytes) -> bool:
        """As ``PeerTransport.send``."""
        dialed = self._dialed.get(peer)
        if dialed is None or dialed.link is None or not dialed.is_usable:
            return False
        return dialed.link.outbox.push(channel, message)

    def drop(self, is_refused: Callable[[Ident], bool]) -> None:
        """As ``PeerTransport.drop``."""
        for link in [dialed.link for dialed in self._dialed.values()] + [
            found.link for found in self._accepted.values()
        ]:
            if link is not None and link.peer is not None and is_refused(link.peer):
                link.is_over = True
        for dialed in self._dialed.values():
            dialed.starts_again |= dialed.link is not None and dialed.link.is_over

    @property
    def reachable(self) -> list[str]:
        return [peer for peer, dialed in self._dialed.items() if dialed.is_usable]

    # ---- what the loops of the shell do -----------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        wire = arrival.wire
        wire.unread[self.name] -= len(arrival.data)
        if wire in self._by_wire:
            self._at_dialer(self._by_wire[wire], wire, arrival)
        elif arrival.sign is Sign.CALL:
            link = Link(
                Side.ACCEPTOR, self._identity.ident(), SECRET, self._judge, self._clock, self._random
            )  # fmt: skip
            self._accepted[wire] = Accepted(link)
        elif wire in self._accepted:
            self._at_acceptor(self._accepted[wire], wire, arrival)
        self._dial_again()

    def tick(self) -> None:
        """What is due by time; then all that can be sent leaves."""
        now_ms = self._clock.monotonic_ms()
        for dialed in self._dialed.values():
            if dialed.wire is None:
                if now_ms >= dialed.redial.due_ms:
                    dialed.began_ms = now_ms
                    dialed.redial.begins()
                    dialed.is_refused = False
                    dialed.wire = self._streams.connect(self._true_ms(), self.name, dialed.peer)
                    self._by_wire[dialed.wire] = dialed
            elif dialed.link is None:
                if now_ms - dialed.began_ms >= limits.PEER_HANDSHAKE_MS:
                    self._end_dialed(dialed)
            elif self._is_silent(dialed.link, now_ms):
                self._end_dialed(dialed)
        for wire, accepted in list(self._accepted.items()):
            if self._is_silent(accepted.link, now_ms):
                self._end_accepted(wire)
        self._dial_again()
        self.flush()

    def flush(self) -> None:
        for dialed in self._dialed.values():
            if dialed.link is not None and dialed.wire is not None:
                self._write(dialed.wire, dialed.link)
        for wire, accepted in self._accepted.items():
            self._write(wire, accepted.link)

    def wait_ms(self) -> int:
        """Until ``tick`` has something to do."""
        now_ms = self._clock.monotonic_ms()
        due = [accepted.link.tick_at_ms for accepted in self._accepted.values()]
        for dialed in self._dialed.values():
            if dialed.wire is None:
                due.append(dialed.redial.due_ms)
            elif dialed.link is None:
                due.append(dialed.began_ms + limits.PEER_HANDSHAKE_MS)
            else:
                due.append(dialed.link.tick_at_ms)
        return max(0, min(due, default=now_ms + 1_000) - now_ms)

    # ---- inside -----------------------------------------------------------------------------------

    def _write(self, wire: Wire, link: Link) -> None:
        while self._streams.room(wire, self.name) >= SEND_BYTES and (data := link.data_to_send()):
            self._streams.send(self._true_ms(), wire, self.name, data)

    def _is_silent(self, link: Link, now_ms: int) -> bool:
        if now_ms >= link.tick_at_ms:
            link.tick()
        return link.is_over

    def _at_dialer(self, dialed: Dialed, wire: Wire, arrival: Arrival) -> None:
        if arrival.sign is Sign.ACCEPT:
            ident = attrs.evolve(self._identity.ident(), to_id=dialed.peer)
            dialed.link = Link(Side.DIALER, ident, SECRET, self._judge, self._clock, self._random)
            return
        link = dialed.link
        if arrival.sign is not Sign.DATA or link is None:
            dialed.is_refused = arrival.sign is Sign.REFUSE and link is None
            self._end_dialed(dialed)
            self._tell_gone(dialed.peer)
            return
        try:
            link.receive(arrival.data)
        except ProtocolError as error:
            self._farewell(wire, link, error.message)
            self._end_dialed(dialed)
            return
        if link.peer is not None and not dialed.is_usable:
            dialed.is_usable = True
            dialed.redial.is_usable()
            self._on_change(dialed.peer, True)
        if link.farewell_heard is not None:
            self.refusals.append(link.farewell_heard)
            self._end_dialed(dialed)

    def _at_acceptor(self, accepted: Accepted, wire: Wire, arrival: Arrival) -> None:
        link = accepted.link
        if arrival.sign is not Sign.DATA:
            self._end_accepted(wire)
            return
        try:
            for channel, body in link.receive(arrival.data):
                assert link.peer is not None
                if not link.is_over:
                    self._on_message(link.peer, channel, body)
        except ProtocolError as error:
            self._farewell(wire, link, error.message)
            self._end_accepted(wire)
            return
        if link.peer is not None and not accepted.is_known:
            accepted.is_known = True
            for older, other in list(self._accepted.items()):
                peer = other.link.peer
                if other is not accepted and peer is not None and peer.node_id == link.peer.node_id:
                    self._end_accepted(older)
            caller = self._dialed.get(link.peer.node_id)
            if caller is not None and caller.redial.peer_is_there():
                caller.starts_again = caller.wire is not None
        if link.farewell_heard is not None:
            self._end_accepted(wire)

    def _farewell(self, wire: Wire, link: Link, why: str) -> None:
        last = link.farewell(why)
        if last:
            self._streams.send(self._true_ms(), wire, self.name, last)

    def _end_accepted(self, wire: Wire) -> None:
        accepted = self._accepted.pop(wire)
        self._streams.close(self._true_ms(), wire, self.name)
        if accepted.is_known and accepted.link.peer is not None:
            self._tell_gone(accepted.link.peer.node_id)

    def _tell_gone(self, peer: str) -> None:
        """As ``PeerTransport._tell_gone``."""
        dialed = self._dialed.get(peer)
        senders = {accepted.link.peer.node_id for accepted in self._accepted.values() if accepted.link.peer is not None}
        if dialed is not None and dialed.is_refused and peer not in senders:
            self._on_gone(peer)

    def _end_dialed(self, dialed: Dialed) -> None:
        assert dialed.wire is not None
        if dialed.starts_again:
            dialed.redial.begin_anew()
        dialed.redial.ended()
        del self._by_wire[dialed.wire]
        self._streams.close(self._true_ms(), dialed.wire, self.name)
        was_usable, dialed.is_usable = dialed.is_usable, False
        dialed.wire = dialed.link = None
        dialed.starts_again = False
        if was_usable:
            self._on_change(dialed.peer, False)

    def _judge(self, ident: Ident) -> str | None:
        before = self._identity.ident(), self._identity.is_formed
        refusal = self._identity.judge(ident)
        if (self._identity.ident(), self._identity.is_formed) != before:
            for dialed in self._dialed.values():
                dialed.starts_again = dialed.link is not None
            self._changed()
        return refusal

    def _dial_again(self) -> None:
        for dialed in self._dialed.values():
            if dialed.starts_again and dialed.wire is not None:
                self._end_dialed(dialed)
