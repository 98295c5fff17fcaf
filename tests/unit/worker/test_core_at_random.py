"""The worker's core through random troubles: what must hold whatever happens, and whenever.

The broker here is the contract in its smallest form: leases by fence, the last claim of a session by number. It loses
connections with requests and answers in them, refuses, cancels, ends sessions, and restarts.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.worker.rig import Rig, grant, id_of
from tq.errors import Backpressure, BrokerUnavailable, NotLeader, SessionLost, to_wire
from tq.protocol import messages as m
from tq.worker.core import State
from tq.worker.outcomes import CANCELLED, COMPLETE, FAIL, RELEASE, SAID_STOPPED, crashed, failed

SLOTS = 5
STEPS = 400


class Broker:
    """Answers requests; ``leases`` maps a fence to its session."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.sessions: dict[bytes, tuple[int, list[int]]] = {}  # last claim: number, fences
        self.leases: dict[int, bytes] = {}
        self.applied: dict[int, int] = {}  # fence -> outcome
        self.stale: set[int] = set()
        self.fence = 0

    def answer(self, request: m.Message) -> m.Message | None:
        rid: int = request.rid  # type: ignore[attr-defined]
        if self.chance.random() < 0.05:
            error = self.chance.choice([BrokerUnavailable("no"), NotLeader("no"), Backpressure("no", retry_after=1)])
            return m.ErrorReply(rid, to_wire(error))
        match request:
            case m.RegisterWorker():
                self.sessions.setdefault(request.session, (0, []))
                return m.RegisterReply(rid, 1, 30_000, 15_000, 30_000)
            case m.DeregisterWorker():
                self.end(request.session)
                return m.DeregisterReply(rid, 1)
            case m.TaskResult():
                return m.ResultReply(rid, 1, [self._outcome(item) for item in request.items])
            case m.ClaimTask():
                return self._claim(request)
            case m.Ping():
                return m.PingReply(rid, 1)
        raise AssertionError(request)

    def end(self, session: bytes) -> None:
        self.sessions.pop(session, None)
        self.leases = {fence: holder for fence, holder in self.leases.items() if holder != session}

    def _outcome(self, item: list[Any]) -> Any:
        _id, fence, outcome, _body = item
        if self.leases.pop(fence, None) is not None:
            assert fence not in self.applied
            self.applied[fence] = outcome
            return 0
        if self.applied.get(fence) == outcome:
            return 1
        self.stale.add(fence)
        return [2, None]

    def _claim(self, request: m.ClaimTask) -> m.Message:
        if request.session not in self.sessions:
            return m.ErrorReply(request.rid, to_wire(SessionLost("ended")))
        number, fences = self.sessions[request.session]
        assert request.seq >= number, "the worker went back in its numbers"
        if request.seq > number:
            fences = []
            for _ in range(self.chance.randint(0, request.max_n)):
                self.fence += 1
                self.leases[self.fence] = request.session
                fences.append(self.fence)
            if fences:
                self.sessions[request.session] = (request.seq, fences)
        held = [fence for fence in fences if self.leases.get(fence) == request.session]
        return m.ClaimReply(request.rid, 1, [self.a_grant(fence) for fence in held])

    def a_grant(self, fence: int) -> list[Any]:
        type_ = "tpc"[fence % 3]
        return grant(fence, type_, timeout_ms=5_000 if fence % 7 == 0 else None)


