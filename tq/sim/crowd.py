"""Clients and workers at random, on simulated brokers: they speak the protocol, and write down what they asked and heard.

Each actor has a connection that may vanish at any moment, and goes on with another one as a real client does: what
carries ids is sent again, a claim keeps its number. Where there are several nodes, the next connection is to any of them,
and some leave a node that answers only errors, or nothing in time. Time in the history is a count of what happened in the run, so
"before" means before. All chance comes from the run's seed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from tq.broker.broker import Broker
from tq.machine.answers import Applied, SubmitOutcome
from tq.machine.commands import Outcome
from tq.machine.states import State
from tq.protocol import messages as m
from tq.sim.client import SimClient
from tq.sim.cluster import SimCluster
from tq.sim.listed import Listed
from tq.sim.random import SeededRandom
from tq.spec import Retry, Spec, encode

TYPES = ("work", "toil", "forge")
QUEUES = ("left", "right")
PRIORITIES = (50, 150, 150, 220)
RETRY = Retry(4, 100, 2_000, 1_000, 200)
IN_FLIGHT_MAX = 8
REPORTED = {0: "applied", 1: "already"}
WAIT_MS_MAX = 4_000  # of claims and waits
TIME_OUT_MS = 5_000  # of a call, beyond what it asked to wait
NO_USE = ("NOT_LEADER", "UNAVAILABLE")  # another node may do better


class Recorder:
    """The history, as lines of ``tq.sim.checkers.records``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._op = 0
        self._time = 0

    def call(self, by: str, verb: str, **fields: Any) -> tuple[str, int]:
        self._op += 1
        self._write({"op": self._op, "by": by, "t": self._tick(), "call": verb, **fields})
        return by, self._op

    def answered(self, key: tuple[str, int], **fields: Any) -> None:
        self._write({"op": key[1], "by": key[0], "t": self._tick(), **fields})

    def final(self, id: bytes, task: dict[str, Any]) -> None:
        body = None if task["result"] is None else bytes(task["result"]).decode()
        rows = [row for row in task["history"] if row["fence"] and row["outcome"] != "stale"]
        facts = {name: task[name] for name in ("state", "fence", "attempt", "crashes", "reason")}
        facts |= {name: [row[name[:-1]] for row in rows] for name in ("fences", "outcomes")}
        facts["dropped"] = task["history_dropped"]
        self._write({"final": id.hex(), "body": body, **facts})

    def _tick(self) -> int:
        self._time += 1
        return self._time

    def _write(self, record: dict[str, Any]) -> None:
        self.lines.append(json.dumps(record))


class Place(Protocol):
    """Where the brokers are."""

    @property
    def now_ms(self) -> int: ...
    def open(self, random: SeededRandom) -> SimClient | None:
        """A connection, or None: nobody is there."""
        ...


