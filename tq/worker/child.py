"""The child process of ``executor="process"``: one handler at a time, until its worker goes.

The main thread runs handlers; a second one listens to the worker, so that a running handler can be told to stop,
and so that the child ends when the worker does: at the end of the stream, and on Linux by a signal of the kernel
too, which also ends a handler that holds the interpreter.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from queue import SimpleQueue
from typing import Any

from tq.errors import ConfigError
from tq.verdicts import Stopped
from tq.worker import pipe
from tq.worker.context import Context
from tq.worker.frame import call
from tq.worker.handlers import Handler, Handlers, load
from tq.worker.interrupt import interrupt, take_back
from tq.worker.outcomes import SAID_STOPPED, error_of, failed, raised

PR_SET_PDEATHSIG = 1


def main(target: str, descriptor: int, parent: int) -> None:
    die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)  # the worker decides; handlers' own children get defaults
    channel = socket.socket(fileno=descriptor)
    try:
        handlers = load(target)
    except ConfigError as error:
        channel.sendall(pipe.pack([pipe.READY, error_of("ConfigError", error.message, "")]))
        return
    except BaseException as error:  # noqa: BLE001 - users' code, as the frame: the worker logs what came
        channel.sendall(pipe.pack([pipe.READY, raised(error)[1][0]]))
        return
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
        self._jobs: SimpleQueue[tuple[Handler, bytes, Context]] = SimpleQueue()
        self._main = threading.get_ident()
        self._lock = threading.Lock()  # of the next two
        self._context: Context | None = None  # of the last job
        self._is_in_handler = False

    def run(self) -> None:
        threading.Thread(target=self._listen, name="tq-worker-pipe", daemon=True).start()
        while True:
            handler, payload, context = self._jobs.get()
            said = SAID_STOPPED
            try:
                with self._lock:
                    self._is_in_handler = not context.cancelled
                if self._is_in_handler:
                    said = call(handler.function, payload, context, handler.content_type)
                self._leave()
            except Stopped:
                self._leave()  # it came between the handler and here; no second one does
            self._channel.sendall(pipe.pack([pipe.SAID, said[0], said[1]]))

    def _leave(self) -> None:
        """From here on no Stopped is raised in this thread."""
        with self._lock:
            self._is_in_handler = False
            take_back(self._main)

    def _listen(self) -> None:
        unpacker = pipe.Unpacker()
        while True:
            try:
                data = self._channel.recv(pipe.READ_BYTES)
            except OSError:
                data = b""
            if not data:
                os._exit(1)  # the worker is gone, or does not want us any more; a running handler is lost
            for frame in unpacker.feed(data):
                if frame[0] == pipe.STOP:
                    self._stop(lost=frame[1])
                else:
                    self._take(frame)

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
        self._jobs.put((handler, payload, context))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
