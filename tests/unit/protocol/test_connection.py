"""Two ends joined without a socket: what each state allows, and what comes of everything else."""

from __future__ import annotations

import pytest

from tq import cbor, limits
from tq.errors import BrokerUnavailable, InvalidRequest, ProtocolError, TqError, Unsupported, from_wire, to_wire
from tq.protocol import messages as m
from tq.protocol.codec import encode
from tq.protocol.connection import (
    BROKER_STATES,
    CLIENT_STATES,
    NEED_DATA,
    BrokerConnection,
    ClientConnection,
    ConnectionClosed,
    NeedData,
    Refused,
    State,
    Trigger,
)
from tq.protocol.frames import encode_frame

ID = bytes(16)
HELLO = m.Hello(0, 1, 1, "test")
HELLO_REPLY = m.HelloReply(0, 1, [], {}, 1, ID, "n1", None, "tq", 1)
GOAWAY = m.GoAway("stopping")
FATAL = m.ErrorReply(None, to_wire(ProtocolError("no")))

Event = m.Message | Refused | NeedData | ConnectionClosed


def error(rid: int | None, cause: TqError) -> m.ErrorReply:
    return m.ErrorReply(rid, to_wire(cause))


class Pair:
    """A client and a broker; ``ask`` and ``tell`` carry one message across and return what came out."""

    def __init__(self, greeted: bool = True) -> None:
        self.client = ClientConnection()
        self.broker = BrokerConnection()
        if greeted:
            assert self.ask(HELLO) == HELLO
            assert self.tell(HELLO_REPLY) == HELLO_REPLY

    def ask(self, message: m.Message) -> Event:
        self.broker.receive_data(self.client.send(message))
        return self.broker.next_event()

    def tell(self, message: m.Message) -> Event:
        self.client.receive_data(self.broker.send(message))
        return self.client.next_event()

    @property
    def states(self) -> tuple[State, State]:
        return self.client.state, self.broker.state


def test_life_of_a_connection() -> None:
    pair = Pair(greeted=False)
    assert pair.states == (State.GREETING, State.GREETING)
    assert pair.ask(HELLO) == HELLO
    assert pair.states == (State.NEGOTIATING, State.NEGOTIATING)
    assert pair.tell(HELLO_REPLY) == HELLO_REPLY
    assert pair.states == (State.OPEN, State.OPEN)
    for rid in (5, 6):
        pair.ask(m.Ping(rid))
    assert (pair.client.in_flight, pair.broker.in_flight) == (2, 2)
    assert pair.tell(m.PingReply(6, 1)) == m.PingReply(6, 1)  # any order
    push = m.Event(3, [])
    assert pair.tell(push) == push
    assert pair.tell(GOAWAY) == GOAWAY
    assert pair.states == (State.LEAVING, State.LEAVING)
    assert pair.tell(m.PingReply(5, 1)) == m.PingReply(5, 1)
    assert (pair.client.in_flight, pair.broker.in_flight) == (0, 0)
    for end in (pair.client, pair.broker):
        end.receive_data(b"")
        assert end.next_event() == ConnectionClosed(is_clean=True)
        assert end.state is State.CLOSED
    assert pair.broker.send(GOAWAY) == b""
    assert pair.client.send(m.Ping(1)) == b""
    assert repr(pair.broker) == "<BrokerConnection closed, 0 in flight>"


def test_byte_by_byte_and_many_at_once() -> None:
    requests = [m.Ping(rid) for rid in range(1, 6)]
    data = b"".join(encode(request) for request in requests)
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        pair = Pair()
        got: list[Event] = []
        for piece in pieces:
            pair.broker.receive_data(piece)
            while (event := pair.broker.next_event()) is not NEED_DATA:
                got.append(event)
        assert got == requests


def test_end_inside_a_frame() -> None:
    pair = Pair()
    pair.broker.receive_data(encode(m.Ping(1))[:-1])
    pair.broker.receive_data(b"")
    assert pair.broker.next_event() == ConnectionClosed(is_clean=False)


def test_whole_frames_before_the_end_are_read() -> None:
    pair = Pair()
    pair.broker.receive_data(encode(m.Ping(1)))
    pair.broker.receive_data(b"")
    assert pair.broker.next_event() == m.Ping(1)
    assert pair.broker.next_event() == ConnectionClosed(is_clean=True)
    assert pair.broker.next_event() == ConnectionClosed(is_clean=True)


# ---- HELLO -----------------------------------------------------------------------------------------


def test_hello_comes_first_and_once() -> None:
    for greeted, message in ((False, m.Ping(1)), (True, HELLO)):
        broker = Pair(greeted).broker
        broker.receive_data(encode(message))
        with pytest.raises(ProtocolError):
            broker.next_event()
        assert broker.state is State.BROKEN


def test_nothing_before_hello_is_answered() -> None:
    pair = Pair(greeted=False)
    pair.ask(HELLO)
    pair.broker.receive_data(encode(m.Ping(1)))
    with pytest.raises(ProtocolError):
        pair.broker.next_event()


