"""A worker at random."""

from __future__ import annotations

from typing import Any

import attrs

from tq.machine.commands import Outcome
from tq.protocol import messages as m
from tq.sim.crowd.actor import Actor
from tq.sim.crowd.stage import QUEUES, REPORTED, TYPES, WAIT_MS_MAX, Stage


@attrs.define
class Held:
    """One attempt at a worker. ``due_ms``: when its outcome is reported; None: it is forgotten."""

    id: bytes
    fence: int
    due_ms: int | None
    outcome: Outcome


@attrs.frozen
class Keep:
    """A checkpoint, which may be sent again."""

    id: bytes
    fence: int
    number: int
    data: str | None


@attrs.define
class Asked:
    key: tuple[str, int]
    seq: int
    n: int
    wait_ms: int


class Worker(Actor):
    """Opens sessions, claims, sits on tasks, reports, forgets, reports again and too late."""

    def __init__(self, stage: Stage, by: str, slots: int) -> None:
        super().__init__(stage, by)
        self._slots = slots
        self._sessions = 0
        self._session: bytes | None = None
        self._is_opening = False
        self._takes_all = False  # types; in the end nobody waits for what nobody else does
        self._seq = 0
        self._claim: Asked | None = None
        self._is_asked = False
        self._held: dict[int, Held] = {}
        self._unsure: list[list[tuple[bytes, int, Outcome]]] = []
        self._sent: list[list[tuple[bytes, int, Outcome]]] = []
        self._old: list[tuple[bytes, int, Outcome]] = []
        self._beat_ms = 0
        self._numbers = 0  # of the last checkpoint
        self._keeps: list[Keep] = []  # not answered, or answered long ago

    def act(self) -> None:
        if self._session is None:
            self._open()
            return
        if self.stage.now_ms >= self._beat_ms:
            self._beat_ms = self.stage.now_ms + 700 + self.random.below(900)
            self._beat()
        self._report_due()
        if self.chance(6):
            self._keep()
        if not self._is_asked and (self._claim is not None or len(self._held) < self._slots):
            self._ask_claim()
        if self.chance(1) if not self.stage.is_draining else not self._takes_all:
            self._session, self._claim, self._is_asked = None, None, False  # abandoned with all it holds

    def lost(self) -> None:
        self._is_opening = self._is_asked = False
        self._unsure += [rows for rows in self._sent if self.chance(80)]
        self._sent = []
        if self._claim is not None and self.chance(10):
            self._claim = None  # never asks for it again: what it granted has to come back by itself

    def pushed(self, push: m.Message) -> None:
        if isinstance(push, m.CancelRunning):
            for _id, fence, _grace_ms in push.tasks:
                self._cancel(fence)

    # ---- the session -------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._is_opening:
            return
        self._is_opening = True
        self._sessions += 1
        session = self.random.bytes(16)
        kinds = list(TYPES) if self.chance(70) else [TYPES[self.random.below(3)]]
        if self.stage.is_draining:
            kinds = list(TYPES)
        queues = list(QUEUES) if self.chance(50) else list(QUEUES[::-1])

        def then(reply: Any) -> None:
            self._is_opening = False
            if isinstance(reply, m.RegisterReply):
                self._session, self._seq, self._claim, self._is_asked = session, 0, None, False
                self._takes_all = len(kinds) == len(TYPES)

        self.ask(then, m.RegisterWorker, session, f"{self.by}-{self._sessions}", kinds, queues)

    def _check(self, session: bytes, reply: Any) -> bool:
        """Whether the reply is one. A session that is lost is left."""
        if not isinstance(reply, m.ErrorReply):
            return True
        if reply.error[0] == "SESSION_LOST" and self._session == session:
            self._session = self._claim = None
            self._is_asked = False
        return False

    def _beat(self) -> None:
        session = self._session
        assert session is not None
        tasks = [[held.id, held.fence] for held in self._held.values() if held.due_ms is not None]

        def then(reply: Any) -> None:
            if self._check(session, reply):
                for _id, fence in reply.lost:
                    held = self._held.get(fence)
                    if held is not None and self.chance(70):
                        del self._held[fence]  # the others are reported all the same, and are stale
                for _id, fence, _grace_ms in reply.cancel:
                    self._cancel(fence)

        self.ask(then, m.Heartbeat, session, tasks)

    def _cancel(self, fence: int) -> None:
        held = self._held.get(fence)
        if held is not None and self.chance(70):
            held.outcome = Outcome.CANCELLED
            held.due_ms = self.stage.now_ms + self.random.below(300)

    # ---- claims ------------------------------------------------------------------------------------

    def _ask_claim(self) -> None:
        session = self._session
        assert session is not None
        if self._claim is None:
            self._seq += 1
            n = 1 + self.random.below(self._slots)
            key = self.stage.recorder.call(self.by, "claim")
            self._claim = Asked(key, self._seq, n, 0 if self.chance(20) else self.random.below(WAIT_MS_MAX))
        asked = self._claim
        self._is_asked = True

        def then(reply: Any) -> None:
            if self._claim is asked:
                self._is_asked = False
            if not self._check(session, reply):
                return
            if self._claim is asked:
                self._claim = None
            rows = []
            for spec, attempt, crashes, fence, _lease_ms, _timeout_ms, _deadline_ms, *kept in reply.grants:
                id = bytes(spec[2:18])
                rows.append([id.hex(), fence, attempt, crashes, kept[0].decode() if kept else None])
                self._held[fence] = self._draw(id, fence)
            self.stage.recorder.answered(asked.key, index=reply.index, grants=rows)

        self.ask(then, m.ClaimTask, session, asked.seq, [], asked.n, asked.wait_ms)

    def _draw(self, id: bytes, fence: int) -> Held:
        now_ms = self.stage.now_ms
        if self.stage.is_draining:
            return Held(id, fence, now_ms, Outcome.COMPLETE)
        due_ms: int | None = now_ms + self.random.below(400)
        outcome = Outcome.COMPLETE
        match self.random.below(20):
            case 0 | 1:
                outcome = Outcome.FAIL
            case 2:
                outcome = Outcome.RELEASE
            case 3:
                outcome = Outcome.SNOOZE
            case 4:
                due_ms = None
            case 5:
                due_ms = now_ms + 2_000 + self.random.below(6_000)
        return Held(id, fence, due_ms, outcome)

    # ---- checkpoints -------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Of a task that it holds; sometimes an old one again, which others have overtaken, or whose attempt is over."""
        session = self._session
        assert session is not None
        if self._keeps and self.chance(25):
            keep = self._keeps[self.random.below(len(self._keeps))]
        elif self._held:
            held = list(self._held.values())[self.random.below(len(self._held))]
            self._numbers += 1
            data = None if self.chance(10) else f"{held.fence}:{self._numbers}"
            keep = Keep(held.id, held.fence, self._numbers, data)
            self._keeps = [*self._keeps[-20:], keep]
        else:
            return
        id, fence, number, data = attrs.astuple(keep)
        key = self.stage.recorder.call(self.by, "keep", id=id.hex(), fence=fence, number=number, data=data)

        def then(reply: Any) -> None:
            if isinstance(reply, m.CheckpointReply):
                (item,) = reply.items
                answer = REPORTED[item] if isinstance(item, int) else "stale"
                self.stage.recorder.answered(key, index=reply.index, answer=answer)
            else:
                self.stage.recorder.answered(key, error=reply.error[0])

        raw = None if data is None else data.encode()
        self.ask(then, m.Checkpoint, session, [[id, fence, number, raw]])

    # ---- outcomes ----------------------------------------------------------------------------------

    def _report_due(self) -> None:
        if self._unsure:
            self._report(self._unsure.pop())
        now_ms = self.stage.now_ms
        due = [held for held in self._held.values() if held.due_ms is not None and held.due_ms <= now_ms]
        forgotten = [held for held in self._held.values() if held.due_ms is None and self.chance(20)]
        for held in due + forgotten:
            del self._held[held.fence]
        if due:
            rows = [(held.id, held.fence, held.outcome) for held in due]
            self._old = (self._old + rows)[-20:]
            self._report(rows)
        elif self._old and self.chance(3):
            id, fence, outcome = self._old[self.random.below(len(self._old))]
            self._report([(id, fence, outcome if self.chance(60) else Outcome.FAIL)])

    def _report(self, rows: list[tuple[bytes, int, Outcome]]) -> None:
        session = self._session
        assert session is not None
        items, told = [], []
        for id, fence, outcome in rows:
            text = f"{id.hex()}:{fence}"
            body: Any = None
            if outcome is Outcome.COMPLETE:
                body = ["text/plain", text.encode()]
            elif outcome is Outcome.FAIL:
                body = [["E", "asked to fail", ""], False, None]
            elif outcome is Outcome.SNOOZE:
                body = 200
            items.append([id, fence, int(outcome), body])
            told.append([id.hex(), fence, outcome.name.lower(), text if outcome is Outcome.COMPLETE else None])
        key = self.stage.recorder.call(self.by, "report", items=told)
        self._sent.append(rows)

        def then(reply: Any) -> None:
            self._sent.remove(rows)
            if isinstance(reply, m.ResultReply):
                answers = [REPORTED[item] if isinstance(item, int) else "stale" for item in reply.items]
                self.stage.recorder.answered(key, index=reply.index, answers=answers)
            else:
                self.stage.recorder.answered(key, error=reply.error[0])
                if reply.error[2]:
                    self._unsure.append(rows)

        self.ask(then, m.TaskResult, session, items)
