"""A worker core with a virtual clock, and the broker and the executors played by the test."""

from __future__ import annotations

from typing import Any, TypeVar

from tq.errors import TqError, to_wire
from tq.protocol import messages as m
from tq.sim.clock import VirtualClock
from tq.sim.random import SeededRandom
from tq.spec import Spec, encode
from tq.worker.context import Context
from tq.worker.core import Settings, WorkerCore
from tq.worker.handlers import Handlers
from tq.worker.job import Job

LEASE_MS = 30_000
T = TypeVar("T", bound=m.Message)


def _plain(payload: bytes, ctx: Context) -> bytes:
    raise AssertionError("the core runs nothing")


async def _coroutine(payload: bytes, ctx: Context) -> bytes:
    raise AssertionError("the core runs nothing")


def some_handlers() -> Handlers:
    """Types ``t``, ``p`` and ``c``, for thread, process and coroutine."""
    handlers = Handlers()
    handlers.register("t", _plain)
    handlers.register("p", _plain, executor="process")
    handlers.register("c", _coroutine)
    return handlers


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Rig:
    def __init__(self, concurrency: int = 4, drain_ms: int = 60_000, has_others: bool = False, **more: Any) -> None:
        self.clock = VirtualClock()
        settings = Settings("w", ["default"], concurrency, drain_ms, {"pid": 1}, has_others, **more)
        self.core = WorkerCore(settings, some_handlers(), self.clock, SeededRandom(7))
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.started: list[Job] = []
        self.stopped: list[Job] = []
        self.killed: list[Job] = []

    # ---- the broker --------------------------------------------------------------------------------

    def connect(self, ahead_ms: int = 0) -> None:
        """ahead_ms: of the cluster's clock, before ours."""
        time_ms = self.clock.wall_ms() + ahead_ms
        hello = m.HelloReply(0, 1, [], {}, 1_000, b"C" * 16, "n1", None, "tq/test", time_ms)
        self.core.connected(hello)

    def open(self) -> m.ClaimTask:
        """Connect and register; the first claim."""
        self.connect()
        self.register()
        return self.sent(m.ClaimTask)

    def register(self) -> m.RegisterWorker:
        request = self.sent(m.RegisterWorker)
        self.core.received(m.RegisterReply(request.rid, 1, LEASE_MS, 15_000, 30_000))
        return request

    def granted(self, claim: m.ClaimTask, *grants: list[Any]) -> list[Job]:
        """Answer a claim; the jobs that begin for it."""
        before = len(self.started)
        self.core.received(m.ClaimReply(claim.rid, 5, list(grants)))
        self.answer = self.step()
        return self.started[before:]

    def answered(self, report: m.TaskResult, *items: Any) -> list[m.Message]:
        """Answer outcomes, with 0 (applied) each unless said; what comes next."""
        self.core.received(m.ResultReply(report.rid, 9, list(items) or [0] * len(report.items)))
        return self.step()

    def refused(self, rid: int | None, error: TqError) -> list[m.Message]:
        self.core.received(m.ErrorReply(rid, to_wire(error)))
        return self.step()

    # ---- the shell ---------------------------------------------------------------------------------

    def step(self) -> list[m.Message]:
        core = self.core
        out = core.step()
        for mine, theirs in (
            (self.started, core.jobs.to_start),
            (self.stopped, core.jobs.to_stop),
            (self.killed, core.jobs.to_kill),
            (self.notes, core.notes),
        ):
            mine.extend(theirs)  # type: ignore[arg-type]
            theirs.clear()
        return out

    def after(self, ms: int) -> list[m.Message]:
        """Let time pass as the shell does: a step whenever the core asked for one."""
        end_ms = self.clock.monotonic_ms() + ms
        out = []
        for _ in range(10_000):
            wake_ms = self.core.wake_ms()
            if wake_ms is None or wake_ms > end_ms:
                self.clock.advance_ms(end_ms - self.clock.monotonic_ms())
                return out + self.step()
            self.clock.advance_ms(max(0, wake_ms - self.clock.monotonic_ms()))
            out += self.step()
        raise AssertionError("the core wants to be woken without end")

    def sent(self, kind: type[T]) -> T:
        """The only message of a step, which is of this kind."""
        (message,) = self.step()
        assert isinstance(message, kind), message
        return message

    def events(self) -> list[str]:
        return [event for event, _values in self.notes]


def grant(
    number: int,
    type: str = "t",
    payload: bytes = b"",
    *,
    fence: int | None = None,
    timeout_ms: int | None = None,
    deadline_ms: int | None = None,
    attempt: int = 1,
    crashes: int = 0,
    headers: dict[str, str] | None = None,
) -> list[Any]:
    options = tuple(headers.items()) if headers else ()
    spec = encode(Spec(id_of(number), type, payload, headers=options))
    return [spec, attempt, crashes, number if fence is None else fence, LEASE_MS, timeout_ms, deadline_ms]


def only(messages: list[m.Message], kind: type[T]) -> T:
    """The one message of this kind among others."""
    (found,) = [message for message in messages if isinstance(message, kind)]
    return found
