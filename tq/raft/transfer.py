"""Handing leadership over: proposals pause until the next leader has everything, then it is told to campaign at once.

SyncObj refuses to hand over to a member that lacks an entry, so nothing may be appended meanwhile. All of it ends by a
deadline, with or without a new leader, and proposals go on.
"""

from __future__ import annotations

from tq import limits
from tq.errors import Backpressure
from tq.raft.adapter import Core


class Transfer:
    """
    Attributes:
        target: who is to lead, or None if nothing is under way.
    """

    def __init__(self, deadline_s: float) -> None:
        self.target: str | None = None
        self._for_s = deadline_s
        self._ends_s = 0.0
        self._told = False

    def begin(self, target: str, now_s: float) -> None:
        self.target, self._ends_s, self._told = target, now_s + self._for_s, False

    def end(self) -> None:
        self.target = None

    def check_open(self) -> None:
        """Raises Backpressure while proposals pause."""
        if self.target is not None:
            raise Backpressure(
                f"leadership is being handed over to {self.target}; nothing was done",
                retry_after=limits.OVERLOAD_RETRY_AFTER_MS / 1000,
            )

    def go_on(self, core: Core, now_s: float) -> str | None:
        """Returns whom to tell now that it is to campaign, if it is time."""
        if self.target is None:
            return None
        if now_s >= self._ends_s:
            self.end()
            return None
        if not self._told and core.transfer(self.target):
            self._told = True
            return self.target
        return None

    def wakes_at_s(self) -> float:
        return self._ends_s if self.target is not None else float("inf")
