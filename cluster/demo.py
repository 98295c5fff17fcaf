"""``make demo``: real work on real processes, while some of them are killed. ``python -m cluster.demo --help``.

Three brokers and two workers index every Python file of the standard library, one task a file; some tasks fail first and
are tried again. At a fifth of the work a worker that holds tasks is killed with -9, then the broker that leads; the last of
the tasks are submitted while there is no leader. Both are started again. In the end every result is fetched, from the
broker that was dead, and compared with a plain loop over the same files: equal, or this exits with 1. All processes and
files are this run's own, and end with it.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.demo_tasks import Counts, app, count, count_file
from tq import BatchRefused, Client, TaskFailed, TaskHandle, TaskInfo
from tq.bench.processes import (
    READY_SECONDS_MAX,
    TQ,
    Broker,
    Ground,
    Process,
    ProcessFailed,
    end_on_sigterm,
    pause_while_alive,
)
from tq.client.models import QueueInfo
from tq.errors import TqError

ROOT = Path(__file__).resolve().parents[1]
HANDLERS = "cluster.demo_tasks"
SETTINGS = {
    "leases": {"lease_ms": 3_000, "heartbeat_ms": 1_000, "session_ms": 3_000},  # shorter than usual: a killed
    "limits": {"disk_free_min_bytes": 0},  # worker's tasks come back while one watches
}
NODES = 3
WORKERS = 2
CONCURRENCY = 4
BATCH = 100
SECONDS_MAX = 110.0
RESULT_SECONDS_MAX = 10.0  # all have ended
PROGRESS_SECONDS = 0.75
LOOKS = 4  # at what a stopped worker holds, a moment apart, that must agree

Say = Callable[[str], None]


class DemoFailed(Exception):
    """What was promised did not come; the message says what."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster.demo", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--folder", type=Path, help="index this folder's .py files instead of the standard library's")
    parser.add_argument("--files", type=int, default=0, metavar="N", help="only so many of the files, evenly taken")
    parser.add_argument("--keep", action="store_true", help="leave data and logs, and say how to look at them")
    options = parser.parse_args(argv)
    end_on_sigterm()
    files = python_files(options.folder or Path(sysconfig.get_paths()["stdlib"]), options.files)
    if not files:
        print("demo: no .py files there", file=sys.stderr)
        return 1
    with Ground("tq-demo-") as ground:
        try:
            is_equal = Demo(ground, files, lambda line: print(line, flush=True)).run()
        except (DemoFailed, ProcessFailed, TqError) as error:
            print(f"\ndemo: {error}", file=sys.stderr)
            for process in ground.processes:
                print(process.tail(15), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ndemo: interrupted; its processes are ended", file=sys.stderr)
            return 130
        if options.keep:
            print(kept(ground.keep(), ground))
    print(WHERE_NEXT)
    return 0 if is_equal else 1


# ---- the run ---------------------------------------------------------------------------------------


class Demo:
    """One run. handlers: the module that the workers load."""

    def __init__(self, ground: Ground, files: Sequence[Path], say: Say, handlers: str = HANDLERS) -> None:
        self.ground = ground
        self.files = list(files)
        self.nodes: list[Broker] = ground.brokers(NODES, SETTINGS)
        self.addresses = [node.address for node in self.nodes]
        self.workers: list[Process] = [
            ground.process(name, [*TQ, "worker", handlers, *self._worker_options(name)], [ROOT])
            for name in (f"worker-{number}" for number in range(1, WORKERS + 1))
        ]
        self._say = say
        self._begun = time.perf_counter()
        self._handles: dict[Path, TaskHandle[Counts]] = {}
        self._held_back = self.files[:]  # not yet submitted

    def _worker_options(self, name: str) -> list[str]:
        return ["--brokers", ",".join(self.addresses), "--concurrency", str(CONCURRENCY), "--name", name]

    def run(self) -> bool:
        """Whether queue and plain loop agree. Raises DemoFailed, ProcessFailed, TqError."""
        say = self._say
        begun = time.perf_counter()
        for node in self.nodes:
            node.start()
        for worker in self.workers:
            worker.start()
        say("brokers " + ", ".join(f"{node.name} at {node.address} (pid {node.pid})" for node in self.nodes))
        say("workers " + ", ".join(f"{worker.name} (pid {worker.pid})" for worker in self.workers))
        for node in self.nodes:
            node.wait_ready()
        with Client(self.addresses) as client, app.use(client):
            say(f"the cluster is formed after {time.perf_counter() - begun:.1f} s; {self.leader().name} leads")
            self._begun = time.perf_counter()
            self.submit(len(self.files) * 3 // 5)
            self.watch(client, lambda done: done >= len(self.files) // 5 and self.kill_worker(client))
            self.watch(client, lambda done: done >= len(self.files) * 2 // 5)
            killed = self.kill_leader()
            self.watch(client, lambda done: done == len(self.files))
            seconds = time.perf_counter() - self._begun
            index = client.last_index
        with Client(killed.address) as client, app.use(client):
            client.list(limit=1, min_index=index)  # it has caught up
            infos = {path: handle.status() for path, handle in self._handles.items()}
            counts = results(self._handles)
        say(f"{len(counts):,} results read from {killed.name}, which was dead meanwhile")
        for process in [*self.workers, *self.nodes]:
            process.stop()
        begun = time.perf_counter()
        expected = {path: count(path.read_bytes()) for path in self.files}
        say(f"plain loop over the same files: {time.perf_counter() - begun:.1f} s")
        self.tell_counts(infos, seconds)
        return compared(counts, expected, say)

    def submit(self, number: int) -> None:
        """The tasks of so many more files; returns when they are accepted: on the disks of a majority."""
        begun = time.perf_counter()
        files, self._held_back = self._held_back[:number], self._held_back[number:]
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            try:
                handles = count_file.submit_many([(str(path), failures(path)) for path in batch])
            except BatchRefused as error:
                raise DemoFailed("some tasks were not accepted") from error
            self._handles.update(zip(batch, handles, strict=True))
        failing = sum(failures(path) > 0 for path in files)
        self.tell(
            f"{len(files):,} tasks accepted in {time.perf_counter() - begun:.2f} s; {failing} fail on purpose first"
        )

    def watch(self, client: Client, until: Callable[[int], bool]) -> None:
        """Tell how far it is until ``until`` says that it is enough, of the number of tasks that have ended."""
        told_at = 0.0
        while True:
            queue = next((queue for queue in client.queues() if queue.name == "default"), QueueInfo("default"))
            now = time.perf_counter()
            done = queue.completed + queue.dead
            enough = until(done)
            if enough or now > told_at + PROGRESS_SECONDS:
                told_at = now
                self.tell(
                    f"{done:,} of {len(self.files):,} done · {queue.pending_total} waiting · {queue.running} running"
                    f" · {queue.scheduled} to be tried again"
                )
            if enough:
                return
            for process in (*self.nodes, *self.workers):
                if not process.alive:
                    raise DemoFailed(f"{process.name} ended by itself, with {process.exit_code}")
            if now - self._begun > SECONDS_MAX:
                raise DemoFailed(f"only {done:,} of {len(self.files):,} tasks were done in {SECONDS_MAX:g} s")
            pause_while_alive(self.nodes[0])

    def kill_worker(self, client: Client) -> bool:
        """kill -9 of a worker that holds tasks; False if it held none just now. While all workers are stopped nothing can
        be finished, and what is submitted goes to a claim that waits."""
        worker = self.workers[0]
        for one in self.workers:
            one.pause()
        queue = next(queue for queue in client.queues() if queue.name == "default")
        if queue.pending_total == 0 and self._held_back:
            self.submit(BATCH // 10)
        looks = [self.held_by(worker, client) for _ in range(LOOKS)]
        held = looks[-1] if len(set(looks)) == 1 else 0  # else the broker still reads what it reported before
        if held:
            pid = worker.pid
            worker.kill()
            worker.start()
            self.tell(f"kill -9 {pid}: {worker.name} died holding {held} tasks; started again (pid {worker.pid})")
        for one in self.workers[held > 0 :]:
            one.resume()
        return held > 0

    def held_by(self, worker: Process, client: Client) -> int:
        pause_while_alive(worker)
        return sum(info.running for info in client.workers() if info.name == worker.name)

    def kill_leader(self) -> Broker:
        """kill -9 of the broker that leads, then submit the rest at once. Returns it, alive again."""
        leader = self.leader()
        pid = leader.pid
        leader.kill()
        begun = time.perf_counter()
        self.tell(f"kill -9 {pid}: {leader.name} died, the leader; the other tasks are submitted now")
        self.submit(BATCH)
        self.tell(
            f"the first of them were accepted {time.perf_counter() - begun:.2f} s after its death; {self.leader().name} leads"
        )
        self.submit(len(self._held_back))
        ready_s = leader.start_ready()
        self.tell(f"{leader.name} is started again (pid {leader.pid}), and follows after {ready_s:.2f} s")
        return leader

    def leader(self) -> Broker:
        """Waits until there is one."""
        end = time.perf_counter() + READY_SECONDS_MAX
        while time.perf_counter() < end:
            for node in self.nodes:
                if node.alive and node.leads():
                    return node
            pause_while_alive(self.nodes[0])
        raise DemoFailed(f"no leader within {READY_SECONDS_MAX:g} s")

    def tell(self, text: str) -> None:
        self._say(f"{time.perf_counter() - self._begun:6.2f} s  {text}")

    def tell_counts(self, infos: Mapping[Path, TaskInfo], seconds: float) -> None:
        retries = sum(info.attempt - 1 for info in infos.values())
        planned = sum(map(failures, self.files))
        crashes = sum(info.crashes for info in infos.values())
        self._say(
            f"{len(infos):,} tasks in {seconds:.1f} s, kills included: {len(infos) / seconds:,.0f} tasks/s"
            f" · {retries} retries ({planned} planned) · {crashes} leases reclaimed"
        )
        if retries != planned:
            raise DemoFailed(f"{retries} failed attempts were counted, but {planned} attempts were made to fail")
        if crashes == 0:
            raise DemoFailed("no lease was reclaimed, though a worker died holding tasks")


# ---- the work and its proof ------------------------------------------------------------------------


def python_files(folder: Path, limit: int = 0) -> list[Path]:
    """The .py files below ``folder``, in order, without installed packages. limit: evenly taken; 0: all."""
    files = sorted(path for path in folder.rglob("*.py") if "site-packages" not in path.parts and path.is_file())
    if not 0 < limit < len(files):
        return files
    return [files[number * len(files) // limit] for number in range(limit)]


def failures(path: Path) -> int:
    """How many attempts of this file's task fail: the same in each run. One file in twenty: 1 or 2."""
    draw = zlib.crc32(path.name.encode())
    return 1 + draw // 20 % 2 if draw % 20 == 0 else 0


def results(handles: Mapping[Path, TaskHandle[Counts]]) -> dict[Path, Counts]:
    """What the tasks returned. Raises DemoFailed for one that failed."""
    counts = {}
    for path, handle in handles.items():
        try:
            counts[path] = handle.result(timeout=RESULT_SECONDS_MAX)
        except TaskFailed as error:
            raise DemoFailed(f"the task of {path} failed: {error}") from error
    return counts


def compared(found: Mapping[Path, Counts], expected: Mapping[Path, Counts], say: Say) -> bool:
    """Print both sums; whether they, and all they are made of, are equal."""
    for who, counts in (("queue", found), ("plain loop", expected)):
        total = sum(counts.values(), Counts())
        say(
            f"{who:>12}: {len(counts):,} files, {total.lines:,} lines, {total.words:,} words, "
            f"{total.bytes:,} bytes, {total.identifiers:,} identifiers"
        )
    wrong = sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))
    if not wrong:
        say("EQUAL: no task was lost, none was counted twice")
        return True
    for path in wrong[:5]:
        say(f"{path}: queue {found.get(path)}, plain loop {expected.get(path)}")
    say(f"NOT EQUAL: {len(wrong)} files differ")
    return False


# ---- afterwards ------------------------------------------------------------------------------------

WHERE_NEXT = """
Where to look next:
  cluster/demo_tasks.py             the task that ran: write your own like it
  tq dev cluster.demo_tasks         a broker and a worker for it, to play with
  make cluster                      three brokers to play with, until Ctrl-C
  tq broker --config FILE           a broker of your own (tq config show prints every setting)
  tq worker tq.samples              a worker with handlers to play with: echo, sleep, compute, fail
  tq submit --type echo --payload hello --wait
  tq stats, tq queue-depth, tq list, tq explain ID
  make torture                      the same kills for ten minutes, every promise checked
  make bench                        how fast it is here"""


def kept(folder: Path, ground: Ground) -> str:
    nodes = [process for process in ground.processes if isinstance(process, Broker)]
    addresses = ",".join(node.address for node in nodes)
    return "\n".join(
        [
            f"\nData and logs are in {folder}. To look at them:",
            *(f"  tq broker --config {folder / node.name}.toml &" for node in nodes),
            f"  export TQ_BROKERS={addresses}",
            "  tq cluster-status      tq list      tq explain ID",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
