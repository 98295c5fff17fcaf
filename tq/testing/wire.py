"""The client's end of a connection to a simulated node, and a line that dials again and again, greets, and reads messages.

Bytes are carried by the simulator's own socket (``tq/sim/client.py``), so the broker's end is the real one. What a cut
holds back stays where it is, as the kernel keeps it, and goes on when the cut is healed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from tq.broker.broker import Broker
from tq.errors import ProtocolError, from_wire
from tq.protocol import messages as m
from tq.protocol.addresses import Address, Addresses, backoff_ms
from tq.protocol.connection import NEED_DATA, ClientConnection, ConnectionClosed, State
from tq.sim.client import SimClient
from tq.sim.host import Host
from tq.world import Random

HELLO_MS: Final = 5_000
HELLO_RID: Final = 0


class Refused(Exception):
    """No connection; the message says why."""


class Network(Protocol):
    """What a line needs of the world."""

    @property
    def now_ms(self) -> int: ...
    def dial(self, endpoint: str, address: Address) -> Wire:
        """Raises Refused."""
        ...


class Wire(SimClient):
    """One connection. ``is_cut``: whether nothing passes now."""

    def __init__(self, host: Host, broker: Broker, is_cut: Callable[[], bool]) -> None:
        super().__init__(broker, host.name, host.disk.check_power)
        self._is_cut = is_cut
        self._inbox = bytearray()
        host.clients.append(self)

    # ---- the client's end -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self.socket.is_broken:
            self.socket.to_broker += data

    def read(self) -> bytes:
        """What has come."""
        while self.reads and self.take() and not self.is_closed:
            self.connection.flush()
        data = bytes(self._inbox)
        self._inbox.clear()
        return data

    @property
    def is_over(self) -> bool:
        """Nothing will come any more, and the client's kernel knows it."""
        return (self.socket.is_broken or self.is_closed) and not self._is_cut()

    # ---- what the node's host does ----------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        return super().has_news and not self._is_cut()

    def take(self) -> bool:
        if self._is_cut():
            return False
        data = bytes(self.socket.to_peer)
        self.socket.to_peer.clear()
        self._inbox += data
        return bool(data)


class Line:
    """A connection after another, for a worker: ``pump`` moves what is there.

    Args:
        endpoint: whose end it is, for cuts. client: how it names itself to the broker.
        on_hello: it is open. on_message: something came. on_lost: it was open, and is over.
    """

    def __init__(
        self, network: Network, endpoint: str, client: str, addresses: Addresses, random: Random,
        on_hello: Callable[[m.HelloReply], None], on_message: Callable[[m.Message], None], on_lost: Callable[[], None],
    ) -> None:  # fmt: skip
        self.addresses = addresses
        self.is_open = False
        self.refusal: Exception | None = None  # the last one that will not pass
        self._network = network
        self._endpoint = endpoint
        self._client = client
        self._random = random
        self._on_hello = on_hello
        self._on_message = on_message
        self._on_lost = on_lost
        self._wire: Wire | None = None
        self._protocol = ClientConnection()
        self._again_ms = 0  # when to dial; or, while greeting, until when to wait
        self._failures = 0

    def pump(self) -> bool:
        """Whether anything happened."""
        if self._wire is None:
            return self._network.now_ms >= self._again_ms and self._dial()
        data = self._wire.read()
        if data:
            self._read(data)
        elif self._wire.is_over or (not self.is_open and self._network.now_ms >= self._again_ms):
            self.hang_up()
        else:
            return False
        return True

    def send(self, messages: list[m.Message]) -> None:
        """As ``tq/worker/connection.py``: a connection that is over, or leaves, takes nothing."""
        if self._wire is not None and self._protocol.state is not State.LEAVING:
            self._wire.write(b"".join([self._protocol.send(message) for message in messages]))

    def due_ms(self) -> int | None:
        return self._again_ms if self._wire is None or not self.is_open else None

    def hang_up(self) -> None:
        """Close it, and dial another in a while."""
        if self._wire is None:
            return
        self._wire.close()
        self._wire = None
        was_open, self.is_open = self.is_open, False
        self._failures = 1 if was_open else self._failures + 1
        self._again_ms = self._network.now_ms + backoff_ms(self._failures, self._random.below(1 << 16))
        if was_open:
            self._on_lost()

    def vanish(self) -> None:
        """The process is gone."""
        if self._wire is not None:
            self._wire.vanish()

    def _dial(self) -> bool:
        try:
            self._wire = self._network.dial(self._endpoint, self.addresses.take())
        except Refused:
            self._failures += 1
            self._again_ms = self._network.now_ms + backoff_ms(self._failures, self._random.below(1 << 16))
            return False
        self._protocol = ClientConnection()
        self._again_ms = self._network.now_ms + HELLO_MS
        self.send([m.Hello(HELLO_RID, m.PROTOCOL_VERSION, m.PROTOCOL_VERSION, self._client)])
        return True

    def _read(self, data: bytes) -> None:
        wire, protocol = self._wire, self._protocol
        try:
            protocol.receive_data(data)
            while self._wire is wire:
                event = protocol.next_event()
                if event is NEED_DATA:
                    return
                if isinstance(event, ConnectionClosed):
                    self.hang_up()
                else:
                    self._take(event)
        except ProtocolError:
            self.hang_up()
            raise  # both ends are ours: this is a bug

    def _take(self, message: m.Message) -> None:
        if self.is_open:
            self._on_message(message)
        elif isinstance(message, m.HelloReply):
            self.is_open = True
            self._on_hello(message)
        elif isinstance(message, m.ErrorReply):
            error = from_wire(message.error)
            self.refusal = None if error.retryable else error
            self.addresses.prefer(error.leader)
            self.hang_up()
        else:
            self.hang_up()  # GOAWAY
