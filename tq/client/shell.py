"""The threads and the socket under the blocking client: moves bytes, wakes callers, decides nothing.

Threads. Callers start a call under the lock and write its bytes at once if the socket takes them. Then one thread
reads, and only one, the *reader*:

- A caller that waits for its reply while nobody reads is the reader until it has it: one client in one thread
  needs no change of thread for a request, which is two thirds of its latency.
- Otherwise the I/O thread reads: when several calls are under way, for subscriptions, and when nobody has called
  for LINGER_MS. It also connects, writes what did not fit at once, and lets time pass for the core.

A caller that is not the reader sleeps on a lock of its own until its call is done. Whoever waits gives its call up
itself when its deadline is over. Nothing under the shared lock ever blocks: the socket is non-blocking. The I/O
thread closes a socket only when no caller reads it.

Rejected: an I/O thread that always reads (twice the processor time a call); no I/O thread (nobody would hear a
cancel, answer time, or connect again between calls).
"""

from __future__ import annotations

import enum
import os
import select
import socket
import threading
from typing import Any

from tq.client.core import CONNECT_MS, Call, ClientCore, Close, Connect, Make, Subscription, Wait
from tq.client.running import Runner
from tq.client.wire import READ_BYTES, Wire, reason
from tq.errors import InvalidState
from tq.protocol.addresses import Address
from tq.world import Clock

READ_EVENTS = select.POLLIN | select.POLLHUP | select.POLLERR
LINGER_MS = 100


class Reader(enum.Enum):
    NOBODY = 0
    CALLER = 1
    IO_THREAD = 2


