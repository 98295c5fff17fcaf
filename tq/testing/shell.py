"""What is under a client of the test instead of threads and sockets: it drives the world until the answer is there.
Coroutines drive it as well (``async_shell.py``); those of handlers sleep while it goes on.

The client is the product's own, with its verbs and its core; only who moves bytes and waits is another one.
"""

from __future__ import annotations

import queue as queues_
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from tq.client.blocking import Client, Events
from tq.client.core import Call, ClientCore, Close, Connect, Make, Subscription, Wait
from tq.client.ids import TaskId
from tq.client.models import TaskEvent, TaskInfo
from tq.client.running import Runner
from tq.client.steps import T, Verb
from tq.client.verbs import Verbs
from tq.errors import TqError, WaitTimeout
from tq.protocol import messages as m
from tq.protocol.addresses import Address
from tq.testing.baton import BatonLoop
from tq.testing.history import History
from tq.testing.wire import Refused, Wire
from tq.testing.world import CALM_MS, KEEP_ALIVE_MS, MONOTONIC_START_MS, World

if TYPE_CHECKING:
    from tq.client.asynchronous import AsyncClient

ENDPOINT = "client"
BRINGS_WORK = (m.SubmitTask, m.RetryTasks)


@attrs.frozen(eq=False)
class Sleeper:
    """A handler that is a coroutine, and waits."""

    is_done: Callable[[], bool]
    end_ms: int | None
    wake: Callable[[], None]


class SimulatedShell(Runner):
    """As ``tq/client/shell.py``; an actor of the world."""

    def __init__(self, core: ClientCore, world: World, history: History) -> None:
        self.settle: Callable[[], None] = lambda: None  # called after what may bring work
        self._core = core
        self._world = world
        self._history = history
        self._wire: Wire | None = None
        self._wakes_ms: int | None = None
        self._has_brought = False
        self._sleepers: dict[Sleeper, None] = {}
        world.actors.append(self)

    # ---- callers --------------------------------------------------------------------------------------------

    def run(self, verb: Verb[T]) -> T:
        """Do what a verb asks for until it returns."""
        with self._world.driving():
            result = super().run(verb)
            self.settle_brought()
            return result

    def settle_brought(self) -> None:
        """Work was brought, it may be: let it be done, if that is what this client is for."""
        if self._has_brought:
            self._has_brought = False
            self.settle()

    def endless(self, verb: Verb[T]) -> Verb[T]:
        """The verb without a time-out of its own, which ends when all is calm."""
        began_ms = self._world.now_ms
        try:
            step = next(verb)
            while True:
                try:
                    self._check_calm(began_ms)
                    value = yield step
                except TqError as error:
                    step = verb.throw(error)
                else:
                    step = verb.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _pause(self, wait_ms: int) -> None:
        self._world.drive(lambda: False, wait_ms / 1000)

    def _give_up(self, calls: list[Call]) -> None:
        for call in calls:
            self.leave(call)

    # ---- coroutines -----------------------------------------------------------------------------------------

    async def until(self, is_done: Callable[[], bool], end_ms: int | None) -> bool:
        """Let the world go on, and other coroutines meanwhile, until it is done or that time has come. Whether it is done."""
        loop = self._world.loop_here()
        if not isinstance(loop, BatonLoop):
            return await self._world.drive_async(is_done, end_ms, let_others_run)
        if not is_done():  # of a handler: it sleeps, the world stands only while its loop runs
            event = loop.event()
            sleeper = Sleeper(is_done, end_ms, lambda: loop.post(event.set))
            self._sleepers[sleeper] = None
            try:
                await event.wait()
            finally:
                self._sleepers.pop(sleeper, None)
        return is_done()

    def _wake_sleepers(self) -> None:
        for sleeper in list(self._sleepers):
            if sleeper.is_done() or (sleeper.end_ms is not None and sleeper.end_ms <= self._world.now_ms):
                del self._sleepers[sleeper]
                sleeper.wake()

    # ---- both -----------------------------------------------------------------------------------------------

    def begin(self, make: Make, deadline_ms: int | None) -> Call:
        asked = self._history.called(make)
        self._has_brought |= isinstance(asked.message, BRINGS_WORK)
        return self._core.start(make, deadline_ms, asked)

    def _await(self, call: Call) -> Any:
        try:
            self._world.drive_until(lambda: call.done, end_of(call))
        except BaseException:
            self._core.abandon(call)
            raise
        finally:
            self.leave(call)
        return reply_of(call)

    def leave(self, call: Call) -> None:
        """Its time is over, or who has made it went away."""
        if not call.done:
            self._core.give_up(call)
            self._history.answered(call)

    def subscribe(self, subscription: Subscription, deadline_ms: int) -> Call:
        return self._core.subscribe(subscription, deadline_ms)

    def abandon(self, call: Call) -> None:
        self._core.abandon(call)

    _begin = begin

    def unsubscribe(self, subscription: Subscription) -> None:
        self._core.unsubscribe(subscription)

    def _check_calm(self, began_ms: int) -> None:
        """A wait without a time-out would never end where nothing is going to happen any more."""
        waited_ms = self._world.now_ms - began_ms
        if waited_ms > CALM_MS and self._world.is_calm():
            raise WaitTimeout(
                f"nothing has happened for {waited_ms / 1000:g} s, and nothing is going to: no handler runs, nothing is due "
                "later. Is there a worker for this type and queue? explain() tells what the task waits for"
            )

    @property
    def now_ms(self) -> int:
        return self._world.now_ms

    @property
    def is_calm(self) -> bool:
        return self._world.is_calm()

    def next_row(self, rows: queues_.SimpleQueue[Any], timeout: float | None) -> Any:
        """The next event. Raises queue.Empty after ``timeout`` seconds, or when no more can come."""
        world = self._world
        if not rows.empty():
            return rows.get_nowait()
        end_ms = None if timeout is None else world.now_ms + round(timeout * 1000)
        while not world.drive_until(lambda: not rows.empty(), _soonest(world.now_ms + CALM_MS, end_ms)):
            if (end_ms is not None and world.now_ms >= end_ms) or (end_ms is None and world.is_calm()):
                break
        return rows.get_nowait()

    def close(self) -> None:
        self._core.close()
        self._take_finished()
        self._hang_up()
        if self in self._world.actors:
            self._world.actors.remove(self)

    # ---- an actor of the world --------------------------------------------------------------------------------

    @property
    def sessions(self) -> dict[bytes, int]:
        return {}  # sessions of the test itself send heartbeats when it says so

    def due_ms(self) -> int | None:
        now_ms = self._world.now_ms + MONOTONIC_START_MS
        wakes_ms = self._wakes_ms
        is_quiet = self._world.is_alone and self._core.is_on_its_way
        due = [sleeper.end_ms for sleeper in self._sleepers if sleeper.end_ms is not None]
        if wakes_ms is not None and not (is_quiet and wakes_ms > now_ms + KEEP_ALIVE_MS):
            due.append(wakes_ms - MONOTONIC_START_MS)  # else it is for a sign of life, which nobody asks for here
        return min(due, default=None)

    def pump(self) -> bool:
        core = self._core
        is_busy = self._flush()
        wire = self._wire
        if wire is not None:
            data = wire.read()
            if data:
                core.received(data)
                is_busy = True
            elif wire.is_over:
                core.lost("the broker closed the connection")
                is_busy = True
        while True:
            step = core.step()
            is_busy |= self._flush()
            match step:
                case Connect(address):
                    self._connect(address)
                case Close():
                    self._hang_up()
                case Wait(until_ms):
                    self._wakes_ms = until_ms
                    break
            is_busy = True
        self._take_finished()
        if self._sleepers:
            self._wake_sleepers()
        return is_busy

    def _take_finished(self) -> None:
        for call in self._core.finished:
            self._history.answered(call)
        self._core.finished.clear()

    def _connect(self, address: Address) -> None:
        self._hang_up()
        try:
            self._wire = self._world.dial(ENDPOINT, address)
        except Refused as refused:
            self._core.connect_failed(str(refused))
        else:
            self._core.connected()

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _flush(self) -> bool:
        if self._wire is None or not self._core.has_output:
            return False
        self._wire.write(self._core.take_output())
        return True


