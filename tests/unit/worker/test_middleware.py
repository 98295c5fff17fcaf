"""Layers round handlers: their order, and what becomes of what they raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.unit.worker.jobs import a_context
from tq.errors import ConfigError
from tq.verdicts import Fatal, Snooze, Stopped
from tq.worker.asked import resource
from tq.worker.context import Context
from tq.worker.frame import acall, call
from tq.worker.handlers import Handler, Handlers
from tq.worker.middleware import Middleware, Outcome, check, dressed, wrapped
from tq.worker.outcomes import COMPLETE, FAIL, SAID_STOPPED, SNOOZE, Said

Raises = dict[str, Exception]


class Layer(Middleware):
    """Writes what it sees into ``log``, and raises what the test wants, where it wants it."""

    def __init__(self, name: str, log: list[str], raises: Raises | None = None) -> None:
        self.name = name
        self.log = log
        self.raises = raises or {}

    def say(self, where: str, more: str = "") -> None:
        self.log.append(f"{self.name}.{where}{more}")
        if where in self.raises:
            raise self.raises[where]

    def before(self, ctx: Context) -> None:
        self.say("before")

    def after(self, ctx: Context, outcome: Outcome) -> None:
        self.say("after", f" {outcome.result!r}" if outcome.error is None else f" {type(outcome.error).__name__}")

    def around(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        self.say("in")
        result = call_next()
        self.say("out")
        return result

    async def around_async(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        self.say("in")
        result = await call_next()
        self.say("out")
        return result


class Rig:
    """Runs one attempt in both kinds of executors."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async
        self.log: list[str] = []
        self.raises: BaseException | None = None
        self.context = a_context()

    async def run(self, *layers: Middleware) -> Said:
        def handler(payload: bytes, ctx: Context) -> bytes:
            self.log.append("handler")
            if self.raises is not None:
                raise self.raises
            return payload

        async def coroutine(payload: bytes, ctx: Context) -> bytes:
            await trio.lowlevel.checkpoint()
            return handler(payload, ctx)

        function = wrapped(coroutine if self.is_async else handler, layers, is_async=self.is_async)
        if self.is_async:
            return await acall(Handler("t", function, "async", ""), b"in", self.context, trio.Cancelled)
        return call(Handler("t", function, "thread", ""), b"in", self.context)