@pytest.mark.parametrize(("least", "most"), [(2, 3), (0, 0), (3, 1)])
def test_no_common_version(least: int, most: int) -> None:
    pair = Pair(greeted=False)
    refused = pair.ask(m.Hello(9, least, most, "future"))
    assert isinstance(refused, Refused)
    assert refused.rid == 9
    assert isinstance(refused.error, Unsupported)
    assert refused.error.detail["version_max"] == m.PROTOCOL_VERSION
    reply = pair.tell(error(9, refused.error))
    assert isinstance(reply, m.ErrorReply)
    assert isinstance(from_wire(reply.error), Unsupported)
    assert pair.states == (State.CLOSED, State.CLOSED)
    assert isinstance(pair.broker.next_event(), ConnectionClosed)


def test_hello_out_of_bounds_closes_when_it_is_answered() -> None:
    pair = Pair(greeted=False)
    refused = pair.ask(m.Hello(9, 1, 1, "c" * 300))
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, InvalidRequest)
    pair.tell(error(9, refused.error))
    assert pair.states == (State.CLOSED, State.CLOSED)


def test_authentication_is_refused_not_ignored() -> None:
    pair = Pair(greeted=False)
    refused = pair.ask(m.Hello(9, 1, 1, "c", [], ["key", "secret"]))
    assert isinstance(refused, Refused)
    assert "auth is not supported yet" in refused.error.message
    pair.tell(error(9, refused.error))
    assert pair.states == (State.CLOSED, State.CLOSED)


def test_broker_chooses_what_was_offered() -> None:
    pair = Pair(greeted=False)
    pair.ask(HELLO)
    pair.client.receive_data(encode(m.HelloReply(0, 2, [], {}, 1, ID, "n1", None, "tq", 1)))
    with pytest.raises(ProtocolError, match="version 2"):
        pair.client.next_event()


def test_frames_are_small_before_hello() -> None:
    data = encode_frame(m.Hello.TYPE, bytes(limits.FRAME_HELLO_BYTES_MAX))
    broker = BrokerConnection()
    broker.receive_data(data[:4])
    with pytest.raises(ProtocolError, match="65,536"):
        broker.next_event()
    spec = bytes(limits.FRAME_HELLO_BYTES_MAX)
    assert isinstance(Pair().ask(m.SubmitTask(1, [spec])), m.SubmitTask)


# ---- requests in flight ----------------------------------------------------------------------------


def test_a_request_id_is_in_flight_once() -> None:
    pair = Pair()
    data = pair.client.send(m.Ping(1))
    with pytest.raises(AssertionError):
        pair.client.send(m.Stats(1))
    for again in (data, encode_frame(0x3F, cbor.dumps([1]))):
        broker = Pair().broker
        broker.receive_data(data + again)
        assert broker.next_event() == m.Ping(1)
        with pytest.raises(ProtocolError, match="in flight"):
            broker.next_event()


def test_a_request_id_is_free_again_after_the_reply() -> None:
    pair = Pair()
    for _ in range(3):
        assert pair.ask(m.Ping(1)) == m.Ping(1)
        assert pair.tell(m.PingReply(1, 1)) == m.PingReply(1, 1)


def test_too_many_in_flight_are_refused_and_the_connection_lives() -> None:
    pair = Pair()
    most = limits.REQUESTS_IN_FLIGHT_MAX
    for rid in range(most):
        assert pair.ask(m.Ping(rid)) == m.Ping(rid)
    refused = pair.ask(m.Ping(most))
    assert isinstance(refused, Refused)
    assert refused.rid == most
    assert refused.error.code == "BACKPRESSURE"
    assert refused.error.retryable
    assert refused.error.retry_after == limits.OVERLOAD_RETRY_AFTER_MS / 1000
    assert isinstance(pair.tell(error(most, refused.error)), m.ErrorReply)
    assert pair.tell(m.PingReply(0, 1)) == m.PingReply(0, 1)
    assert pair.ask(m.Ping(most)) == m.Ping(most)
    assert pair.broker.in_flight == most


def test_replies_match_their_requests() -> None:
    for data in (
        encode(m.PingReply(2, 1)),  # not in flight
        encode(m.StatsReply(1, 1, {})),  # of another request
        encode(error(2, Unsupported("no"))),
        encode(m.HelloReply(1, 1, [], {}, 1, ID, "n1", None, "tq", 1)),
    ):
        pair = Pair()
        pair.ask(m.Ping(1))
        pair.client.receive_data(data)
        with pytest.raises(ProtocolError):
            pair.client.next_event()
        assert pair.client.state is State.BROKEN
        assert isinstance(pair.client.next_event(), ConnectionClosed)


def test_our_own_replies_must_match_too() -> None:
    for reply in (m.PingReply(2, 1), m.StatsReply(1, 1, {}), error(2, Unsupported("no"))):
        pair = Pair()
        pair.ask(m.Ping(1))
        with pytest.raises(AssertionError):
            pair.broker.send(reply)
    pair = Pair()
    pair.ask(m.Ping(1))
    pair.broker.send(m.PingReply(1, 1))
    with pytest.raises(AssertionError):
        pair.broker.send(m.PingReply(1, 1))


