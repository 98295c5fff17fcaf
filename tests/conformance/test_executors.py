"""One suite for the four executors: a handler in a thread, in a child process, on trio and on asyncio is run, stopped and
reported alike. The tables of handlers are in ``executor_handlers``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.conformance.executor_handlers import EXECUTORS, table
from tests.unit.worker.jobs import Ends, tell
from tq.sim.random import SeededRandom
from tq.worker.asyncio_loop import AsyncioLoop
from tq.worker.context import Context
from tq.worker.coroutines import Coroutines
from tq.worker.handlers import Handlers
from tq.worker.job import Executor, Job, Why
from tq.worker.middleware import dressed
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED, SNOOZE
from tq.worker.processes import Processes
from tq.worker.recycling import NEVER
from tq.worker.resources import make
from tq.worker.threads import Threads

TARGET = "tests.conformance.executor_handlers:PROCESS"


class Rig:
    def __init__(self, executor: Executor, handlers: Handlers, ends: Ends) -> None:
        self.executor = executor
        self.handlers = handlers
        self.ends = ends

    def start(self, type: str, payload: bytes = b"", number: int = 1) -> Job:
        handler = self.handlers.get(type)
        assert handler is not None
        context = Context(number.to_bytes(16, "big"), type, "default", 2, 1, 1_000 + number, 5.5, {"a": "b"})
        job = Job(context.id_bytes, context.fence, payload, handler, context)
        self.executor.start(job)
        return job

    async def end_of(self, number: int = 1) -> Any:
        await until(lambda: number in [n for n, _said in self.ends.said])
        return self.ends.of(number)

    async def run(self, type: str, payload: bytes = b"", number: int = 1) -> Any:
        self.start(type, payload, number)
        return await self.end_of(number)


async def until(look: Any) -> None:
    with trio.fail_after(60):
        while not look():
            await trio.sleep(0.002)


@pytest.fixture(params=EXECUTORS)
async def rig(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    name = request.param
    token, ends = trio.lowlevel.current_trio_token(), Ends()
    handlers = table(name)
    with ExitStack() as stack:
        if name != "process":
            values = make(["db"], handlers.resources, stack)
            handlers = dressed(handlers, handlers.worker_middleware, values, child=False)
        executor: Any
        match name:
            case "thread":
                executor = Threads(ends, token.run_sync_soon)
            case "process":
                executor = Processes(ends, nursery, TARGET, NEVER, SeededRandom(7))
            case "async":
                executor = Coroutines(ends, nursery)
            case "asyncio":
                executor = AsyncioLoop(ends, token.run_sync_soon, lambda error: None)
                executor.open({})
        yield Rig(executor, handlers, ends)
        nursery.cancel_scope.cancel()
        executor.close()


async def test_what_is_returned_is_the_result(rig: Rig) -> None:
    assert await rig.run("echo", b"in", 1) == (COMPLETE, ["text/plain", b"in"])
    assert await rig.run("nothing", b"in", 2) == (COMPLETE, ["text/plain", b""])
    outcome, (error, permanent, _after) = await rig.run("number", b"", 3)
    assert (outcome, error[0], permanent) == (FAIL, "TypeError", True)


async def test_what_is_raised_is_the_error_with_the_users_frames_alone(rig: Rig) -> None:
    outcome, (error, permanent, after_ms) = await rig.run("fails", number=1)
    assert (outcome, error[:2], permanent, after_ms) == (FAIL, ["LookupError", "no luck"], False, None)
    assert "in fails" in error[2]
    outcome, (error, permanent, _after) = await rig.run("exits", number=2)
    assert (outcome, error[0], permanent) == (FAIL, "SystemExit", False)
    assert await rig.run("echo", b"on", 3) == (COMPLETE, ["text/plain", b"on"])


async def test_verdicts_and_errors_that_are_for_good(rig: Rig) -> None:
    assert (await rig.run("verdict", b"fatal", 1))[1][1:] == [True, None]
    assert (await rig.run("verdict", b"after", 2))[1][1:] == [False, 2_000]
    assert await rig.run("verdict", b"snooze", 3) == (SNOOZE, 3_000)
    assert (await rig.run("gives_up", b"", 4))[1][1] is True


async def test_the_context_is_whole_and_found_by_current(rig: Rig) -> None:
    said = "('00000000-0000-0000-0000-000000000001', 'context', 'default', 2, 1, 1001, 5.5, {'a': 'b'}, False)"
    assert (await rig.run("context"))[1][1].decode() == said


async def test_variables_that_a_handler_sets_end_with_it(rig: Rig) -> None:
    assert [(await rig.run("variable", b"", number))[1][1] for number in (1, 2, 3)] == [b"none"] * 3


async def test_resources_are_given_and_layers_put_round(rig: Rig) -> None:
    assert await rig.run("given") == (COMPLETE, ["text/plain", b"made layer"])


@pytest.mark.parametrize("why", [Why.CANCEL, Why.LOST])
async def test_a_running_handler_is_stopped_cleans_up_and_others_go_on(rig: Rig, why: Why, tmp_path: Path) -> None:
    paths = [tmp_path / "1", tmp_path / "2"]
    jobs = [rig.start("hold", str(path).encode(), number) for number, path in enumerate(paths, 1)]
    await until(lambda: all(path.exists() for path in paths))
    tell(jobs[0], why)
    rig.executor.stop(jobs[0])
    assert await rig.end_of(1) == SAID_STOPPED
    assert paths[0].read_text() == f"cancelled=True lost={why is Why.LOST}"
    assert not jobs[1].context.cancelled
    assert await rig.run("echo", b"on", 3) == (COMPLETE, ["text/plain", b"on"])
    rig.executor.stop(jobs[0])  # late: it hits nobody
    tell(jobs[1])
    rig.executor.stop(jobs[1])
    assert await rig.end_of(2) == SAID_STOPPED


async def test_one_that_completes_in_spite_of_the_stop_has_completed(rig: Rig, tmp_path: Path) -> None:
    if isinstance(rig.executor, (Threads, Processes)):
        pytest.skip("Stopped comes at any moment there: test_threads.py and test_child.py")
    job = rig.start("outruns", str(tmp_path / "begun").encode())
    await until((tmp_path / "begun").exists)
    tell(job)
    rig.executor.stop(job)
    assert (await rig.end_of())[1][1] == b"done"


async def test_one_that_is_stopped_before_it_begins_is_not_run(rig: Rig, tmp_path: Path) -> None:
    job = rig.start("hold", str(tmp_path / "never").encode())
    tell(job)
    rig.executor.stop(job)
    assert await rig.end_of() == SAID_STOPPED


async def test_many_at_once_all_end_once(rig: Rig) -> None:
    count = 4 if isinstance(rig.executor, Processes) else 200
    for number in range(1, count + 1):
        rig.start("echo", b"%d" % number, number)
    await until(lambda: len(rig.ends.said) >= count)
    assert sorted(int(said[1][1]) for _number, said in rig.ends.said) == list(range(1, count + 1))
