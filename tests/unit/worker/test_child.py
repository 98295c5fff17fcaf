"""A child process seen from its pipe."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.worker.jobs import a_context
from tq.errors import StaleFence, to_wire
from tq.worker import pipe
from tq.worker.child import Teller
from tq.worker.outcomes import COMPLETE, FAIL, STOPPED

MODULE = "tests.unit.worker.process_handlers"


class Wire:
    def __init__(self, parent: int | None = None, module: str = MODULE) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(60)
        argv = [sys.executable, "-m", "tq.worker.child", module, str(theirs.fileno()), str(parent or os.getpid())]
        with theirs:
            self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
        self._unpacker = pipe.Unpacker()
        self._frames: list[list[Any]] = []
        self.words: list[list[Any]] = []

    def send(self, *fields: Any) -> None:
        self.socket.sendall(pipe.pack(list(fields)))

    def job(self, type: str, payload: bytes = b"", kept: bytes | None = None) -> None:
        self.send(pipe.JOB, bytes(16), type, "default", 1, 0, 5, None, {}, payload, kept, "text/plain")

    def receive(self) -> list[Any]:
        while not self._frames:
            data = self.socket.recv(65_536)
            assert data, "the child has closed the pipe"
            self._frames = self._unpacker.feed(data)
        return self._frames.pop(0)

    def receive_but_words(self) -> list[Any]:
        """Progress leaves by a thread of its own: before the rest or behind it."""
        while True:
            frame = self.receive()
            if frame[0] != pipe.TOLD:
                return frame
            self.words.append(frame)

    def end(self) -> None:
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.end()


def until_exists(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None
        try:
            process.wait(0.005)
        except subprocess.TimeoutExpired:
            continue


def test_it_says_when_it_is_ready_and_what_became_of_jobs(wire: Wire) -> None:
    assert wire.receive() == [pipe.READY, None]
    for _ in range(2):
        wire.job("pid")
        assert wire.receive() == [pipe.SAID, COMPLETE, ["application/octet-stream", str(wire.process.pid).encode()]]


def test_a_stop_for_a_job_that_is_over_hits_no_later_one(wire: Wire) -> None:
    wire.receive()
    for _ in range(200):
        wire.job("pid")
        assert wire.receive()[1] == COMPLETE
        wire.send(pipe.STOP, False)
    wire.job("pid")
    assert wire.receive()[1] == COMPLETE


def test_a_stop_right_behind_the_job_ends_it_or_finds_it_done(wire: Wire) -> None:
    wire.receive()
    for _ in range(200):
        wire.job("pid")
        wire.send(pipe.STOP, False)
        assert wire.receive()[1] in (COMPLETE, STOPPED)


def test_what_a_handler_says_on_the_way(wire: Wire) -> None:
    wire.receive()
    wire.job("keeps", b"new", b"old")
    kind, fence, number, data = wire.receive_but_words()
    assert (kind, fence, data) == (pipe.SAVE, 5, b"new")
    while not wire.words:
        wire.words.append(wire.receive())
    assert wire.words == [[pipe.TOLD, 5, 1, 2, "begins"]]
    wire.send(pipe.SAVED, number, None)
    assert wire.receive_but_words() == [pipe.SAID, COMPLETE, ["application/octet-stream", b"old new"]]


def test_a_checkpoint_that_is_refused_is_an_error_of_the_handler(wire: Wire) -> None:
    wire.receive()
    wire.job("keeps", b"new")
    number = wire.receive_but_words()[2]
    wire.send(pipe.SAVED, number, to_wire(StaleFence("gone")))
    frame = wire.receive_but_words()
    assert frame[:2] == [pipe.SAID, FAIL]
    assert frame[2][0][:2] == ["tq.errors.StaleFence", "gone"]


def test_a_handler_that_waits_for_its_checkpoint_is_stopped(wire: Wire) -> None:
    wire.receive()
    wire.job("keeps", b"new")
    number = wire.receive_but_words()[2]
    wire.send(pipe.STOP, False)
    assert wire.receive_but_words()[:2] == [pipe.SAID, STOPPED]
    wire.send(pipe.SAVED, number, None)  # nobody waits for it any more
    wire.job("pid")
    assert wire.receive_but_words()[1] == COMPLETE


def test_words_leave_one_at_a_time_the_last_one_last() -> None:
    sent: list[list[Any]] = []
    came = threading.Semaphore(0)

    def send(fields: list[Any]) -> None:
        sent.append(fields)
        came.release()

    teller = Teller(send, 0.001)
    context = a_context()
    context.channel = teller  # type: ignore[assignment]  # it is all of one that is used
    teller.start()
    for done in range(1, 1_000):
        context.progress(done)
    while not sent or sent[-1][2] != 999:
        assert came.acquire(timeout=20)
    assert len(sent) < 999
    assert [fields[2] for fields in sent] == sorted({fields[2] for fields in sent})
    teller.stop()
    teller.join(20)
    assert not teller.is_alive()


def test_after_a_word_none_leaves_for_a_while() -> None:
    sent = threading.Semaphore(0)
    teller = Teller(lambda _fields: sent.release(), 3_600)
    context = a_context()
    context.channel = teller  # type: ignore[assignment]
    teller.start()
    context.progress(1)
    assert sent.acquire(timeout=20)
    context.progress(2)
    assert not sent.acquire(timeout=0.1)
    teller.stop()
    teller.join(20)
    assert not teller.is_alive()


def test_it_ends_with_its_pipe_even_in_a_handler(wire: Wire, tmp_path: Path) -> None:
    wire.receive()
    wire.job("stubborn", str(tmp_path / "begun").encode())
    until_exists(tmp_path / "begun", wire.process)
    wire.socket.close()
    assert wire.process.wait(60) == 1


def test_one_without_a_job_closes_its_resources_when_the_pipe_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with_resource.py").write_text(
        "from pathlib import Path\n"
        "from tq.worker.handlers import Handlers\n"
        "def make():\n"
        "    yield 'made'\n"
        "    (Path(__file__).parent / 'closed').touch()\n"
        "HANDLERS = Handlers(resources={'db': make})\n"
        "@HANDLERS.handler('t', executor='process')\n"
        "def handler(payload, ctx, db): return db.encode()\n".replace("ctx, db", "ctx, db=__import__('tq').resource()")
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.getcwd()]))
    wire = Wire(module="with_resource")
    try:
        assert wire.receive() == [pipe.READY, None]
        wire.job("t")
        assert wire.receive()[2][1] == b"made"
        wire.socket.close()
        assert wire.process.wait(60) == 0
        assert (tmp_path / "closed").exists()
    finally:
        wire.end()


def test_it_does_not_begin_when_its_worker_is_gone() -> None:
    wire = Wire(parent=1 << 22)
    try:
        assert wire.process.wait(60) == 1
    finally:
        wire.end()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word for it is Linux's own")
def test_the_kernel_ends_it_with_its_worker_whatever_it_does(tmp_path: Path) -> None:
    """The worker is killed; no thread of the child can notice, since its handler holds the interpreter."""
    begun = tmp_path / "begun"
    program = f"""
import os, socket, subprocess, sys
sys.path.insert(0, {os.getcwd()!r})
from tests.unit.worker.test_child import Wire, pipe, until_exists
from pathlib import Path
wire = Wire()
wire.receive()
wire.job("hog", {str(begun)!r}.encode())
until_exists(Path({str(begun)!r}), wire.process)
print(wire.process.pid, flush=True)
sys.stdin.read()
"""
    worker = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        kept = os.pidfd_open(child)
        try:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(60)
            assert select.select([kept], [], [], 20)[0], "the child lives on"
        finally:
            if not select.select([kept], [], [], 0)[0]:
                signal.pidfd_send_signal(kept, signal.SIGKILL)
            os.close(kept)
