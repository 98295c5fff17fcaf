"""``memory_broker()``: a whole broker in this process, alone. ``inline(app)``: the same, and tasks run when they are submitted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from tq.machine.states import State
from tq.testing.simulation import LEASE_DEFAULT, Simulation

INLINE_S: Final = 30 * 86_400.0
INLINE_RUNS_MAX: Final = 1_000
INLINE_SLOTS: Final = 100  # handlers that wait for what they submitted hold one each


class MemoryBroker(Simulation):
    """Made by ``memory_broker``."""

    def __enter__(self) -> MemoryBroker:
        super().__enter__()
        return self


class Inline(Simulation):
    """Made by ``inline``."""

    def begin(self, app: Any) -> None:
        self._worker = self.run(app, concurrency=INLINE_SLOTS)
        self._simulated.shell.settle = self._run_all

    def _run_all(self) -> None:
        """What was submitted runs to its end, and what that submits. Within a handler it waits until that has ended."""
        world = self._world
        if not world.is_in_handler:
            runs_max = self._worker.stats["claimed"] + INLINE_RUNS_MAX
            world.drive(lambda: not self._has_work() or self._worker.stats["claimed"] > runs_max, INLINE_S)

    def _has_work(self) -> bool:
        if self._world.count(State.SCHEDULED, State.RUNNING) or not self._worker.is_idle:
            return True
        leader = self._world.leader()
        return leader is None or self._worker.could_take(self._world.broker(leader).applier.machine)


def memory_broker(
    *, seed: int = 0, lease: float = LEASE_DEFAULT, start: datetime | None = None, check: bool = True
) -> MemoryBroker:
    """A whole broker in this process: the real one, with its log and store in memory, under a virtual clock.

    Args:
        seed: chance begins with it: ids, jitter, order. The same seed and test give the same run.
        lease: seconds after which a worker that is silent has lost its tasks.
        start: the virtual time of the beginning, with a time zone; 2026-01-01 UTC unless given. Give ``datetime.now(UTC)``
            if the code that is tested reckons with the real time of day.
        check: whether the contract is checked at the end, against what clients and handlers saw.

    Raises:
        InvalidRequest: one of these is out of bounds.
    """
    return MemoryBroker(1, seed=seed, lease=lease, start=start, check=check)


@contextmanager
def inline(app: Any, *, seed: int = 0, start: datetime | None = None) -> Iterator[Inline]:
    """Tasks of ``app`` run when they are submitted: ``submit`` returns when the task has ended.

    Arguments and results go through the codec, unique keys, retries and time-outs are a broker's: it is ``memory_broker``
    with a worker that is never late. Delays and backoffs pass at once, in virtual time. What a handler submits runs when
    that handler has ended, or waits for it. After 1,000 runs or 30 days ``submit`` returns, whatever is left to do.

    Args:
        seed, start: as of ``memory_broker``.
    """
    with Inline(1, seed=seed, start=start) as simulation:
        simulation.begin(app)
        yield simulation
