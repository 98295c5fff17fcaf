"""The child process of ``executor="process"``: one handler at a time, until its worker goes.

The main thread runs handlers; a second one listens to the worker, so that a running handler can be told to stop,
and so that the child ends when the worker does: at the end of the stream, and on Linux by a signal of the kernel
too, which also ends a handler that holds the interpreter. A child without a job then closes its resources first.

What a handler says on the way leaves at once if it is a checkpoint, whose answer the listening thread brings; of progress
the last word leaves every PROGRESS_MS, by a third thread, which begins with the first word.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from tq import limits
from tq.errors import TqError, from_wire
from tq.verdicts import Stopped
from tq.worker import pipe
from tq.worker.context import Context, Saved
from tq.worker.frame import call
from tq.worker.handlers import Handler, Handlers, load
from tq.worker.interrupt import interrupt, take_back
from tq.worker.middleware import dressed
from tq.worker.outcomes import SAID_STOPPED, error_of, failed, raised
from tq.worker.resources import make, plan

PR_SET_PDEATHSIG = 1


def main(target: str, descriptor: int, parent: int) -> None:
    die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)  # the worker decides; handlers' own children get defaults
    channel = socket.socket(fileno=descriptor)
    with ExitStack() as stack:
        try:
            loaded = load(target)
            names = plan(loaded.handlers, loaded.resources).child
            values = make(names, loaded.resources, stack)
        except TqError as error:
            channel.sendall(pipe.pack([pipe.READY, error_of(type(error).__name__, error.message, "")]))
            return
        except BaseException as error:  # noqa: BLE001 - users' code, as the frame: the worker logs what came
            channel.sendall(pipe.pack([pipe.READY, raised(error)[1][0]]))
            return
        handlers = dressed(loaded.handlers, loaded.middleware, values, child=True)
        channel.sendall(pipe.pack([pipe.READY, None]))
        Child(channel, handlers).run()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end now if it is dead already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Child:
    def __init__(self, channel: socket.socket, handlers: Handlers) -> None:
        self._channel = channel
        self._handlers = handlers
        self._jobs: SimpleQueue[tuple[Handler, bytes, Context] | None] = SimpleQueue()
        self._main = threading.get_ident()
        self._lock = threading.Lock()  # of the next three
        self._context: Context | None = None  # of the last job
        self._is_busy = False  # from the moment a job has come to its end
        self._is_in_handler = False
        self._sending = threading.Lock()  # of the channel, one frame at a time
        self._saves: dict[int, Saved] = {}  # by number
        self._teller: Teller | None = None

    def run(self) -> None:
        """Until the worker closes the stream while nothing runs."""
        threading.Thread(target=self._listen, name="tq-worker-pipe", daemon=True).start()
        while True:
            job = self._jobs.get()
            if job is None:
                return
            handler, payload, context = job
            said = SAID_STOPPED
            try:
                with self._lock:
                    self._is_in_handler = not context.cancelled
                if self._is_in_handler:
                    said = call(handler, payload, context)
                self._leave()
            except Stopped:
                self._leave()  # it came between the handler and here; no second one does
            try:
                self._send([pipe.SAID, said[0], said[1]])
            except OSError:  # the worker is gone, and nobody else wants to know
                return

    def _send(self, fields: list[Any]) -> None:
        data = pipe.pack(fields)
        with self._sending:
            self._channel.sendall(data)

    # ---- the handler's channel -----------------------------------------------------------------------

    def tell(self, context: Context) -> None:
        if self._teller is None:
            self._teller = Teller(self._send)
            self._teller.start()
        self._teller.tell(context)

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None:
        self._saves[number] = done
        self._send([pipe.SAVE, context.fence, number, data])

    def _saved(self, number: int, error: list[Any] | None) -> None:
        done = self._saves.pop(number, None)
        if done is not None:
            done(None if error is None else from_wire(error))

    # ---- the end of a job, and orders ----------------------------------------------------------------

    def _leave(self) -> None:
        """From here on no Stopped is raised in this thread."""
        with self._lock:
            self._is_in_handler = self._is_busy = False
            take_back(self._main)

    def _listen(self) -> None:
        unpacker = pipe.Unpacker()
        while True:
            try:
                data = self._channel.recv(pipe.READ_BYTES)
            except OSError:
                data = b""
            if not data:
                self._end()
                return
            for frame in unpacker.feed(data):
                if frame[0] == pipe.STOP:
                    self._stop(lost=frame[1])
                elif frame[0] == pipe.SAVED:
                    self._saved(frame[1], frame[2])
                else:
                    self._take(frame)

    def _end(self) -> None:
        """The worker is gone, or does not want us any more: a running handler is lost."""
        with self._lock:
            if self._is_busy:
                os._exit(1)
        self._jobs.put(None)

    def _stop(self, *, lost: bool) -> None:
        with self._lock:
            context = self._context
            if context is None or context.cancelled:
                return
            context.cancel(lost=lost)
            if self._is_in_handler:
                interrupt(self._main)

    def _take(self, frame: list[Any]) -> None:
        _kind, id, type_, queue, attempt, crashes, fence, deadline, headers, payload, kept, content_type = frame
        handler = self._handlers.get(type_)
        if handler is None:  # the module's handlers differ from process to process
            said = failed("ConfigError", f"the child process has no handler for {type_!r}", "")
            self._send([pipe.SAID, *said])
            return
        context = Context(id, type_, queue, attempt, crashes, fence, deadline, headers, kept, self, content_type)
        with self._lock:
            self._context = context
            self._is_busy = True
        self._jobs.put((handler, payload, context))


class Teller(threading.Thread):
    """Sends the last word of progress, and then none for a while."""

    def __init__(self, send: Callable[[list[Any]], None], pause_s: float = limits.PROGRESS_MS / 1000) -> None:
        super().__init__(name="tq-worker-progress", daemon=True)
        self._send = send
        self._pause_s = pause_s
        self._last: Context | None = None
        self._has_word = threading.Event()
        self._over = threading.Event()

    def tell(self, context: Context) -> None:
        self._last = context
        self._has_word.set()

    def stop(self) -> None:
        """Soon."""
        self._over.set()
        self._has_word.set()

    def run(self) -> None:
        while not self._over.is_set():
            self._has_word.wait()
            self._has_word.clear()  # before looking: who speaks after the look is heard again
            context = self._last
            if context is None or context.word is None:
                continue
            try:
                self._send([pipe.TOLD, context.fence, *context.word])
            except OSError:
                return  # the worker is gone
            self._over.wait(self._pause_s)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # whatever threads the handlers have left
