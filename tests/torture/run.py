"""The torture run: rounds of full speed and faults, each ended by a drain, a reading of all ends and the checker.

    round: clients ──submit──▶ broker ◀──claim, report── rough workers and ``tq worker`` processes
                 faults (chaos.py): kill -9 and SIGSTOP of the broker and the workers, on one data folder
    drain: clients end, faults end, all processes run until every task has ended
    check: ends are read, histories joined, tq/sim/checkers/history.py judges

Rounds keep the memory of the checker bounded in long runs and find a breach soon.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from tests.torture import chaos
from tests.torture.client import STOP
from tests.torture.ends import read_ends
from tests.torture.recorder import Recorder
from tq import Client
from tq.bench.processes import Broker, Ground, Process
from tq.errors import TqError
from tq.sim.checkers.history import Breach, check, fence_highest
from tq.sim.checkers.records import History, parse

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "leases": {"lease_ms": 2_000, "heartbeat_ms": 500, "session_ms": 2_000, "crashes_max": 20},
    "limits": {"disk_free_min_bytes": 0},
    "log": {"level": "info", "format": "text"},
}
CLIENTS = 2
ROUND_SECONDS_MAX = 45.0
BEGIN_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = float(os.environ.get("TQ_TORTURE_DRAIN_SECONDS", "120"))
FAULT_SECONDS = 1.5
LIVE = ("waiting", "scheduled", "pending", "running")


@attrs.define
class Report:
    """What a run did, for the summary."""

    rounds: int = 0
    tasks: int = 0
    grants: int = 0
    reads: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)
    states: Counter[str] = attrs.field(factory=Counter)
    answers: Counter[str] = attrs.field(factory=Counter)
    crashes: int = 0
    fence_floor: int = 0
    breaches: list[Breach] = attrs.field(factory=list)

    def add(self, history: History) -> None:
        self.rounds += 1
        self.tasks += len(history.finals)
        self.grants += len(history.grants)
        self.reads += len(history.reads)
        self.states.update(final.state for final in history.finals)
        self.crashes += sum(final.crashes for final in history.finals)
        self.answers.update(f"submit {submit.answer or 'unknown'}" for submit in history.submits)
        self.answers.update(f"report {report.answer or 'unknown'}" for report in history.reports)
        self.answers.update(
            f"{change.verb} {change.state or change.error or 'unknown'}".lower() for change in history.changes
        )

    def lines(self) -> Iterable[str]:
        yield f"{self.rounds} rounds · {self.tasks} tasks · {self.grants} grants seen · {self.reads} reads"
        yield "faults: " + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        yield "ends: " + ", ".join(f"{name} {count}" for name, count in sorted(self.states.items()))
        yield "answers: " + ", ".join(f"{name} {count}" for name, count in sorted(self.answers.items()))
        yield f"crashes counted by the broker: {self.crashes} · highest fence {self.fence_floor}"
        yield from (f"BREACH {breach}" for breach in self.breaches[:50])
        yield "no breach of the contract" if not self.breaches else f"{len(self.breaches)} breaches"


class TortureFailed(Exception):
    """The run could not be brought to its end: a process did not start, or the work did not drain."""


def torture(ground: Ground, seconds: float, seed: int, say: Callable[[str], None]) -> Report:
    """Run rounds until ``seconds`` are over. Raises TortureFailed, ProcessFailed; breaches are in the report."""
    report = Report()
    broker = ground.broker(SETTINGS)
    broker.start_ready()
    end = time.monotonic() + seconds
    while not report.breaches and (report.rounds == 0 or time.monotonic() < end - 5):
        left = max(5.0, end - time.monotonic())
        length = min(left * 0.6 if left < ROUND_SECONDS_MAX else ROUND_SECONDS_MAX, ROUND_SECONDS_MAX)
        history = _Round(ground, broker, report, length, seed + report.rounds, say).run()
        report.add(history)
        report.breaches = check(history, drained=True, fence_floor=report.fence_floor)
        report.fence_floor = max(report.fence_floor, fence_highest(history))
        say(f"round {report.rounds}: {len(history.finals)} tasks, {len(report.breaches)} breaches")
    broker.stop()
    if broker.exit_code != 0:
        raise TortureFailed(f"the broker ended with {broker.exit_code}\n{broker.tail()}")
    return report


class _Round:
    def __init__(
        self, ground: Ground, broker: Broker, report: Report, seconds: float, seed: int, say: Callable[[str], None]
    ) -> None:
        self._ground = ground
        self._broker = broker
        self._report = report
        self._seconds = seconds
        self._seed = seed
        self._say = say
        self._name = f"r{report.rounds}"
        self._folder = ground.folder / f"{self._name}-history"
        self._folder.mkdir()

    def run(self) -> History:
        workers = {process.name: process for process in self._workers()}
        clients = {process.name: process for process in self._clients()}
        with Client(self._broker.address) as client:
            self._begin(client, workers, clients)
            self._torment(workers, clients)
            (self._folder / STOP).touch()
            for process in clients.values():
                code = process.wait(60)
                if code != 0:
                    raise TortureFailed(f"{process.name} ended with {code}\n{process.tail()}")
            self._drain(client, workers)
            for process in workers.values():
                # A rough one may be so young that it does not know the signal yet.
                if process.stop(60) not in (0, -signal.SIGTERM if "rough" in process.name else 0):
                    raise TortureFailed(f"{process.name} ended with {process.exit_code}\n{process.tail()}")
            ids = sorted({submit.id for submit in self._history().submits})
            read_ends(client, Recorder(self._folder, f"{self._name}-ends"), ids)
            return self._history()

    def _begin(self, client: Client, workers: dict[str, Process], clients: dict[str, Process]) -> None:
        """Start all, and go on when all of them do something."""
        for process in (*workers.values(), *clients.values()):
            process.start()
        end = time.monotonic() + BEGIN_SECONDS_MAX
        while True:
            names = [worker.name for worker in client.workers()]
            idle = [name for name in workers if not any(known.startswith(name) for known in names)]
            idle += [name for name in clients if not any(self._folder.glob(f"{name}-*.jsonl"))]
            if not idle:
                return
            if time.monotonic() > end:
                tails = "\n".join(process.tail(10) for process in self._ground.processes if process.name in idle)
                raise TortureFailed(f"{idle} did not begin in {BEGIN_SECONDS_MAX:g} s\n{tails}")
            time.sleep(0.1)

    def _workers(self) -> list[Process]:
        environ = {"TQ_TORTURE_HISTORY": str(self._folder), "TQ_TORTURE_SEED": str(self._seed)}
        started = []
        for number in range(2):
            name = f"{self._name}-worker-{number}"
            worker = self._ground.worker(
                self._broker,
                "tests.torture.handlers",
                "--queues",
                "left,right",
                "--concurrency",
                "8",
                "--name",
                name,
                name=name,
                path=[ROOT],
                environ=environ,
            )
            started.append(worker)
        for number in range(2):
            started.append(self._python("worker", f"{self._name}-rough-{number}", number))
        return started

    def _clients(self) -> list[Process]:
        begun = ("--begun", str(time.time()))
        return [self._python("client", f"{self._name}-client-{n}", 100 + n, *begun) for n in range(CLIENTS)]

    def _python(self, module: str, name: str, number: int, *more: str) -> Process:
        argv = [sys.executable, "-m", f"tests.torture.{module}", "--brokers", self._broker.address]
        argv += ["--history", str(self._folder), "--by", name, "--seed", str(self._seed * 1_000 + number), *more]
        return self._ground.process(name, argv, path=[ROOT])

    def _torment(self, workers: dict[str, Process], clients: dict[str, Process]) -> None:
        """Do the faults of the plan when their time has come; every process runs again at the end, the broker is ready."""
        begun = time.monotonic()
        broker = self._broker.name
        targets: dict[str, Process] = {broker: self._broker, **workers, **clients}
        for fault in chaos.plan(self._seed, self._seconds, [broker], list(workers), list(clients), FAULT_SECONDS):
            time.sleep(max(0.0, begun + fault.at - time.monotonic()))
            process = targets[fault.target]
            self._say(f"  {fault.at:5.1f} s {fault.action} {fault.target} ({fault.seconds:g} s)")
            if not process.alive:
                raise TortureFailed(f"{process.name} ended by itself with {process.exit_code}\n{process.tail()}")
            kind = "broker" if fault.target == broker else "client" if fault.target in clients else "worker"
            self._report.faults[f"{fault.action} {kind}"] += 1
            if fault.action == "kill":
                process.kill()
                time.sleep(fault.seconds)
                process.start()
            else:
                process.pause()
                time.sleep(fault.seconds)
                process.resume()
        time.sleep(max(0.0, begun + self._seconds - time.monotonic()))
        self._broker.wait_ready(60)

    def _drain(self, client: Client, workers: dict[str, Process]) -> None:
        """Until no task lives, and each ``tq worker`` has registered, so that it knows what SIGTERM means."""
        names = {process.name for process in workers.values() if "rough" not in process.name}
        end = time.monotonic() + DRAIN_SECONDS_MAX
        while (left := self._left(client, names)) != "":
            if time.monotonic() > end:
                raise TortureFailed(f"not drained in {DRAIN_SECONDS_MAX:g} s: {left}\n{self._broker.tail()}")
            for process in (self._broker, *workers.values()):
                if not process.alive:
                    raise TortureFailed(f"{process.name} ended by itself with {process.exit_code}\n{process.tail()}")
            time.sleep(0.2)

    def _left(self, client: Client, names: set[str]) -> str:
        """What must still happen; empty when all is done."""
        try:
            missing = names - {worker.name for worker in client.workers()}
            live = {state: len(client.list(state=state, limit=1_000).tasks) for state in LIVE}
        except TqError as error:
            return str(error)
        if not missing and not any(live.values()):
            return ""
        tasks = ", ".join(f"{count} {state}" for state, count in live.items() if count)
        return f"{tasks or 'no tasks'}; not registered: {sorted(missing)}"

    def _history(self) -> History:
        files = sorted(self._folder.glob("*.jsonl"))
        return parse([path.read_text("utf-8", "replace").splitlines() for path in files])


def main(seconds: float, seed: int | None) -> int:
    """Print what is done and found; 1 when the contract was broken or the run failed. Logs are kept then."""
    chosen = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"torture: {seconds:g} s, seed {chosen}", flush=True)
    with Ground("tq-torture-") as ground:
        try:
            report = torture(ground, seconds, chosen, lambda line: print(line, flush=True))
        except BaseException:
            print(f"failed; seed {chosen}; logs and histories are in {ground.keep()}", flush=True)
            raise
        print("\n".join(report.lines()), flush=True)
        if report.breaches:
            print(f"seed {chosen}; logs and histories are in {ground.keep()}", flush=True)
            return 1
    return 0
