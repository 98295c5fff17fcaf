"""One worker process of the low-level verbs: it knows when its claims left, and it misbehaves on purpose.

It sits on tasks past their lease and reports then, gives tasks back, abandons sessions with what they hold,
and claims with many free slots. The well-behaved half of the workers is ``tq worker tests.torture.handlers``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

from tests.torture import work
from tests.torture.recorder import Recorder
from tq import Client
from tq.errors import SessionLost, StaleFence, TqError

LEASE_SECONDS = 2.0


class Rough:
    def __init__(self, client: Client, recorder: Recorder, draw: random.Random) -> None:
        self.stopping = False
        self._client = client
        self._recorder = recorder
        self._draw = draw
        self._session: Any = None
        self._by = recorder.by
        self._sessions = 0

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def run(self) -> None:
        while not self.stopping:
            try:
                self.run_once()
            except SessionLost:
                self._session = None
            except TqError:
                pass  # the broker is away; the client itself waits between its tries
        if self._session is not None:
            self._session.close()

    def run_once(self) -> None:
        if self._session is None:
            self._sessions += 1
            self._by = f"{self._recorder.by}-{self._sessions}"
            self._session = self._client.register_worker(list(work.TYPES), queues=list(work.QUEUES), name=self._by)
        tasks = self._claim()
        if not tasks:
            return
        if self._draw.random() < 0.01:
            self._session = None  # abandoned with all it holds: a crash of each
            return
        now, held, late = [], [], []
        for task in tasks:
            verb = self._verb(task)
            if verb == "late":
                late.append(task)
            elif verb == "hold":
                held.append(task)
            elif verb is not None:
                now.append((task, verb))
        self._report(now)
        if held:
            time.sleep(work.HOLD_SECONDS)
            self._report([(task, "complete") for task in held])
        if late:
            time.sleep(LEASE_SECONDS * 1.3)
            self._report([(task, "complete") for task in late])
        elif self._draw.random() < 0.05:
            self._answer_cancels(self._session.heartbeat())

    def _claim(self) -> list[Any]:
        key = self._recorder.call("claim", by=self._by)
        tasks = self._session.claim(self._draw.choice((1, 10, 100)), self._draw.choice((0, 0.2, 1.0)))
        rows = [[task.raw_id.hex(), task.fence, task.attempt, task.crashes] for task in tasks]
        self._recorder.answered(key, index=self._client.last_index, grants=rows)
        return list(tasks)

    def _answer_cancels(self, beat: Any) -> None:
        for cancel in beat.cancel:
            key = uuid.UUID(cancel.id).hex
            call = self._recorder.call("report", by=self._by, items=[[key, cancel.fence, "cancelled", "cancelled"]])
            try:
                said = self._session.cancelled((cancel.id, cancel.fence))
            except StaleFence:
                said = "stale"
            self._recorder.answered(call, index=self._client.last_index, answers=[said])

    def _verb(self, task: Any) -> str | None:
        """What to do with a task; None: forget it, which is a crash when the lease is over."""
        plan = json.loads(task.payload)["plan"]
        first = task.attempt == 1 and task.crashes == 0
        if plan == "fail" or (plan == "fail-once" and first):
            return "fail"
        if plan == "release-once" and self._draw.random() < 0.5:
            return "release"
        if plan == "snooze-once" and self._draw.random() < 0.5:
            return "snooze"
        if plan == "stale" and task.crashes < 2:
            return "late" if first else "hold"
        if plan == "crash-once" and first:
            return None
        return "fatal" if plan == "fatal" else "complete"

    def _report(self, pairs: list[tuple[Any, str]]) -> None:
        """Completions in one batch, the others one by one."""
        completes = [task for task, verb in pairs if verb == "complete"]
        if completes:
            bodies = [work.body_of(task.raw_id, task.fence) for task in completes]
            rows = [[t.raw_id.hex(), t.fence, "complete", body] for t, body in zip(completes, bodies, strict=True)]
            key = self._recorder.call("report", by=self._by, items=rows)
            results = [(task, body.encode()) for task, body in zip(completes, bodies, strict=True)]
            said = self._session.complete_many(results)
            answers = [item if isinstance(item, str) else "stale" for item in said]
            self._recorder.answered(key, index=self._client.last_index, answers=answers)
        for task, verb in pairs:
            if verb != "complete":
                self._report_one(task, verb)

    def _report_one(self, task: Any, verb: str) -> None:
        outcome = "fail" if verb == "fatal" else verb
        key = self._recorder.call("report", by=self._by, items=[[task.raw_id.hex(), task.fence, outcome, verb]])
        try:
            if verb == "release":
                said = self._session.release(task)
            elif verb == "snooze":
                said = self._session.snooze(task, 0.1)
            else:
                said = self._session.fail(task, f"asked to {verb}", permanent=verb == "fatal")
        except StaleFence:
            said = "stale"
        self._recorder.answered(key, index=self._client.last_index, answers=[said])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--by", required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    by = f"{options.by}-{time.monotonic_ns()}"  # a worker that was killed and started again is another writer
    with Client(options.brokers) as client:
        rough = Rough(client, Recorder(options.history, by), random.Random(options.seed))
        signal.signal(signal.SIGTERM, rough.stop)
        rough.run()


if __name__ == "__main__":
    main()
