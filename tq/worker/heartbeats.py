"""Signs of life, from a thread and a connection of their own.

Theory. What keeps the leases must not wait for what holds them: a handler that blocks the event loop, or a result of
many megabytes in front of it on the socket, would else cost the worker all its tasks. The thread shares nothing with
the loop but what it may read (``look``) and messages that it leaves there (``tell``). It needs the interpreter, so
one call of C that keeps the GIL for longer than a lease does stop it; it says so once it runs again.

Rules
- One heartbeat is under way at a time. It is due every ``heartbeat_ms``, and at once when a session was opened.
- After a lost connection the next one is tried at once, then with backoff; a beat that fails is sent again, since the
  broker counts time and not beats.
- How long a broker may keep silent follows from the lease: a beat that is due must still find a broker when it meets dead
  addresses on its way, each of which costs that time.
- Nothing is decided here: what the broker answers goes to the core, on the loop's thread.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import attrs
import structlog

from tq import limits
from tq.errors import NotLeader, ProtocolError, SessionLost, from_wire
from tq.protocol import messages as m
from tq.protocol.addresses import Address, Addresses, backoff_ms
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed, State
from tq.world import Clock, Random

ANSWER_S_MAX: Final = 5.0  # for a connection, and for each answer
ANSWER_S_MIN: Final = 0.25
READ_BYTES: Final = 64 * limits.KIB
LATE_MS_MIN: Final = 1_000
LATE_PARTS: Final = 4  # late: by a quarter of the time between two heartbeats


@attrs.frozen
class Beat:
    """What a heartbeat says. running: types of the handlers that run, for the log."""

    session: bytes
    lease_ms: int
    heartbeat_ms: int
    tasks: list[list[Any]]
    running: list[str]


Look = Callable[[], Beat | None]
"""The session as it is now, or None while there is none. Called on the heartbeats' thread."""

Tell = Callable[[bytes, m.HeartbeatReply | SessionLost], None]
"""Take an answer to the loop, with the session it is for. Called on the heartbeats' thread."""


class Lost(Exception):
    """The connection is over, or of no use; the message says why."""


