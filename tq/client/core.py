"""The client without its socket: what to send, where to connect, what may be sent again, when to give up.

Theory. The core owns the calls. A *call* is one request that somebody waits for: it stands in the queue, then
is in flight on the present connection, then has a reply or an error. The shell owns the socket and the waiting:

    start(make, ...) -> Call      a caller wants something
    step() -> Connect | Close | Wait     what the shell must do now; the clock enters here
    connected / connect_failed / received / lost        what happened to the shell's socket
    take_output() -> bytes        to be written to the present connection
    finished                      calls that are done, for the shell to wake their callers

Rules
- Every request may be sent again on a new connection: submits carry task ids, reports carry fences, claims their
  number, retries and purges an operation id, the rest reads. So a lost connection is not an error of a call: its
  calls go back to the queue, in the order they were started. A call ends by a reply, by an error of the broker
  that is about it, or by its deadline.
- NOT_LEADER and UNAVAILABLE as answers mean "not done, ask again": the call is sent again a little later, to the
  leader if one is named. Who finds no leader for longer than an election takes may be cut off: then another address is
  tried. Other errors, overload too, are the caller's to see.
- A call that is given up is forgotten here, and the broker is told if it may have it parked.
- GOAWAY: no new request enters that connection; what is in flight has DRAIN_MS to be answered.
- A peer that is silent while it owes an answer is asked (PING), then taken for dead; sooner if there is another one.
- ``last_index`` is the highest index any reply named; reads ask for it, so a client never goes back in time. It
  belongs to one cluster: another cluster id in HELLO begins again at 0.
- A connection is made when a call or a subscription needs one, and kept.

Rejected: a second connection while the first drains (two sockets for every shell, to save less than DRAIN_MS
once a restart); waking the I/O thread for each deadline (the caller that waits knows its own).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs

from tq.errors import BrokerUnavailable, NotLeader, PayloadTooLarge, ProtocolError, TqError, from_wire
from tq.protocol import messages as m
from tq.protocol.addresses import BACKOFF_MS_MAX, BACKOFF_MS_MIN, Address, Addresses, backoff_ms, show
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed
from tq.world import Clock, Random

IN_FLIGHT_MAX: Final = 1_000  # below the broker's bound: calls given up still count there
CONNECT_MS: Final = 5_000  # to get a socket
HELLO_MS: Final = 5_000  # to get the answer to HELLO
RETRY_MS_DEFAULT: Final = 100  # before a request is sent again that was answered "not now"
DRAIN_MS: Final = 1_000
PING_MS: Final = 5_000  # silence after which a peer that owes an answer is asked
PING_IDLE_MS: Final = 60_000  # keeps an idle connection from being closed
DEAD_MS: Final = 10_000  # silence after a PING
PING_OTHERS_MS: Final = 1_000  # the same when there are other addresses
DEAD_OTHERS_MS: Final = 2_000
ELSEWHERE_MS: Final = 1_500  # without a leader, before another address is tried: longer than most elections
HELLO_RID: Final = 0
ORDINAL_LAST: Final = (1 << 31) - 1

Make = Callable[[int], m.Message]
"""Makes the request for a rid; called again when it is sent again."""


class State(enum.Enum):
    IDLE = "idle"  # no connection; one is made when something needs it
    BACKOFF = "backoff"
    CONNECTING = "connecting"
    GREETING = "greeting"  # HELLO is sent
    READY = "ready"
    LEAVING = "leaving"  # open, but takes no new requests
    CLOSED = "closed"


class Call:
    """One request somebody waits for. ``reply`` or ``error`` is set when ``done``."""

    __slots__ = (
        "deadline_ms", "done", "error", "make", "number", "refusal", "refused_by", "refused_ms", "reply", "sent",
        "started_ms", "waiter",
    )  # fmt: skip

    def __init__(self, number: int, make: Make, started_ms: int, deadline_ms: int | None, waiter: Any) -> None:
        self.number = number
        self.make = make
        self.started_ms = started_ms
        self.deadline_ms = deadline_ms
        self.waiter = waiter
        self.done = False
        self.sent = False  # on any connection, ever
        self.reply: Any = None
        self.error: TqError | None = None
        self.refusal: TqError | None = None  # the last "not now"
        self.refused_by: ClientConnection | None = None  # that it came on, and since when it says so
        self.refused_ms = 0


@attrs.define(eq=False)
class Subscription:
    """Events from ``position`` on, over all connections. ``sink`` gets rows, or a reason why there will be no more."""

    id: bytes | None
    position: tuple[int, int] | None
    sink: Callable[[list[list[Any]] | TqError], None]
    complete: bool = True  # no gap so far
    call: Call | None = None  # the Subscribe under way
    rid: int | None = None  # of the Subscribe that holds on the present connection


@attrs.frozen
class Connect:
    """Open a socket, in at most CONNECT_MS; then ``connected`` or ``connect_failed``."""

    address: Address


@attrs.frozen
class Close:
    """Close the socket; the core has done with it."""


@attrs.frozen
class Wait:
    """Nothing to do before ``until_ms`` (monotonic), None: before something happens."""

    until_ms: int | None


Step = Connect | Close | Wait


class ClientCore:
    """See the theory above. Not safe for threads; the shell holds its lock."""

    def __init__(self, addresses: Addresses, clock: Clock, random: Random, name: str, reach_ms: int | None) -> None:
        """reach_ms: calls fail when no broker could be reached for so long; None: at their deadline only. Those that have no
        deadline, as a subscription that was lost and goes on, are nobody's to wait for, and never fail so."""
        self.state = State.IDLE
        self.last_index = 0
        self.cluster_id: bytes | None = None
        self.finished: list[Call] = []
        self.on_cancel: dict[bytes, Callable[[list[list[Any]]], None]] = {}  # session -> told of CANCEL_RUNNING
        self.hello: m.HelloReply | None = None
        self._addresses = addresses
        self._clock = clock
        self._random = random
        self._name = name
        self._reach_ms = reach_ms
        self._has_others = len(addresses) > 1
        self._quiet_ms, self._dead_ms = (PING_OTHERS_MS, DEAD_OTHERS_MS) if self._has_others else (PING_MS, DEAD_MS)
        self._address: Address | None = None
        self._connection: ClientConnection | None = None
        self._close_wanted = False
        self._number = 0
        self._queue: deque[Call] = deque()
        self._flying: dict[int, Call] = {}
        self._later: list[tuple[int, Call]] = []  # (when, call) answered "not now"
        self._out: list[bytes] = []
        self._until_ms = 0  # the end of the present BACKOFF, GREETING or LEAVING
        self._failures = 0  # connections in a row that did not become ready
        self._failure = "no connection was tried yet"
        self._heard_ms = 0
        self._ping_ms: int | None = None  # when the PING was sent that is not answered
        self._subscriptions: dict[int, Subscription] = {}  # by the rid that holds on this connection

    # ---- callers -----------------------------------------------------------------------------------

    def start(self, make: Make, deadline_ms: int | None, waiter: Any = None) -> Call:
        """Begin a call; its request leaves with the next ``take_output`` if there is a connection and room."""
        self._number += 1
        call = Call(self._number, make, self._clock.monotonic_ms(), deadline_ms, waiter)
        if self.state is State.CLOSED:
            self._finish(call, error=_closed())
        elif self.state is State.READY and not self._queue and len(self._flying) < IN_FLIGHT_MAX:
            self._write(call)
        else:
            self._queue.append(call)
        return call

    def give_up(self, call: Call) -> None:
        """Its deadline is over, or its caller went away: end it now. A reply that comes later is dropped."""
        if call.done:
            return
        if self._flying.get(_rid(call.number)) is call:
            self._tell_given_up(call)
        self._forget(call)
        self._finish(call, error=self._unavailable(call))
        self.finished.remove(call)

    def abandon(self, call: Call) -> None:
        """Its caller went away: ``give_up``, or if the answer is here, nobody takes it."""
        if not call.done:
            self.give_up(call)
        elif isinstance(call.reply, m.ClaimReply) and call.reply.grants:
            self._tell_given_up(call)

    def _tell_given_up(self, call: Call) -> None:
        """What is parked at the broker is let go, and what a claim was granted goes back. It is told once: what is parked dies
        with its connection, and a claim that is made again has its number."""
        if self.state is not State.READY:
            return
        rid = _rid(call.number)
        message = call.make(rid)
        if isinstance(message, m.ClaimTask):
            claim = [message.session, message.seq]
        elif isinstance(message, m.WaitTask):
            claim = None
        else:
            return  # it is answered soon
        self._number += 1
        self._send(m.GiveUp(_rid(self._number), rid, claim))

    def subscribe(self, subscription: Subscription, deadline_ms: int | None, waiter: Any = None) -> Call:
        """Begin a subscription; it lives over connections until ``unsubscribe``."""

        def make(rid: int) -> m.Message:
            after = None if subscription.position is None else list(subscription.position)
            self._subscriptions[rid] = subscription
            subscription.rid = rid
            return m.Subscribe(rid, subscription.id, after)

        subscription.call = self.start(make, deadline_ms, waiter)
        return subscription.call

    def unsubscribe(self, subscription: Subscription) -> None:
        """End it. Nothing waits for the broker's answer: events that still come are dropped."""
        rid = subscription.rid
        if subscription.call is not None and not subscription.call.done:
            self._forget(subscription.call)
        if rid is not None and self._subscriptions.pop(rid, None) is not None and self.state is State.READY:
            self._number += 1
            self._send(m.Unsubscribe(_rid(self._number), rid))
        subscription.rid = None

    @property
    def is_wanted(self) -> bool:
        """Somebody waits for something."""
        return bool(self._queue or self._flying or self._later or self._subscriptions)

    @property
    def is_on_its_way(self) -> bool:
        """There is a connection that takes requests."""
        return self.state is State.READY

    @property
    def is_steady(self) -> bool:
        """A connection takes requests, and nothing but time can make ``step`` say something new."""
        return self.state is State.READY and not self._later and not self._close_wanted

    @property
    def address(self) -> str | None:
        return None if self._address is None else show(self._address)

    def close(self) -> None:
        """No more calls. Those under way end with an error."""
        if self.state is State.CLOSED:
            return
        for call in [*self._flying.values(), *self._queue, *(call for _when, call in self._later)]:
            self._finish(call, error=_closed())
        subscriptions = list(self._subscriptions.values())
        self._flying.clear()
        self._queue.clear()
        self._later.clear()
        self._drop_connection()
        self._subscriptions.clear()
        self.state = State.CLOSED
        for subscription in subscriptions:
            subscription.sink(_closed())

    # ---- the shell ---------------------------------------------------------------------------------

    def step(self) -> Step:
        """Let time pass, and say what the shell must do. Call again after Connect and Close are done."""
        now_ms = self._clock.monotonic_ms()
        if self._close_wanted:
            self._close_wanted = False
            return Close()
        self._send_again(now_ms)
        match self.state:
            case State.IDLE if self.is_wanted:
                self.state = State.CONNECTING
                self._address = self._addresses.take()
                return Connect(self._address)
            case State.BACKOFF:
                self._end_unreachable(now_ms)
                if now_ms >= self._until_ms or not self.is_wanted:
                    self.state = State.IDLE
                    return self.step()
            case State.GREETING if now_ms >= self._until_ms:
                self._fail(f"{self.address} did not answer HELLO within {HELLO_MS} ms")
                return self.step()
            case State.LEAVING if now_ms >= self._until_ms or not self._flying:
                self.lost("the broker said GOAWAY")
                return self.step()
            case State.READY if self._is_dead(now_ms):
                return self.step()
        return Wait(self._wake_ms())

    def connected(self) -> None:
        """The socket is open: say HELLO."""
        if self.state is State.CLOSED:
            self._close_wanted = True
            return
        self._connection = ClientConnection()
        self.state = State.GREETING
        self._until_ms = self._clock.monotonic_ms() + HELLO_MS
        self._send(m.Hello(HELLO_RID, m.PROTOCOL_VERSION, m.PROTOCOL_VERSION, self._name))

    def connect_failed(self, why: str) -> None:
        """There is no socket."""
        if self.state is not State.CLOSED:
            self._fail(f"{self.address}: {why}")

    def received(self, data: bytes) -> None:
        """Bytes of the present connection; empty at the end of the stream."""
        connection = self._connection
        if connection is None:
            return
        self._heard_ms = self._clock.monotonic_ms()
        self._ping_ms = None
        try:
            connection.receive_data(data)
            while self._connection is connection:
                event = connection.next_event()
                if event is NEED_DATA:
                    break
                if isinstance(event, ConnectionClosed):
                    self.lost("the broker closed the connection")
                    return
                self._message(event)
        except ProtocolError as error:
            self._end_flying(error)
            self.lost(f"the peer does not speak our protocol: {error.message}")

    def lost(self, why: str) -> None:
        """The present connection is over; what was in flight is sent again on the next one."""
        if self._connection is None:
            return
        if self.state is State.GREETING:
            self._fail(f"{self.address}: {why}")
            return
        self._failure = f"{self.address}: {why}"
        self.state = State.IDLE
        self._drop_connection()
        self._requeue()

    def take_output(self) -> bytes:
        """Bytes to write, in order, to the present connection."""
        if len(self._out) == 1:
            return self._out.pop()
        data = b"".join(self._out)
        self._out.clear()
        return data

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    # ---- messages ----------------------------------------------------------------------------------

    def _message(self, event: Any) -> None:
        kind = event.__class__
        if kind is m.ErrorReply:
            self._error(event.rid, from_wire(event.error))
        elif kind is m.HelloReply:
            self._greeted(event)
        elif kind is m.Event:
            self._events(event)
        elif kind is m.CancelRunning:
            told = self.on_cancel.get(event.session)
            if told is not None:
                told(event.tasks)
        elif kind is m.GoAway:
            self._addresses.prefer(event.leader)
            self._leave()
        else:
            index = getattr(event, "index", 0)
            if index > self.last_index:
                self.last_index = index
            call = self._flying.pop(event.rid, None)
            if call is not None:
                if kind is m.SubscribeReply:
                    self._subscribed(event)
                self._finish(call, reply=event)
                self._fill()

    def _greeted(self, hello: m.HelloReply) -> None:
        if self.state is not State.GREETING:
            raise ProtocolError("HELLO was answered twice")
        if self.cluster_id is not None and hello.cluster_id != self.cluster_id:
            self.last_index = 0
        self.cluster_id = hello.cluster_id
        self.hello = hello
        self.state = State.READY
        self._failures = 0
        self._fill()

    def _error(self, rid: int | None, error: TqError) -> None:
        if rid is None:
            if not error.retryable:
                self._end_flying(error)
            self.lost(error.message)
            return
        if self.state is State.GREETING:
            self._refused(error)
            return
        call = self._flying.pop(rid, None)
        if call is None:
            return
        if isinstance(error, (NotLeader, BrokerUnavailable)):
            self._not_now(call, error)
        else:
            self._subscriptions.pop(rid, None)
            self._finish(call, error=error)
        self._fill()

    def _refused(self, error: TqError) -> None:
        """HELLO was refused: for good, and every caller must know, or for now."""
        if not error.retryable:
            waiting, self._queue = self._queue, deque()
            for call in waiting:
                self._finish(call, error=error)
        self._addresses.prefer(error.leader)
        self._fail(f"{self.address}: {error.message}")

    def _not_now(self, call: Call, error: TqError) -> None:
        call.refusal = error
        now_ms = self._clock.monotonic_ms()
        if call.refused_by is not self._connection:
            call.refused_by, call.refused_ms = self._connection, now_ms
        wait_ms = RETRY_MS_DEFAULT if error.retry_after is None else round(error.retry_after * 1000)
        self._later.append((now_ms + self._jitter(max(wait_ms, BACKOFF_MS_MIN)), call))
        if error.leader is not None and error.leader != self.address:
            self._addresses.prefer(error.leader)
            self._leave()
        elif self._has_others and now_ms - call.refused_ms >= ELSEWHERE_MS:
            self._leave()

    def _leave(self) -> None:
        if self.state is State.READY:
            self.state = State.LEAVING
            self._until_ms = self._clock.monotonic_ms() + DRAIN_MS

    # ---- events ------------------------------------------------------------------------------------

    def _subscribed(self, reply: m.SubscribeReply) -> None:
        subscription = self._subscriptions.get(reply.rid)
        if subscription is None:
            return
        if not reply.complete:
            subscription.complete = False
        if subscription.position is None:
            subscription.position = (reply.index, ORDINAL_LAST)

    def _events(self, event: m.Event) -> None:
        subscription = self._subscriptions.get(event.subscription)
        if subscription is None:
            return
        rows = event.events
        if subscription.position is not None:
            last = subscription.position
            rows = [row for row in rows if (row[0], row[1]) > last]
        if rows:
            subscription.position = (rows[-1][0], rows[-1][1])
            subscription.sink(rows)
        if event.last:  # we were too slow: go on behind what we have
            self._subscriptions.pop(event.subscription, None)
            self._resubscribe(subscription)

    def _resubscribe(self, subscription: Subscription) -> None:
        subscription.rid = None
        if subscription.call is None or subscription.call.done:
            self.subscribe(subscription, None)

    # ---- sending -----------------------------------------------------------------------------------

    def _write(self, call: Call) -> None:
        rid = _rid(call.number)
        try:
            self._send(call.make(rid))
        except PayloadTooLarge as error:
            self._finish(call, error=error)
        else:
            self._flying[rid] = call
            call.sent = True

    def _send(self, message: m.Message) -> None:
        assert self._connection is not None
        self._out.append(self._connection.send(message))

    def _fill(self) -> None:
        """Send what waits, as far as there is room."""
        queue = self._queue
        while queue and self.state is State.READY and len(self._flying) < IN_FLIGHT_MAX:
            self._write(queue.popleft())

    def _send_again(self, now_ms: int) -> None:
        """Calls that were told "not now" and have waited long enough stand in the queue again."""
        if self._later:
            due = [call for when, call in self._later if when <= now_ms]
            if due:
                self._later = [pair for pair in self._later if pair[0] > now_ms]
                self._queue.extendleft(reversed(due))
                self._fill()

    def _is_dead(self, now_ms: int) -> bool:
        """Ask a peer that is silent, and leave one that stays so."""
        if self._ping_ms is not None:
            if now_ms - self._ping_ms >= self._dead_ms:
                self.lost(f"silent for {now_ms - self._heard_ms} ms")
                return True
        elif now_ms - self._heard_ms >= (self._quiet_ms if self._flying else PING_IDLE_MS):
            self._number += 1
            self._ping_ms = now_ms
            self._send(m.Ping(_rid(self._number)))
        return False

    def _wake_ms(self) -> int | None:
        times = [when for when, _call in self._later]
        if self.state in (State.BACKOFF, State.GREETING, State.LEAVING):
            times.append(self._until_ms)
            if self.state is State.BACKOFF and self._reach_ms is not None:
                times += [call.started_ms + self._reach_ms for call in self._queue if call.deadline_ms is not None]
        elif self.state is State.READY:
            if self._ping_ms is not None:
                times.append(self._ping_ms + self._dead_ms)
            else:
                # Calls come without waking the I/O thread, so it looks now and then whether one waits for long.
                since_ms = self._heard_ms if self._flying else self._clock.monotonic_ms()
                times.append(since_ms + self._quiet_ms)
        return min(times, default=None)

    # ---- connections -------------------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        """This connection did not become ready: try the next address, and from the second round on wait first."""
        self._failure = why
        self._failures += 1
        self._drop_connection()
        self._requeue()
        round_ = self._failures // len(self._addresses)
        now_ms = self._clock.monotonic_ms()
        if round_ >= 1:
            self.state = State.BACKOFF
            self._until_ms = now_ms + backoff_ms(round_, self._random.below(BACKOFF_MS_MAX))
            self._end_unreachable(now_ms)
        else:
            self.state = State.IDLE

    def _end_unreachable(self, now_ms: int) -> None:
        if self._reach_ms is None:
            return
        late = [
            call for call in self._queue if call.deadline_ms is not None and now_ms - call.started_ms >= self._reach_ms
        ]
        for call in late:
            self._queue.remove(call)
            self._finish(call, error=self._unavailable(call))

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection = None
            self._close_wanted = True
        self._out.clear()
        self._ping_ms = None

    def _requeue(self) -> None:
        """What was in flight stands in the queue again, oldest first; subscriptions ask to go on."""
        calls = [*self._flying.values(), *self._queue]
        calls.sort(key=lambda call: call.number)
        self._queue = deque(calls)
        self._flying.clear()
        held, self._subscriptions = self._subscriptions, {}
        for subscription in held.values():
            self._resubscribe(subscription)

    def _end_flying(self, error: TqError) -> None:
        """The peer broke the protocol, or says that we did: sending the same again would not help."""
        for call in self._flying.values():
            self._finish(call, error=error)
        self._flying.clear()

    # ---- small things ------------------------------------------------------------------------------

    def _finish(self, call: Call, reply: Any = None, error: TqError | None = None) -> None:
        call.reply = reply
        call.error = error
        call.done = True
        self.finished.append(call)

    def _forget(self, call: Call) -> None:
        if self._flying.pop(_rid(call.number), None) is None:
            if call in self._queue:
                self._queue.remove(call)
            else:
                self._later = [pair for pair in self._later if pair[1] is not call]

    def _jitter(self, wait_ms: int) -> int:
        """Half to all of the wait, so that clients that lost a broker together do not come back together."""
        return wait_ms // 2 + self._random.below(wait_ms // 2 + 1)

    def _unavailable(self, call: Call) -> BrokerUnavailable:
        waited_ms = self._clock.monotonic_ms() - call.started_ms
        detail = {"sent": call.sent, "waited_ms": waited_ms, "addresses": str(self._addresses)}
        if call.refusal is not None:
            return BrokerUnavailable(f"not done within {waited_ms} ms: {call.refusal.message}", detail=detail)
        if self.state in (State.READY, State.LEAVING):
            why = f"no answer from {self.address} within {waited_ms} ms"
        else:
            why = f"cannot reach {self._addresses} within {waited_ms} ms ({self._failure})"
        if call.sent:
            why += ": whether the request was done is unknown; the same request with the same ids is safe to repeat"
        return BrokerUnavailable(why, detail=detail)


def _rid(number: int) -> int:
    """Never HELLO_RID."""
    return number % 0xFFFFFFFF + 1


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("this client is closed", detail={"sent": False})
