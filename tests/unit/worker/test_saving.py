"""Handlers that wait for a checkpoint: on threads, trio and asyncio; and who wakes them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import trio
import trio.testing

from tq import limits
from tq.errors import InvalidRequest, PayloadTooLarge, StaleFence, TqError
from tq.verdicts import Stopped
from tq.worker.context import Context, Saved
from tq.worker.interrupt import interrupt


class Channel:
    """Answers when it is told to, on the thread of the test."""

    def __init__(self) -> None:
        self.saves: list[tuple[int, bytes | None, Saved]] = []
        self.words: list[Any] = []
        self.came = threading.Semaphore(0)

    def tell(self, context: Context) -> None:
        self.words.append(context.word)

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None:
        self.saves.append((number, data, done))
        self.came.release()

    def answer(self, error: TqError | None = None) -> None:
        assert self.came.acquire(timeout=20)
        self.saves[-1][2](error)


def a_context(channel: Channel | None, kept: bytes | None = None) -> Context:
    return Context(bytes(16), "t", "q", 1, 0, 5, None, {}, kept, channel)


class Handler(threading.Thread):
    """Keeps a checkpoint, and remembers how that ended."""

    def __init__(self, context: Context, data: bytes | None = b"d", *, saves_again: bool = False) -> None:
        super().__init__(daemon=True)
        self.context = context
        self.data = data
        self.saves_again = saves_again
        self.ended: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.context.checkpoint(self.data)
        except (TqError, Stopped) as error:
            self.ended = error
            if self.saves_again:
                self.context.checkpoint(b"last")

    def over(self) -> BaseException | None:
        self.join(20)
        assert not self.is_alive()
        return self.ended


def test_a_thread_waits_until_it_is_durable() -> None:
    channel = Channel()
    context = a_context(channel, b"old")
    handler = Handler(context)
    assert channel.came.acquire(timeout=20)
    assert handler.is_alive()
    assert context.checkpoint_data == b"old"
    channel.saves[0][2](None)
    assert handler.over() is None
    assert context.checkpoint_data == b"d"
    assert context.aside.waits == []


def test_a_refusal_is_raised_and_nothing_is_remembered() -> None:
    channel = Channel()
    context = a_context(channel, b"old")
    handler = Handler(context)
    channel.answer(StaleFence("gone"))
    assert isinstance(handler.over(), StaleFence)
    assert context.checkpoint_data == b"old"


def test_numbers_rise() -> None:
    channel = Channel()
    context = a_context(channel)
    for data in (b"a", b"b", None):
        handler = Handler(context, data)
        channel.answer()
        handler.over()
    numbers = [number for number, _data, _done in channel.saves]
    assert numbers == sorted(set(numbers))
    assert context.checkpoint_data is None


def test_one_that_waits_is_stopped() -> None:
    """The order comes as in threads.py: the context first, then the exception, which a blocked thread would not hear."""
    channel = Channel()
    context = a_context(channel)
    handler = Handler(context)
    assert channel.came.acquire(timeout=20)
    context.cancel()
    assert handler.ident is not None
    interrupt(handler.ident)
    assert isinstance(handler.over(), Stopped)
    channel.saves[0][2](None)  # it came too late, and hurts nobody


def test_one_that_is_woken_and_not_stopped_waits_on() -> None:
    """A thread that the handler made: nobody raises anything in it."""
    channel = Channel()
    context = a_context(channel)
    handler = Handler(context)
    assert channel.came.acquire(timeout=20)
    (wait,) = context.aside.waits
    context.cancel()
    while wait._event.is_set() and handler.is_alive():
        pass  # until it has heard that
    assert handler.is_alive()
    channel.saves[0][2](StaleFence("gone"))
    assert isinstance(handler.over(), StaleFence)


def test_who_was_stopped_may_keep_a_last_one() -> None:
    channel = Channel()
    context = a_context(channel)
    handler = Handler(context, saves_again=True)
    assert channel.came.acquire(timeout=20)
    context.cancel()
    assert handler.ident is not None
    interrupt(handler.ident)
    channel.answer()
    assert isinstance(handler.over(), Stopped)
    assert context.checkpoint_data == b"last"


async def test_trio_awaits_it() -> None:
    channel = Channel()
    context = a_context(channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.acheckpoint, b"d")
        await trio.testing.wait_all_tasks_blocked()
        channel.answer()
    assert context.checkpoint_data == b"d"
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(context.acheckpoint, b"e")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    channel.answer(StaleFence("nobody hears it"))
    await trio.testing.wait_all_tasks_blocked()
    assert context.checkpoint_data == b"d"


def test_asyncio_awaits_it_from_another_thread() -> None:
    channel = Channel()
    context = a_context(channel)
    answers = threading.Thread(target=lambda: (channel.answer(), channel.answer(StaleFence("gone"))))

    async def handler() -> None:
        await context.acheckpoint(b"d")
        with pytest.raises(StaleFence):
            await context.acheckpoint(b"e")

    answers.start()
    asyncio.run(handler())
    answers.join()
    assert context.checkpoint_data == b"d"


async def test_no_loop_is_blocked() -> None:
    context = a_context(Channel())
    with pytest.raises(InvalidRequest, match="acheckpoint"):
        context.checkpoint(b"d")

    async def on_asyncio() -> None:
        context.checkpoint(b"d")

    def run() -> None:
        with pytest.raises(InvalidRequest, match="acheckpoint"):
            asyncio.run(on_asyncio())

    await trio.to_thread.run_sync(run)


async def test_a_thread_of_a_loop_may_block() -> None:
    channel = Channel()
    context = a_context(channel)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, context.checkpoint, b"d")
        await trio.to_thread.run_sync(channel.answer)
    assert context.checkpoint_data == b"d"


@pytest.mark.parametrize("channel", [None, Channel()])
def test_what_cannot_be_kept_is_refused_at_once(channel: Channel | None) -> None:
    context = a_context(channel)
    with pytest.raises(PayloadTooLarge, match="65,536"):
        context.checkpoint(bytes(limits.CHECKPOINT_BYTES_MAX + 1))
    with pytest.raises(InvalidRequest, match="bytes"):
        context.checkpoint("text")  # type: ignore[arg-type]
    assert context.checkpoint_data is None


def test_without_a_worker_it_stays_in_the_context() -> None:
    context = a_context(None)
    context.progress(1)
    context.checkpoint(bytearray(b"d"))
    assert context.checkpoint_data == b"d"