class AnyNode:
    """A client has a list of addresses, and takes any."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster

    @property
    def now_ms(self) -> int:
        return self._cluster.now_ms

    def open(self, random: SeededRandom) -> SimClient | None:
        hosts = list(self._cluster.hosts.values())
        host = hosts[random.below(len(hosts))]
        return host.connect() if host.accepts else None


@attrs.define
class Stage:
    """What all actors share."""

    place: Place
    random: SeededRandom
    recorder: Recorder = attrs.field(factory=Recorder)
    truth: Truth = attrs.field(factory=lambda: Truth())
    ids: list[bytes] = attrs.field(factory=list)
    is_hasty: bool = False  # calls that are not answered in time are given up, with their connection
    is_draining: bool = False
    is_calm: bool = False  # little is submitted: claims sleep, and are woken one by one

    @property
    def now_ms(self) -> int:
        return self.place.now_ms

    def chance(self, percent: int) -> bool:
        return self.random.below(100) < percent


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


class Submitter(Actor):
    """Submits, submits again, reads, waits, cancels and retries."""

    def __init__(self, stage: Stage, by: str) -> None:
        super().__init__(stage, by)
        self._number = 0
        self._mine: list[Spec] = []
        self._unsure: list[list[Spec]] = []
        self._sent: list[list[Spec]] = []
        self._listing: tuple[dict[str, Any], int, bytes | None] = ({}, 1, None)  # filter, limit, cursor
        self._listed_to: bytes | None = None  # the last task of its last page
        self._is_oldest_first = False

    def act(self) -> None:
        if self.stage.is_draining:
            if self._unsure:
                self._submit(self._unsure.pop(), atomic=False)
            return
        if self.in_flight >= IN_FLIGHT_MAX or self.chance(30):
            return
        choice = self.random.below(12)
        if choice < 5 and self.stage.is_calm and self.chance(85):
            return
        match choice:
            case 0 | 1 | 2 | 3:
                count = 1 if self.stage.is_calm or self.chance(60) else 1 + self.random.below(12)
                self._submit([self._new() for _ in range(count)], atomic=self.chance(20))
            case 4:
                self._again()
            case 5 | 6 | 7:
                self._read()
            case 8 | 9:
                self._wait()
            case 10:
                self._change()
            case _:
                self._look()

    def lost(self) -> None:
        self._unsure += [specs for specs in self._sent if self.chance(80)]
        self._sent = []

    def _new(self) -> Spec:
        self._number += 1
        random = self.random
        spec = Spec(
            random.bytes(16),
            TYPES[random.below(3)],
            f"{self.by}-{self._number}".encode().ljust(1 + random.below(300), b"."),
            QUEUES[random.below(2)],
            PRIORITIES[random.below(4)],
            delay_ms=1 + random.below(1_500) if self.chance(10) else 0,
            retry=RETRY,
        )
        self._mine.append(spec)
        self.stage.ids.append(spec.id)
        return spec

    def _submit(self, specs: list[Spec], *, atomic: bool) -> None:
        rows = [
            [spec.id.hex(), spec.payload.decode(), spec.type, spec.queue, spec.priority, spec.delay_ms > 0]
            for spec in specs
        ]
        key = self.stage.recorder.call(self.by, "submit", tasks=rows)
        self._sent.append(specs)

        def then(reply: Any) -> None:
            self._sent.remove(specs)
            if isinstance(reply, m.SubmitReply):
                answers = [SubmitOutcome(item if item == 0 else item[0]).name.lower() for item in reply.items]
                self.stage.recorder.answered(key, index=reply.index, answers=answers)
            else:
                self.stage.recorder.answered(key, error=reply.error[0])
                if reply.error[2]:  # retryable
                    self._unsure.append(specs)

        self.ask(then, m.SubmitTask, [encode(spec) for spec in specs], atomic)

    def _again(self) -> None:
        if self._unsure:
            self._submit(self._unsure.pop(self.random.below(len(self._unsure))), atomic=False)
        elif self._mine:
            spec = self._some()
            if self.chance(20):
                spec = spec._replace(payload=spec.payload + b" other")
            self._submit([spec], atomic=False)

    def _some(self) -> Spec:
        recent = self._mine[-30:]
        return recent[self.random.below(len(recent))]

    def _read(self) -> None:
        if self._mine:
            id, linear = self._some().id, self.chance(25)
            self._read_by(id, linear, m.GetTask, id, 0, self.seen_index, linear)

    def _wait(self) -> None:
        if self._mine:
            id = self._some().id
            self._read_by(id, False, m.WaitTask, id, self.random.below(3_000), 0, self.seen_index)

    def _read_by(self, id: bytes, linear: bool, kind: type[m.Message], *fields: Any) -> None:
        min_index = self.seen_index
        key = self.stage.recorder.call(self.by, "read", id=id.hex(), min_index=min_index, linear=linear)

        def then(reply: Any) -> None:
            if isinstance(reply, m.GetReply | m.WaitReply):
                task = reply.task
                self.stage.recorder.answered(key, index=reply.index, state=task["state"], fence=task["fence"])
            elif reply.error[0] == "NOT_FOUND":
                self.stage.recorder.answered(key, index=min_index, state=None)
            else:
                self.stage.recorder.answered(key, error=reply.error[0])

        self.ask(then, kind, *fields)

    def _change(self) -> None:
        if not self._mine:
            return
        ids = [self._some().id]
        verb = "cancel" if self.chance(70) else "retry"
        key = self.stage.recorder.call(self.by, verb, ids=[id.hex() for id in ids])

        def then(reply: Any) -> None:
            if isinstance(reply, m.ErrorReply):
                if reply.error[0] != "UNAVAILABLE":  # which says that it may have been done
                    self.stage.recorder.answered(key, error=reply.error[0])
                return
            state, error = reply.items[0]  # of the one id
            if error is not None:
                self.stage.recorder.answered(key, index=reply.index, error=error[0])
            else:
                self.stage.recorder.answered(key, index=reply.index, states=[State(state).name.lower()])

        if verb == "cancel":
            self.ask(then, m.CancelTask, ids, 100 + self.random.below(1_500))
        else:
            self.ask(then, m.RetryTasks, self.random.bytes(16), ids)

    def _list(self) -> None:
        min_index = self.seen_index
        self._draw_list()
        listing, after, oldest_first = self._listing, self._listed_to, self._is_oldest_first
        key = self.stage.recorder.call(self.by, "list", min_index=min_index)

        def then(reply: Any) -> None:
            if isinstance(reply, m.ErrorReply):
                self.stage.recorder.answered(key, error=reply.error[0])
            else:
                rows = [[bytes(task["id"]).hex(), task["state"], task["fence"] or 0] for task in reply.tasks]
                self.stage.recorder.answered(key, index=reply.index, rows=rows)
                ids = [bytes(task["id"]) for task in reply.tasks]
                self.stage.truth.listed.check(
                    reply.index,
                    listing[0],
                    listing[1],
                    after,
                    ids,
                    oldest_first=oldest_first,
                    is_all=reply.cursor is None,
                )
                if listing is self._listing:
                    self._listing = (*listing[:2], reply.cursor)
                    self._listed_to = ids[-1] if ids else after

        self.ask(then, m.ListTasks, *self._listing, min_index, False, self._is_oldest_first)

    def _draw_list(self) -> None:
        """Another filter, or the next page of the last one."""
        cursor = self._listing[2]
        if cursor is not None and self.chance(60):
            return
        names = ("pending", "running", "completed", "dead", "scheduled", "live", "failed", "queued")
        fields: dict[str, Any] = {"state": names[self.random.below(4)]}
        if self.chance(30):
            fields = {"state": [names[self.random.below(8)], names[self.random.below(8)]]}
        elif self.chance(20):
            fields = {}
        if self.chance(30):
            fields["queue"] = QUEUES[self.random.below(2)]
        if self.chance(30):
            fields["type"] = TYPES[self.random.below(3)]
        if self.chance(10) and self._mine:
            fields["id_prefix"] = self._some().id.hex()[: 1 + self.random.below(3)]
        self._listing = (fields, 1 + self.random.below(12), None)
        self._is_oldest_first = self.chance(40)
        self._listed_to = None

    def _look(self) -> None:
        if self.chance(40):
            self._list()
            return
        kinds: list[tuple[type[m.Message], tuple[Any, ...]]] = [
            (m.Queues, ()),
            (m.Stats, ()),
            (m.Workers, ()),
            (m.ClusterStatus, ()),
            (m.Ping, ()),
        ]
        kind, fields = kinds[self.random.below(len(kinds))]
        self.ask(lambda reply: None, kind, *fields)


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


class Truth:
    """All events that were ever applied, in order: what a listener may be held to."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._before: dict[tuple[int, int], tuple[int, int] | None] = {}
        self._last: tuple[int, int] | None = None
        self.listed = Listed()

    def watch(self, broker: Broker) -> None:
        applied = broker.events.applied

        def see(entry: Applied) -> None:
            for ordinal, event in enumerate(entry.events):
                kind, id, queue, type_ = event[:4]
                key, row = (entry.index, ordinal), (kind, id)
                if key in self._rows:
                    assert self._rows[key] == row, f"event {key} is another one after a restart"
                    continue
                assert self._last is None or key > self._last
                self._rows[key] = row
                machine = broker.applier.machine
                self.listed.saw(entry.index, kind, id, machine.queue_name(queue), machine.type_name(type_))
                self._before[key] = self._last
                self._last = key
            applied(entry)

        broker.events.applied = see  # type: ignore[method-assign, assignment]

    def check(self, row: list[Any], after: tuple[int, int] | None) -> None:
        """``row`` was heard, and everything behind ``after`` had been promised (None: nothing was)."""
        key = (row[0], row[1])
        assert self._rows[key] == (row[2], row[3]), f"event {key} is not what was applied"
        assert after is None or self._before[key] == after, f"event {key} came behind {after}: events are missing"


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


LIVE = frozenset(state.name.lower() for state in (State.WAITING, State.SCHEDULED, State.PENDING, State.RUNNING))
