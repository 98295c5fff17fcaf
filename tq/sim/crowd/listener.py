"""Somebody who listens to events."""

from __future__ import annotations

from typing import Any

from tq.protocol import messages as m
from tq.sim.crowd.actor import Actor
from tq.sim.crowd.stage import Stage


class Listener(Actor):
    """Subscribes, and goes on behind the last event it has: ids rise, and nothing is missing that was promised."""

    def __init__(self, stage: Stage, by: str) -> None:
        super().__init__(stage, by)
        self._is_subscribed = False
        self._after: tuple[int, int] | None = None
        self._is_promised = False
        self.events = 0

    def act(self) -> None:
        if not self._is_subscribed:
            self._is_subscribed = True
            self.ask(self._subscribed, m.Subscribe, None, None if self._after is None else list(self._after))
        elif self.chance(3):
            self.ask(lambda reply: None, m.Ping)

    def lost(self) -> None:
        self._is_subscribed = False

    def _subscribed(self, reply: Any) -> None:
        if isinstance(reply, m.ErrorReply):
            self._is_subscribed = False
        else:
            self._is_promised = bool(reply.complete)

    def pushed(self, push: m.Message) -> None:
        if not isinstance(push, m.Event):
            return
        for row in push.events:
            key = (row[0], row[1])
            assert self._after is None or key > self._after, f"event {key} comes behind {self._after}"
            self.stage.truth.check(row, self._after if self._is_promised else None)
            self._after = key
            self._is_promised = True
            self.events += 1
        if push.last:
            self._is_subscribed = False
