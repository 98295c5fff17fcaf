"""One connection as a state machine without I/O: bytes in, messages out; messages in, bytes out.

    receive_data(bytes)     what the socket gave; empty at the end of the stream
    next_event()            a Message, NEED_DATA, ConnectionClosed, and at the broker Refused
    send(message) -> bytes  what to write

The two ends share one class and differ in their table of states. A table maps (state, trigger) to the next state;
what is not in it is forbidden: a ProtocolError if the peer did it, an AssertionError if we did. All that changes a
state goes through the table, and the picture in docs/protocol.md is checked against it.

    GREETING      nothing but HELLO yet; frames are small
    NEGOTIATING   HELLO is on its way, its answer is not
    OPEN          requests, replies, pushes
    LEAVING       GOAWAY was said: requests in flight are answered, new ones refused
    BROKEN        we saw a ProtocolError: all that may still be said is why
    CLOSED        nothing comes, nothing goes; ``send`` returns no bytes, since no one is there to read them

Rules
- A reply answers a request in flight, once, with the type that belongs to it, or an ErrorReply.
- A request id in flight twice is a ProtocolError. Above REQUESTS_IN_FLIGHT_MAX a request is Refused, as are those
  that are sound but out of bounds or unknown: the owner answers each Refused with an ErrorReply of its rid.
- HELLO without a common version, or with what is not there yet (auth), is Refused, and closes once it is answered.
- After ``next_event`` raised, the owner may send one ErrorReply without a rid, and close the socket.

What it does not do: time-outs and PING (the owner has the clock), retries, bounds on what is written but not yet
read (the owner has the socket), subscriptions and sessions, which outlive or underlie the requests it counts.

Rejected: raising for each refused request (the caller would have to find out which of its connections lives on);
a stream of frames without states (every owner would check HELLO and rids again, a little differently).
"""

from __future__ import annotations

import enum
from typing import Final, Generic, TypeVar

import attrs

from tq import limits
from tq.errors import (
    Backpressure,
    BrokerUnavailable,
    InvalidRequest,
    PayloadTooLarge,
    ProtocolError,
    TqError,
    Unsupported,
)
from tq.protocol import messages as m
from tq.protocol.codec import MESSAGES, REPLY_BIT, REQUEST_TYPE_MAX, decode, encode
from tq.protocol.frames import FrameReader

Message = m.Message


class State(enum.Enum):
    GREETING = "greeting"
    NEGOTIATING = "negotiating"
    OPEN = "open"
    LEAVING = "leaving"
    BROKEN = "broken"
    CLOSED = "closed"


class Trigger(enum.Enum):
    """What can happen. Which end does it follows from the kind: requests come from the client, the rest from the broker."""

    HELLO = "HELLO"
    HELLO_REPLY = "HELLO reply"
    HELLO_REFUSED = "HELLO refused"
    REQUEST = "request"
    REPLY = "reply"
    PUSH = "push"
    GOAWAY = "GOAWAY"
    FATAL = "error without rid"
    MISTAKE = "protocol error"
    END = "end of stream"


class NeedData(enum.Enum):
    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA


@attrs.frozen
class ConnectionClosed:
    """No more events. is_clean: the stream did not end inside a frame."""

    is_clean: bool


@attrs.frozen
class Refused:
    """A request that must not be done. The owner sends ``ErrorReply(rid, to_wire(error))``; with rid None that closes."""

    rid: int | None
    error: TqError


_S, _T = State, Trigger

# FATAL in GREETING: a broker may say why it closes before it has read our HELLO.
_SHARED: dict[tuple[State, Trigger], State] = {
    (_S.GREETING, _T.HELLO): _S.NEGOTIATING,
    (_S.NEGOTIATING, _T.HELLO_REPLY): _S.OPEN,
    (_S.NEGOTIATING, _T.HELLO_REFUSED): _S.CLOSED,
    (_S.OPEN, _T.REQUEST): _S.OPEN,
    (_S.OPEN, _T.REPLY): _S.OPEN,
    (_S.OPEN, _T.PUSH): _S.OPEN,
    (_S.OPEN, _T.GOAWAY): _S.LEAVING,
    (_S.LEAVING, _T.REPLY): _S.LEAVING,
    (_S.LEAVING, _T.PUSH): _S.LEAVING,
    # A broker that stops before HELLO was answered has nothing in flight to wait for.
    (_S.GREETING, _T.GOAWAY): _S.CLOSED,
    (_S.NEGOTIATING, _T.GOAWAY): _S.CLOSED,
    (_S.LEAVING, _T.GOAWAY): _S.LEAVING,
    (_S.BROKEN, _T.FATAL): _S.CLOSED,
    **{(state, _T.FATAL): _S.CLOSED for state in (_S.GREETING, _S.NEGOTIATING, _S.OPEN, _S.LEAVING)},
    **{(state, _T.MISTAKE): _S.BROKEN for state in (_S.GREETING, _S.NEGOTIATING, _S.OPEN, _S.LEAVING)},
    **{(state, _T.END): _S.CLOSED for state in State},
}

