"""Time that jumps from event to event: what moves a group of nodes (group.py) and a cluster of brokers (cluster.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from tq.sim.checkers.breach import Breach

IDLE_MS = 10  # how far time jumps where nothing is going to happen


class TimeLoop(ABC):
    """
    Attributes:
        now_ms: the true time.
    """

    def __init__(self) -> None:
        self.now_ms = 0

    # ---- each world has its own ------------------------------------------------------------------------

    @abstractmethod
    def step(self) -> None:
        """Do all that is due now."""

    @abstractmethod
    def _due_ms(self) -> int | None:
        """When something is due next, maybe in the past; None: nothing ever is."""

    @abstractmethod
    def _pass_time(self, for_ms: int) -> None:
        """All clocks move, each at its own rate."""

    # ---- the loop --------------------------------------------------------------------------------------

    def run(self, for_ms: int) -> None:
        end_ms = self.now_ms + for_ms
        self.step()
        while self.now_ms < end_ms:
            self._advance(end_ms)
            self.step()

    def run_until(self, condition: Callable[[], bool], within_ms: int, what: str) -> int:
        """Returns the time that it took. Raises Breach if it does not come true."""
        start_ms = self.now_ms
        self.step()
        while not condition():
            if self.now_ms - start_ms > within_ms:
                raise Breach(f"not within {within_ms} ms: {what}")
            self._advance(None)
            self.step()
        return self.now_ms - start_ms

    def _advance(self, end_ms: int | None) -> None:
        """To what is due next, but not beyond the end."""
        due_ms = self._due_ms()
        to_ms = self.now_ms + IDLE_MS if due_ms is None else max(self.now_ms + 1, due_ms)
        if end_ms is not None and to_ms > end_ms:
            to_ms = end_ms
        self._pass_time(to_ms - self.now_ms)
        self.now_ms = to_ms