class Heartbeats(threading.Thread):
    """``start``, then ``poke`` whenever a session was opened, then ``stop``."""

    def __init__(
        self,
        addresses: Addresses,
        client: str,
        clock: Clock,
        random: Random,
        look: Look,
        tell: Tell,
        stats: Callable[[], dict[str, Any]],
    ) -> None:
        super().__init__(name="tq-heartbeats", daemon=True)
        self._addresses = addresses
        self._client = client
        self._clock = clock
        self._random = random
        self._look = look
        self._tell = tell
        self._stats = stats
        self._log = structlog.get_logger("tq.worker")
        self._poked = threading.Event()
        self._is_stopping = False
        self._wire: Wire | None = None
        self._failures = 0  # in a row
        self._rid = 0

    def poke(self) -> None:
        """Send one now."""
        self._poked.set()

    def stop(self) -> None:
        """It ends within a moment; its socket closes with it."""
        self._is_stopping = True
        self._poked.set()

    def run(self) -> None:
        while not self._is_stopping:
            wait_ms = self._beat()
            due_ms = None if wait_ms is None else self._clock.monotonic_ms() + wait_ms
            is_poked = self._poked.wait(None if wait_ms is None else wait_ms / 1000)
            self._poked.clear()
            if due_ms is not None and not is_poked:
                self._look_late(due_ms)
        self._hang_up()

    def _beat(self) -> int | None:
        """One heartbeat. How long to wait for the next, None: until there is a session."""
        beat = self._look()
        if beat is None:
            return None
        is_fresh = self._wire is None
        try:
            self._send(beat)
        except Lost as lost:
            self._hang_up()
            if not is_fresh:
                return 0  # it was an old connection; a new one may do
            self._failures += 1
            if self._failures == 1:
                self._log.warning("a heartbeat failed", reason=str(lost), session=beat.session.hex())
            return backoff_ms(self._failures, self._random.below(1 << 16))
        if self._failures:
            self._log.info("heartbeats go on", failures=self._failures)
        self._failures = 0
        return beat.heartbeat_ms

    def _send(self, beat: Beat) -> None:
        wire = self._wire
        answer_s = answer_seconds(beat, len(self._addresses))
        if wire is None:
            wire = self._wire = Wire(self._addresses.take(), self._client, answer_s)
        self._rid = self._rid % 0xFFFF + 1
        answer = wire.ask(answer_s, m.Heartbeat(self._rid, beat.session, beat.tasks, self._stats()))
        if isinstance(answer, m.HeartbeatReply):
            self._tell(beat.session, answer)
            return
        assert isinstance(answer, m.ErrorReply)
        error = from_wire(answer.error)
        if isinstance(error, SessionLost):
            self._tell(beat.session, error)
            return
        if isinstance(error, NotLeader):
            self._addresses.prefer(error.leader)
        raise Lost(error.message)

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _look_late(self, due_ms: int) -> None:
        late_ms = self._clock.monotonic_ms() - due_ms
        beat = self._look()
        if beat is not None and late_ms > max(LATE_MS_MIN, beat.heartbeat_ms // LATE_PARTS):
            # The interpreter was held, or the whole process: who runs now is suspect.
            self._log.warning(
                'a heartbeat was late: a handler that holds the interpreter belongs into executor="process"',
                late_ms=late_ms,
                running=beat.running,
            )


def answer_seconds(beat: Beat, addresses: int) -> float:
    """For each connection and each answer. Between a beat and the end of the leases it renews lie ``lease_ms`` less
    ``heartbeat_ms``. An old connection that is dead and every address but one may use that up to two thirds at most."""
    slack_s = max(0, beat.lease_ms - beat.heartbeat_ms) / 1000
    return min(max(slack_s * 2 / 3 / addresses, ANSWER_S_MIN), ANSWER_S_MAX)


class Wire:
    """A blocking connection with one request under way. Raises Lost."""

    def __init__(self, address: Address, client: str, answer_s: float) -> None:
        self._protocol = ClientConnection()
        try:
            self._socket = socket.create_connection(address, answer_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise Lost(error.strerror or str(error)) from error
        try:
            answer = self.ask(answer_s, m.Hello(0, m.PROTOCOL_VERSION, m.PROTOCOL_VERSION, client))
            if isinstance(answer, m.ErrorReply):
                raise Lost(from_wire(answer.error).message)
        except Lost:
            self.close()
            raise

    def ask(self, answer_s: float, request: m.Message) -> m.Message:
        """The reply, which may be an ErrorReply of this request."""
        if self._protocol.state is State.LEAVING:
            raise Lost("the broker stops")
        try:
            self._socket.settimeout(answer_s)
            self._socket.sendall(self._protocol.send(request))
            while True:
                self._protocol.receive_data(self._socket.recv(READ_BYTES))
                answer = self._next()
                if answer is not None:
                    return answer
        except TimeoutError as error:
            raise Lost(f"no answer within {answer_s:.3g} s") from error
        except OSError as error:
            raise Lost(error.strerror or str(error)) from error
        except ProtocolError as error:
            raise Lost(f"the peer does not speak our protocol: {error.message}") from error

    def _next(self) -> m.Message | None:
        while True:
            event = self._protocol.next_event()
            if event is NEED_DATA:
                return None
            if isinstance(event, ConnectionClosed):
                raise Lost("the broker closed the connection")
            assert isinstance(event, m.Message)
            if isinstance(event, m.ErrorReply) and event.rid is None:
                raise Lost(from_wire(event.error).message)
            if event.TYPE & 0x80:
                return event  # GOAWAY and pushes are passed over; the state knows of the first

    def close(self) -> None:
        self._socket.close()
