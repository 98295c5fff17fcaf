"""The asynchronous client of a simulated world, on trio and on asyncio: the product's, with its verbs, sessions and events.

It is another face of a blocking one, with the same core and connection: what one has written the other one reads. A coroutine
of the test that waits drives the world, and lets the others of its loop run before time passes; one of a handler sleeps.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import anyio.lowlevel

from tq.client.asynchronous import AsyncClient, AsyncEvents
from tq.client.core import Call, ClientCore, Make, Subscription
from tq.client.ids import TaskId
from tq.client.middleware import Chain
from tq.client.models import TaskInfo
from tq.client.running import AsyncRunner
from tq.client.steps import T, Verb
from tq.client.verbs import Verbs
from tq.testing.shell import SimulatedShell, end_of, reply_of
from tq.testing.world import CALM_MS
from tq.world import Random


class SimulatedAsyncShell(AsyncRunner):
    """As ``tq/client/async_shell.py``, on what moves the bytes of a blocking client."""

    def __init__(self, under: SimulatedShell) -> None:
        self.under = under

    async def run(self, verb: Verb[T]) -> T:
        result = await super().run(verb)
        self.under.settle_brought()
        return result

    def subscribe(self, subscription: Subscription, deadline_ms: int) -> Call:
        return self.under.subscribe(subscription, deadline_ms)

    def unsubscribe(self, subscription: Subscription) -> None:
        self.under.unsubscribe(subscription)

    def _begin(self, make: Make, deadline_ms: int | None) -> Call:
        return self.under.begin(make, deadline_ms)

    async def _await(self, call: Call) -> Any:
        try:
            await self.under.until(lambda: call.done, end_of(call))
        except BaseException:
            self.under.abandon(call)
            raise
        finally:
            self.under.leave(call)
        return reply_of(call)

    async def _pause(self, wait_ms: int) -> None:
        await self.under.until(lambda: False, self.under.now_ms + wait_ms)

    def _give_up(self, calls: list[Call]) -> None:
        for call in calls:
            self.under.leave(call)


class SimulatedAsyncClient(AsyncClient):
    """``tq.AsyncClient`` in a simulated world. It is open already; ``async with`` closes it."""

    def __init__(
        self, core: ClientCore, verbs: Verbs, chain: Chain | None, random: Random, under: SimulatedShell
    ) -> None:
        """What the blocking one is made of."""
        self._core = core
        self._verbs = verbs
        self._chain = chain
        self._random = random
        self._under = under
        self._shell = SimulatedAsyncShell(under)  # type: ignore[assignment]  # plays it
        self._run = self._shell.run

    async def close(self) -> None:
        self._under.close()
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._under.close()

    async def wait(self, id: TaskId, timeout: float | None = None, *, min_index: int = 0) -> TaskInfo:
        """As ``tq.AsyncClient.wait``. Without a time-out it ends, too, where nothing is going to happen any more: WaitTimeout."""
        steps = self._verbs.wait(id, timeout, min_index=min_index)
        if self._chain is not None:
            steps = self._chain.around("wait", steps)
        info: TaskInfo = await self._run(self._under.endless(steps) if timeout is None else steps)
        return info

    def events(
        self, id: TaskId | None = None, *, after: tuple[int, int] | None = None, timeout: float | None = None
    ) -> AsyncEvents:
        """As ``tq.AsyncClient.events``. Without a time-out it ends, too, when nothing is going to happen any more."""
        return SimulatedAsyncEvents(self._under, self._shell, self._verbs, id, after, timeout)


class SimulatedAsyncEvents(AsyncEvents):
    """The product's, which waits for the world."""

    def __init__(
        self, under: SimulatedShell, shell: Any, verbs: Verbs, id: TaskId | None, after: tuple[int, int] | None,
        timeout: float | None,
    ) -> None:  # fmt: skip
        super().__init__(shell, verbs, id, after, timeout)
        self._under = under

    async def _comes(self) -> bool:
        under, timeout = self._under, self._timeout
        end_ms = None if timeout is None else under.now_ms + round(timeout * 1000)
        while True:
            look_ms = under.now_ms + CALM_MS
            until_ms = look_ms if end_ms is None else min(look_ms, end_ms)
            if await under.until(lambda: bool(self._rows) or self._is_closed, until_ms):
                return True
            if under.is_calm if end_ms is None else under.now_ms >= end_ms:
                return False
