"""Where bugs are planted, and what looks for them there: a suite runs up to the first failure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST_TIMEOUT_S = 180
STORIES_TIMEOUT_S = 1_200
WHY_MAX = 110  # characters


@contextmanager
def sources() -> Iterator[Path]:
    """A copy of what is needed to run tests."""
    with tempfile.TemporaryDirectory(prefix="tq-mutants-") as scratch:
        copy = Path(scratch)
        for name in ("tq", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        yield copy


def first_failure(copy: Path, tests: list[str]) -> str | None:
    """Which test failed, and why; None: all passed."""
    command = ["pytest", "-x", "-q", "--no-header", f"--timeout={TEST_TIMEOUT_S}", "-p", "no:cacheprovider", *tests]
    run = _run(copy, command, timeout_s=None)
    if run is not None and run.returncode == 0:
        return None
    output = "" if run is None else run.stdout + run.stderr
    found = re.search(r"^(?:FAILED|ERROR) \S*/(\S+::.+?)(?: - .*)?$", output, re.MULTILINE)
    if found is None:
        return _crash(output)
    seed = re.search(r"seed (\d+): make sim", output)
    why = re.search(r"^E +(\S.*)$", output, re.MULTILINE)
    return f"{found[1]}{f', seed {seed[1]}' if seed else ''}{f': {why[1][:WHY_MAX]}' if why else ''}"


def first_story(copy: Path, kind: str, runs: int) -> str | None:
    """Which of the first ``runs`` seeds failed, and why (see tests/sim/__main__.py); None: none did."""
    command = ["tests.sim", "--kind", kind, "--seed", "0", "--runs", str(runs), "--failures", "1"]
    run = _run(copy, command, timeout_s=STORIES_TIMEOUT_S)
    if run is None:
        return f"a hang: {runs} stories took more than {STORIES_TIMEOUT_S} s"
    if run.returncode == 0:
        return None
    seed = re.search(r"^FAILED \w+ seed (\d+)", run.stdout, re.MULTILINE)
    if seed is None:
        return _crash(run.stdout + run.stderr)
    why = re.findall(r"^([\w.]+(?:Error|Breach|Damaged|Failed)\b.*)$", run.stdout, re.MULTILINE)
    return f"seed {seed[1]}" + (f": {why[-1][:WHY_MAX]}" if why else "")


def _run(copy: Path, command: list[str], *, timeout_s: float | None) -> subprocess.CompletedProcess[str] | None:
    """``python -m command``; None: not within this time."""
    try:
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, text=True,
            capture_output=True, check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None


def _crash(output: str) -> str:
    return "a hang or a crash: " + (output.strip().splitlines() or ["it said nothing"])[-1][:WHY_MAX]
