"""What is measured: a function a scenario, each on a fresh broker or cluster, and their budgets for one and three nodes.

Payloads have 100 bytes, handlers do nothing, and every reply comes after the journal's sync, unless said. A time
runs from before a call to behind its answer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from tq.bench import apply, facts, failover
from tq.bench.app_tasks import call
from tq.bench.bed import Bed, Load
from tq.bench.measure import Line, spread
from tq.bench.tasks import MILLISECOND, NOOP, NOOP_THREAD
from tq.world import RealClock

WORKERS = 2
SLOTS = 500
FEED_BATCH = 100
BEHIND = 1_000_000
BEHIND_PRIORITY = 10
DRAIN_TASKS = 10_000
DRAIN_SECONDS_MAX = 60.0
SETTLE_SECONDS = 1.0
ONE_NODE_ONLY = ("apply",)
"""What is the same with any number of nodes."""
APP_TASKS = "tq.bench.app_tasks"


@attrs.frozen
class Scale:
    """How long and how much. ``QUICK`` is for trying: its figures are not to be compared with budgets.

    seconds: of a load of submissions. work_seconds: of one with workers (S5, S9). nodes: of the cluster. kills: of S7.
    """

    seconds: float = 10.0
    work_seconds: float = 30.0
    samples: int = 500
    behind: int = BEHIND
    memory: tuple[int, ...] = (0, 100_000, 1_000_000)
    drain: int = DRAIN_TASKS
    apply_tasks: int = 20_000
    idle_seconds: float = 10.0
    kills: int = 20
    nodes: int = 1

    def budget(self, one: float | None, three: float | None) -> float | None:
        """The one for so many nodes; five and seven have none."""
        return {1: one, 3: three}.get(self.nodes)


FULL = Scale()
QUICK = Scale(
    seconds=0.5, work_seconds=1.0, samples=20, behind=2_000, memory=(0, 1_000), drain=1_000, apply_tasks=500,
    idle_seconds=0.5, kills=2,
)  # fmt: skip

Scenario = Callable[[Scale], Iterator[Line]]


def s1(scale: Scale) -> Iterator[Line]:
    """One blocking client, one task a call."""
    with Bed(scale.nodes) as bed:
        (load,) = bed.load("one", scale.seconds)
        syncs = bed.syncs()
    yield Line(
        "S1", "one client, one task a call", load.tasks / load.seconds, "/s", scale.budget(2_000, 900), "higher", syncs
    )
    yield Line("S1", "p50", load.p50_ms, "ms", scale.budget(0.5, 1.1), "lower")
    yield Line("S1", "p99", load.p99_ms, "ms", scale.budget(2, 4), "lower")
    with Bed(scale.nodes) as bed:
        (load,) = bed.load("app-one", scale.seconds)
    note = f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f}"
    yield Line("S1", "the same through @app.task, JSON", load.tasks / load.seconds, "/s", None, "higher", note)


def s1c(scale: Scale) -> Iterator[Line]:
    """64 connections, one task a call each."""
    with Bed(scale.nodes) as bed:
        (load,) = bed.load("singles", scale.seconds, connections=64)
        syncs = bed.syncs()
    yield Line(
        "S1c",
        "64 connections, one task a call",
        load.tasks / load.seconds,
        "/s",
        scale.budget(20_000, 10_000),
        "higher",
        syncs,
    )
    yield Line("S1c", "p99", load.p99_ms, "ms", scale.budget(6, 12), "lower")


def s2(scale: Scale) -> Iterator[Line]:
    """``submit_many`` of 500."""
    for processes, budget in ((1, scale.budget(100_000, 60_000)), (4, scale.budget(150_000, 80_000))):
        with Bed(scale.nodes) as bed:
            loads = bed.load("many", scale.seconds, processes, batch=500)
        note = f"p99 of a call {max(load.p99_ms for load in loads):.1f} ms"
        what = f"submit_many of 500, {processes} {'process' if processes == 1 else 'processes'}"
        yield Line("S2", what, rate(loads), "/s", budget, "higher", note)


def s3(scale: Scale) -> Iterator[Line]:
    """Drain with two workers. They are stopped (SIGSTOP) while the tasks are submitted, so they begin together."""
    with Bed(scale.nodes) as bed:
        bed.start_workers(WORKERS, SLOTS)
        for worker in bed.workers:
            worker.pause()
        bed.fill(scale.drain, NOOP)
        begun = time.monotonic()
        for worker in bed.workers:
            worker.resume()
        seconds = bed.wait_completed(scale.drain, DRAIN_SECONDS_MAX) - begun
    note = f"{scale.drain / seconds:,.0f}/s"
    yield Line("S3", f"drain {scale.drain:,} with two workers", seconds, "s", scale.budget(0.4, 0.7), "lower", note)


def s4_s8(scale: Scale) -> Iterator[Line]:
    """Submit a task that takes 1 ms and wait for its result, one after the other; the worker waits for each."""
    times, starts = [], []
    payload = b"x" * 100
    with Bed(scale.nodes) as bed:
        bed.start_workers(1, 4)
        for number in range(-scale.samples // 10, scale.samples):
            begun = time.monotonic()
            task = bed.client.submit(MILLISECOND, payload)
            info = bed.client.wait(task.id, 30)
            ended = time.monotonic()
            if number >= 0:  # the first ones warm it up
                times.append(ended - begun)
                starts.append(float(info.result or b"") - begun)
    whole, start = spread(times), spread(starts)
    yield Line("S4", "submit a 1-ms task, wait for its result: p50", whole.p50_ms, "ms", scale.budget(3, 3.5), "lower")
    yield Line("S4", "p99", whole.p99_ms, "ms", 6, "lower")
    note = f"p50 {start.p50_ms:.2f} ms; from before the submit, so its sync is in it"
    yield Line(
        "S8",
        "submitted to handler started, worker waiting: p99",
        start.p99_ms,
        "ms",
        scale.budget(5, 10),
        "lower",
        note,
    )


@attrs.frozen
class Work:
    """What S5 saw."""

    per_second: float
    submit: Load
    broker_us: float
    worker_us: float
    submit_us: float  # of the generators, with their looks at what waits
    workers_anonymous_mb: float


def work(bed: Bed, scale: Scale, type: str, feeders: int = 1, kind: str = "feed") -> Work:
    """Submit in hundreds and process. Counted between two looks, inside the generator's time."""
    seconds = scale.work_seconds
    feeding = bed.prepare(kind, seconds + SETTLE_SECONDS, feeders, batch=FEED_BATCH, type=type)
    bed.go(feeding)
    time.sleep(min(SETTLE_SECONDS, seconds / 4))  # let it become even
    workers = len(bed.workers)
    pids = [bed.broker.pid, *(worker.pid for worker in bed.workers), *(process.pid for process in feeding)]
    first, used, begun = bed.counts()["completed"], cpu(pids), time.monotonic()
    time.sleep(seconds * 3 / 4)
    done, spent = bed.counts()["completed"] - first, [b - a for a, b in zip(used, cpu(pids), strict=True)]
    took = time.monotonic() - begun
    memory = max(facts.memory_mb(worker.pid)[0] for worker in bed.workers)
    loads = bed.finish(feeding, seconds)
    slowest = max(loads, key=lambda load: load.p99_ms)
    broker_us, *rest_us = [seconds * 1e6 / done for seconds in spent]
    return Work(done / took, slowest, broker_us, sum(rest_us[:workers]), sum(rest_us[workers:]), memory)


