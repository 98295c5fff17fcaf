"""``make demo``: real work on real processes, while some of them are killed. ``python -m cluster.demo --help``.

A broker and two workers index every Python file of the standard library, one task a file; some tasks fail first and
are tried again. At a fifth of the work a worker that holds tasks is killed with -9, at half of it the broker is, and
both are started again. In the end every result is fetched and compared with a plain loop over the same files: equal,
or this exits with 1. All processes and files are this run's own, and end with it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.demo_tasks import COUNT_FILE, FAILURES, Counts, count
from tq import Client, Retry, TaskInfo, TaskSpec
from tq.bench.processes import Broker, Ground, Process, ProcessFailed, end_on_sigterm, pause_while_alive
from tq.errors import TqError

ROOT = Path(__file__).resolve().parents[1]
HANDLERS = "cluster.demo_tasks"
SETTINGS = {
    "leases": {"lease_ms": 3_000, "heartbeat_ms": 1_000, "session_ms": 3_000},  # shorter than usual: a killed
    "limits": {"disk_free_min_bytes": 0},  # worker's tasks come back while one watches
}
WORKERS = 2
CONCURRENCY = 4
BATCH = 100
SECONDS_MAX = 110.0
PROGRESS_SECONDS = 0.75
LOOKS = 4  # at what a stopped worker holds, a moment apart, that must agree
RETRY = Retry(max_attempts=5, backoff_base=0.5)

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
        self.broker: Broker = ground.broker(SETTINGS)
        self.workers: list[Process] = [
            ground.worker(
                self.broker, handlers, "--concurrency", str(CONCURRENCY), "--name", name, name=name, path=[ROOT]
            )
            for name in (f"worker-{number}" for number in range(1, WORKERS + 1))
        ]
        self._say = say
        self._begun = time.perf_counter()

    def run(self) -> bool:
        """Whether queue and plain loop agree. Raises DemoFailed, ProcessFailed, TqError."""
        say = self._say
        ready_s = self.broker.start_ready()
        for worker in self.workers:
            worker.start()
        say(f"broker at {self.broker.address} (pid {self.broker.pid}), ready in {ready_s:.1f} s")
        say("workers " + ", ".join(f"{worker.name} (pid {worker.pid})" for worker in self.workers))
        with Client(self.broker.address) as client:
            self._begun = time.perf_counter()
            ids = self.submit(client)
            self.watch(client, len(ids))
            seconds = time.perf_counter() - self._begun
            infos = {path: client.wait(id, SECONDS_MAX) for path, id in ids.items()}
        for process in [*self.workers, self.broker]:
            process.stop()
        begun = time.perf_counter()
        expected = {path: count(path.read_bytes()) for path in self.files}
        say(f"plain loop over the same files: {time.perf_counter() - begun:.1f} s")
        self.tell_counts(infos, seconds)
        return compared(found(infos), expected, say)

    def submit(self, client: Client) -> dict[Path, str]:
        """One task a file; returns when all are accepted, which means on the disk."""
        begun = time.perf_counter()
        ids: dict[Path, str] = {}
        for start in range(0, len(self.files), BATCH):
            batch = self.files[start : start + BATCH]
            for path, submitted in zip(batch, client.submit_many([task(path) for path in batch]), strict=True):
                if submitted.error is not None:
                    raise DemoFailed(f"the task of {path} was not accepted") from submitted.error
                ids[path] = submitted.id
        failing = sum(failures(path) > 0 for path in self.files)
        self._say(
            f"{len(ids):,} tasks accepted in {time.perf_counter() - begun:.2f} s; {failing} of them fail on purpose"
        )
        return ids

    def watch(self, client: Client, total: int) -> None:
        """Until all have ended: tell how far it is, and kill what is to be killed."""
        kills = [(total // 5, self.kill_worker), (total // 2, self.kill_broker)]
        told_at = 0.0
        while True:
            queue = next(queue for queue in client.queues() if queue.name == "default")
            now = time.perf_counter()
            done = queue.completed + queue.dead
            if done == total or now > told_at + PROGRESS_SECONDS:
                told_at = now
                self.tell(
                    f"{done:,} of {total:,} done · {queue.pending_total} waiting · {queue.running} running"
                    f" · {queue.scheduled} to be tried again"
                )
            if done == total:
                break
            for process in (self.broker, *self.workers):
                if not process.alive:
                    raise DemoFailed(f"{process.name} ended by itself, with {process.exit_code}")
            if now - self._begun > SECONDS_MAX:
                raise DemoFailed(f"only {done:,} of {total:,} tasks were done in {SECONDS_MAX:g} s")
            if kills and done >= kills[0][0] and kills[0][1](client):
                kills.pop(0)
            pause_while_alive(self.broker)
        if kills:
            raise DemoFailed("all was done before everything was killed, so this proved little: take more files")

    def kill_worker(self, client: Client) -> bool:
        """kill -9 of a worker that holds tasks; False if it held none just now. A stopped one cannot finish them."""
        worker = self.workers[0]
        worker.pause()
        looks = [self.held_by(worker, client) for _ in range(LOOKS)]
        held = looks[-1]
        if not held or len(set(looks)) > 1:  # none, or the broker still reads what it reported before
            worker.resume()
            return False
        pid = worker.pid
        worker.kill()
        worker.start()
        self.tell(f"kill -9 {pid}: {worker.name} died holding {held} tasks; started again (pid {worker.pid})")
        return True

    def held_by(self, worker: Process, client: Client) -> int:
        pause_while_alive(worker)
        return sum(info.running for info in client.workers() if info.name == worker.name)

    def kill_broker(self, _client: Client) -> bool:
        pid = self.broker.pid
        self.broker.kill()
        ready_s = self.broker.start_ready()
        self.tell(f"kill -9 {pid}: the broker died; started again (pid {self.broker.pid}), ready in {ready_s:.2f} s")
        return True

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


def task(path: Path) -> TaskSpec:
    return TaskSpec(
        type=COUNT_FILE,
        payload=os.fsencode(path),
        retry=RETRY,
        headers={FAILURES: str(failures(path))} if failures(path) else None,
    )


def found(infos: Mapping[Path, TaskInfo]) -> dict[Path, Counts]:
    """The results. Raises DemoFailed for a task that has none."""
    counts = {}
    for path, info in infos.items():
        if info.state != "completed" or info.result is None:
            raise DemoFailed(f"task {info.id} of {path} is {info.state}, not completed: {info.error or info.reason}")
        counts[path] = Counts(**json.loads(info.result))
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
  cluster/demo_tasks.py             the handlers that ran: write your own like these
  tq broker --config FILE           a broker of your own (tq config show prints every setting)
  tq worker tq.samples              a worker with handlers to play with: echo, sleep, compute, fail
  tq submit --type echo --payload hello --wait
  tq stats, tq queue-depth, tq list, tq explain ID
  make torture                      the same kills for ten minutes, every promise checked
  make bench                        how fast it is here"""


def kept(folder: Path, ground: Ground) -> str:
    config = next(folder.glob("*.toml"))
    broker = next(process for process in ground.processes if isinstance(process, Broker))
    return (
        f"\nData and logs are in {folder}. To look at them:\n"
        f"  tq broker --config {config} &\n"
        f"  tq list --brokers {broker.address}      tq explain ID --brokers {broker.address}"
    )


if __name__ == "__main__":
    sys.exit(main())