class Run:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rig = Rig(concurrency=SLOTS, drain_ms=20_000)
        self.broker = Broker(self.chance)
        self.requests: list[m.Message] = []  # on their way
        self.answers: list[m.Message] = []
        self.is_connected = False
        self.said: set[int] = set()  # fences whose handlers said something that the broker must hear

    def turn(self, ms: int) -> None:
        self.requests += self.rig.after(ms)
        core = self.rig.core
        assert len(core.jobs.running) <= SLOTS
        assert set(core.jobs.running) >= {fence for fence, job in core.jobs.held.items() if not job.is_ended}
        fences = [job.fence for job in self.rig.started]
        assert len(fences) == len(set(fences)), "a grant was begun twice"
        if core.wants_reconnect:
            self.lose()

    def lose(self) -> None:
        if self.is_connected:
            self.is_connected = False
            for request in self.requests[: self.chance.randint(0, len(self.requests))]:
                self.broker.answer(request)  # it arrived; its answer will not
            self.requests.clear()
            self.answers.clear()
            self.rig.core.disconnected()

    def trouble(self) -> None:
        core, chance, broker = self.rig.core, self.chance, self.broker
        match chance.randint(0, 12):
            case 0:
                self.lose()
            case 1 if self.is_connected:
                self.answers.append(m.GoAway("stopping"))
            case 2:
                for session in list(broker.sessions):
                    broker.end(session)
                    if chance.random() < 0.5:
                        core.session_lost(session)
            case 3 if core.session and broker.leases:
                fence = chance.choice(list(broker.leases))
                core.heard(
                    core.session, m.HeartbeatReply(1, [[id_of(fence), fence, chance.choice([0, 3_000])]], [], False)
                )
            case 4 if core.session and core.jobs.held:
                fence = chance.choice(list(core.jobs.held))
                broker.leases.pop(fence, None)
                core.heard(core.session, m.HeartbeatReply(1, [], [[id_of(fence), fence]], False))
            case _:
                self.finish()

    def finish(self) -> None:
        core, chance = self.rig.core, self.chance
        for job in list(core.jobs.running.values()):
            if chance.random() < 0.5:
                if job.why is not None and chance.random() < 0.8:
                    core.finished(job, SAID_STOPPED)
                else:
                    said = chance.choice([(COMPLETE, ["", b""]), failed("E", "", ""), crashed("C", "")])
                    if not job.is_given_up and said[0] in (COMPLETE, FAIL):
                        self.said.add(job.fence)
                    core.finished(job, said)

    def deliver(self) -> None:
        chance = self.chance
        if not self.is_connected:
            if chance.random() < 0.5:
                self.rig.connect()
                self.is_connected = True
            return
        while self.requests and chance.random() < 0.8:
            answer = self.broker.answer(self.requests.pop(0))
            if answer is not None:
                self.answers.append(answer)
        while self.answers and chance.random() < 0.8:
            self.rig.core.received(self.answers.pop(0))
            self.turn(0)
            if not self.is_connected:
                return


@pytest.mark.parametrize("number", range(30))
def test_whatever_happens_nothing_is_begun_twice_and_all_that_ended_is_told(number: int) -> None:
    seed = random.SystemRandom().randrange(1 << 32) if number else 1
    print(f"seed {seed}")
    run = Run(seed)
    for _ in range(STEPS):
        run.deliver()
        run.trouble()
        run.turn(run.chance.choice([0, 1, 50, 2_000]))
    core, broker = run.rig.core, run.broker
    assert len(run.rig.started) > 20, "too little happened to prove anything"
    for _ in range(300):
        run.deliver()
        run.turn(50)
    mine = {fence for fence, session in broker.leases.items() if session == core.session}
    assert mine <= {job.fence for job in run.rig.started}, "the broker believes that we have what we never saw"
    core.drain()
    for _ in range(2_000):
        if core.state is State.OVER:
            break
        run.deliver()
        run.finish()
        run.turn(run.chance.choice([0, 50, 500]))
    assert core.state is State.OVER
    assert core.failure is None
    if "could not take leave of the cluster" not in run.rig.events():
        assert run.said <= broker.applied.keys() | broker.stale, "an outcome was lost"
        assert not broker.leases, "a lease was kept"
    begun = {job.fence for job in run.rig.started}
    by_others = {fence for fence, outcome in broker.applied.items() if fence not in begun}
    assert all(broker.applied[fence] == RELEASE for fence in by_others), "an outcome of a task that was never begun"
    cancelled = {job.fence for job in run.rig.started if job.why is not None}
    assert all(fence in cancelled for fence, outcome in broker.applied.items() if outcome == CANCELLED)
