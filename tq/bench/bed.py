"""A test bed for one scenario: a fresh broker or cluster, and what loads it. ``Bed`` ends all it started.

Of several nodes clients and workers know all addresses, the leader's first, so they begin there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from tq import Client, TaskSpec
from tq.bench.load import READY
from tq.bench.processes import Broker, Ground, Process, ProcessFailed, Settings, start_all

HANDLERS = "tq.bench.tasks"
SETTINGS: Settings = {"limits": {"disk_free_min_bytes": 0}}
LEAD_SECONDS = 0.05  # for all that are ready to see the gate open
READY_SECONDS_MAX = 60.0
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

    def __init__(self, nodes: int = 1, profile: str = "default", settings: Settings | None = None) -> None:
        """profile: cluster.profile of several nodes. settings: of the brokers, beside those of every bench."""
        self.ground = Ground("tq-bench-")
        given = {**SETTINGS, **(settings or {})}
        if nodes == 1:
            self.brokers = [self.ground.broker(given)]
        else:
            self.brokers = self.ground.brokers(nodes, {**given, "cluster": {"profile": profile}})
        self.workers: list[Process] = []
        self.client: Client
        self._loads = 0

    def __enter__(self) -> Bed:
        try:
            start_all(self.brokers)
            self.broker = self.leader()
            self.client = Client(self.addresses)
        except BaseException:
            self.ground.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()
        self.ground.close()

    def leader(self) -> Broker:
        """The node that leads, once one does. Raises ProcessFailed."""
        end = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < end:
            for broker in self.brokers:
                if broker.alive and broker.leads():
                    return broker
            time.sleep(POLL_SECONDS)
        raise ProcessFailed(f"no node led within {READY_SECONDS_MAX:g} s\n{self.brokers[0].tail()}")

    @property
    def addresses(self) -> str:
        """Of all nodes; first the one that led at the beginning."""
        others = [broker for broker in self.brokers if broker is not self.broker]
        return ",".join(broker.address for broker in (self.broker, *others))

    # ---- loads -------------------------------------------------------------------------------------

    def load(self, kind: str, seconds: float, processes: int = 1, **options: object) -> list[Load]:
        """Run generators (see load.py) to their end."""
        begun = self.prepare(kind, seconds, processes, **options)
        self.go(begun)
        return self.finish(begun, seconds)

    def prepare(self, kind: str, seconds: float, processes: int = 1, **options: object) -> list[Process]:
        """Start generators; they connect and wait for ``go``."""
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        prepared = []
        for _ in range(processes):
            self._loads += 1
            name = f"load-{self._loads}"
            argv = [sys.executable, "-m", "tq.bench.load", kind, "--address", self.addresses]
            argv += ["--gate", str(self._gate(name)), "--seconds", str(seconds), *arguments]
            prepared.append(self.ground.process(name, argv))
            prepared[-1].start()
        return prepared

    def go(self, *prepared: Sequence[Process]) -> None:
        """Wait until all are ready, and let them begin at one moment, which is now. Raises ProcessFailed."""
        processes = [process for group in prepared for process in group]
        end = time.monotonic() + READY_SECONDS_MAX
        for process in processes:
            while not process.tail(1).endswith(READY):
                if not process.alive:
                    raise ProcessFailed(f"{process.name} ended with {process.exit_code}\n{process.tail()}")
                if time.monotonic() > end:
                    raise ProcessFailed(f"{process.name} was not ready in {READY_SECONDS_MAX:g} s\n{process.tail()}")
                time.sleep(POLL_SECONDS)
        start = time.monotonic() + LEAD_SECONDS
        for process in processes:
            gate = self._gate(process.name)
            draft = gate.with_suffix(".draft")
            draft.write_text(repr(start), "ascii")
            draft.rename(gate)
        time.sleep(LEAD_SECONDS)

    def finish(self, begun: Sequence[Process], seconds: float) -> list[Load]:
        """What they said. Raises ProcessFailed."""
        loads = []
        for process in begun:
            if process.wait(seconds + OVERTIME_SECONDS) != 0:
                raise ProcessFailed(f"{process.name} failed\n{process.tail()}")
            loads.append(Load(**json.loads(process.tail(1).partition("| ")[2])))
        return loads

    def _gate(self, name: str) -> Path:
        return self.ground.folder / f"{name}.gate"

    def fill(self, count: int, type: str, priority: int = 150, batch: int = 1_000) -> None:
        """``count`` more waiting tasks."""
        payload = b"x" * 100
        for at in range(0, count, batch):
            self.client.submit_many(
                [TaskSpec(type=type, payload=payload, priority=priority) for _ in range(min(batch, count - at))]
            )

    # ---- workers -----------------------------------------------------------------------------------

    def start_workers(self, count: int, concurrency: int, module: str = HANDLERS) -> None:
        """Real ``tq worker`` processes; returns when all have a session."""
        for number in range(count):
            name = f"worker-{number + 1}"
            worker = self.ground.worker(
                self.addresses, module, "--concurrency", str(concurrency), "--name", name, name=name
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
