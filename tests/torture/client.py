"""One client process: submits, submits again, reads, cancels, retries and purges at full speed, and writes down what it asked and heard.

It ends by itself when there is a file ``stop`` in the folder of histories. It never waits for a task and has no more than a
bounded number of tasks waiting at the broker, so that the drain behind it is short.
"""

from __future__ import annotations

import argparse
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import attrs

from tests.torture import work
from tests.torture.recorder import Recorder
from tq import Client, Retry, TaskInfo, TaskSpec
from tq.errors import InvalidState, NotFound, TqError

WAITING_MAX = 2_000
RECENT = 500
STOP = "stop"


class Submitter:
    def __init__(self, client: Client, recorder: Recorder, draw: random.Random, begun_s: float) -> None:
        """begun_s: epoch; tasks that are older belong to an earlier round and are left alone."""
        self._begun_s = begun_s
        self._client = client
        self._recorder = recorder
        self._draw = draw
        self._number = 0
        self._recent: list[work.Work] = []
        self._step = 0
        self._writes = {
            self.submit: 20,
            self.submit_batch: 20,
            self.submit_again: 4,
            self.submit_other: 3,
            self.submit_key_again: 3,
        }
        self._others = {
            self.read: 30,
            self.wait: 2,
            self.list: 2,
            self.cancel: 3,
            self.retry: 3,
            self.purge: 1,
            self.pause: 2,
        }

    def run_once(self) -> None:
        """One request, drawn by chance. An error of the broker is an unknown outcome, and in the history as such."""
        self._step += 1
        is_full = self._step % 20 == 0 and self.waiting() > WAITING_MAX
        verbs = self._others if is_full or not self._recent else self._writes | self._others
        if not self._recent:
            verbs = {self.submit: 1}
        self._draw.choices(list(verbs), list(verbs.values()))[0]()

    def waiting(self) -> int:
        try:
            return sum(queue.waiting + queue.scheduled + queue.pending_total for queue in self._client.queues())
        except TqError:
            return 0

    # ---- submissions -------------------------------------------------------------------------------

    def submit(self) -> None:
        self._submit([self._next()], atomic=False)

    def submit_batch(self) -> None:
        self._submit([self._next() for _ in range(self._draw.randint(2, 100))], atomic=self._draw.random() < 0.2)

    def submit_again(self) -> None:
        self._submit([self._draw.choice(self._recent)], atomic=False)

    def submit_other(self) -> None:
        """Another task under a taken id."""
        old = self._draw.choice(self._recent)
        self._submit([attrs.evolve(old, payload=old.payload + b" ", key=None)], atomic=False, remember=False)

    def submit_key_again(self) -> None:
        """Another id under a used idempotency key: the same task, or one with other content."""
        old = next((task for task in reversed(self._recent) if task.key is not None), None)
        if old is not None:
            payload = old.payload + (b" " if self._draw.random() < 0.2 else b"")
            other = attrs.evolve(old, id=work.new_id(self._draw), payload=payload)
            self._submit([other], atomic=False, remember=False)

    def _next(self) -> work.Work:
        self._number += 1
        return work.draw_work(self._draw, self._recorder.by, self._number)

    def _submit(self, tasks: list[work.Work], *, atomic: bool, remember: bool = True) -> None:
        key = self._recorder.call("submit", tasks=[task.row() for task in tasks])
        if remember:
            self._recent = (self._recent + tasks)[-RECENT:]
        try:
            items = self._client.submit_many([spec_of(task) for task in tasks], atomic=atomic)
        except TqError as error:
            self._recorder.answered(key, error=error.code)
            return
        answers = [[item.outcome, item.raw_id.hex()] for item in items]
        self._recorder.answered(key, index=self._client.last_index, answers=answers)

    # ---- reads -------------------------------------------------------------------------------------

    def read(self) -> None:
        task = self._draw.choice(self._recent[-self._draw.choice((20, RECENT)) :])
        linear = self._draw.random() < 0.3
        self._read(task.id, lambda: self._client.get(task.id, linearizable=linear), linear=linear)

    def wait(self) -> None:
        task = self._recent[-1]
        self._read(task.id, lambda: self._client.wait(task.id, 0.3))

    def _read(self, id: bytes, ask: Callable[[], TaskInfo], *, linear: bool = False) -> None:
        key = self._recorder.call("read", id=id.hex(), min_index=self._client.last_index, linear=linear)
        try:
            info = ask()
        except NotFound:
            self._recorder.answered(key, index=self._client.last_index, state=None)
        except TqError as error:
            self._recorder.answered(key, error=error.code)
        else:
            self._recorder.answered(key, index=info.index, state=info.state, fence=info.fence)

    def list(self) -> None:
        key = self._recorder.call("list", min_index=self._client.last_index)
        state = self._draw.choice(("pending", "running", "scheduled", "completed"))
        try:
            page = self._client.list(state=state, limit=200)
        except TqError as error:
            self._recorder.answered(key, error=error.code)
            return
        rows = [[uuid.UUID(task.id).hex, task.state, task.fence] for task in page.tasks]
        self._recorder.answered(key, index=page.index, rows=rows)

    # ---- changes -----------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Of any task, or of one that runs: then its worker is told, and has half a second."""
        key = self._one_of("running") if self._draw.random() < 0.5 else None
        key = key or self._draw.choice(self._recent).id
        self._change("cancel", key, lambda id: self._client.cancel(id, grace=0.5))

    def retry(self) -> None:
        """Of one that may be retried, or of any: most of those live or completed, which is refused. Looked at before."""
        key = self._one_of(self._draw.choice(("dead", "cancelled"))) if self._draw.random() < 0.5 else None
        chosen = key or self._draw.choice(self._recent).id
        self._read(chosen, lambda: self._client.get(chosen))
        self._change("retry", chosen, self._client.retry)

    def purge(self) -> None:
        self._change("purge", self._draw.choice(self._recent).id, self._client.purge)

    def pause(self) -> None:
        """One of the queues, or more often: let it go on. Whoever is killed leaves that to the others."""
        queue, paused = self._draw.choice(work.QUEUES), self._draw.random() < 0.3
        key = self._recorder.call("queue", queue=queue, paused=paused)
        try:
            if paused:
                self._client.pause(queue, "it is tormented", by=self._recorder.by)
            else:
                self._client.resume(queue)
        except TqError:
            return  # whether it was done is unknown
        self._recorder.answered(key, index=self._client.last_index)

    def _one_of(self, state: str) -> bytes | None:
        """One of the newest tasks in this state, whoever submitted it."""
        try:
            found = self._client.list(state=state, limit=20).tasks
        except TqError:
            return None
        tasks = [task for task in found if (task.created_at or 0) >= self._begun_s]
        return uuid.UUID(self._draw.choice(tasks).id).bytes if tasks else None

    def _change(self, verb: str, id: bytes, ask: Callable[[bytes], str]) -> None:
        key = self._recorder.call(verb, ids=[id.hex()])
        try:
            state = ask(id)
        except (InvalidState, NotFound) as error:
            self._recorder.answered(key, index=self._client.last_index, error=error.code)
        except TqError:
            return  # whether it was done is unknown
        else:
            self._recorder.answered(key, index=self._client.last_index, states=[state])


def spec_of(task: work.Work) -> TaskSpec:
    return TaskSpec(
        type=task.type,
        payload=task.payload,
        id=task.id,
        queue=task.queue,
        priority=task.priority,
        delay=task.delay_ms / 1000 if task.delay_ms else None,
        expires_in=work.EXPIRES_MS / 1000 if task.expires else None,
        deadline=work.DEADLINE_MS / 1000 if task.deadline else None,
        idempotency_key=task.key,
        unique=task.unique,
        retry=Retry(max_attempts=work.ATTEMPTS_MAX, backoff_base=work.RETRY_MS / 1000),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--by", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--begun", type=float, required=True)
    options = parser.parse_args()
    by = f"{options.by}-{time.monotonic_ns()}"  # one that was killed and started again is another writer
    with Client(options.brokers) as client:
        submitter = Submitter(
            client, Recorder(options.history, by), random.Random(f"{options.seed}-{by}"), options.begun
        )
        while not (options.history / STOP).exists():
            submitter.run_once()


if __name__ == "__main__":
    main()
