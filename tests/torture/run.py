"""The torture run: rounds of full speed and faults, each ended by a drain, a reading of all ends and the checker.

    round: clients ──submit──▶ brokers ◀──claim, report── rough workers and ``tq worker`` processes
                 faults (chaos.py): kill -9 and SIGSTOP of brokers and workers, cuts between brokers, on the same data
    drain: clients end, faults end, all processes run until every task has ended
    check: ends are read, histories joined, tq/sim/checkers/history.py judges; no call took longer than it may
    end:   all brokers are stopped, and the states of several nodes are equal

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

from tests.torture import chaos, hangs
from tests.torture.client import STOP
from tests.torture.ends import read_ends
from tests.torture.failed import TortureFailed
from tests.torture.group import Group
from tests.torture.recorder import Recorder
from tests.torture.torment import Torment
from tests.torture.work import QUEUES
from tq import Client
from tq.bench.processes import Ground, Process
from tq.errors import TqError
from tq.sim.checkers.history import Breach, check, fence_highest
from tq.sim.checkers.records import History, parse

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 2
ROUND_SECONDS_MAX = 45.0
BEGIN_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = float(os.environ.get("TQ_TORTURE_DRAIN_SECONDS", "120"))
FAULT_SECONDS = 1.5


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
    call_seconds_max: float = 0.0
    call_seconds_max_all: float = 0.0  # of those who know all nodes
    healed_seconds_max: float = 0.0
    snapshots: int = 0
    state: str = ""
    breaches: list[Breach] = attrs.field(factory=list)

    def add(self, history: History) -> None:
        self.rounds += 1
        self.tasks += len(history.finals)
        self.grants += len(history.grants)
        self.reads += len(history.reads)
        self.states.update(final.state for final in history.finals)
        self.crashes += sum(final.crashes for final in history.finals)
        self.answers.update(f"submit {submit.answer or 'unknown'}" for submit in history.submits)
        self.answers.update(
            f"{'pause' if setting.paused else 'resume'} {'done' if setting.index else 'unknown'}"
            for setting in history.settings
        )
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
        yield (
            f"longest call {self.call_seconds_max:.1f} s, of who knows all nodes {self.call_seconds_max_all:.1f} s · "
            f"served again {self.healed_seconds_max:.1f} s after the faults"
        )
        if self.state:
            yield f"{self.state} · {self.snapshots} snapshots installed"
        yield from (f"BREACH {breach}" for breach in self.breaches[:50])
        by_rule = Counter(breach.rule for breach in self.breaches)
        found = ", ".join(f"{rule} {count}" for rule, count in sorted(by_rule.items()))
        yield f"breaches: {found}" if found else "no breach of the contract"


def torture(
    ground: Ground, seconds: float, seed: int, say: Callable[[str], None], nodes: int = 1, profile: str = "fast"
) -> Report:
    """Run rounds until ``seconds`` are over. Raises TortureFailed, ProcessFailed; breaches are in the report."""
    report = Report()
    with Group(ground, nodes, profile) as group:
        group.start()
        end = time.monotonic() + seconds
        while not report.breaches and (report.rounds == 0 or time.monotonic() < end - 5):
            left = max(5.0, end - time.monotonic())
            length = min(left * 0.6 if left < ROUND_SECONDS_MAX else ROUND_SECONDS_MAX, ROUND_SECONDS_MAX)
            round_ = _Round(ground, group, report, length, seed + report.rounds, say)
            history = round_.run()
            report.add(history)
            report.breaches = check(history, drained=True, fence_floor=report.fence_floor)
            report.breaches += round_.hung()
            report.fence_floor = max(report.fence_floor, fence_highest(history))
            say(f"round {report.rounds}: {len(history.finals)} tasks, {len(report.breaches)} breaches")
        index, digests = group.stop_and_compare(say)
        report.snapshots = group.snapshots()
        if len(digests) > 1:
            told = ", ".join(digest.hex()[:16] for digest in digests)
            report.breaches.append(Breach("state", f"index {index}", f"the nodes have {told}"))
        elif nodes > 1:
            report.state = f"{nodes} nodes with one state at index {index}: {digests.pop().hex()[:16]}"
    return report


class _Round:
    def __init__(
        self, ground: Ground, group: Group, report: Report, seconds: float, seed: int, say: Callable[[str], None]
    ) -> None:
        self._ground = ground
        self._group = group
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
        with Client(self._group.addresses, reach=2.0) as client:
            self._begin(client, workers, clients)
            self._torment(workers, clients)
            self._report.healed_seconds_max = max(self._report.healed_seconds_max, self._group.healed())
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
            self._all_live(workers)
            names = self._workers_known(client)
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
                self._addresses(number),
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

    def _addresses(self, number: int) -> str:
        return self._group.addresses_for(number + 2 * self._report.rounds)

    def _clients(self) -> list[Process]:
        begun = ("--begun", str(time.time()))
        return [self._python("client", f"{self._name}-client-{n}", 100 + n, *begun) for n in range(CLIENTS)]

    def _python(self, module: str, name: str, number: int, *more: str) -> Process:
        argv = [sys.executable, "-m", f"tests.torture.{module}", "--brokers", self._addresses(number)]
        argv += ["--history", str(self._folder), "--by", name, "--seed", str(self._seed * 1_000 + number), *more]
        return self._ground.process(name, argv, path=[ROOT])

    def _torment(self, workers: dict[str, Process], clients: dict[str, Process]) -> None:
        """Every process runs again at the end."""
        names = [list(found) for found in (self._group.by_name, workers, clients)]
        plan = chaos.plan(self._seed, self._seconds, *names, FAULT_SECONDS, has_machines=bool(self._group.machines))
        draw = random.Random(self._seed)
        Torment(self._group, workers, clients, self._report.faults, self._say, draw).run(plan, self._seconds)

    def hung(self) -> list[Breach]:
        """Calls that took longer than they may."""
        breaches = []
        for path in sorted(self._folder.glob("*.jsonl")):
            if "-client-" in path.name or "-rough-" in path.name:
                found, longest = hangs.find(path.stem, path.read_text("utf-8", "replace").splitlines())
                breaches += found
                report = self._report
                report.call_seconds_max = max(report.call_seconds_max, longest)
                if "-client-0-" in path.name or "-rough-0-" in path.name:
                    report.call_seconds_max_all = max(report.call_seconds_max_all, longest)
        return breaches

    def _drain(self, client: Client, workers: dict[str, Process]) -> None:
        """Until no task lives, and each ``tq worker`` has registered, so that it knows what SIGTERM means."""
        self._resume(client)
        names = {process.name for process in workers.values() if "rough" not in process.name}
        end = time.monotonic() + DRAIN_SECONDS_MAX
        while (left := self._left(client, names)) != "":
            if time.monotonic() > end:
                tails = "\n".join(broker.tail() for broker in self._group.brokers)
                raise TortureFailed(f"not drained in {DRAIN_SECONDS_MAX:g} s: {left}\n{tails}")
            self._all_live(workers)
            time.sleep(0.2)

    def _all_live(self, workers: dict[str, Process]) -> None:
        for process in (*self._group.brokers, *workers.values()):
            if not process.alive:
                raise TortureFailed(f"{process.name} ended by itself with {process.exit_code}\n{process.tail()}")

    def _workers_known(self, client: Client) -> list[str]:
        try:
            return [worker.name for worker in client.workers()]
        except TqError as error:
            self._say(f"  beginning: {error}")
            return []

    def _left(self, client: Client, names: set[str]) -> str:
        """What must still happen; empty when all is done."""
        try:
            missing = names - {worker.name for worker in client.workers()}
            queues = client.queues()  # one look, so no task can move behind it
        except TqError as error:
            return str(error)
        live = sum(queue.waiting + queue.scheduled + queue.pending_total + queue.running for queue in queues)
        return f"{live} tasks live; not registered: {sorted(missing)}" if missing or live else ""

    def _resume(self, client: Client) -> None:
        """Nobody pauses queues any more. It stands in the history, too."""
        recorder = Recorder(self._folder, f"{self._name}-drain")
        end = time.monotonic() + DRAIN_SECONDS_MAX
        for queue in QUEUES:
            key = recorder.call("queue", queue=queue, paused=False)
            client.resume(queue, timeout=max(0.0, end - time.monotonic()))
            recorder.answered(key, index=client.last_index)

    def _history(self) -> History:
        files = sorted(self._folder.glob("*.jsonl"))
        return parse([path.read_text("utf-8", "replace").splitlines() for path in files])


def main(seconds: float, seed: int | None, nodes: int = 1, profile: str = "fast") -> int:
    """Print what is done and found; 1 when the contract was broken or the run failed. Logs are kept then."""
    chosen = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"torture: {nodes} {'node' if nodes == 1 else 'nodes'}, {seconds:g} s, seed {chosen}", flush=True)
    with Ground("tq-torture-") as ground:
        try:
            report = torture(ground, seconds, chosen, lambda line: print(line, flush=True), nodes, profile)
        except BaseException:
            print(f"failed; seed {chosen}; logs and histories are in {ground.keep()}", flush=True)
            raise
        print("\n".join(report.lines()), flush=True)
        if report.breaches:
            print(f"seed {chosen}; logs and histories are in {ground.keep()}", flush=True)
            return 1
    return 0
