"""Handlers in processes of their own: what crashes there crashes alone, and what does not stop is killed.

A child is started when a job finds none idle, by spawning a fresh interpreter (never a fork of this one, which has
threads), and runs one job after the other. If it ends while it has a job, whatever ended it (a signal, ``os._exit``,
the kernel for want of memory), that attempt is a crash, and only that. Children end when the worker does.

A child that has lived long enough (``recycling``) is ended between two jobs. It closes its resources when its stream
ends, and has END_S for that.

They are spawned on the main thread on purpose: the kernel's "die with your parent" means the thread that spawned.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from tq.errors import ResourceFailed, StaleFence, TqError, to_wire
from tq.worker import pipe
from tq.worker.job import Done, Job, Why
from tq.worker.outcomes import SAID_STOPPED, Said, crashed, failed
from tq.worker.recycling import Life, Recycling
from tq.worker.usage import rss_bytes
from tq.world import Random

END_S: Final = 10.0  # for a child to close its resources
WAIT_S: Final = 1.0  # for one whose stream is over


@attrs.define(eq=False)
class Child:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    life: Life
    unpacker: pipe.Unpacker = attrs.field(factory=pipe.Unpacker)
    frames: list[list[Any]] = attrs.field(factory=list)
    is_ready: bool = False
    is_killed: bool = False

    def kill(self) -> None:
        self.is_killed = True
        self.process.kill()


class ChildEnded(Exception):
    """The stream of a child is over."""


class Processes:
    """An executor. Its tasks live in ``nursery``; ``target`` is what children import."""

    def __init__(self, done: Done, nursery: trio.Nursery, target: str, recycling: Recycling, random: Random) -> None:
        self._done = done
        self._nursery = nursery
        self._target = target
        self._recycling = recycling
        self._random = random
        self._idle: list[Child] = []
        self._children: set[Child] = set()

    async def warm(self) -> TqError | None:
        """Start a first child, which makes its resources: they are there before anything is claimed. Why not, or None."""
        try:
            child = self._spawn()
        except OSError as error:
            return ResourceFailed(f"no child process could be started: {error.strerror}")
        try:
            failure = (await self._receive(child))[1]
        except ChildEnded:
            return ResourceFailed(f"a child process did not get ready: {_told(await self._forget(child))}")
        if failure is not None:
            await self._forget(child)
            return ResourceFailed(f"in a child process: {failure[1]}")
        child.is_ready = True
        self._idle.append(child)
        return None

    def start(self, job: Job) -> None:
        child = self._idle_child()
        if child is None:
            try:
                child = self._spawn()
            except OSError as error:
                # No memory, no descriptors, too many processes: like any failure of the attempt, with its backoff.
                self._done(job, failed("OSError", f"no child process could be started: {error.strerror}", ""))
                return
        job.handle = child
        self._nursery.start_soon(self._run, job, child)

    def stop(self, job: Job) -> None:
        child: Child | None = job.handle
        if child is None:
            return
        if not child.is_ready:
            child.kill()  # it has not begun
            return
        try:
            child.channel.send(pipe.pack([pipe.STOP, job.why is Why.LOST]))
        except BlockingIOError:
            child.kill()  # it does not even read its job
        except OSError:
            pass  # it has ended; the task that reads it finds out

    def kill(self, job: Job) -> None:
        if job.handle is not None:
            job.handle.kill()

    def close(self) -> None:
        """End all children: idle ones by their stream, the others by force."""
        children = list(self._children)
        for child in children:
            if child not in self._idle:
                child.kill()
            child.channel.close()
        for child in children:
            _see_end(child)
        self._children.clear()
        self._idle.clear()

    @property
    def pids(self) -> list[int]:
        return sorted(child.process.pid for child in list(self._children))

    # ---- one job -----------------------------------------------------------------------------------

    async def _run(self, job: Job, child: Child) -> None:
        said: Said
        try:
            if not child.is_ready:
                error = (await self._receive(child))[1]
                if error is not None:
                    await self._forget(child)
                    self._end(
                        job, failed(error[0], f"the child process cannot load its handlers: {error[1]}", error[2])
                    )
                    return
                child.is_ready = True
            await _send_all(child.channel, _job_frame(job))
            outcome, body = await self._listen(job, child)
        except ChildEnded:
            code = await self._forget(child)
            said = SAID_STOPPED if child.is_killed and job.why is not None else crashed("WorkerCrashed", _told(code))
            self._end(job, said)
            return
        why = child.life.task_ended()
        if why is None and child.life.is_measured:
            why = child.life.grown(rss_bytes(child.process.pid))
        if why is None:
            self._idle.append(child)
        else:
            self._nursery.start_soon(self._retire, child, why)
        self._end(job, (outcome, body))

    async def _listen(self, job: Job, child: Child) -> Said:
        """What became of the job; what it says on the way goes on. A word that comes late is of the job before."""
        while True:
            kind, *fields = await self._receive(child)
            if kind == pipe.SAID:
                return fields[0], fields[1]
            fence, *aside = fields
            if kind == pipe.TOLD:
                if fence == job.fence:
                    job.context.progress(*aside)
                continue
            number, data = aside
            answer = partial(_saved, child, number)
            if fence != job.fence:
                answer(StaleFence("the attempt that keeps this is over"))
            elif job.context.channel is None:
                answer(None)
            else:
                job.context.channel.save(job.context, number, data, answer)

    async def _retire(self, child: Child, why: str) -> None:
        structlog.get_logger("tq.worker").info("a child process ends", pid=child.process.pid, why=why)
        child.channel.close()
        # In a thread, and to its end: nobody else sees to it.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_see_end, child)
        self._children.discard(child)

    def _end(self, job: Job, said: Said) -> None:
        job.handle = None
        self._done(job, said)

    def _idle_child(self) -> Child | None:
        """One that lives: what ended while it had nothing to do is no crash."""
        while self._idle:
            child = self._idle.pop()
            if child.process.poll() is None:
                return child
            self._children.discard(child)
            child.channel.close()
        return None

    def _spawn(self) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "tq.worker.child", self._target, str(theirs.fileno()), str(os.getpid())]
            try:
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        child = Child(process, ours, Life(self._recycling, self._random))
        self._children.add(child)
        return child

    async def _forget(self, child: Child) -> int:
        """Its stream is over: see it end. Its exit code."""
        with trio.move_on_after(WAIT_S):
            await trio.to_thread.run_sync(child.process.wait, abandon_on_cancel=True)
        if child.process.poll() is None:
            child.process.kill()  # it closed the stream and lives on: its attempt has ended for us
            await trio.to_thread.run_sync(child.process.wait)
        self._children.discard(child)
        child.channel.close()
        return child.process.returncode

    async def _receive(self, child: Child) -> list[Any]:
        while not child.frames:
            await trio.lowlevel.wait_readable(child.channel)
            try:
                data = child.channel.recv(pipe.READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                raise ChildEnded
            child.frames = child.unpacker.feed(data)
        return child.frames.pop(0)


def _saved(child: Child, number: int, error: TqError | None) -> None:
    try:
        child.channel.send(pipe.pack([pipe.SAVED, number, None if error is None else to_wire(error)]))
    except BlockingIOError:
        child.kill()  # it waits for this, and does not read it
    except OSError:
        pass  # it has ended; the task that reads it finds out


def _see_end(child: Child) -> None:
    """Its stream is closed: wait, then kill it. Blocks."""
    try:
        child.process.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.process.wait()


async def _send_all(channel: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[channel.send(rest) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(channel)
        except OSError as error:
            raise ChildEnded from error


def _job_frame(job: Job) -> bytes:
    c = job.context
    return pipe.pack(
        [
            pipe.JOB, c.id_bytes, c.type, c.queue, c.attempt, c.crashes, c.fence, c.deadline, c.headers, job.payload,
            c.checkpoint_data, c.content_type,
        ]
    )  # fmt: skip


def _told(code: int) -> str:
    if code < 0:
        try:
            return f"its process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code}"
