"""Leadership given to another node: when this one stops, when its clock is wrong, or when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tq.broker.clock_watch import ClockState, ClockWatch
from tq.errors import Backpressure, InvalidRequest
from tq.raft.node import Node
from tq.world import Clock

AGAIN_MS = 5_000
"""Between two tries of a leader that should not lead."""


class HandOver:
    """
    Args:
        reachable: who can be reached now.
        wake: the node has something to do.
    """

    def __init__(
        self, node: Node, clock: Clock, watch: ClockWatch, reachable: Callable[[], Collection[str]],
        wake: Callable[[], None], log: Any,
    ) -> None:  # fmt: skip
        self._node = node
        self._clock = clock
        self._watch = watch
        self._reachable = reachable
        self._wake = wake
        self._log = log
        self._next_ms = clock.monotonic_ms()

    def begin(self, why: str) -> bool:
        """To whoever has most, of those that can be reached and whose clock is right. False if there is none, or this
        node does not lead. Role and leader tell how it ended; it is over after the longest election time-out."""
        able = self._able()
        if not self._node.is_leader or not able:
            return False
        self._begin(None, able, why)
        return True

    def begin_to(self, target: str | None) -> str:
        """Because somebody asks for it: to this node, or to whom ``begin`` would choose. Returns who is to lead.

        Raises:
            NotLeader: this node does not lead.
            InvalidRequest: there is no such node, or it should not lead now; the message says why.
            Backpressure: another one is to lead, which is under way.
        """
        node = self._node
        if (under_way := node.transfer_target) is not None:
            if target not in (None, under_way):
                raise Backpressure(f"leadership is being handed over to {under_way}; nothing was done", retry_after=1)
            return under_way
        able = self._able()
        if target is None:
            if not able:
                raise InvalidRequest("no other node can lead now: none can be reached, or their clocks are wrong")
        elif target not in node.voters:
            others = [voter for voter in node.voters if voter not in (target, node.leader_id)]
            raise InvalidRequest.of("to", target, f"one of the other nodes: {', '.join(others) or 'there is none'}")
        elif target not in able:
            why = "its clock is wrong" if target in self._reachable() else "it cannot be reached"
            raise InvalidRequest(f"{target} cannot lead now: {why}; see tq cluster-status")
        return self._begin(target, able, "somebody asks for it")

    def run_once(self) -> None:
        """For a leader: one with a wrong clock gives way, if another can lead."""
        now_ms = self._clock.monotonic_ms()
        is_wrong = self._watch.state is ClockState.FAR
        if is_wrong and now_ms >= self._next_ms and self._node.transfer_target is None:
            self._next_ms = now_ms + AGAIN_MS
            self.begin("its clock is wrong")

    def _able(self) -> list[str]:
        return [peer for peer in sorted(self._reachable()) if not self._watch.is_far(peer)]

    def _begin(self, target: str | None, able: list[str], why: str) -> str:
        target = self._node.transfer(target, among=able)
        self._log.info("hands leadership over", to=target, why=why)
        self._wake()
        return target
