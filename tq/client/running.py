"""Runs verbs: does what each step asks for until the verb returns; with threads, and by ``await``.

A shell says how a step is done. There are two in each of two places, which run every verb alike: on sockets (``shell.py``,
``async_shell.py``), and in the simulated world of users' tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tq.client.core import Call, Make, Subscription
from tq.client.steps import Ask, Await, Begin, Listen, Pause, Step, T, Verb
from tq.errors import TqError


class Runner(ABC):
    """For callers that are threads."""

    def run(self, verb: Verb[T]) -> T:
        """Do what a verb asks for until it returns."""
        begun: list[Call] = []
        try:
            step = next(verb)
            while True:
                try:
                    value = self._do(step, begun)
                except TqError as error:
                    step = verb.throw(error)
                else:
                    step = verb.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            verb.close()
            if begun:
                self._give_up(begun)

    def _do(self, step: Step, begun: list[Call]) -> Any:
        match step:
            case Ask(make, deadline_ms):
                return self._await(self._begin(make, deadline_ms))
            case Begin(make, deadline_ms):
                begun.append(self._begin(make, deadline_ms))
                return begun[-1]
            case Await(call):
                return self._await(call)
            case Listen(subscription, deadline_ms):
                return self._listen(subscription, deadline_ms)
            case Pause(wait_ms):
                return self._pause(wait_ms)

    def _listen(self, subscription: Subscription, deadline_ms: int) -> None:
        call = self.subscribe(subscription, deadline_ms)
        try:
            self._await(call)
        except BaseException:
            self.unsubscribe(subscription)
            raise

    @abstractmethod
    def subscribe(self, subscription: Subscription, deadline_ms: int) -> Call: ...
    @abstractmethod
    def unsubscribe(self, subscription: Subscription) -> None: ...
    @abstractmethod
    def _begin(self, make: Make, deadline_ms: int | None) -> Call: ...
    @abstractmethod
    def _await(self, call: Call) -> Any:
        """Its reply. Who goes away before gives it up."""

    @abstractmethod
    def _pause(self, wait_ms: int) -> None: ...
    @abstractmethod
    def _give_up(self, calls: list[Call]) -> None:
        """Those that a verb has begun: it waits for none of them any more."""


class AsyncRunner(ABC):
    """For callers that are coroutines."""

    async def run(self, verb: Verb[T]) -> T:
        """Do what a verb asks for until it returns."""
        begun: list[Call] = []
        try:
            step = next(verb)
            while True:
                try:
                    value = await self._do(step, begun)
                except TqError as error:
                    step = verb.throw(error)
                else:
                    step = verb.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            verb.close()
            if begun:
                self._give_up(begun)

    async def _do(self, step: Step, begun: list[Call]) -> Any:
        match step:
            case Ask(make, deadline_ms):
                return await self._await(self._begin(make, deadline_ms))
            case Begin(make, deadline_ms):
                begun.append(self._begin(make, deadline_ms))
                return begun[-1]
            case Await(call):
                return await self._await(call)
            case Listen(subscription, deadline_ms):
                return await self._listen(subscription, deadline_ms)
            case Pause(wait_ms):
                return await self._pause(wait_ms)

    async def _listen(self, subscription: Subscription, deadline_ms: int) -> None:
        call = self.subscribe(subscription, deadline_ms)
        try:
            await self._await(call)
        except BaseException:
            self.unsubscribe(subscription)
            raise

    @abstractmethod
    def subscribe(self, subscription: Subscription, deadline_ms: int) -> Call: ...
    @abstractmethod
    def unsubscribe(self, subscription: Subscription) -> None: ...
    @abstractmethod
    def _begin(self, make: Make, deadline_ms: int | None) -> Call: ...
    @abstractmethod
    async def _await(self, call: Call) -> Any:
        """Its reply. Who goes away before gives it up."""

    @abstractmethod
    async def _pause(self, wait_ms: int) -> None: ...
    @abstractmethod
    def _give_up(self, calls: list[Call]) -> None:
        """Those that a verb has begun: it waits for none of them any more."""