class Shell(Runner):
    def __init__(self, core: ClientCore, clock: Clock) -> None:
        self._core = core
        self._clock = clock
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._wire = Wire(core)
        self._reader = Reader.NOBODY
        self._reading_thread = 0  # of the caller that reads
        self._caller_poll = select.poll()  # of the present socket
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._stopping = threading.Event()
        self._is_closed = False

    # ---- callers -----------------------------------------------------------------------------------

    def _begin(self, make: Make, deadline_ms: int | None) -> Call:
        waiter = threading.Lock()
        waiter.acquire()
        with self._entered():
            call = self._core.start(make, deadline_ms, waiter)
            self._after_start()
        return call

    def _give_up(self, calls: list[Call]) -> None:
        with self._lock:
            for call in calls:
                self._core.give_up(call)
            self._after_start()

    def subscribe(self, subscription: Subscription, deadline_ms: int) -> Call:
        waiter = threading.Lock()
        waiter.acquire()
        with self._entered():
            call = self._core.subscribe(subscription, deadline_ms, waiter)
            self._after_start()
        return call

    def _pause(self, wait_ms: int) -> None:
        self._stopping.wait(wait_ms / 1000)

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
            if self._wire.unsent:
                self._wake()
        elif not self._core.is_on_its_way:
            self._wake()
        if self._core.finished:
            self._wake_callers()

    def _await(self, call: Call) -> Any:
        try:
            if self._become_reader(call):
                self._read_until_done(call)
            if call.deadline_ms is None:
                call.waiter.acquire()
            elif not call.done:
                left_ms = call.deadline_ms - self._clock.monotonic_ms()
                call.waiter.acquire(timeout=max(0, left_ms) / 1000)
        finally:
            if not call.done:
                with self._lock:
                    self._core.give_up(call)
                    if self._core.has_output:
                        self._after_start()
        if call.error is not None:
            raise call.error
        return call.reply

    def _become_reader(self, call: Call) -> bool:
        with self._lock:
            if self._reader is not Reader.NOBODY or call.done or not self._core.is_on_its_way:
                return False
            if self._wire.socket is None:
                return False
            self._reader = Reader.CALLER
            self._reading_thread = threading.get_ident()
            return True

    def _read_until_done(self, call: Call) -> None:
        """As the reader: until the call is done, its deadline is over, or the connection takes no more requests."""
        sock, poll = self._wire.socket, self._caller_poll
        assert sock is not None
        try:
            while not call.done and self._core.is_on_its_way:
                left_ms = None if call.deadline_ms is None else call.deadline_ms - self._clock.monotonic_ms()
                if left_ms is not None and left_ms <= 0:
                    break
                if poll.poll(left_ms):
                    self._read(sock)
        finally:
            with self._lock:
                self._reader = Reader.NOBODY
                if self._core.is_wanted or not self._core.is_on_its_way:
                    self._wake()  # the I/O thread goes on

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
        except OSError as error:
            with self._lock:
                self._core.connect_failed(reason(error))
                self._wake_callers()
            return
        with self._lock:
            self._wire.open(sock)
            self._caller_poll = select.poll()
            self._caller_poll.register(sock, READ_EVENTS)
            self._flush()

    def _wait(self, until_ms: int | None) -> None:
        """Sleep until the socket can go on, a caller wakes us, or the time has come; then read what is there."""
        timeout_ms = None if until_ms is None else max(0, until_ms - self._clock.monotonic_ms())
        with self._lock:
            sock = self._wire.socket
            if self._reader is not Reader.CALLER:
                self._reader = Reader.IO_THREAD if sock is not None and self._core.is_wanted else Reader.NOBODY
        is_reader = self._reader is Reader.IO_THREAD
        if sock is None or is_reader:
            self._poll(sock, is_reader, timeout_ms)
        elif not self._poll(sock, False, min(LINGER_MS, LINGER_MS if timeout_ms is None else timeout_ms)):
            with self._lock:
                is_reader = self._reader is Reader.NOBODY
                if is_reader:
                    self._reader = Reader.IO_THREAD
            if is_reader:
                self._poll(sock, True, timeout_ms)

    def _poll(self, sock: socket.socket | None, is_reader: bool, timeout_ms: int | None) -> bool:
        """Wait for our turn, and read if we are the reader. False: the time is over."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        events = (READ_EVENTS if is_reader else 0) | (select.POLLOUT if self._wire.unsent else 0)
        if sock is not None and events:
            poll.register(sock, events)
        ready = poll.poll(timeout_ms)
        for descriptor, events in ready:
            if descriptor == self._wake_read.fileno():
                self._drain_wakes()
            elif is_reader and events & READ_EVENTS and sock is not None:
                self._read(sock)
        return bool(ready)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            with self._lock:
                self._core.lost(reason(error))
            return
        with self._lock:
            if self._wire.socket is not sock:
                return
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
        """Close it when no caller reads it; one that does is woken and lets go."""
        while True:
            with self._lock:
                if self._reader is not Reader.CALLER or self._wire.socket is None:
                    sock = self._wire.drop()
                    break
                _shut_down(self._wire.socket)
            self._poll(None, False, LINGER_MS)
        if sock is not None:
            sock.close()

    # ---- under the lock ----------------------------------------------------------------------------

    def _flush(self) -> None:
        if not self._wire.flush():
            self._wake()

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
            if self._wire.socket is not None:
                self._wire.socket.close()  # the child's copy; the parent's connection goes on
            return
        with self._lock:
            if self._is_closed:
                return
            self._stopping.set()  # before the wake, or the I/O thread may miss it
            self._wake()
            self._is_closed = True
            self._core.close()
            self._wake_callers()
            is_reading_here = self._reader is Reader.CALLER and self._reading_thread == threading.get_ident()
            if self._reader is Reader.CALLER and self._wire.socket is not None:
                _shut_down(self._wire.socket)
        if is_reading_here or self._thread is threading.current_thread():
            return  # from a signal handler or a callback: the I/O thread ends behind us
        if self._thread is not None:
            self._thread.join()
        self._wake_read.close()
        self._wake_write.close()


def _shut_down(sock: socket.socket) -> None:
    """Wake whoever polls it. The peer may have ended it already."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
