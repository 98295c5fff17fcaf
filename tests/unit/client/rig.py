"""A client core and the broker's end of its connection, joined by hand: the test decides what arrives, and when."""

from __future__ import annotations

from typing import Any

from tq.client.core import Call, ClientCore, Close, Connect, State, Wait
from tq.client.steps import Ask, Await, Begin, Pause
from tq.errors import TqError, to_wire
from tq.protocol import messages as m
from tq.protocol.addresses import Addresses, parse
from tq.protocol.connection import NEED_DATA, BrokerConnection, ConnectionClosed
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom

CLUSTER = b"C" * 16


class Rig:
    """``peer`` is the broker's end of the present connection; ``tried`` all addresses that were to be connected."""

    def __init__(self, brokers: str = "a:1", reach_ms: int | None = None) -> None:
        self.clock = VirtualClock()
        self.random = SeededRandom(7)
        self.core = ClientCore(Addresses(parse(brokers)), self.clock, self.random, "test", reach_ms)
        self.peer = BrokerConnection()
        self.tried: list[str] = []
        self.closes = 0

    # ---- the shell's part --------------------------------------------------------------------------

    def step(self) -> Connect | Wait:
        """Close what is to be closed; then what comes next."""
        step = self.core.step()
        while isinstance(step, Close):
            self.closes += 1
            step = self.core.step()
        if isinstance(step, Connect):
            self.tried.append("{}:{}".format(*step.address))
        return step

    def connect(self, cluster_id: bytes = CLUSTER) -> None:
        """Let it connect and say HELLO, and answer that."""
        step = self.step()
        assert isinstance(step, Connect), step
        self.peer = BrokerConnection()
        self.core.connected()
        (hello,) = self.read()
        assert isinstance(hello, m.Hello)
        self.answer(m.HelloReply(hello.rid, 1, [], {}, 1_000, cluster_id, "n1", None, "tq/test", 0))
        assert self.core.state is State.READY

    def refuse(self) -> None:
        assert isinstance(self.step(), Connect)
        self.core.connect_failed("Connection refused")

    def wait_ms(self) -> int | None:
        """How long the core wants to be left alone."""
        step = self.step()
        assert isinstance(step, Wait), step
        return None if step.until_ms is None else step.until_ms - self.clock.monotonic_ms()

    # ---- the broker's part -------------------------------------------------------------------------

    def read(self) -> list[Any]:
        """What the client has written since."""
        data = self.core.take_output()
        found: list[Any] = []
        if data:
            self.peer.receive_data(data)
        while (event := self.peer.next_event()) is not NEED_DATA:
            assert not isinstance(event, ConnectionClosed)
            found.append(event)
        return found

    def answer(self, *messages: m.Message) -> None:
        self.core.received(b"".join(self.peer.send(message) for message in messages))

    def answer_error(self, rid: int | None, error: TqError) -> None:
        self.answer(m.ErrorReply(rid, to_wire(error)))

    # ---- callers -----------------------------------------------------------------------------------

    def ping(self, deadline_ms: int | None = None) -> Call:
        """Any request: PING has no arguments."""
        return self.core.start(m.Ping, deadline_ms)


class Talk:
    """Runs a verb against scripted answers: each request it makes is given to ``reply``."""

    def __init__(self, verb: Any, reply: Any, clock: VirtualClock) -> None:
        self.requests: list[Any] = []
        self.pauses: list[int] = []
        self._verb = verb
        self._reply = reply
        self._clock = clock
        self._number = 0

    def run(self) -> Any:
        try:
            step = next(self._verb)
            while True:
                try:
                    step = self._verb.send(self._do(step))
                except TqError as error:
                    if error is not self._error:
                        raise
                    step = self._verb.throw(error)
        except StopIteration as stop:
            return stop.value

    _error: TqError | None = None

    def _do(self, step: Any) -> Any:
        match step:
            case Ask(make, deadline_ms):
                return self._answer(make, deadline_ms)
            case Begin(make, deadline_ms):
                return make, deadline_ms
            case Await((make, deadline_ms)):
                return self._answer(make, deadline_ms)
            case Pause(wait_ms):
                self.pauses.append(wait_ms)
                self._clock.advance_ms(wait_ms)
                return None
        raise AssertionError(step)

    def _answer(self, make: Any, deadline_ms: int | None) -> Any:
        self._number += 1
        request = make(self._number)
        self.requests.append(request)
        answer = self._reply(request)
        if isinstance(answer, TqError):
            self._error = answer
            raise answer
        return answer
