"""Whoever has a connection that comes and goes, and waits for answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tq.protocol import messages as m
from tq.sim.client import SimClient
from tq.sim.crowd.stage import WAIT_MS_MAX, Stage

TIME_OUT_MS = 5_000  # of a call, beyond what it asked to wait
NO_USE = ("NOT_LEADER", "UNAVAILABLE")  # another node may do better

Then = Callable[[Any], None]


class Actor:
    """A connection that comes and goes, and answers that are waited for."""

    def __init__(self, stage: Stage, by: str) -> None:
        self.stage = stage
        self.random = stage.random.fork()
        self.by = by
        self.peer: SimClient | None = None
        self.is_ready = False
        self.seen_index = 0
        self.errors: Counter[str] = Counter()
        self.answers = 0
        self._waiting: dict[int, Then] = {}
        self._give_up_ms: dict[int, int] = {}
        self._leaves = False
        self._back_ms = 0
        self._reads_again_ms = 0

    def chance(self, percent: int) -> bool:
        return self.random.below(100) < percent

    # ---- the connection ----------------------------------------------------------------------------

    def step(self) -> None:
        """Hear what there is to hear, then do something."""
        peer = self.peer
        if peer is None:
            if self.stage.now_ms >= self._back_ms:
                self._connect()
            return
        if not peer.reads and not peer.socket.is_broken and self.stage.now_ms >= self._reads_again_ms:
            peer.reads = True
        self.hear()
        if self._leaves or any(at_ms <= self.stage.now_ms for at_ms in self._give_up_ms.values()):
            peer.close()
            self._lose()
        elif peer.socket.is_broken or peer.is_closed:
            self._lose()
        elif self.is_ready:
            self.act()

    def hear(self) -> None:
        assert self.peer is not None
        for rid in [rid for rid in self._waiting if rid in self.peer.answers]:
            reply = self.peer.answers[rid]
            self._give_up_ms.pop(rid, None)
            self.seen_index = max(self.seen_index, getattr(reply, "index", 0))
            self.answers += 1
            if isinstance(reply, m.ErrorReply):
                self.errors[reply.error[0]] += 1
                self._leaves = self._leaves or (reply.error[0] in NO_USE and self.chance(30))
            self._waiting.pop(rid)(reply)
        for push in self.peer.pushes:
            self.pushed(push)
        self.peer.pushes.clear()

    def ask(self, then: Then, kind: type[m.Message], *fields: Any) -> None:
        assert self.peer is not None
        rid = self.peer.ask(kind, *fields)
        self._waiting[rid] = then
        if self.stage.is_hasty:
            self._give_up_ms[rid] = self.stage.now_ms + TIME_OUT_MS + WAIT_MS_MAX

    def break_off(self) -> None:
        """The network does what networks do."""
        if self.peer is None:
            return
        match self.random.below(4):
            case 0:
                self.peer.close()
            case 1:
                self.peer.reads = False
                self._reads_again_ms = self.stage.now_ms + self.random.below(3_000)
            case 2:
                self.peer.socket.room = 1 + self.random.below(300)
            case _:
                self.peer.vanish()

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def _connect(self) -> None:
        self.peer = self.stage.place.open(self.random)
        if self.peer is None:
            self._back_ms = self.stage.now_ms + 50 + self.random.below(200)
            return
        self.ask(self._greeted, m.Hello, 1, 1, self.by)

    def _greeted(self, reply: Any) -> None:
        self.is_ready = isinstance(reply, m.HelloReply)

    def _lose(self) -> None:
        self.peer = None
        self.is_ready = False
        self._waiting.clear()
        self._give_up_ms.clear()
        self._leaves = False
        self._back_ms = self.stage.now_ms + self.random.below(500)
        self.lost()

    # ---- for those below ---------------------------------------------------------------------------

    def act(self) -> None:
        """One thing that it does now; each kind of actor has its own."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is gone; what was asked may or may not have been done."""

    def pushed(self, push: m.Message) -> None:
        pass
