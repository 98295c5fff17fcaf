"""Handlers in real child processes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.unit.worker.jobs import Ends, a_job, tell
from tests.unit.worker.process_handlers import HANDLERS
from tq.errors import ResourceFailed, StaleFence, TqError
from tq.sim.random import SeededRandom
from tq.worker.context import Context, Saved
from tq.worker.job import Job, Why
from tq.worker.outcomes import COMPLETE, CRASHED, FAIL, SAID_STOPPED
from tq.worker.processes import Processes
from tq.worker.recycling import NEVER, Recycling

MODULE = "tests.unit.worker.process_handlers"


class Rig:
    def __init__(self, nursery: trio.Nursery, target: str, recycling: Recycling) -> None:
        self.ends = Ends()
        self.processes = Processes(self.ends, nursery, target, recycling, SeededRandom(7))

    def start(self, type: str, payload: bytes = b"", number: int = 1) -> Job:
        job = a_job(HANDLERS, type, payload, number)
        self.processes.start(job)
        return job

    async def until_ended(self, count: int) -> None:
        await until(lambda: len(self.ends.said) >= count)

    async def result(self, type: str, payload: bytes = b"", number: int = 1) -> bytes:
        self.start(type, payload, number)
        await self.until_ended(number)
        outcome, body = self.ends.of(number)
        assert outcome == COMPLETE, body
        result: bytes = body[1]
        return result


async def until(look: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not look():
            await trio.sleep(0.005)


@asynccontextmanager
async def a_rig(target: str = MODULE, recycling: Recycling = NEVER) -> AsyncIterator[Rig]:
    processes: Processes | None = None
    try:
        async with trio.open_nursery() as nursery:
            rig = Rig(nursery, target, recycling)
            processes = rig.processes
            yield rig
            nursery.cancel_scope.cancel()
    finally:
        if processes is not None:
            processes.close()  # once its tasks are over, as the worker does


async def test_a_child_runs_one_job_after_the_other() -> None:
    async with a_rig() as rig:
        first = await rig.result("pid", number=1)
        second = await rig.result("pid", number=2)
        assert int(first) != os.getpid()
        assert first == second
        assert rig.processes.pids == [int(first)]


class Kept:
    """A channel that answers at once."""

    def __init__(self, error: TqError | None = None) -> None:
        self.saves: list[tuple[int, bytes | None]] = []
        self.words: list[Any] = []
        self._error = error

    def tell(self, context: Context) -> None:
        self.words.append(context.word)

    def save(self, context: Context, number: int, data: bytes | None, done: Saved) -> None:
        self.saves.append((context.fence, data))
        done(self._error)


async def test_what_a_handler_says_on_the_way_goes_through_the_channel_of_its_job() -> None:
    async with a_rig() as rig:
        channel = Kept()
        for number, kept in ((1, None), (2, b"old")):
            job = a_job(HANDLERS, "keeps", b"new", number)
            job.context.channel, job.context.checkpoint_data = channel, kept
            rig.processes.start(job)
            await rig.until_ended(number)
        assert [rig.ends.of(number)[1][1] for number in (1, 2)] == [b"nothing new", b"old new"]
        assert channel.saves == [(1_001, b"new"), (1_002, b"new")]
        # A word may be lost, or overtaken by the next one, on a busy machine; none is made up.
        assert {word[:2] for word in channel.words} <= {(1, 2), (2, 2)}


async def test_what_is_said_of_a_job_that_is_over_is_not_taken_for_the_next_one() -> None:
    async with a_rig() as rig:
        channel = Kept()
        for number, type_ in ((1, "keeps"), (2, "talks-of-the-last")):
            job = a_job(HANDLERS, type_, b"new", number)
            job.context.channel = channel
            rig.processes.start(job)
            await rig.until_ended(number)
        assert rig.ends.of(2)[1][1] == b"StaleFence"
        assert channel.saves == [(1_001, b"new")]
        assert 99 not in [word[0] for word in channel.words]


async def test_a_refused_checkpoint_fails_the_attempt() -> None:
    async with a_rig() as rig:
        job = a_job(HANDLERS, "keeps", b"new")
        job.context.channel = Kept(StaleFence("gone"))
        rig.processes.start(job)
        await rig.until_ended(1)
        outcome, body = rig.ends.of(1)
        assert (outcome, body[0][:2]) == (FAIL, ["tq.errors.StaleFence", "gone"])


async def test_jobs_run_side_by_side_in_children_of_their_own() -> None:
    async with a_rig() as rig:
        for number in (1, 2):
            rig.start("pid", number=number)
        await rig.until_ended(2)
        assert len({rig.ends.of(number)[1][1] for number in (1, 2)}) == 2


async def test_the_context_goes_with_the_job() -> None:
    async with a_rig() as rig:
        said = await rig.result("context")
        assert said == b"('00000000-0000-0000-0000-000000000001', 'context', 'default', 2, 1, 1001, None, {})"


async def test_a_large_payload_arrives() -> None:
    async with a_rig() as rig:
        rig.start("fail", b"x" * 10_000_000)
        await rig.until_ended(1)
        outcome, (error, _permanent, _after) = rig.ends.of(1)
        assert (outcome, error[:2]) == (FAIL, ["ValueError", "no luck"])
        assert "process_handlers.py" in error[2]


@pytest.mark.parametrize(
    ("type_", "payload", "cause"),
    [("exit", b"3", "exit code 3"), ("segfault", b"", "SIGSEGV"), ("exit", b"0", "exit code 0")],
)
async def test_a_child_that_ends_crashes_its_attempt_alone(
    type_: str, payload: bytes, cause: str, tmp_path: Path
) -> None:
    async with a_rig() as rig:
        other = rig.start("spin", str(tmp_path / "other").encode(), number=2)
        await until((tmp_path / "other").exists)
        rig.start(type_, payload)
        await rig.until_ended(1)
        assert rig.ends.said[0][0] == 1
        outcome, error = rig.ends.of(1)
        assert outcome == CRASHED
        assert cause in error[1]
        assert len(rig.processes.pids) == 1
        assert not other.context.cancelled


async def test_a_child_killed_from_outside_is_a_crash() -> None:
    async with a_rig() as rig:
        pid = int(await rig.result("pid"))
        await trio.sleep(0)
        rig.start("stubborn", b"/dev/null", number=2)
        await until(lambda: rig.processes.pids == [pid])
        os.kill(pid, signal.SIGKILL)
        await rig.until_ended(2)
        assert rig.ends.of(2)[0] == CRASHED


async def test_a_child_that_died_while_idle_costs_nobody_an_attempt() -> None:
    async with a_rig() as rig:
        pid = int(await rig.result("pid"))
        os.kill(pid, signal.SIGKILL)
        (child,) = rig.processes._children
        await until(lambda: child.process.poll() is not None)
        assert int(await rig.result("pid", number=2)) != pid


async def test_a_running_handler_is_told_to_stop_and_its_child_lives(tmp_path: Path) -> None:
    path = tmp_path / "spin"
    async with a_rig() as rig:
        pid = int(await rig.result("pid"))
        job = rig.start("spin", str(path).encode(), number=2)
        await until(path.exists)
        tell(job, Why.LOST)
        rig.processes.stop(job)
        await rig.until_ended(2)
        assert rig.ends.of(2) == SAID_STOPPED
        assert path.read_text() == "stopped cancelled=True lost=True"
        assert int(await rig.result("pid", number=3)) == pid


async def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "stubborn"
    async with a_rig() as rig:
        job = rig.start("stubborn", str(path).encode())
        await until(path.exists)
        tell(job)
        rig.processes.stop(job)
        rig.processes.kill(job)
        await rig.until_ended(1)
        assert rig.ends.of(1) == SAID_STOPPED
        assert rig.processes.pids == []


async def test_a_job_stopped_before_its_child_has_begun() -> None:
    async with a_rig() as rig:
        job = rig.start("stubborn", b"/dev/null")
        tell(job)
        rig.processes.stop(job)
        await rig.until_ended(1)
        assert rig.ends.of(1) == SAID_STOPPED


async def test_a_child_that_cannot_answer_any_more_is_a_crash() -> None:
    async with a_rig() as rig:
        rig.start("close")
        await rig.until_ended(1)
        assert rig.ends.of(1)[0] == CRASHED
        assert rig.processes.pids == []


async def test_a_child_does_not_heed_the_signals_of_the_terminal() -> None:
    async with a_rig() as rig:
        assert await rig.result("signals") == b"lives"


async def test_a_module_that_a_child_cannot_import_fails_the_attempt_and_says_why() -> None:
    async with a_rig("tests.unit.worker.broken_handlers") as rig:
        rig.start("pid")
        await rig.until_ended(1)
        outcome, (error, _permanent, _after) = rig.ends.of(1)
        assert outcome == FAIL
        assert "only the first process may import this" in error[1]
        assert rig.processes.pids == []


async def test_a_child_without_the_handler_says_so() -> None:
    async with a_rig("tq.samples") as rig:
        rig.start("pid")
        await rig.until_ended(1)
        assert "no handler for 'pid'" in rig.ends.of(1)[1][0][1]


async def test_closing_ends_idle_and_busy_children() -> None:
    async with a_rig() as rig:
        await rig.result("pid")
        rig.start("stubborn", b"/dev/null", number=2)
        rig.start("stubborn", b"/dev/null", number=3)
        children = list(rig.processes._children)
    assert [child.process.returncode is None for child in children] == [False, False]
    assert rig.processes.pids == []


@pytest.mark.parametrize(
    ("recycling", "lives"), [(Recycling(tasks_max=2), [2, 2, 1]), (Recycling(memory_bytes_max=1), [1] * 5)]
)
async def test_a_child_that_has_lived_long_enough_ends_between_two_jobs(recycling: Recycling, lives: list[int]) -> None:
    async with a_rig(recycling=recycling) as rig:
        pids = [await rig.result("pid", number=number) for number in range(1, 6)]
        assert [len(list(group)) for _pid, group in groupby(pids)] == lives
        assert len(set(pids)) == len(lives)
        ended = {int(pid) for pid in pids[:-1]} - {int(pids[-1])}
        await until(lambda: not ended & set(rig.processes.pids))
        assert not any(Path(f"/proc/{pid}").exists() for pid in ended), "nobody waited for it"


async def test_a_first_child_is_there_before_any_job() -> None:
    async with a_rig() as rig:
        assert await rig.processes.warm() is None
        (pid,) = rig.processes.pids
        assert int(await rig.result("pid")) == pid


async def test_a_first_child_that_does_not_get_ready_says_why() -> None:
    async with a_rig("tests.unit.worker.broken_handlers") as rig:
        failure = await rig.processes.warm()
        assert isinstance(failure, ResourceFailed)
        assert "only the first process may import this" in failure.message
        assert rig.processes.pids == []


async def test_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    async with a_rig() as rig:
        rig.start("pid")
        await rig.until_ended(1)
        outcome, (error, permanent, _after) = rig.ends.of(1)
        assert (outcome, permanent) == (FAIL, False)
        assert "no child process could be started" in error[1]