def cpu(pids: Sequence[int]) -> list[float]:
    return [facts.processor_seconds(pid) for pid in pids]


def s5(scale: Scale) -> Iterator[Line]:
    """Real worker processes under a generator that submits hundreds."""
    with Bed(scale.nodes) as bed:
        bed.start_workers(WORKERS, SLOTS)
        at_rest_mb = facts.memory_mb(bed.workers[0].pid)
        run = work(bed, scale, NOOP)
        syncs = bed.syncs()
    yield Line(
        "S5", "submit in hundreds and process, async handler", run.per_second, "tasks/s", scale.budget(20_000, 12_000),
        "higher", syncs,
    )  # fmt: skip
    yield Line("S5", "p99 of a submit", run.submit.p99_ms, "ms", scale.budget(10, 20), "lower")
    yield Line("S5", "broker's processor time a task", run.broker_us, "µs", 35, "lower", "apply 20 and the rest 15")
    note = f"in S5; submitting costs {run.submit_us:.0f} µs a task"
    yield Line("worker", "processor time a task, async handler", run.worker_us, "µs", 60, "lower", note)
    yield Line(
        "worker", "resident memory at rest", at_rest_mb[1], "MB", 60, "lower", f"anonymous {at_rest_mb[0]:.0f} MB"
    )
    with Bed(scale.nodes) as bed:
        bed.start_workers(WORKERS, SLOTS)
        run = work(bed, scale, NOOP_THREAD)
    note = f"worker {run.worker_us:.0f} µs a task; p99 of a submit {run.submit.p99_ms:.1f} ms"
    yield Line("S5", "the same, thread handler", run.per_second, "tasks/s", None, "higher", note)
    with Bed(scale.nodes) as bed:
        bed.start_workers(WORKERS, SLOTS, APP_TASKS)
        run = work(bed, scale, call.name, kind="app-feed")
    note = (
        f"broker {run.broker_us:.0f}, worker {run.worker_us:.0f}, submit {run.submit_us:.0f} µs a task; "
        f"p99 of a submit {run.submit.p99_ms:.1f} ms"
    )
    yield Line(
        "S5", "the same through @app.task, JSON, async handler", run.per_second, "tasks/s", scale.budget(20_000, 12_000),
        "higher", note,
    )  # fmt: skip


