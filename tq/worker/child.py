"""The child process of ``executor="process"``: one handler at a time, until its worker goes.

The main thread runs handlers; a second one listens to the worker, so that a running handler can be told to stop,
and so that the child ends when the worker does: at the end of the stream, and on Linux by a signal of the kernel
too, which also ends a handler that holds the interpreter. A child without a job then closes its resources first.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from tq.errors import TqError
from tq.verdicts import Stopped
from tq.worker import pipe
from tq.worker.context import Context
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
                self._channel.sendall(pipe.pack([pipe.SAID, said[0], said[1]]))
            except OSError:  # the worker is gone, and nobody else wants to know
                return

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
        _kind, id, type_, queue, attempt, crashes, fence, deadline, headers, payload = frame
        handler = self._handlers.get(type_)
        if handler is None:  # the module's handlers differ from process to process
            said = failed("ConfigError", f"the child process has no handler for {type_!r}", "")
            self._channel.sendall(pipe.pack([pipe.SAID, *said]))
            return
        context = Context(id, type_, queue, attempt, crashes, fence, deadline, headers)
        with self._lock:
            self._context = context
            self._is_busy = True
        self._jobs.put((handler, payload, context))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # whatever threads the handlers have left
