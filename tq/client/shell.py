"""The threads and the socket under the blocking client: moves bytes, wakes callers, decides nothing.

Threads. Callers start a call under the lock and write its bytes at once if the socket takes them, so a request
costs no change of thread. One I/O thread connects, reads, writes what did not fit, and lets time pass for
the core. A caller sleeps on a lock of its own until its call is done or its deadline is over; it then gives the
call up itself. Nothing under the shared lock ever blocks: the socket is non-blocking.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Generator
from typing import Any, TypeVar

from tq.client.addresses import Address
from tq.client.core import CONNECT_MS, Call, ClientCore, Close, Connect, Make, Subscription, Wait
from tq.client.verbs import Ask, Await, Begin, Pause, Step
from tq.errors import InvalidState, TqError
from tq.world import Clock

T = TypeVar("T")
READ_BYTES = 256 * 1024
READ_EVENTS = select.POLLIN | select.POLLHUP | select.POLLERR


class Shell:
    def __init__(self, core: ClientCore, clock: Clock) -> None:
        self._core = core
        self._clock = clock
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._unsent: bytes | memoryview = b""
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._stopping = threading.Event()
        self._is_closed = False

    # ---- callers -----------------------------------------------------------------------------------

    def run(self, verb: Generator[Step, Any, T]) -> T:
        """Do what a verb asks for until it returns."""
        try:
            step = next(verb)
            while True:
                try:
                    value = self._do(step)
                except TqError as error:
                    step = verb.throw(error)
                else:
                    step = verb.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _do(self, step: Step) -> Any:
        match step:
            case Ask(make, deadline_ms):
                return self._await(self._begin(make, deadline_ms))
            case Begin(make, deadline_ms):
                return self._begin(make, deadline_ms)
            case Await(call):
                return self._await(call)
            case Pause(wait_ms):
                self._stopping.wait(wait_ms / 1000)
                return None

    def _begin(self, make: Make, deadline_ms: int | None) -> Call:
        waiter = threading.Lock()
        waiter.acquire()
        with self._entered():
            call = self._core.start(make, deadline_ms, waiter)
            self._after_start()
        return call

    def subscribe(self, subscription: Subscription, deadline_ms: int) -> None:
        """Returns when the broker said yes. Raises its refusal."""
        waiter = threading.Lock()
        waiter.acquire()
        with self._entered():
            call = self._core.subscribe(subscription, deadline_ms, waiter)
            self._after_start()
        try:
            self._await(call)
        except BaseException:
            self.unsubscribe(subscription)
            raise

    def unsubscribe(self, subscription: Subscription) -> None:
        if os.getpid() != self._process:
            return
        with self._lock:
            self._core.unsubscribe(subscription)
            self._flush()

    def _entered(self) -> threading.Lock:
        """The lock, for a process and a client that may still use it."""
        if os.getpid() != self._process:
            raise InvalidState(
                "this client was made before a fork, and its connection belongs to the parent process: "
                "make a new Client in the child"
            )
        if self._thread is None:
            self._start()
        return self._lock

    def _after_start(self) -> None:
        if self._core.has_output:
            self._flush()
            if self._unsent:
                self._wake()
        elif not self._core.is_on_its_way:
            self._wake()
        if self._core.finished:
            self._wake_callers()

    def _await(self, call: Call) -> Any:
        try:
            if call.deadline_ms is None:
                call.waiter.acquire()
            elif not call.done:
                left_ms = call.deadline_ms - self._clock.monotonic_ms()
                call.waiter.acquire(timeout=max(0, left_ms) / 1000)
        finally:
            if not call.done:
                with self._lock:
                    self._core.give_up(call)
        if call.error is not None:
            raise call.error
        return call.reply

    # ---- the I/O thread ----------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._loop, name="tq-client", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                step = self._core.step()
                self._flush()
                self._wake_callers()
            match step:
                case Connect(address):
                    self._connect(address)
                case Close():
                    self._close_socket()
                case Wait(until_ms):
                    self._wait(until_ms)
        self._close_socket()

    def _connect(self, address: Address) -> None:
        self._close_socket()
        try:
            # The time-out holds for each address of a name; no caller waits for it longer than for its deadline.
            sock = socket.create_connection(address, CONNECT_MS / 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
        except OSError as error:
            with self._lock:
                self._core.connect_failed(error.strerror or str(error))
                self._wake_callers()
            return
        with self._lock:
            self._socket = sock
            self._core.connected()
            self._flush()

    def _wait(self, until_ms: int | None) -> None:
        """Sleep until the socket can go on, a caller wakes us, or the time has come; then read what is there."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        sock = self._socket
        if sock is not None:
            poll.register(sock, READ_EVENTS | (select.POLLOUT if self._unsent else 0))
        timeout_ms = None if until_ms is None else max(0, until_ms - self._clock.monotonic_ms())
        for descriptor, events in poll.poll(timeout_ms):
            if descriptor == self._wake_read.fileno():
                self._drain_wakes()
            elif events & READ_EVENTS and sock is not None:
                self._read(sock)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            with self._lock:
                self._core.lost(error.strerror or str(error))
            return
        with self._lock:
            self._core.received(data)
            if not data:
                self._core.lost("the broker closed the connection")
            self._flush()
            self._wake_callers()

    def _drain_wakes(self) -> None:
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            return

    def _close_socket(self) -> None:
        with self._lock:
            sock, self._socket = self._socket, None
            self._unsent = b""
        if sock is not None:
            sock.close()

    # ---- under the lock ----------------------------------------------------------------------------

    def _flush(self) -> None:
        """Hand the socket what it takes now; keep the rest, in order."""
        sock = self._socket
        if sock is None:
            return
        if self._core.has_output:
            data = self._core.take_output()
            self._unsent = b"".join((self._unsent, data)) if self._unsent else data
        if not self._unsent:
            return
        try:
            sent = sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._unsent = b""
            self._core.lost(error.strerror or str(error))
            self._wake()
            return
        self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""

    def _wake_callers(self) -> None:
        finished = self._core.finished
        if finished:
            for call in finished:
                if call.waiter is not None:
                    call.waiter.release()
            finished.clear()

    def _wake(self) -> None:
        if self._is_closed:
            return
        try:
            self._wake_write.send(b"\0")
        except BlockingIOError:
            return  # it has wakes enough

    # ---- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """End the calls under way and the thread. Safe to call twice, from any thread, and in a forked child."""
        if os.getpid() != self._process:
            if self._socket is not None:
                self._socket.close()  # the child's copy; the parent's connection goes on
            return
        with self._lock:
            if self._is_closed:
                return
            self._wake()
            self._is_closed = True
            self._core.close()
            self._wake_callers()
            self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._close_socket()
        self._wake_read.close()
        self._wake_write.close()
