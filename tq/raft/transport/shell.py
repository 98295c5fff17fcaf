"""The connections of a node to the others: dialed again and again, accepted, watched. What they carry is not read here.

One task reads each connection, one writes the dialed ones. When a peer is dialed again is decided in redial.py. The
number of strangers (connected, not yet known) is bounded, and so is their time; a known peer that dials again replaces
its older connection, which may be half open.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from contextlib import aclosing
from ssl import SSLContext, SSLError

import attrs
import structlog
import trio

from tq import limits
from tq.errors import ProtocolError
from tq.raft.transport.handshake import Side
from tq.raft.transport.link import Ident, Judge, Link
from tq.raft.transport.redial import Redial
from tq.raft.transport.stream import Address, PeerStream, accepted, connect
from tq.world import Clock, Random

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
NO_DESCRIPTORS_PAUSE_S = 0.1
FAREWELL_S = 0.5
TELL_MS = 1_000

OnMessage = Callable[[Ident, int, bytes], None]
"""(who says it, channel, message). A ProtocolError of it ends the connection, anything else the node."""
OnRead = Callable[[], None]
"""Called after the messages of one read."""
OnChange = Callable[[str, bool], None]
"""(peer, whether messages can be sent to it now)."""
OnGone = Callable[[str], None]
"""(peer): its process ended. Nobody listens at its address, and all that came from it has been given out."""


class Dialed:
    """The way to one peer.

    Bytes are sent where they arise, as far as the kernel takes them. Once it does not, ``unsent`` is not empty and
    the writing task sends, alone and in order, until nothing is left.
    """

    def __init__(self, redial: Redial) -> None:
        self.redial = redial
        self.hurry = trio.Event()  # ends a pause between two tries
        self.link: Link | None = None  # while it can be used
        self.stream: PeerStream | None = None  # of the present connection
        self.unsent = b""
        self.ready = trio.Event()
        self.reason = "not tried yet"  # why it cannot
        self.is_refused = False  # the last try found nobody who listens there
        self.scope: trio.CancelScope | None = None  # of the present connection, or the try to get one

    def send_now(self, link: Link) -> None:
        """What ``link`` has to say; never blocks. A broken connection is for the writing task to find."""
        if self.unsent or self.stream is None or link.is_over:  # the last word is the reader's
            return
        while data := link.data_to_send():
            try:
                sent = self.stream.send_now(data)
            except OSError:
                sent = 0
            if sent < len(data):
                self.unsent = data[sent:]
                self.ready.set()
                return


class PeerTransport:
    """
    Args:
        me: this node as it is now; ``to_id`` is filled in here.
        peers: where the others listen, by id.
        judge: see ``link.Judge``.
        server_tls, client_tls: both or none.
    """

    def __init__(
        self,
        *,
        me: Callable[[], Ident],
        peers: Mapping[str, Address],
        secret: bytes,
        judge: Judge,
        on_message: OnMessage,
        on_change: OnChange,
        on_gone: OnGone,
        on_read: OnRead = lambda: None,
        clock: Clock,
        random: Random,
        server_tls: SSLContext | None = None,
        client_tls: SSLContext | None = None,
    ) -> None:
        assert (server_tls is None) == (client_tls is None)
        self._me = me
        self._peers = dict(peers)
        self._secret = secret
        self._judge = judge
        self._on_message = on_message
        self._on_change = on_change
        self._on_gone = on_gone
        self._on_read = on_read
        self._clock = clock
        self._random = random
        self._server_tls = server_tls
        self._client_tls = client_tls
        self._dialed = {peer: Dialed(Redial(clock, random)) for peer in peers}
        self._accepted: dict[str, trio.CancelScope] = {}
        self._heard: dict[trio.CancelScope, Link] = {}  # accepted, and known
        self._strangers = 0
        self._next_tell_ms = 0
        self._untold = 0  # ends of connections since the last that was told
        self._log = structlog.get_logger("tq.peers")

    # ---- sending ----------------------------------------------------------------------------------

    def send(self, peer: str, channel: int, message: bytes, *, urgent: bool = False) -> bool:
        """Queue a message. False: the peer cannot be reached now or reads too slowly, and nothing was taken."""
        dialed = self._dialed.get(peer)
        if dialed is None or dialed.link is None:
            return False
        taken = dialed.link.outbox.push(channel, message, urgent=urgent)
        dialed.send_now(dialed.link)
        return taken

    def can_send(self, peer: str) -> bool:
        dialed = self._dialed.get(peer)
        return dialed is not None and dialed.link is not None

    def introduce_again(self) -> None:
        """What this node says of itself has changed: every dialed connection begins anew with it."""
        for dialed in self._dialed.values():
            if dialed.scope is not None:
                dialed.scope.cancel()

    def drop(self, is_refused: Callable[[Ident], bool]) -> None:
        """End connections with who is refused now; nothing that they sent is given out any more."""
        dialed = [(dialed.scope, dialed.link) for dialed in self._dialed.values() if dialed.scope is not None]
        for scope, link in [*dialed, *self._heard.items()]:
            if link is not None and link.peer is not None and is_refused(link.peer):
                link.is_over = True
                scope.cancel()

    def statistics(self) -> dict[str, dict[str, object]]:
        """By peer: whether it can be reached, why not, bytes that wait, messages dropped for want of room."""
        found: dict[str, dict[str, object]] = {}
        for peer, dialed in self._dialed.items():
            link = dialed.link
            found[peer] = {
                "reachable": link is not None,
                "reason": None if link is not None else dialed.reason,
                "waiting_bytes": 0 if link is None else link.outbox.waiting_bytes,
                "dropped": 0 if link is None else link.outbox.dropped,
            }
        return found

    # ---- the loops --------------------------------------------------------------------------------

    async def run(self, listener: socket.socket) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept, listener, nursery)
            for peer in self._peers:
                nursery.start_soon(self._dial, peer)

    async def _dial(self, peer: str) -> None:
        dialed = self._dialed[peer]
        while True:
            told, dialed.is_refused = dialed.reason, False
            try:
                with trio.fail_after(limits.PEER_HANDSHAKE_MS / 1000):
                    stream = await connect(self._peers[peer], self._client_tls)
                with trio.CancelScope() as dialed.scope:
                    dialed.reason = await self._talk(peer, dialed, stream)
                if dialed.scope.cancelled_caught:
                    dialed.redial.begin_anew()
            except trio.TooSlowError:
                dialed.reason = f"no connection within {limits.PEER_HANDSHAKE_MS} ms"
            except OSError as error:
                dialed.reason = error.strerror or str(error)
                dialed.is_refused = isinstance(error, ConnectionRefusedError)
                self._tell_gone(peer)
            if dialed.reason != told:
                self._log.warning("cannot reach a peer", peer=peer, reason=dialed.reason)
            dialed.redial.ended()
            await self._pause(dialed)

    async def _pause(self, dialed: Dialed) -> None:
        dialed.hurry = trio.Event()
        wait_ms = max(0, dialed.redial.due_ms - self._clock.monotonic_ms())
        with trio.move_on_after(wait_ms / 1000):
            await dialed.hurry.wait()

    async def _talk(self, peer: str, dialed: Dialed, stream: PeerStream) -> str:
        """One dialed connection, to its end. Returns why it ended."""
        ident = self._me()
        ident = attrs.evolve(ident, to_id=peer)
        link = Link(Side.DIALER, ident, self._secret, self._judge, self._clock, self._random)
        dialed.stream, dialed.unsent, dialed.ready = stream, b"", trio.Event()
        reasons: list[str] = []

        async def read() -> None:
            reason = await self._read(link, stream, known, lambda _channel, _message: None)
            reasons.append(reason)
            nursery.cancel_scope.cancel()

        async def write() -> None:
            while True:
                await dialed.ready.wait()
                dialed.ready = trio.Event()
                while dialed.unsent and not link.is_over:  # the last word is the reader's
                    await stream.send_all(dialed.unsent)
                    dialed.unsent = link.data_to_send()

        def known() -> None:
            dialed.send_now(link)  # the proof, IDENT or a PONG may wait
            if link.peer is not None and dialed.link is None:
                dialed.link = link
                dialed.redial.is_usable()
                self._log.info("reached a peer", peer=peer)
                self._on_change(peer, True)

        try:
            async with aclosing(stream), trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(write)
                dialed.send_now(link)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, SSLError, OSError) as group:
            reasons.append(f"the connection broke: {_why(group)}")
        finally:
            dialed.stream = None
            if dialed.link is not None:
                dialed.link = None
                self._log.info("lost a peer", peer=peer, reason=reasons[0] if reasons else "closed here")
                self._on_change(peer, False)
        return reasons[0] if reasons else "the connection broke"

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                await trio.sleep(NO_DESCRIPTORS_PAUSE_S)
                continue
            if self._strangers >= limits.PEER_STRANGERS_MAX:
                sock.close()
                continue
            self._strangers += 1
            nursery.start_soon(self._serve, sock, f"{address[0]}:{address[1]}")

    async def _serve(self, sock: socket.socket, address: str) -> None:
        """One accepted connection, to its end."""
        is_stranger = True
        stream = accepted(sock, self._server_tls)
        link = Link(Side.ACCEPTOR, self._me(), self._secret, self._judge, self._clock, self._random)
        scope = trio.CancelScope()

        def known() -> None:
            nonlocal is_stranger
            if link.peer is not None and is_stranger:
                is_stranger = False
                self._strangers -= 1
                older = self._accepted.get(link.peer.node_id)
                if older is not None:
                    older.cancel()
                self._accepted[link.peer.node_id] = scope
                self._heard[scope] = link
                self._called(link.peer.node_id)
            self._on_read()

        def message(channel: int, body: bytes) -> None:
            assert link.peer is not None
            if not link.is_over:  # by what the message before it brought
                self._on_message(link.peer, channel, body)

        try:
            with scope:
                async with aclosing(stream):
                    reason = await self._read(link, stream, known, message, answers=True)
                    self._tell_end(address, reason)
        except (trio.BrokenResourceError, trio.ClosedResourceError, SSLError, OSError) as error:
            self._tell_end(address, _why(error))
        finally:
            self._heard.pop(scope, None)
            if is_stranger:
                self._strangers -= 1
            elif link.peer is not None and self._accepted.get(link.peer.node_id) is scope:
                del self._accepted[link.peer.node_id]
                self._tell_gone(link.peer.node_id)

    def _tell_gone(self, peer: str) -> None:
        """If its machine answers that nobody listens there, and nothing more can come from it. That is told again with
        each try."""
        dialed = self._dialed.get(peer)
        if dialed is not None and dialed.is_refused and peer not in self._accepted:
            self._on_gone(peer)

    def _called(self, peer: str) -> None:
        """It is there: do not wait to dial it."""
        dialed = self._dialed.get(peer)
        if dialed is not None:
            is_stuck = dialed.redial.peer_is_there()
            dialed.hurry.set()
            if is_stuck and dialed.scope is not None:
                dialed.scope.cancel()

    def _tell_end(self, address: str, reason: str) -> None:
        """At most once a second: whoever knocks without end must not fill the disk."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_tell_ms:
            self._untold += 1
            return
        self._next_tell_ms = now_ms + TELL_MS
        self._log.info("a connection from a peer ended", address=address, reason=reason, untold=self._untold)
        self._untold = 0

    async def _read(
        self,
        link: Link,
        stream: PeerStream,
        progressed: Callable[[], None],
        message: Callable[[int, bytes], None],
        *,
        answers: bool = False,
    ) -> str:
        """Until the connection is over; returns why. ``answers``: send what the link has to say, here."""
        while True:
            try:
                await self._receive(link, stream, progressed, message, answers)
            except ProtocolError as error:
                await self._farewell(link, stream, error.message)
                return error.message
            except EOFError:
                return "the peer closed it"
            if link.farewell_heard is not None:
                return f"the peer refused: {link.farewell_heard}"
            if link.is_over:
                return "silence" if link.peer is not None else "it did not say in time who it is"
            if answers and (out := link.data_to_send()):
                with trio.move_on_after(limits.PEER_SILENCE_MS / 1000) as sending:
                    await stream.send_all(out)
                if sending.cancelled_caught:
                    return "the peer does not read"

    async def _receive(
        self,
        link: Link,
        stream: PeerStream,
        progressed: Callable[[], None],
        message: Callable[[int, bytes], None],
        answers: bool,
    ) -> None:
        """Until the link is over, or has something to answer, or its time may have come. Raises ProtocolError; EOFError at
        the end of the stream.

        One cancel scope for many reads: what comes only moves that time to later, and to see so a wake a second is cheaper
        than a scope a message.
        """
        wait_ms = max(0, link.tick_at_ms - self._clock.monotonic_ms())
        with trio.move_on_after(wait_ms / 1000):
            while True:
                data = await stream.receive_some()
                if not data:
                    raise EOFError
                for channel, body in link.receive(data):
                    message(channel, body)
                progressed()
                if link.is_over or (answers and link.has_output):
                    return
        link.tick()
        progressed()

    async def _farewell(self, link: Link, stream: PeerStream, why: str) -> None:
        last = link.farewell(why)
        if last:
            with trio.move_on_after(FAREWELL_S):
                try:
                    await stream.send_all(last)
                except trio.BusyResourceError:
                    return  # the writing task is in the middle of a message: no word can be told any more


def _why(error: BaseException) -> str:
    """What is behind it: trio says that a stream broke, and keeps why as the cause."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error.__cause__ or error) or type(error).__name__
