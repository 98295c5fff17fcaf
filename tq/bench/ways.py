"""The ways between the nodes of a cluster on one machine, through a TCP proxy of our own that can be told to fail.

A *way* leads from one node to another and carries what the first one dials; the node takes the proxy's port for its
peer's. So each direction fails for itself. A way that is cut passes nothing on, neither bytes nor the end of a
connection, as when packets vanish: connections stay open, new ones are taken and stall, and all goes on when the way
is healed. A way that is broken loses its connections. A slow way hands everything on later.

The proxies run in a thread with a loop of its own; every method may be called from any thread.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import attrs
import trio

READ_BYTES = 256 * 1024
PIECES_ON_THE_WAY_MAX = 256  # then the sender feels it
START_SECONDS_MAX = 10.0

Address = tuple[str, int]


@attrs.define(eq=False)
class Way:
    target: Address
    delay_s: float = 0.0
    healed: trio.Event | None = None  # while it is cut: set at its end
    scopes: set[trio.CancelScope] = attrs.field(factory=set)

    async def passable(self) -> None:
        while self.healed is not None:
            await self.healed.wait()


class Ways:
    """Leave its ``with`` block to end the proxies. Ways are named (from, to)."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str], Way] = {}
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), name="ways", daemon=True)
        self._thread.start()
        if not self._started.wait(START_SECONDS_MAX):
            raise RuntimeError("the thread of the proxies did not start")

    def add(self, source: str, target: str, address: str) -> str:
        """A way to ``address``; returns the address that ``source`` shall dial."""
        host, _, port = address.rpartition(":")
        listener = socket.create_server((host, 0), backlog=64)
        way = self._ways[source, target] = Way((host, int(port)))
        self._do(lambda: self._nursery.start_soon(self._listen, way, listener))
        return f"{host}:{listener.getsockname()[1]}"

    # ---- faults ------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Nothing passes any more."""

        def do() -> None:
            way = self._ways[source, target]
            if way.healed is None:
                way.healed = trio.Event()

        self._do(do)

    def heal(self, source: str, target: str) -> None:
        """It passes again, at once; what waits goes on."""

        def do() -> None:
            way = self._ways[source, target]
            way.delay_s = 0.0
            if way.healed is not None:
                way.healed.set()
                way.healed = None

        self._do(do)

    def slow(self, source: str, target: str, delay_s: float) -> None:
        """What is sent from now on arrives so much later."""

        def do() -> None:
            self._ways[source, target].delay_s = delay_s

        self._do(do)

    def break_(self, source: str, target: str) -> None:
        """End the connections that are there."""

        def do() -> None:
            for scope in self._ways[source, target].scopes:
                scope.cancel()

        self._do(do)

    def of(self, node: str, *, out: bool = True, into: bool = True) -> list[tuple[str, str]]:
        """The ways that lead from a node and to it."""
        return [pair for pair in self._ways if (out and pair[0] == node) or (into and pair[1] == node)]

    def isolate(self, node: str, *, out: bool = True, into: bool = True) -> None:
        """Cut a node from all others. Only ``out``: it hears them, and they do not hear it."""
        for source, target in self.of(node, out=out, into=into):
            self.cut(source, target)

    def rejoin(self, node: str) -> None:
        for source, target in self.of(node):
            self.heal(source, target)

    def heal_all(self) -> None:
        for source, target in self._ways:
            self.heal(source, target)

    def close(self) -> None:
        if self._thread.is_alive():
            self._do(self._nursery.cancel_scope.cancel)
            self._thread.join(START_SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the loop ----------------------------------------------------------------------------------

    def _do(self, what: Callable[[], object]) -> None:
        trio.from_thread.run_sync(what, trio_token=self._token)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._started.set()
            await trio.sleep_forever()

    async def _listen(self, way: Way, listener: socket.socket) -> None:
        listener.setblocking(False)
        sockets = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        async with sockets:
            while True:
                self._nursery.start_soon(self._carry, way, await sockets.accept())

    async def _carry(self, way: Way, near: trio.SocketStream) -> None:
        """One connection, to the end of either side."""
        with trio.CancelScope() as scope:
            way.scopes.add(scope)
            try:
                async with near:
                    await way.passable()
                    async with await trio.open_tcp_stream(*way.target) as far, trio.open_nursery() as nursery:
                        nursery.start_soon(_pump, way, near, far, nursery.cancel_scope)
                        nursery.start_soon(_pump, way, far, near, nursery.cancel_scope)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # one side is gone, and so is the other one now
            finally:
                way.scopes.discard(scope)


async def _pump(way: Way, source: trio.SocketStream, sink: trio.SocketStream, over: trio.CancelScope) -> None:
    """One direction; its end ends both."""
    put, take = trio.open_memory_channel[tuple[float, bytes | bytearray]](PIECES_ON_THE_WAY_MAX)

    async def read() -> None:
        async with put:
            try:
                while data := await source.receive_some(READ_BYTES):
                    await put.send((trio.current_time() + way.delay_s, data))
            except trio.BrokenResourceError:
                return  # a reset is an end, too, and comes to the other side no sooner

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for due, data in take:
            if due > trio.current_time():
                await trio.sleep_until(due)
            await way.passable()
            await sink.send_all(data)
        await way.passable()
    over.cancel()