@pytest.fixture(params=[False, True], ids=["def", "async def"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param)


async def test_the_first_is_the_outermost(rig: Rig) -> None:
    said = await rig.run(Layer("a", rig.log), Layer("b", rig.log))
    assert said == (COMPLETE, ["", b"in"])
    assert rig.log == [
        "a.before", "a.in", "b.before", "b.in", "handler", "b.out", "b.after b'in'", "a.out", "a.after b'in'",
    ]  # fmt: skip


async def test_an_error_of_the_handler_goes_through_all_of_them(rig: Rig) -> None:
    rig.raises = ValueError("x")
    said = await rig.run(Layer("a", rig.log), Layer("b", rig.log))
    assert said[1][0][:2] == ["ValueError", "x"]
    assert rig.log[-2:] == ["b.after ValueError", "a.after ValueError"]


async def test_before_that_fails_is_named_and_the_handler_does_not_run(rig: Rig) -> None:
    said = await rig.run(Layer("a", rig.log), Layer("b", rig.log, {"before": ValueError("no luck")}))
    assert said[0] == FAIL
    assert said[1][0][:2] == ["tq.worker.middleware.MiddlewareFailed", "Layer.before() raised ValueError: no luck"]
    assert "in say" in said[1][0][2], "and where"
    assert rig.log == ["a.before", "a.in", "b.before", "a.after MiddlewareFailed"]


async def test_after_that_fails_fails_the_attempt(rig: Rig) -> None:
    said = await rig.run(Layer("a", rig.log, {"after": ValueError("no luck")}))
    assert said[1][0][1] == "Layer.after() raised ValueError: no luck"


async def test_after_that_fails_does_not_hide_why_the_handler_did(rig: Rig) -> None:
    rig.raises = Fatal("x")
    said = await rig.run(Layer("a", rig.log, {"after": ValueError("no luck")}))
    assert said[1][0][:2] == ["tq.verdicts.Fatal", "x"]
    assert said[1][1] is True
    assert "Then Layer.after() raised ValueError: no luck" in said[1][0][2]


@pytest.mark.parametrize("where", ["before", "in", "out", "after"])
async def test_verdicts_mean_what_they_say_wherever_they_are_raised(rig: Rig, where: str) -> None:
    assert await rig.run(Layer("a", rig.log), Layer("b", rig.log, {where: Snooze(2)})) == (SNOOZE, 2_000)


async def test_a_stop_goes_through_as_itself(rig: Rig) -> None:
    rig.context.cancel()
    rig.raises = Stopped()
    said = await rig.run(Layer("a", rig.log))
    if not rig.is_async:  # coroutines are cancelled by their loop
        assert said == SAID_STOPPED
    assert rig.log[-1] == "a.after Stopped"


async def test_around_may_change_the_result_and_catch(rig: Rig) -> None:
    class Mends(Middleware):
        def around(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
            try:
                return b"[" + call_next() + b"]"
            except ValueError:
                return b"mended"

        async def around_async(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
            try:
                return b"[" + await call_next() + b"]"
            except ValueError:
                return b"mended"

    assert (await rig.run(Mends()))[1][1] == b"[in]"
    rig.raises = ValueError()
    assert (await rig.run(Mends()))[1][1] == b"mended"


async def test_a_cancel_of_the_loop_is_seen_and_not_caught() -> None:
    log: list[str] = []

    async def handler(payload: bytes, ctx: Context) -> None:
        await trio.sleep_forever()

    function = wrapped(handler, [Layer("a", log)], is_async=True)
    with trio.CancelScope() as scope:
        scope.cancel()
        await acall(Handler("t", function, "async", ""), b"", a_context(), trio.Cancelled)
    assert scope.cancelled_caught
    assert log == ["a.before", "a.in", "a.after Cancelled"]


def test_nothing_is_put_round_a_handler_without_layers_or_methods() -> None:
    def handler(payload: bytes, ctx: Context) -> None: ...

    assert wrapped(handler, [], is_async=False) is handler
    assert wrapped(handler, [Middleware()], is_async=False) is handler


def handlers_of(*executors: Any) -> Handlers:
    handlers = Handlers()
    for executor in executors:
        if executor in ("async", "asyncio"):

            async def coroutine(payload: bytes, ctx: Context) -> None: ...

            handlers.register(executor, coroutine, executor=executor)
        else:
            handlers.register(executor, lambda payload, ctx: None, executor=executor)
    return handlers


class Plain(Middleware):
    def around(self, ctx: Context, call_next: Callable[[], Any]) -> Any:
        return call_next()


class Async(Middleware):
    async def around_async(self, ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        return await call_next()


@pytest.mark.parametrize(
    ("layer", "executors", "match"),
    [
        (Plain(), ("thread", "asyncio"), r"middleware Plain has around\(\), and the handler of 'asyncio' is async def"),
        (
            Async(),
            ("async", "process"),
            r"Async has around_async\(\), and the handler of 'process' is def: write around",
        ),
        ("text", ("thread",), "give an object of a class derived from tq.Middleware"),
        (Plain, ("thread",), "give an object"),
    ],
)
def test_a_middleware_that_would_be_left_out_is_refused(layer: Any, executors: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check([layer], handlers_of(*executors))


def test_what_fits_is_let_pass() -> None:
    check([Plain()], handlers_of("thread", "process"))
    check([Async()], handlers_of("async", "asyncio"))
    check([Middleware(), Layer("a", [])], handlers_of("thread", "async"))


def test_handlers_get_what_they_ask_for_in_the_process_they_run_in() -> None:
    def handler(payload: bytes, ctx: Context, pool: Any = resource("db")) -> bytes:
        return payload + pool

    log: list[str] = []
    handlers = Handlers()
    handlers.register("thread", handler)
    handlers.register("process", handler, executor="process")
    for child, mine, other in ((False, "thread", "process"), (True, "process", "thread")):
        found = dressed(handlers, [Layer("a", log)], {"db": b" and db"}, child=child)
        runs = found.get(mine)
        left = found.get(other)
        assert runs is not None
        assert left is not None
        assert call(runs, b"in", a_context()) == (COMPLETE, [runs.content_type, b"in and db"])
        assert log == ["a.before", "a.in", "a.out", "a.after b'in and db'"]
        assert left.function is handler
        log.clear()
