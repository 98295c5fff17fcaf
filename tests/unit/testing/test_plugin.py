"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import run_pytest

CONFTEST = """
import pytest
from tq import App

app = App()

@app.task
def double(number: int) -> int:
    return 2 * number

@pytest.fixture
def tq_app():
    return app
"""
FIXTURES = ("tq_inline", "tq_memory_broker", "tq_cluster")


def write(folder: Path, test: str, conftest: str = CONFTEST) -> None:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")


def test_the_fixtures_run_the_app(tmp_path: Path) -> None:
    tests = [
        f"def test_{name}({name}):\n    from conftest import double\n    assert double.submit(4).result() == 8\n"
        for name in FIXTURES
    ]
    write(tmp_path, "\n".join(tests))
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_seed_is_a_fixture_and_is_told_where_a_test_fails(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import pytest\n"
        "@pytest.mark.parametrize('tq_seed', [4, 5])\n"
        "def test_seeds(tq_cluster, tq_seed):\n"
        "    assert tq_cluster.seed == tq_seed\n"
        "    tq_cluster.client.submit('lost')\n"
        "    for host in tq_cluster._world.hosts.values():\n"
        "        host.store.txn.put(1, bytes(16), bytes(1))  # the verdict would fail too\n"
        "    assert tq_seed == 4\n",
    )
    done = run_pytest(tmp_path)
    assert "seed 5: override tq_seed to play another run" in done.stdout
    assert "seed 4" not in done.stdout.split("test_seeds[5]")[-1]
    assert "1 failed" in done.stdout, done.stdout
    assert "test_seeds[5] - assert 5 == 4" in done.stdout, "what the test found, and not what followed from it"


def test_without_an_app_it_says_what_to_write(tmp_path: Path) -> None:
    write(tmp_path, "def test_it(tq_inline): pass\n", conftest="")
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "write a fixture tq_app that returns your tq.App" in done.stdout


def test_a_failing_verdict_fails_the_test(tmp_path: Path) -> None:
    write(
        tmp_path,
        "def test_it(tq_memory_broker):\n"
        "    tq_memory_broker.client.submit('a')\n"
        "    tq_memory_broker._history.records.submits.clear()\n"
        "    from tests.unit.testing.test_plugin import break_it\n"
        "    break_it(tq_memory_broker)\n",
    )
    (tmp_path / "tests").symlink_to(Path(__file__).parents[2])
    done = run_pytest(tmp_path, "test_it.py")
    assert "1 error" in done.stdout, done.stdout
    assert "the contract was not kept" in done.stdout


def break_it(broker: object) -> None:
    records = broker._history.records  # type: ignore[attr-defined]
    from tq.sim.checkers.records import Grant

    records.grants.append(Grant("w", None, 1, None, "00" * 16, 1, 1, 0, True))


@pytest.mark.parametrize("module", ["tq.testing.plugin", "tq.testing"])
def test_it_loads_nothing_that_is_not_used(module: str) -> None:
    code = (
        f"import json, sys, pytest; before = set(sys.modules); import {module}; new = set(sys.modules) - before; "
        "print(json.dumps(sorted(name for name in new if not name.startswith('_'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout)
    assert {name for name in loaded if name.split(".")[0] == "tq"} <= {"tq", "tq.testing", "tq.testing.plugin"}
    assert len(loaded) < 10, loaded


def test_it_has_no_options_and_no_hooks() -> None:
    from tq.testing import plugin

    assert not [name for name in vars(plugin) if name.startswith("pytest_")]
