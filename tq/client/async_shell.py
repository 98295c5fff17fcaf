"""The tasks and the socket under the asynchronous client: moves bytes, wakes callers, decides nothing.

Theory. All is in one thread, on trio or on asyncio, by anyio. Callers start a call and write its bytes at once, as far as
the socket takes them; then they sleep until it is done. The *keeper* (``keep``) is the one task that lives as long as
the client: it does what the core asks for, connects, and lets time pass. Each connection has a task that reads, owns its
socket and closes it, and a second one only while the socket does not take what is written.

- Nothing is written behind an ``await``, so a caller that is cancelled never leaves half a frame: its bytes are the socket's
  or wait in the wire. It gives its call up, the broker is told, and a reply that still comes is dropped.
- The keeper gives up the calls whose deadline is over. It sleeps until the first of them, so it is woken by a call only if
  that is to end before all others.
- Besides it is woken when the core may have something new to say: after a start without connection, a lost
  connection, an answer that means "not now". On a good connection calls come and go without it.
- Callers that are woken together ask again together. The reader lets them, and then writes once for all.

Rejected: streams of anyio (their ``send`` may be cancelled in the middle of a frame, and asyncio's costs a buffer more);
a cancel scope with a time-out round each wait, a sixth of the processor time of a call.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from tq.client.core import CONNECT_MS, Call, ClientCore, Close, Connect, Make, Subscription, Wait
from tq.client.running import AsyncRunner
from tq.client.wire import READ_BYTES, Wire, reason
from tq.errors import InvalidState
from tq.protocol.addresses import Address
from tq.world import Clock

GATHER_CALLERS_MIN = 4  # woken at once; for fewer a system call each costs no more

Open = Callable[[Address], Awaitable[socket.socket]]
"""Gives a connected socket that does not block; raises OSError."""


async def open_socket(address: Address) -> socket.socket:
    """Connect to one address of the name after the other."""
    failed = OSError(f"{address[0]} has no address")
    for family, kind, protocol, _name, place in await anyio.getaddrinfo(*address, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(place)
            if code == errno.EINPROGRESS:
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except BaseException:
            sock.close()
            raise
        if code == 0:
            return sock
        sock.close()
        failed = OSError(code, os.strerror(code))
    raise failed


class AsyncShell(AsyncRunner):
    def __init__(self, core: ClientCore, clock: Clock, open_: Open) -> None:
        self._core = core
        self._clock = clock
        self._open = open_
        self._wire = Wire(core)
        self._is_kept = False
        self._is_closed = False
        self._tasks: anyio.abc.TaskGroup  # the keeper's: one task a connection
        self._link: anyio.abc.TaskGroup | None = None  # of the present connection
        self._writing: socket.socket | None = None  # a task waits until it takes more
        self._gathers = False  # the reader is going to write what callers ask for
        self._waiting: set[Call] = set()
        self._wakes_ms: float = math.inf  # the keeper
        self._news: anyio.Event
        self._closed: anyio.Event

    # ---- callers -----------------------------------------------------------------------------------

    def _begin(self, make: Make, deadline_ms: int | None) -> Call:
        self._enter()
        call = self._core.start(make, deadline_ms, anyio.Event())
        self._after_start()
        return call

    def subscribe(self, subscription: Subscription, deadline_ms: int) -> Call:
        self._enter()
        call = self._core.subscribe(subscription, deadline_ms, anyio.Event())
        self._after_start()
        return call

    async def _pause(self, wait_ms: int) -> None:
        with anyio.move_on_after(wait_ms / 1000):
            await self._closed.wait()

    def _give_up(self, calls: list[Call]) -> None:
        for call in calls:
            self._core.give_up(call)
        self._flush()

    def unsubscribe(self, subscription: Subscription) -> None:
        self._core.unsubscribe(subscription)
        self._flush()

    def _enter(self) -> None:
        if not self._is_kept and not self._is_closed:
            raise InvalidState("this client is not open: use it inside of `async with AsyncClient(...) as client:`")

    def _after_start(self) -> None:
        if self._core.has_output:
            if not self._gathers:
                self._flush()
        elif not self._core.is_on_its_way:
            self._news.set()
        self._wake_callers()

    async def _await(self, call: Call) -> Any:
        try:
            if call.done:
                await anyio.lowlevel.checkpoint()
            else:
                self._waiting.add(call)
                if call.deadline_ms is not None and call.deadline_ms < self._wakes_ms:
                    self._news.set()
                await call.waiter.wait()
        except BaseException:  # asyncio may cancel when the answer is here already
            self._core.abandon(call)
            self._flush()
            raise
        finally:
            self._waiting.discard(call)
        if call.error is not None:
            raise call.error
        return call.reply

    def _wake_callers(self) -> None:
        finished = self._core.finished
        if finished:
            for call in finished:
                if call.waiter is not None:
                    call.waiter.set()
            finished.clear()

    # ---- the keeper --------------------------------------------------------------------------------

    async def keep(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve the core until ``close``, whatever is cancelled meanwhile: who is cancelled may still have to say good-bye."""
        self._closed = anyio.Event()
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as self._tasks:
                self._news = anyio.Event()
                self._is_kept = True
                task_status.started()
                while not self._is_closed:
                    self._news = anyio.Event()
                    first_ms = self._end_late()
                    step = self._core.step()
                    self._flush()
                    self._wake_callers()
                    match step:
                        case Connect(address):
                            self._let_go()
                            self._tasks.start_soon(self._connect, address)
                        case Close():
                            self._let_go()
                        case Wait(until_ms):
                            await self._wait(first_ms if until_ms is None else min(first_ms, until_ms))

    def _end_late(self) -> float:
        """End the calls whose deadline is over; when the first of the others is over."""
        first_ms = math.inf
        now_ms = self._clock.monotonic_ms()
        for call in self._waiting:
            if call.done or call.deadline_ms is None:
                continue
            if call.deadline_ms <= now_ms:
                self._core.give_up(call)
                call.waiter.set()
            else:
                first_ms = min(first_ms, call.deadline_ms)
        return first_ms

    async def _wait(self, until_ms: float) -> None:
        self._wakes_ms = until_ms
        if until_ms == math.inf:
            await self._news.wait()
        else:
            with anyio.move_on_after(max(0, until_ms - self._clock.monotonic_ms()) / 1000):
                await self._news.wait()
        self._wakes_ms = -math.inf  # it is awake: it will look

    async def _connect(self, address: Address) -> None:
        try:
            with anyio.fail_after(CONNECT_MS / 1000):
                sock = await self._open(address)
        except TimeoutError:
            self._core.connect_failed(f"no connection within {CONNECT_MS} ms")
        except OSError as error:
            self._core.connect_failed(reason(error))
        else:
            self._wire.open(sock)
            self._tasks.start_soon(self._serve, sock)
            self._flush()
        self._wake_callers()
        self._news.set()

    def _let_go(self) -> None:
        """The present connection's task ends, and closes its socket."""
        self._wire.drop()
        if self._link is not None:
            self._link.cancel_scope.cancel()
            self._link = None

    # ---- a connection ------------------------------------------------------------------------------

    async def _serve(self, sock: socket.socket) -> None:
        try:
            async with anyio.create_task_group() as link:
                if self._wire.socket is sock:
                    self._link = link
                    self._flush()
                    await self._read(sock)
        finally:
            sock.close()

    async def _read(self, sock: socket.socket) -> None:
        """Until the connection is over."""
        while True:
            await anyio.wait_readable(sock)
            try:
                data = sock.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                data, why = b"", reason(error)
            else:
                why = "the broker closed the connection"
            if self._wire.socket is not sock:
                return
            if data:
                self._core.received(data)
            else:
                self._core.lost(why)
            self._flush()
            is_burst = len(self._core.finished) >= GATHER_CALLERS_MIN
            self._wake_callers()
            if not self._core.is_steady:
                self._news.set()
            if not data:
                return
            if is_burst:
                await self._gather()

    async def _gather(self) -> None:
        """Let the callers that were woken ask again, then write for all of them."""
        self._gathers = True
        try:
            for _ in range(2):  # trio may let us run before the others
                await anyio.lowlevel.checkpoint()
        finally:
            self._gathers = False
        self._flush()

    async def _write(self, sock: socket.socket) -> None:
        """What the socket did not take at once."""
        while self._wire.socket is sock and self._wire.unsent:
            await anyio.wait_writable(sock)
            if not self._wire.flush():
                self._news.set()
        if self._writing is sock:
            self._writing = None

    def _flush(self) -> None:
        wire = self._wire
        if not wire.flush():
            self._news.set()
        elif wire.unsent and wire.socket is not None and self._link is not None and self._writing is not wire.socket:
            self._writing = wire.socket
            self._link.start_soon(self._write, wire.socket)

    # ---- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """End the calls under way, the connection and the keeper. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._core.close()
        self._wake_callers()
        if self._is_kept:
            self._closed.set()
            self._let_go()
            self._tasks.cancel_scope.cancel()