def test_a_reply_that_is_too_large_leaves_the_request_in_flight() -> None:
    pair = Pair()
    pair.ask(m.GetTask(1, ID))
    with pytest.raises(TqError, match="at most"):
        pair.broker.send(m.GetReply(1, 1, {"payload": bytes(limits.FRAME_BYTES_MAX)}))
    assert isinstance(pair.tell(error(1, BrokerUnavailable("too large"))), m.ErrorReply)


# ---- what is refused, and what is fatal ------------------------------------------------------------


def test_one_bad_request_does_not_end_the_others() -> None:
    pair = Pair()
    pair.ask(m.Ping(1))
    for raw, kind in (
        (encode_frame(m.GetTask.TYPE, cbor.dumps([2, b"short"])), InvalidRequest),
        (encode_frame(0x3E, cbor.dumps([2, "?"])), Unsupported),
        (encode_frame(m.Ping.TYPE, cbor.dumps([2, "?"])), Unsupported),
    ):
        pair.broker.receive_data(raw)
        refused = pair.broker.next_event()
        assert isinstance(refused, Refused)
        assert refused.rid == 2
        assert type(refused.error) is kind
        assert "rid" not in refused.error.detail
        assert pair.broker.in_flight == 2
        assert pair.broker.send(error(2, refused.error))
        assert pair.broker.in_flight == 1
    assert pair.tell(m.PingReply(1, 1)) == m.PingReply(1, 1)


def test_unknown_request_without_an_id_closes() -> None:
    pair = Pair()
    pair.broker.receive_data(encode_frame(0x3E, cbor.dumps({})))
    refused = pair.broker.next_event()
    assert isinstance(refused, Refused)
    assert refused.rid is None
    assert pair.tell(error(None, refused.error)) == error(None, refused.error)
    assert pair.states == (State.CLOSED, State.CLOSED)


def test_after_a_mistake_only_the_reason_is_said() -> None:
    pair = Pair()
    pair.ask(m.Ping(1))
    pair.broker.receive_data(b"\xff" * 8 + encode(m.Ping(2)))
    with pytest.raises(ProtocolError):
        pair.broker.next_event()
    assert pair.broker.next_event() == ConnectionClosed(is_clean=False)
    assert pair.broker.send(m.PingReply(1, 1)) == b""
    assert pair.broker.send(GOAWAY) == b""
    assert pair.broker.send(FATAL) == encode(FATAL)
    assert pair.broker.send(FATAL) == b""


def test_a_broker_may_close_before_hello() -> None:
    pair = Pair(greeted=False)
    pair.client.send(HELLO)
    assert pair.tell(FATAL) == FATAL
    assert pair.states == (State.CLOSED, State.CLOSED)
    pair = Pair(greeted=False)
    pair.client.send(HELLO)
    assert pair.tell(GOAWAY) == GOAWAY
    assert pair.states == (State.CLOSED, State.CLOSED)


def test_behind_goaway() -> None:
    pair = Pair()
    late = pair.client.send(m.Ping(1))  # crosses GOAWAY on its way
    pair.tell(GOAWAY)
    pair.broker.receive_data(late)
    refused = pair.broker.next_event()
    assert isinstance(refused, Refused)
    assert refused.rid == 1
    assert refused.error.retryable
    assert isinstance(pair.tell(error(1, refused.error)), m.ErrorReply)
    with pytest.raises(AssertionError):
        pair.client.send(m.Ping(2))
    assert pair.tell(GOAWAY) == GOAWAY


def test_each_end_speaks_its_own_part() -> None:
    pair = Pair()
    for message in (m.PingReply(1, 1), GOAWAY, FATAL):
        with pytest.raises(AssertionError):
            pair.client.send(message)
        broker = Pair().broker
        broker.receive_data(encode(message))
        with pytest.raises(ProtocolError):
            broker.next_event()
    with pytest.raises(AssertionError):
        pair.broker.send(m.Ping(1))
    pair.client.receive_data(encode(m.Ping(1)))
    with pytest.raises(ProtocolError):
        pair.client.next_event()


def test_pushes_wait_for_hello() -> None:
    client = ClientConnection()
    client.send(HELLO)
    client.receive_data(encode(m.Event(1, [])))
    with pytest.raises(ProtocolError):
        client.next_event()
    with pytest.raises(AssertionError):
        BrokerConnection().send(m.Event(1, []))


# ---- the tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [BROKER_STATES, CLIENT_STATES], ids=["broker", "client"])
def test_tables(table: dict[tuple[State, Trigger], State]) -> None:
    ends = {State.BROKEN, State.CLOSED}
    for (state, trigger), following in table.items():
        assert state is not State.CLOSED or (trigger, following) == (Trigger.END, State.CLOSED)
        if state is State.BROKEN:
            assert following is State.CLOSED
        # Nothing leads back.
        assert list(State).index(following) >= list(State).index(state)
    reached = {State.GREETING}
    for _ in State:
        reached |= {following for (state, _), following in table.items() if state in reached}
    assert reached == set(State)
    for state in set(State) - ends:
        assert table[state, Trigger.END] is State.CLOSED
        assert table[state, Trigger.MISTAKE] is State.BROKEN
