"""A client at random."""

from __future__ import annotations

from typing import Any

from tq.machine.answers import SubmitOutcome
from tq.machine.states import State
from tq.protocol import messages as m
from tq.sim.crowd.actor import Actor
from tq.sim.crowd.stage import QUEUES, TYPES, Stage
from tq.spec import Retry, Spec, encode

PRIORITIES = (50, 150, 150, 220)
RETRY = Retry(4, 100, 2_000, 1_000, 200)
IN_FLIGHT_MAX = 8


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
