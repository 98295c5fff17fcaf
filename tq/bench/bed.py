"""A test bed for one scenario: a fresh broker, and what loads it. ``Bed`` ends all it started."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import attrs

from tq import Client
from tq.bench.processes import Ground, Process, ProcessFailed

HANDLERS = "tq.bench.tasks"
SETTINGS = {"limits": {"disk_free_min_bytes": 0}}
LEAD_SECONDS = 1.5  # Python starts and connects before a load begins
OVERTIME_SECONDS = 60.0  # a generator may wait so long for its last answers
POLL_SECONDS = 0.005
WORKERS_READY_SECONDS_MAX = 30.0


@attrs.frozen
class Load:
    """What one generator said: tasks answered in its time, and the spread of its calls."""

    tasks: int
    seconds: float
    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Bed:
    """Leave its ``with`` block to end everything."""

    def __init__(self) -> None:
        self.ground = Ground("tq-bench-")
        self.broker = self.ground.broker(SETTINGS)
        self.workers: list[Process] = []
        self.client: Client
        self._loads = 0

    def __enter__(self) -> Bed:
        try:
            self.broker.start_ready()
            self.client = Client(self.broker.address)
        except BaseException:
            self.ground.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()
        self.ground.close()

    # ---- loads -------------------------------------------------------------------------------------

    def load(self, kind: str, seconds: float, processes: int = 1, **options: object) -> list[Load]:
        """Run generators (see load.py) to their end."""
        return self.finish(self.begin(kind, seconds, processes, **options), seconds)

    def begin(self, kind: str, seconds: float, processes: int = 1, **options: object) -> list[Process]:
        """Start generators that begin LEAD_SECONDS from now, all at one moment."""
        start = time.monotonic() + LEAD_SECONDS
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        begun = []
        for _ in range(processes):
            self._loads += 1
            argv = [sys.executable, "-m", "tq.bench.load", kind, "--address", self.broker.address]
            argv += ["--start", str(start), "--seconds", str(seconds), *arguments]
            begun.append(self.ground.process(f"load-{self._loads}", argv))
            begun[-1].start()
        return begun

    def finish(self, begun: Sequence[Process], seconds: float) -> list[Load]:
        """What they said. Raises ProcessFailed."""
        loads = []
        for process in begun:
            if process.wait(LEAD_SECONDS + seconds + OVERTIME_SECONDS) != 0:
                raise ProcessFailed(f"{process.name} failed\n{process.tail()}")
            loads.append(Load(**json.loads(process.tail(1).partition("| ")[2])))
        return loads

    def fill(self, count: int, type: str, priority: int = 150, batch: int = 1_000) -> None:
        """``count`` more waiting tasks."""
        from tq import TaskSpec

        payload = b"x" * 100
        for at in range(0, count, batch):
            self.client.submit_many(
                [TaskSpec(type=type, payload=payload, priority=priority) for _ in range(min(batch, count - at))]
            )

    # ---- workers -----------------------------------------------------------------------------------

    def start_workers(self, count: int, concurrency: int) -> None:
        """Real ``tq worker`` processes; returns when all have a session."""
        for number in range(count):
            name = f"worker-{number + 1}"
            worker = self.ground.worker(
                self.broker, HANDLERS, "--concurrency", str(concurrency), "--name", name, name=name
            )
            worker.start()
            self.workers.append(worker)
        end = time.monotonic() + WORKERS_READY_SECONDS_MAX
        while len(self.client.workers()) < len(self.workers):
            for worker in self.workers:
                if not worker.alive:
                    raise ProcessFailed(f"{worker.name} ended with {worker.exit_code}\n{worker.tail()}")
            if time.monotonic() > end:
                raise ProcessFailed(f"the workers were not ready in {WORKERS_READY_SECONDS_MAX:g} s")
            time.sleep(POLL_SECONDS)

    # ---- what is there -----------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Tasks by state, over all queues."""
        total: dict[str, int] = {"waiting": 0, "running": 0, "completed": 0}
        for queue in self.client.queues():
            total["waiting"] += queue.pending_total
            total["running"] += queue.running
            total["completed"] += queue.completed
        return total

    def wait_completed(self, count: int, seconds_max: float) -> float:
        """When that many are completed, in seconds of the monotonic clock. Raises ProcessFailed."""
        end = time.monotonic() + seconds_max
        while (completed := self.counts()["completed"]) < count:
            if time.monotonic() > end:
                raise ProcessFailed(f"{completed} of {count} tasks were completed in {seconds_max:g} s")
            time.sleep(POLL_SECONDS)
        return time.monotonic()

    def syncs(self) -> str:
        """How long the broker's last syncs took, in words."""
        raft = self.client.stats()["raft"]
        return f"a sync took {raft['sync_p50_ms']:.2f} ms, p99 {raft['sync_p99_ms']:.2f} ({raft['sync_mode']})"
