"""What handlers say while they run, in a simulated world: progress and checkpoints on their way to the worker's core.

A checkpoint is waited for. A plain handler lets the world go on until it is answered; a coroutine is told on its own loop, which
is asleep at that moment.
"""

from __future__ import annotations

from collections.abc import Callable

from tq.errors import TqError
from tq.worker.context import Channel, Context, Saved

Drive = Callable[[float | None, Callable[[], bool]], object]
"""(seconds, until): let the world go on."""
Post = Callable[[Callable[[], None]], None]


class DrivingChannel:
    """For a plain handler."""

    def __init__(self, channel: Channel, drive: Drive) -> None:
        self.tell = channel.tell
        self._channel = channel
        self._drive = drive

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None:
        answers: list[TqError | None] = []
        self._channel.save(context, number, data, answers.append)
        self._drive(None, lambda: bool(answers))
        done(answers[0])


class PostingChannel:
    """For a coroutine. ``post``: have it called on its loop."""

    def __init__(self, channel: Channel, post: Post) -> None:
        self.tell = channel.tell
        self._channel = channel
        self._post = post

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None:
        self._channel.save(context, number, data, lambda error: self._post(lambda: done(error)))
