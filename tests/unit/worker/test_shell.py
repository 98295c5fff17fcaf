"""Turns and connections of the shell, with a core that the test plays and a broker of threads."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import structlog.testing
import trio
import trio.testing

from tests.unit.client.fake_broker import CLOSE, FakeBroker
from tests.unit.worker.jobs import Ends, a_job
from tests.unit.worker.rig import some_handlers
from tq.protocol import messages as m
from tq.protocol.addresses import Addresses, parse
from tq.sim.random import SeededRandom
from tq.worker.core import State
from tq.worker.shell import LOUD, QUIET, Shell
from tq.world import RealClock


@attrs.define
class Orders:
    to_start: list[Any] = attrs.field(factory=list)
    to_stop: list[Any] = attrs.field(factory=list)
    to_kill: list[Any] = attrs.field(factory=list)


@attrs.define
class Core:
    """Says what the test puts into ``out``, once; ``steps`` counts the turns."""

    state: State = State.RUNNING
    session: bytes | None = None
    leader: str | None = None
    answers: int = 0
    wants_reconnect: bool = False
    wakes: int | None = None
    out: list[m.Message] = attrs.field(factory=list)
    jobs: Orders = attrs.field(factory=Orders)
    notes: list[Any] = attrs.field(factory=list)
    ended: list[Any] = attrs.field(factory=list)
    heard: list[m.Message] = attrs.field(factory=list)
    steps: int = 0
    connections: int = 0
    changed: trio.Event = attrs.field(factory=trio.Event)

    def step(self) -> list[m.Message]:
        self.steps += 1
        out, self.out = self.out, []
        return out

    def wake_ms(self) -> int | None:
        return self.wakes

    def finished(self, job: Any, said: Any) -> None:
        self.ended.append((job, said))

    def connected(self, hello: m.HelloReply) -> None:
        self.connections += 1
        self._change()

    def received(self, message: m.Message) -> None:
        self.heard.append(message)
        self._change()

    def disconnected(self) -> None:
        self.wants_reconnect = False
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Recorder:
    """An executor that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def start(self, job: Any) -> None:
        self.calls.append(("start", job))

    def stop(self, job: Any) -> None:
        self.calls.append(("stop", job))

    def kill(self, job: Any) -> None:
        self.calls.append(("kill", job))


def a_shell(core: Any, brokers: str = "127.0.0.1:1") -> Shell:
    shell = Shell(core, Addresses(parse(brokers)), "tq-worker/test", RealClock(), SeededRandom(7))
    recorder = Recorder()
    shell.executors = {"thread": recorder, "process": recorder, "async": recorder}
    return shell


async def until(core: Core, look: Any) -> None:
    with trio.fail_after(20):
        while not look():
            await core.changed.wait()


async def test_jobs_go_to_their_executors_in_order(nursery: trio.Nursery) -> None:
    core = Core()
    shell = a_shell(core)
    job = a_job(some_handlers(), "t")
    core.jobs = Orders([job], [job], [job])
    nursery.start_soon(shell.run)
    await trio.testing.wait_all_tasks_blocked()
    recorder: Any = shell.executors["thread"]
    assert recorder.calls == [("start", job), ("stop", job), ("kill", job)]
    assert core.jobs == Orders()


async def test_a_burst_of_ends_is_one_turn(nursery: trio.Nursery) -> None:
    core = Core()
    shell = a_shell(core)
    nursery.start_soon(shell.run)
    await trio.testing.wait_all_tasks_blocked()
    before = core.steps
    for number in range(1, 51):
        shell.finished(a_job(some_handlers(), "t", number=number), Ends())  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    assert len(core.ended) == 50
    assert core.steps == before + 1


async def test_it_turns_when_the_core_asked_for_it(nursery: trio.Nursery) -> None:
    core = Core(wakes=RealClock().monotonic_ms() + 30)
    shell = a_shell(core)
    nursery.start_soon(shell.run)
    await trio.testing.wait_all_tasks_blocked()
    assert core.steps == 1
    with trio.fail_after(20):
        while core.steps < 2:
            await trio.sleep(0.001)
    assert RealClock().monotonic_ms() >= (core.wakes or 0)