BROKER_STATES: Final = {
    **_SHARED,
    # The client may have sent it before it read GOAWAY: it is refused, not a fault.
    (_S.LEAVING, _T.REQUEST): _S.LEAVING,
}
CLIENT_STATES: Final = _SHARED


def _trigger_of(type_: int) -> Trigger:
    """By the number of a message; ErrorReply depends on its rid and is told apart where it occurs."""
    if type_ == m.Hello.TYPE:
        return Trigger.HELLO
    if type_ == m.HelloReply.TYPE:
        return Trigger.HELLO_REPLY
    if type_ == m.GoAway.TYPE:
        return Trigger.GOAWAY
    if type_ <= REQUEST_TYPE_MAX:
        return Trigger.REQUEST
    return Trigger.REPLY if type_ & REPLY_BIT else Trigger.PUSH


_ERROR = m.ErrorReply.TYPE
_ANY_REPLY = 0  # expected by a Refused that has no plan of its own: nothing but an ErrorReply

EventT = TypeVar("EventT")


class _Connection(Generic[EventT]):
    """What both ends have in common: the reader, the state, the requests in flight."""

    _states: dict[tuple[State, Trigger], State]

    def __init__(self) -> None:
        self.state = State.GREETING
        self._reader = FrameReader(limits.FRAME_HELLO_BYTES_MAX)
        self._in_flight: dict[int, int] = {}  # rid -> type of the reply
        self._at_end = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value}, {len(self._in_flight)} in flight>"

    @property
    def in_flight(self) -> int:
        """Requests that are not answered."""
        return len(self._in_flight)

    def receive_data(self, data: bytes) -> None:
        """Take what the socket gave; ``b""`` is the end of the stream. Then call ``next_event`` until NEED_DATA."""
        if data:
            self._reader.receive(data)
        else:
            self._at_end = True

    def next_event(self) -> EventT | NeedData | ConnectionClosed:
        """The next thing that the peer said.

        Raises:
            ProtocolError: the peer broke the protocol; the connection is BROKEN.
        """
        if self.state is State.CLOSED or self.state is State.BROKEN:
            return ConnectionClosed(is_clean=self.state is State.CLOSED and self._reader.is_at_border)
        try:
            frame = self._reader.next_frame()
            if frame is not None:
                return self._take(frame[0], frame[1])
        except ProtocolError:
            self._move(Trigger.MISTAKE)
            raise
        if not self._at_end:
            return NEED_DATA
        self._move(Trigger.END)
        return ConnectionClosed(is_clean=self._reader.is_at_border)

    def _take(self, type_: int, body: bytes) -> EventT:
        raise NotImplementedError

    def _move(self, trigger: Trigger) -> bool:
        """Whether the table allows it; if so the state has moved."""
        state = self._states.get((self.state, trigger))
        if state is None:
            return False
        if state is not self.state:
            self.state = state
            if state is State.OPEN:
                self._reader.frame_bytes_max = limits.FRAME_BYTES_MAX
        return True

    def _peer_did(self, trigger: Trigger, what: str) -> None:
        if not self._move(trigger):
            raise ProtocolError(f"{what} came while the connection was {self.state.value}")

    def _we_did(self, trigger: Trigger, message: Message) -> None:
        before = self.state
        is_allowed = self._move(trigger)
        assert is_allowed, f"{type(message).__name__} sent while the connection was {before.value}"


