"""One client process: submits, submits again, reads and cancels at full speed, and writes down what it asked and heard.

It ends by itself at ``--until`` (ns of the monotonic clock). It never waits for a task and has no more than a
bounded number of tasks waiting at the broker, so that the drain behind it is short.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from tests.torture import work
from tests.torture.recorder import Recorder
from tq import Client, Retry, TaskSpec
from tq.errors import NotFound, TqError

WAITING_MAX = 2_000
RECENT = 500


class Submitter:
    def __init__(self, client: Client, recorder: Recorder, draw: random.Random) -> None:
        self._client = client
        self._recorder = recorder
        self._draw = draw
        self._number = 0
        self._recent: list[work.Work] = []
        self._step = 0

    def run_once(self) -> None:
        """One request, drawn by chance. An error of the broker is an unknown outcome, and in the history as such."""
        verbs = (self.submit, self.submit_batch, self.submit_again, self.submit_other, self.read, self.cancel)
        weights = (20, 20, 4, 1, 30, 3)
        self._step += 1
        if self._step % 20 == 0 and self.waiting() > WAITING_MAX:
            verbs, weights = verbs[4:], weights[4:]
        self._draw.choices(verbs, weights)[0]()

    def waiting(self) -> int:
        try:
            return sum(queue.waiting + queue.scheduled + queue.pending_total for queue in self._client.queues())
        except TqError:
            return 0

    def submit(self) -> None:
        self._submit([self._next()], atomic=False)

    def submit_batch(self) -> None:
        self._submit([self._next() for _ in range(self._draw.randint(2, 100))], atomic=self._draw.random() < 0.2)

    def submit_again(self) -> None:
        if self._recent:
            self._submit([self._draw.choice(self._recent)], atomic=False)

    def submit_other(self) -> None:
        """Another task under a taken id."""
        if self._recent:
            old = self._draw.choice(self._recent)
            other = work.Work(old.id, old.type, old.queue, old.priority, old.payload + b" ", old.timed)
            self._submit([other], atomic=False, remember=False)

    def read(self) -> None:
        if not self._recent:
            return
        task = self._draw.choice(self._recent)
        key = self._recorder.call("read", id=task.id.hex(), min_index=self._client.last_index)
        try:
            info = self._client.get(task.id)
        except NotFound:
            self._recorder.answered(key, index=self._client.last_index, state=None)
        except TqError as error:
            self._recorder.answered(key, error=error.code)
        else:
            self._recorder.answered(key, index=info.index, state=info.state, fence=info.fence)

    def cancel(self) -> None:
        if not self._recent:
            return
        task = self._draw.choice(self._recent)
        key = self._recorder.call("cancel", ids=[task.id.hex()])
        try:
            self._client.cancel(task.id, grace=0.5)
            self._recorder.answered(key, index=self._client.last_index)
        except TqError as error:
            self._recorder.answered(key, error=error.code)

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
        self._recorder.answered(key, index=self._client.last_index, answers=[item.outcome for item in items])


def spec_of(task: work.Work) -> TaskSpec:
    return TaskSpec(
        type=task.type,
        payload=task.payload,
        id=task.id,
        queue=task.queue,
        priority=task.priority,
        delay=0.2 if task.timed else None,
        retry=Retry(max_attempts=work.ATTEMPTS_MAX, backoff_base=work.RETRY_MS / 1000),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--by", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--until", type=int, required=True)
    options = parser.parse_args()
    with Client(options.brokers) as client:
        submitter = Submitter(client, Recorder(options.history, options.by), random.Random(options.seed))
        while time.monotonic_ns() < options.until:
            submitter.run_once()


if __name__ == "__main__":
    main()
