"""A broker in trio's own loop, over socket pairs: with it a client lives in virtual time."""

from __future__ import annotations

import socket
from typing import Any

import trio

from tests.unit.client.fake_broker import Answer
from tq.client.asynchronous import AsyncClient
from tq.protocol import messages as m
from tq.protocol.connection import NEED_DATA, BrokerConnection, ConnectionClosed


class LoopBroker:
    """``answer(request)`` gives a message, or None for silence.

    ``requests`` has all that was asked, HELLO left out, ``given_up`` what nobody waits for. ``refuses`` and ``hangs``: hosts. ``delay_s``: before each answer.
    """

    def __init__(self, nursery: trio.Nursery, answer: Answer, *, pongs: bool = True) -> None:
        self.requests: list[Any] = []
        self.given_up: list[m.GiveUp] = []
        self.connections = 0
        self.tried = 0
        self.refuses: list[str] = []
        self.hangs: list[str] = []
        self.delay_s = 0.0
        self._nursery = nursery
        self._answer = answer
        self._pongs = pongs
        self._newest: tuple[trio.SocketStream, BrokerConnection]

    async def open(self, address: tuple[str, int]) -> socket.socket:
        """The client's end of a new connection."""
        self.tried += 1
        await trio.lowlevel.checkpoint()
        if address[0] in self.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        if address[0] in self.hangs:
            await trio.sleep_forever()
        ours, theirs = socket.socketpair()
        self.connections += 1
        self._nursery.start_soon(self._serve, trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
        return ours

    def push(self, *messages: m.Message) -> None:
        """Send them on the newest connection in one piece, as soon as there is room."""
        stream, connection = self._newest
        self._nursery.start_soon(stream.send_all, b"".join(map(connection.send, messages)))

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = BrokerConnection()
        self._newest = (stream, connection)
        async with stream:
            while True:
                event = connection.next_event()
                if event is NEED_DATA:
                    try:
                        connection.receive_data(await stream.receive_some())
                    except trio.BrokenResourceError:
                        return
                elif isinstance(event, ConnectionClosed):
                    return
                else:
                    await self._reply(stream, connection, event)

    async def _reply(self, stream: trio.SocketStream, connection: BrokerConnection, request: Any) -> None:
        said: Any
        if isinstance(request, m.Hello):
            said = m.HelloReply(request.rid, 1, [], {}, 1_000, b"C" * 16, "n1", None, "tq/fake", 0)
        elif isinstance(request, m.Ping):
            said = m.PingReply(request.rid, 1) if self._pongs else None
        elif isinstance(request, m.GiveUp):
            self.given_up.append(request)
            said = m.GiveUpReply(request.rid)
        else:
            self.requests.append(request)
            if self.delay_s:
                await trio.sleep(self.delay_s)
            said = self._answer(request)
        if said is not None:
            try:
                await stream.send_all(connection.send(said))
            except trio.BrokenResourceError:
                return


class LoopClock:
    """Trio's time, virtual or not."""

    def monotonic_ms(self) -> int:
        return int(trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        return trio.current_time()

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.monotonic_ms()


class LoopClient(AsyncClient):
    def __init__(self, broker: LoopBroker, brokers: str = "a", **more: Any) -> None:
        self._open_socket = broker.open  # type: ignore[method-assign, assignment]
        super().__init__(brokers, clock=LoopClock(), **more)
