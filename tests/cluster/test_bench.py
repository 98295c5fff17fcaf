"""The benchmark once, for seconds, on a real broker and real workers: that it measures, not what."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import attrs

from tq.bench import failover, scenarios
from tq.bench.processes import TQ

TINY = attrs.evolve(scenarios.QUICK, seconds=1.0, samples=5, drain=300)


def test_the_command_measures_and_prints_one_document() -> None:
    done = subprocess.run([*TQ, "bench", "--quick", "--json", "S1", "S7"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)["lines"]
    assert [line["scenario"] for line in lines] == ["S1", "S1", "S1", "S1", "S7"]
    assert lines[0]["value"] > 10
    assert lines[1]["value"] <= lines[2]["value"], "p50 and p99"
    assert lines[3]["value"] > 10, "through the front door"
    assert lines[4]["value"] is None


def test_the_leader_of_three_nodes_is_killed_under_load() -> None:
    (pause_ms,) = failover.pauses_ms(3, "fast", 1)
    assert 0 < pause_ms < 30_000


def test_submissions_over_many_connections_and_in_batches() -> None:
    singles, p99 = scenarios.s1c(TINY)
    assert singles.value is not None
    assert p99.value is not None
    assert singles.value > 100
    one, four = scenarios.s2(TINY)
    assert one.value is not None
    assert four.value is not None
    assert min(one.value, four.value) > 1_000


def test_workers_drain_and_answer() -> None:
    (drain,) = scenarios.s3(TINY)
    assert drain.value is not None
    assert 0 < drain.value < scenarios.DRAIN_SECONDS_MAX
    p50, p99, start = scenarios.s4_s8(TINY)
    assert p50.value is not None
    assert p99.value is not None
    assert start.value is not None
    assert 1 < p50.value <= p99.value
    assert 0 < start.value < p99.value


def test_the_two_workers_under_a_generator() -> None:
    lines = list(scenarios.s5(attrs.evolve(TINY, work_seconds=1.0)))
    assert all(line.value is not None and line.value > 0 for line in lines)


def test_sigterm_ends_all_its_processes_and_removes_its_folder(tmp_path: Path) -> None:
    bench = subprocess.Popen(
        [*TQ, "bench", "S1"], env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE, text=True
    )
    try:
        while not list(tmp_path.glob("tq-bench-*/load-1.log")):
            assert bench.poll() is None, "it ended by itself"
        bench.send_signal(signal.SIGTERM)
        _, errors = bench.communicate(timeout=30)
    finally:
        bench.kill()
    assert bench.returncode == 130, errors
    assert "interrupted" in errors
    assert not list(tmp_path.iterdir())
    end = time.monotonic() + 10  # the kernel takes its moment to end the child of a child
    while left := [line for line in map(command_line, Path("/proc").glob("[0-9]*")) if str(tmp_path) in line]:
        assert time.monotonic() < end, left


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # gone meanwhile
