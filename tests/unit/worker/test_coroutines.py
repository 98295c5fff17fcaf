"""``async def`` handlers on a virtual clock."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import trio
import trio.testing

from tests.unit.worker.jobs import Ends, a_job, tell
from tq.worker.context import Context, current
from tq.worker.coroutines import Coroutines
from tq.worker.handlers import Handlers
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED


class Rig:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.ends = Ends()
        self.coroutines = Coroutines(self.ends, nursery)
        self.handlers = Handlers()

    def start(self, type: str, number: int, payload: bytes = b"") -> Any:
        job = a_job(self.handlers, type, payload, number)
        self.coroutines.start(job)
        return job


async def sleeper(payload: bytes, ctx: Context) -> bytes:
    await trio.sleep(float(payload))
    return b"slept " + payload


async def at_once(payload: bytes, ctx: Context) -> bytes:
    return payload


async def test_handlers_wait_side_by_side(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    rig.handlers.register("sleep", sleeper)
    begun = trio.current_time()
    for number in range(1, 101):
        rig.start("sleep", number, b"10")
    await trio.testing.wait_all_tasks_blocked(0.001)
    await trio.sleep(10)
    await trio.testing.wait_all_tasks_blocked(0.001)
    assert len(rig.ends.said) == 100
    assert trio.current_time() - begun < 11
    assert rig.ends.of(7) == (COMPLETE, ["application/octet-stream", b"slept 10"])


async def test_one_that_waits_holds_up_none_that_come_later(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    rig.handlers.register("sleep", sleeper)
    rig.handlers.register("now", at_once)
    rig.start("sleep", 1, b"1000")
    rig.start("now", 2)
    await trio.testing.wait_all_tasks_blocked(0.001)
    rig.start("now", 3)
    rig.start("now", 4)
    await trio.testing.wait_all_tasks_blocked(0.001)
    assert [number for number, _ in rig.ends.said] == [2, 3, 4]


async def test_runners_are_used_again(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    rig.handlers.register("now", at_once)
    for number in range(1, 301):
        rig.start("now", number)
        if number % 3 == 0:
            await trio.testing.wait_all_tasks_blocked()
    assert len(rig.ends.said) == 300
    assert len(nursery.child_tasks) <= 3


async def test_a_cancel_ends_the_handler_where_it_waits(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    rig.handlers.register("sleep", sleeper)
    job, other = rig.start("sleep", 1, b"1000"), rig.start("sleep", 2, b"5")
    await trio.testing.wait_all_tasks_blocked()
    tell(job)
    rig.coroutines.stop(job)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.ends.said == [(1, SAID_STOPPED)]
    await trio.sleep(6)
    assert not other.context.cancelled
    assert rig.ends.of(2)[0] == COMPLETE


async def test_a_cancel_that_the_handler_outruns_changes_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def shielded(payload: bytes, ctx: Context) -> bytes:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return b"finished"

    rig = Rig(nursery)
    rig.handlers.register("shielded", shielded)
    job = rig.start("shielded", 1)
    await trio.testing.wait_all_tasks_blocked()
    tell(job)
    rig.coroutines.stop(job)
    await trio.sleep(11)
    assert rig.ends.of(1) == (COMPLETE, ["application/octet-stream", b"finished"])
    rig.coroutines.stop(job)  # late: it hits nobody


async def test_the_next_job_of_a_runner_is_not_met_by_a_cancel_of_the_last(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    runners = []

    async def stays(payload: bytes, ctx: Context) -> None:
        runners.append(trio.lowlevel.current_task())
        if payload == b"catches":
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                rig.start("next", 2)  # so the same runner goes on with it, at once
                return
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        rig.start("next", 2)

    async def next_one(payload: bytes, ctx: Context) -> bytes:
        runners.append(trio.lowlevel.current_task())
        await trio.sleep(10)
        return b"slept"

    rig.handlers.register("stays", stays)
    rig.handlers.register("next", next_one)
    for payload in (b"catches", b"shields"):
        runners.clear()
        rig.ends.said.clear()
        job = rig.start("stays", 1, payload)
        await trio.testing.wait_all_tasks_blocked()
        tell(job)
        rig.coroutines.stop(job)
        await trio.sleep(30)
        assert runners[0] is runners[1]
        assert rig.ends.of(1)[0] == COMPLETE
        assert rig.ends.of(2) == (COMPLETE, ["application/octet-stream", b"slept"])


async def test_what_fails_while_a_handler_is_cancelled_is_its_outcome_and_ends_no_other(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("on the way out")

    async def handler(payload: bytes, ctx: Context) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(fails)
            inner.start_soon(trio.sleep_forever)

    rig = Rig(nursery)
    rig.handlers.register("t", handler)
    rig.handlers.register("sleep", sleeper)
    job = rig.start("t", 1)
    rig.start("sleep", 2, b"10")
    await trio.testing.wait_all_tasks_blocked()
    tell(job)
    rig.coroutines.stop(job)
    await trio.sleep(20)
    outcome, body = rig.ends.of(1)
    assert outcome == FAIL
    assert "ValueError: on the way out" in body[0][2]
    assert rig.ends.of(2)[0] == COMPLETE


async def test_a_job_cancelled_before_it_begins_is_not_run(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rig = Rig(nursery)
    ran = []

    async def handler(payload: bytes, ctx: Context) -> None:
        ran.append(1)

    rig.handlers.register("t", handler)
    job = rig.start("t", 1)
    tell(job)
    rig.coroutines.stop(job)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.ends.of(1) == SAID_STOPPED
    assert not ran


async def test_the_network_has_its_turn_within_a_long_batch(nursery: trio.Nursery) -> None:
    """On the real clock: handlers that never wait, for much longer than a slice; somebody else runs in between."""
    rig = Rig(nursery)

    async def busy(payload: bytes, ctx: Context) -> None:
        until = trio.current_time() + 0.002
        while trio.current_time() < until:
            pass

    rig.handlers.register("busy", busy)
    for number in range(1, 51):
        rig.start("busy", number)
    turns = 0
    while len(rig.ends.said) < 50:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= 5


async def test_what_a_handler_raises_is_its_outcome(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def bad(payload: bytes, ctx: Context) -> None:
        await trio.sleep(1)
        raise ValueError("x")

    rig = Rig(nursery)
    rig.handlers.register("bad", bad)
    rig.start("bad", 1)
    await trio.sleep(2)
    assert rig.ends.of(1)[0] == FAIL


# ---- current() and other variables ---------------------------------------------------------------------

COLOUR: ContextVar[Any] = ContextVar("colour", default="none")


async def test_what_a_handler_sets_ends_with_it(nursery: trio.Nursery) -> None:
    """Side by side, step by step in turns; and one after the other, more than there are runners."""
    rig = Rig(nursery)

    async def handler(payload: bytes, ctx: Context) -> bytes:
        seen = [COLOUR.get()]
        COLOUR.set(str(ctx.fence))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            assert current() is ctx
            seen.append(COLOUR.get())
        seen.append(await trio.to_thread.run_sync(lambda: str(current().fence)))
        return " ".join(seen).encode()

    async def sets_at_once(payload: bytes, ctx: Context) -> bytes:
        before = COLOUR.get()
        COLOUR.set(payload)
        return before.encode()

    rig.handlers.register("t", handler)
    rig.handlers.register("at-once", sets_at_once)
    with trio.fail_after(20):
        for first in (1, 11):
            for number in range(first, first + 5):
                rig.start("t", number)
            for number in range(first + 5, first + 10):
                rig.start("at-once", number, b"x")
            while len(rig.ends.said) < first + 9:
                await trio.lowlevel.checkpoint()
    for number in (*range(1, 6), *range(11, 16)):
        assert rig.ends.of(number)[1][1].decode() == "none" + f" {1_000 + number}" * 4
    for number in (*range(6, 11), *range(16, 21)):
        assert rig.ends.of(number)[1][1] == b"none"


async def test_a_runner_begins_with_the_workers_variables_whoever_starts_it(nursery: trio.Nursery) -> None:
    rig = Rig(nursery)

    async def look(payload: bytes, ctx: Context) -> bytes:
        return COLOUR.get().encode()  # type: ignore[no-any-return]

    async def sets_and_starts(payload: bytes, ctx: Context) -> None:
        COLOUR.set("left behind")
        rig.start("look", 2)
        await trio.lowlevel.checkpoint()

    rig.handlers.register("look", look)
    rig.handlers.register("t", sets_and_starts)
    rig.start("t", 1)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.ends.of(2)[1][1] == b"none"


async def test_values_that_cannot_be_compared_do_no_harm(nursery: trio.Nursery) -> None:
    rig = Rig(nursery)

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        def __hash__(self) -> int:
            return 1

    COLOUR.set(Odd())
    rig.coroutines = Coroutines(rig.ends, nursery)

    async def handler(payload: bytes, ctx: Context) -> bytes:
        was_odd = isinstance(COLOUR.get(), Odd) and COLOUR.get() is original
        COLOUR.set(Odd())
        return repr(was_odd).encode()

    original = COLOUR.get()
    rig.handlers.register("t", handler)
    for number in (1, 2):
        rig.start("t", number)
        await trio.testing.wait_all_tasks_blocked()
    assert [said[1][1] for _number, said in rig.ends.said] == [b"True", b"True"]


async def test_tasks_that_a_handler_starts_know_it(nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    seen: list[Context] = []

    async def child() -> None:
        await trio.lowlevel.checkpoint()
        seen.append(current())

    async def handler(payload: bytes, ctx: Context) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(child)

    rig.handlers.register("t", handler)
    job = rig.start("t", 1)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [job.context]


async def test_handlers_that_set_nothing_share_a_runner(nursery: trio.Nursery) -> None:
    rig = Rig(nursery)
    rig.handlers.register("t", at_once)
    for number in range(1, 11):
        rig.start("t", number)
        await trio.testing.wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 1