def end_of(call: Call) -> int | None:
    """In the world's time."""
    return None if call.deadline_ms is None else call.deadline_ms - MONOTONIC_START_MS


def reply_of(call: Call) -> Any:
    if call.error is not None:
        raise call.error
    return call.reply


async def let_others_run(turns: int) -> None:
    """The other coroutines of this loop."""
    import anyio.lowlevel

    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


def _soonest(*times_ms: int | None) -> int:
    return min(at_ms for at_ms in times_ms if at_ms is not None)


class SimulatedClient(Client):
    """``tq.Client`` in a simulated world."""

    def __init__(self, world: World, history: History, **options: Any) -> None:
        self._world = world
        self._history = history
        super().__init__(world.addresses, clock=world.clock, random=world.random.fork(), name="tq-testing", **options)

    def _begin(self) -> None:
        self.shell = SimulatedShell(self._core, self._world, self._history)
        self._shell = self.shell  # type: ignore[assignment]  # plays it
        self._run = self.shell.run

    def close(self) -> None:
        self.shell.close()

    def wait(self, id: TaskId, timeout: float | None = None, *, min_index: int = 0) -> TaskInfo:
        """As ``tq.Client.wait``. Without a time-out it ends, too, where nothing is going to happen any more: WaitTimeout."""
        steps = self._verbs.wait(id, timeout, min_index=min_index)
        if self._chain is not None:
            steps = self._chain.around("wait", steps)
        return self.shell.run(self.shell.endless(steps) if timeout is None else steps)

    @property
    def async_client(self) -> AsyncClient:
        """The same client for coroutines, over the same connection."""
        from tq.testing.async_shell import SimulatedAsyncClient

        return SimulatedAsyncClient(self._core, self._verbs, self._chain, self._random, self.shell)

    def events(
        self, id: TaskId | None = None, *, after: tuple[int, int] | None = None, timeout: float | None = None
    ) -> SimulatedEvents:
        """As ``tq.Client.events``. Without a time-out it ends, too, when nothing is going to happen any more."""
        return SimulatedEvents(self.shell, self._verbs, id, after, timeout)


class SimulatedEvents(Events):
    """The product's, which waits for the world."""

    def __init__(
        self,
        shell: SimulatedShell,
        verbs: Verbs,
        id: TaskId | None,
        after: tuple[int, int] | None,
        timeout: float | None,
    ) -> None:
        super().__init__(shell, verbs, id, after, timeout)  # type: ignore[arg-type]
        self._waits = shell

    def __next__(self) -> TaskEvent:
        if self._is_closed:
            raise StopIteration
        try:
            row = self._waits.next_row(self._rows, self._timeout)
        except queues_.Empty:
            raise StopIteration from None
        if isinstance(row, TqError):
            self.close()
        return self._event(row)