def s6(scale: Scale) -> Iterator[Line]:
    """Memory of a broker under a number of waiting tasks."""
    budgets = {0: (50, 60), 100_000: (120, 130), 1_000_000: (450, 480)}
    with Bed(scale.nodes) as bed:
        held = 0
        for count in scale.memory:
            bed.fill(count - held, NOOP)
            held = count
            time.sleep(SETTLE_SECONDS)  # the last checkpoint
            anonymous, resident = facts.memory_mb(bed.broker.pid)
            note = f"resident {resident:.0f} MB, with the store's mapped pages"
            yield Line(
                "S6",
                f"broker's anonymous memory, {count:,} pending",
                anonymous,
                "MB",
                scale.budget(*budgets.get(count, (None, None))),
                "lower",
                note,
            )


def s7(scale: Scale) -> Iterator[Line]:
    """Kill the leader under the load of S5 again and again: how long until another one accepts a task."""
    what = "leader killed: time to the next accepted task"
    if scale.nodes == 1:
        yield Line("S7", what, None, "ms", None, "lower", "needs several nodes: tq bench --nodes 3 S7")
        return
    for profile, median, worst in (("default", 1_000, 2_000), ("fast", 300, 600)):
        times = sorted(failover.pauses_ms(scale.nodes, profile, scale.kills))
        note = " ".join(f"{time_ms:.0f}" for time_ms in times)
        yield Line(
            "S7", f"{what}, profile {profile}, median of {len(times)}", statistics.median(times), "ms",
            scale.budget(None, median), "lower", note,
        )  # fmt: skip
        yield Line("S7", "worst", times[-1], "ms", scale.budget(None, worst), "lower")


def s9(scale: Scale) -> Iterator[Line]:
    """A million tasks behind: S5 again, compared with S5 without them in the same run; singles beside bulk."""
    with Bed(scale.nodes) as bed:
        bed.start_workers(WORKERS, SLOTS)
        alone = work(bed, scale, NOOP)
    with Bed(scale.nodes) as bed:
        bed.fill(scale.behind, NOOP, priority=BEHIND_PRIORITY)
        singles = bed.prepare("singles", scale.seconds, connections=64)
        bulk = bed.prepare("many", scale.seconds, 2, batch=500, priority=BEHIND_PRIORITY)
        bed.go(singles, bulk)
        (single,) = bed.finish(singles, scale.seconds)
        bulk_rate = rate(bed.finish(bulk, scale.seconds))
        bed.start_workers(WORKERS, SLOTS)
        behind = work(bed, scale, NOOP)
    note = f"{behind.per_second:,.0f}/s beside {alone.per_second:,.0f}/s; broker {behind.broker_us:.0f} µs a task"
    yield Line(
        "S9", f"S5 with {scale.behind:,} waiting behind: share of S5", behind.per_second / alone.per_second, "",
        0.8, "higher", note,
    )  # fmt: skip
    note = f"{single.tasks / single.seconds:,.0f}/s beside {bulk_rate:,.0f}/s in bulk"
    yield Line(
        "S9", "64 connections beside two bulk clients: p99", single.p99_ms, "ms", scale.budget(20, 30), "lower", note
    )


def apply_cost(scale: Scale) -> Iterator[Line]:
    """The machine and the store alone, without broker, journal and wire."""
    with apply.stores() as stores:
        figures = apply.best(apply.Bench(stores["lmdb"], RealClock().monotonic_s), scale.apply_tasks)
    note = " · ".join(f"{kind} {figure:.1f}" for kind, figure in figures.items())
    total = sum(figure for kind, figure in figures.items() if kind != "session")
    yield Line("apply", "submit, claim and report of a task", total, "µs", 20, "lower", note)


def idle(scale: Scale) -> Iterator[Line]:
    """A broker doing nothing; and one with a worker that waits."""
    for workers, budget in ((0, scale.budget(1.0, 1.5)), (1, None)):
        with Bed(scale.nodes) as bed:
            if workers:
                bed.start_workers(workers, 4)
            bed.client.close()
            time.sleep(SETTLE_SECONDS)
            used, begun = cpu([bed.broker.pid]), time.monotonic()
            time.sleep(scale.idle_seconds)
            share = (cpu([bed.broker.pid])[0] - used[0]) / (time.monotonic() - begun) * 100
        what = "broker doing nothing, share of a core" + (", a worker waits" if workers else "")
        yield Line("idle", what, share, "%", budget, "lower")


def rate(loads: Sequence[Load]) -> float:
    return sum(load.tasks / load.seconds for load in loads)


SCENARIOS: dict[str, Scenario] = {
    "S1": s1, "S1c": s1c, "S2": s2, "S3": s3, "S4": s4_s8, "S5": s5, "S6": s6, "S7": s7, "S9": s9,
    "apply": apply_cost, "idle": idle,
}  # fmt: skip