class BrokerConnection(_Connection["Message | Refused"]):
    """The broker's end of one connection."""

    _states = BROKER_STATES

    def skip_hello(self) -> None:
        """It was answered elsewhere: this end begins open."""
        self.state = State.OPEN
        self._reader.frame_bytes_max = limits.FRAME_BYTES_MAX

    def _take(self, type_: int, body: bytes) -> Message | Refused:
        if type_ > REQUEST_TYPE_MAX:
            raise ProtocolError(f"message type {type_:#04x} is not a request")
        # The fast way of the common case; everything else goes by the table.
        if self.state is not State.OPEN or type_ == m.Hello.TYPE:
            self._peer_did(_trigger_of(type_), f"request type {type_:#04x}")
        try:
            message = decode(type_, body)
        except (InvalidRequest, PayloadTooLarge, Unsupported) as error:
            return self._refuse(type_, error.detail.pop("rid"), error)
        rid: int = message.rid  # type: ignore[attr-defined]  # every request has one
        in_flight = self._in_flight
        if rid in in_flight:
            raise ProtocolError(f"request id {rid} is in flight already")
        in_flight[rid] = type_ | REPLY_BIT
        if len(in_flight) > limits.REQUESTS_IN_FLIGHT_MAX:
            text = f"{limits.REQUESTS_IN_FLIGHT_MAX} requests of this connection are in flight; wait for replies"
            return Refused(rid, Backpressure(text, retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000))
        if self.state is not State.OPEN:
            return self._judge(rid, message)
        return message

    def _judge(self, rid: int, message: Message) -> Message | Refused:
        """HELLO, and what comes behind GOAWAY."""
        if self.state is State.LEAVING:
            return Refused(rid, BrokerUnavailable("this broker is stopping; nothing was done", retry_after=0.2))
        assert isinstance(message, m.Hello)
        if not message.version_min <= m.PROTOCOL_VERSION <= message.version_max:
            wanted = f"{message.version_min} .. {message.version_max}"
            detail = {"field": "version", "version_min": m.PROTOCOL_VERSION, "version_max": m.PROTOCOL_VERSION}
            text = f"this broker speaks version {m.PROTOCOL_VERSION} of the protocol, the client {wanted}"
            return Refused(rid, Unsupported(text, detail=detail))
        if message.auth is not None:
            return Refused(rid, Unsupported("auth is not supported yet", detail={"field": "auth"}))
        return message

    def _refuse(self, type_: int, rid: int | None, error: TqError) -> Refused:
        if rid is not None:
            if rid in self._in_flight:
                raise ProtocolError(f"request id {rid} is in flight already")
            self._in_flight[rid] = type_ | REPLY_BIT if type_ in MESSAGES else _ANY_REPLY
        return Refused(rid, error)

    def send(self, message: Message) -> bytes:
        """The bytes of a reply, a push or GOAWAY. Empty when the connection is over.

        Raises:
            PayloadTooLarge: the frame is above its bound; the request is still in flight.
            AssertionError: nothing asked for this reply.
        """
        if self.state is State.CLOSED:
            return b""
        type_ = message.TYPE
        if self.state is State.BROKEN and not (type_ == _ERROR and message.rid is None):  # type: ignore[attr-defined]
            return b""
        assert type_ > REQUEST_TYPE_MAX, f"a broker does not send {type(message).__name__}"
        data = encode(message)
        if type_ & REPLY_BIT:
            rid: int | None = message.rid  # type: ignore[attr-defined]  # every reply has one
            if rid is None:
                self._we_did(Trigger.FATAL, message)
                return data
            expected = self._in_flight.pop(rid, None)
            assert expected is not None, f"{type(message).__name__} answers {rid}, which is not in flight"
            assert type_ in (expected, _ERROR), f"{type(message).__name__} does not answer a request of {rid}"
            if self.state is not State.OPEN:
                trigger = Trigger.REPLY
                if expected == m.HelloReply.TYPE:
                    trigger = Trigger.HELLO_REFUSED if type_ == _ERROR else Trigger.HELLO_REPLY
                self._we_did(trigger, message)
        else:
            self._we_did(_trigger_of(type_), message)
        return data


class ClientConnection(_Connection[Message]):
    """The client's or worker's end of one connection. The owner sends HELLO first, and bounds what is in flight."""

    _states = CLIENT_STATES

    def __init__(self) -> None:
        super().__init__()
        self._versions = (0, 0)  # that HELLO offered

    def send(self, message: Message) -> bytes:
        """The bytes of a request. Empty when the connection is over.

        Raises:
            PayloadTooLarge: the frame is above its bound; nothing has changed.
            AssertionError: not a request, not now, or its rid is in flight.
        """
        if self.state is State.CLOSED or self.state is State.BROKEN:
            return b""
        type_ = message.TYPE
        assert type_ <= REQUEST_TYPE_MAX, f"a client does not send {type(message).__name__}"
        rid: int = message.rid  # type: ignore[attr-defined]  # every request has one
        assert rid not in self._in_flight, f"request id {rid} is in flight"
        data = encode(message)
        if self.state is not State.OPEN or type_ == m.Hello.TYPE:
            self._we_did(_trigger_of(type_), message)
        if isinstance(message, m.Hello):
            self._versions = (message.version_min, message.version_max)
        self._in_flight[rid] = type_ | REPLY_BIT
        return data

    def _take(self, type_: int, body: bytes) -> Message:
        if type_ <= REQUEST_TYPE_MAX:
            raise ProtocolError(f"a broker sent request type {type_:#04x}")
        message = decode(type_, body)
        if not type_ & REPLY_BIT:
            self._peer_did(_trigger_of(type_), type(message).__name__)
            return message
        rid: int | None = message.rid  # type: ignore[attr-defined]  # every reply has one
        if rid is None:
            self._peer_did(Trigger.FATAL, "an error without request id")
            return message
        expected = self._in_flight.pop(rid, None)
        if expected is None:
            raise ProtocolError(f"{type(message).__name__} answers {rid}, which is not in flight")
        if type_ not in (expected, _ERROR):
            raise ProtocolError(f"{type(message).__name__} does not answer request {rid}")
        if self.state is not State.OPEN:
            self._open(expected, message)
        return message

    def _open(self, expected: int, message: Message) -> None:
        trigger = Trigger.REPLY
        if expected == m.HelloReply.TYPE:
            trigger = Trigger.HELLO_REFUSED
            if isinstance(message, m.HelloReply):
                trigger = Trigger.HELLO_REPLY
                if not self._versions[0] <= message.version <= self._versions[1]:
                    raise ProtocolError(f"the broker chose version {message.version}, which was not offered")
        self._peer_did(trigger, type(message).__name__)
