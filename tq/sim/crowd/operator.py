"""Somebody who pauses and bounds queues at random."""

from __future__ import annotations

from typing import Any

from tq.protocol import messages as m
from tq.sim.crowd.actor import Actor
from tq.sim.crowd.stage import QUEUES, Stage


class Operator(Actor):
    """Pauses queues for a moment, and bounds them; asks again with the same operation when it heard nothing. In the end it takes
    all of it back."""

    def __init__(self, stage: Stage, by: str) -> None:
        super().__init__(stage, by)
        self._paused: set[str] = set()
        self._unsure: list[tuple[bytes, str, dict[str, Any]]] = []
        self._sent: list[tuple[bytes, str, dict[str, Any]]] = []
        self._is_clean = False

    def act(self) -> None:
        if self.in_flight:
            return
        if self._unsure:
            self._change(*self._unsure.pop())
        elif self.stage.is_draining:
            if not self._is_clean:
                self._is_clean = True
                for queue in QUEUES:
                    self._change(self.random.bytes(16), queue, {"paused": False, "max_length": None})
        elif self._paused and self.chance(20):
            queue = sorted(self._paused)[self.random.below(len(self._paused))]
            self._change(self.random.bytes(16), queue, {"paused": False})
        elif self.chance(10):
            queue = QUEUES[self.random.below(2)]
            bound = None if self.chance(40) else self.random.below(12)
            changes = {"paused": True, "reason": "why not"} if self.chance(50) else {"max_length": bound}
            self._change(self.random.bytes(16), queue, changes)

    def lost(self) -> None:
        self._unsure += self._sent
        self._sent = []

    def _change(self, operation: bytes, queue: str, changes: dict[str, Any]) -> None:
        """What it does not know to be done is repeated before anything else, so its own view of a queue is right in the end."""
        asked = (operation, queue, changes)
        self._sent.append(asked)
        if "paused" in changes:
            (self._paused.add if changes["paused"] else self._paused.discard)(queue)
        key = None
        if "paused" in changes:
            key = self.stage.recorder.call(self.by, "queue", queue=queue, paused=changes["paused"])

        def then(reply: Any) -> None:
            self._sent.remove(asked)
            if key is not None and isinstance(reply, m.SetQueueReply):
                self.stage.recorder.answered(key, index=reply.index)
            if isinstance(reply, m.ErrorReply):
                assert reply.error[2], f"{asked} was refused: {reply.error}"
                self._unsure.append(asked)

        self.ask(then, m.SetQueue, operation, queue, changes, self.by)