async def test_it_ends_with_the_core(nursery: trio.Nursery) -> None:
    core = Core()
    shell = a_shell(core)
    with trio.fail_after(20):
        async with trio.open_nursery() as inner:
            inner.start_soon(shell.run)
            await trio.testing.wait_all_tasks_blocked()
            core.state = State.OVER
            shell.poke()


async def test_an_opened_session_is_told(nursery: trio.Nursery) -> None:
    core = Core()
    shell = a_shell(core)
    opened = []
    shell.on_session = lambda: opened.append(core.session)
    nursery.start_soon(shell.run)
    for session in (b"a", b"a", None, b"b"):
        core.session = session
        shell.poke()
        await trio.testing.wait_all_tasks_blocked()
    assert opened == [b"a", b"b"]


async def test_messages_go_out_and_answers_come_in(nursery: trio.Nursery) -> None:
    with FakeBroker(lambda request: m.PingReply(request.rid, 5)) as broker:
        core = Core()
        shell = a_shell(core, broker.address)
        nursery.start_soon(shell.run)
        nursery.start_soon(shell.connect)
        await until(core, lambda: core.connections == 1)
        core.out = [m.Ping(1), m.Ping(2)]
        shell.poke()
        await until(core, lambda: len(core.heard) == 2)
        nursery.cancel_scope.cancel()


async def test_it_wakes_earlier_when_a_message_asks_for_it(nursery: trio.Nursery) -> None:
    with FakeBroker(lambda request: m.PingReply(request.rid, 5)) as broker:
        core = Core(wakes=RealClock().monotonic_ms() + 3_600_000)
        shell = a_shell(core, broker.address)
        nursery.start_soon(shell.run)
        nursery.start_soon(shell.connect)
        await until(core, lambda: core.connections == 1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        core.out = [m.Ping(1)]
        core.wakes = RealClock().monotonic_ms() + 20  # as of the turn that the answer causes
        shell._turn_now()
        steps = core.steps
        with trio.fail_after(20):
            while core.steps < steps + 2:
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


async def test_a_connection_that_the_core_gives_up_is_replaced(nursery: trio.Nursery) -> None:
    with FakeBroker(lambda request: None) as broker:
        core = Core()
        shell = a_shell(core, broker.address)
        nursery.start_soon(shell.run)
        nursery.start_soon(shell.connect)
        await until(core, lambda: core.connections == 1)
        core.wants_reconnect = True
        shell.poke()
        await until(core, lambda: core.connections == 2)
        nursery.cancel_scope.cancel()


async def test_the_leader_is_tried_first(nursery: trio.Nursery) -> None:
    with FakeBroker(lambda request: None) as leader, FakeBroker(lambda request: CLOSE) as follower:
        core = Core(leader=leader.address)
        shell = a_shell(core, follower.address)
        nursery.start_soon(shell.run)
        nursery.start_soon(shell.connect)
        await until(core, lambda: core.connections == 1)
        core.out = [m.Ping(1)]
        shell.poke()
        await until(core, lambda: leader.connections == 1)
        nursery.cancel_scope.cancel()


async def test_a_broker_that_is_away_is_tried_with_growing_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    core = Core()
    shell = a_shell(core)
    tried: list[float] = []

    async def serve_one() -> str:
        tried.append(trio.current_time())
        return "Connection refused"

    shell._serve_one = serve_one  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        with trio.move_on_after(60):
            await shell.connect()
    waits = [after - before for before, after in pairwise(tried)]
    assert 0.02 < waits[0] < 0.1
    assert all(0.9 < wait < 2.1 for wait in waits[8:])
    assert len(set(waits)) > len(waits) // 2, "without jitter all workers would come at once"
    assert len(logs) < len(tried) / 4


def test_what_is_told_loudly_is_what_the_core_says() -> None:
    """A note that was renamed in the core would be told as a whisper."""
    import inspect

    from tq.worker import core, doubts, jobs

    source = "".join(map(inspect.getsource, (core, doubts, jobs)))
    assert [event for event in LOUD | QUIET if f'"{event}"' not in source] == []
