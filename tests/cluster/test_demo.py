"""``make demo`` on a part of the files: the same kills, the same proof, and that the proof can fail."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
import zlib
from pathlib import Path

import pytest

from cluster.demo import ROOT, Demo, DemoFailed, compared, failures, python_files, results
from cluster.demo_tasks import Counts, app, count, count_file
from tq.bench.processes import Ground
from tq.testing import inline

STDLIB = Path(sysconfig.get_paths()["stdlib"])
FILES = 300
DEMO = [sys.executable, "-m", "cluster.demo", "--files", str(FILES)]


def test_the_demo_survives_its_kills_and_sums_up() -> None:
    done = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    accepted = [int(count) for count in re.findall(r"(\d+) tasks accepted", done.stdout)]
    assert sum(accepted) == FILES
    assert re.search(r"kill -9 \d+: worker-1 died holding [1-9]", done.stdout)
    leader = re.search(r"kill -9 \d+: (n\d) died, the leader", done.stdout)
    assert leader is not None
    assert re.search(rf"accepted [\d.]+ s after its death; (?!{leader[1]})n\d leads", done.stdout)
    assert f"{FILES} results read from {leader[1]}, which was dead meanwhile" in done.stdout
    summary = re.search(r"(\d+) retries \((\d+) planned\) · (\d+) leases reclaimed", done.stdout)
    assert summary is not None
    retries, planned, reclaimed = map(int, summary.groups())
    assert retries == planned > 0
    assert reclaimed > 0
    assert "EQUAL: no task was lost" in done.stdout
    assert "NOT EQUAL" not in done.stdout


def test_the_demo_notices_a_handler_that_miscounts(ground: Ground) -> None:
    files = python_files(STDLIB, FILES)
    wrong = sum(zlib.crc32(os.fsencode(path)) % 50 == 0 for path in files)
    assert wrong > 0
    said: list[str] = []
    assert Demo(ground, files, said.append, handlers="tests.cluster.miscounting").run() is False
    assert said[-1] == f"NOT EQUAL: {wrong} files differ"


def test_ctrl_c_ends_all_its_processes_and_removes_its_folder(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        assert demo.stdout is not None
        head = demo.stdout.readline() + demo.stdout.readline()
        pids = [int(pid) for pid in re.findall(r"pid (\d+)", head)]
        assert len(pids) == 5, head
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=30)
    finally:
        demo.kill()
    assert demo.returncode == 130, errors
    end = time.monotonic() + 10  # the kernel takes its moment to end the child of a child
    while any(map(is_running, pids)):
        assert time.monotonic() < end, "a process goes on"
    assert not list(tmp_path.iterdir())


def is_running(pid: int) -> bool:
    """Not gone, and not a zombie that only waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_worker_that_ends_by_itself_is_a_failure_at_once(ground: Ground) -> None:
    begun = time.monotonic()
    with pytest.raises(DemoFailed, match=r"worker-\d ended by itself"):
        Demo(ground, python_files(STDLIB, 10), lambda _line: None, handlers="tests.cluster.no_such_module").run()
    assert time.monotonic() - begun < 60


# ---- the proof -------------------------------------------------------------------------------------

A, B = Path("a.py"), Path("b.py")
ONE, TWO = Counts(1, 2, 3, 4), Counts(2, 3, 4, 5)


@pytest.mark.parametrize(
    "counts",
    [{A: ONE}, {A: ONE, B: ONE}, {A: TWO, B: ONE}, {A: ONE, B: TWO, Path("c.py"): Counts()}, {}],
    ids=["lost", "wrong", "swapped: the sums are equal", "one too many", "nothing"],
)
def test_what_differs_is_not_equal(counts: dict[Path, Counts]) -> None:
    said: list[str] = []
    assert not compared(counts, {A: ONE, B: TWO}, said.append)
    assert said[-1].startswith("NOT EQUAL")


def test_what_is_equal_is_equal() -> None:
    said: list[str] = []
    assert compared({A: ONE, B: TWO}, {B: TWO, A: ONE}, said.append)
    assert "2 files, 3 lines, 5 words, 7 bytes, 9 identifiers" in said[0]


def test_a_task_that_failed_has_no_counts(tmp_path: Path) -> None:
    with inline(app):
        handle = count_file.submit(str(tmp_path / "a.py"))
        with pytest.raises(DemoFailed, match=r"(?s)a\.py failed: .*FileNotFoundError"):
            results({A: handle})


def test_a_call_may_ask_for_failures(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with inline(app):
        handle = count_file.submit(str(tmp_path / "a.py"), failures=2)
        assert results({A: handle}) == {A: Counts(1, 3, 6, 1)}
        assert handle.status().attempt == 3


def test_counts_of_a_file() -> None:
    source = b'import os  # not a name\n\n\ndef f(x_1):\n    """doc "string" here"""\n    return os.sep + r\'\\\' + 0x1F + x_1\n'
    counts = count(source)
    assert (counts.lines, counts.bytes, counts.words) == (6, len(source), len(source.split()))
    assert (
        count(b'import os  # os\ndef f(x_1): return os.sep + \'os\' + b"""os\n"os" \'\'\'""" + 0x1F + x_1').identifiers
        == 6
    )


def test_the_same_files_fail_in_every_run() -> None:
    files = python_files(STDLIB)
    failing = [failures(path) for path in files if failures(path)]
    assert set(failing) == {1, 2}
    assert len(files) / 40 < len(failing) < len(files) / 10


def test_a_part_of_the_files_is_taken_evenly() -> None:
    files = python_files(STDLIB)
    part = python_files(STDLIB, 10)
    assert part[0] == files[0]
    assert len(set(part)) == 10
    assert part == sorted(part)
