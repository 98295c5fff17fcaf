"""The pytest plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

import pytest

from tq.testing import cluster, memory_broker

pytest_plugins = ["pytester"]
LOADED = (cluster, memory_broker)  # here, or each inner run would load them anew
PLUGIN = "tq" if any(point.name == "tq" for point in entry_points(group="pytest11")) else "tq.testing.plugin"
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


@pytest.fixture
def play(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run tests with the plugin, in this process."""

    def run(test: str, conftest: str = CONFTEST) -> pytest.RunResult:
        pytester.makepyfile(conftest=conftest, test_it=test)
        pytester.makeini("[pytest]\nfilterwarnings = error\n")
        return pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider")

    return run


def test_the_fixtures_run_the_app(play: Callable[..., pytest.RunResult]) -> None:
    tests = [
        f"def test_{name}({name}):\n    from conftest import double\n    assert double.submit(4).result() == 8\n"
        for name in FIXTURES
    ]
    play("\n".join(tests)).assert_outcomes(passed=3)


def test_the_seed_is_a_fixture_and_is_told_where_a_test_fails(play: Callable[..., pytest.RunResult]) -> None:
    done = play(
        "import pytest\n"
        "from tq.store.tables import Table\n"
        "@pytest.mark.parametrize('tq_seed', [4, 5])\n"
        "def test_seeds(tq_cluster, tq_seed):\n"
        "    assert tq_cluster.seed == tq_seed\n"
        "    if tq_seed == 5:\n"
        "        tq_cluster._world.hosts['n2'].store.txn.put(Table.TASKS, bytes(16), b'the verdict would fail, too')\n"
        "    assert tq_seed == 4\n"
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*seed 5: override tq_seed to play another run*", "*assert 5 == 4*"])
    done.stdout.no_fnmatch_line("*seed 4:*")


def test_without_an_app_it_says_what_to_write(play: Callable[..., pytest.RunResult]) -> None:
    done = play("def test_it(tq_inline): pass\n", conftest="")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*write a fixture tq_app that returns your tq.App*"])


def test_a_failing_verdict_is_an_error(play: Callable[..., pytest.RunResult]) -> None:
    done = play(
        "from tq.sim.checkers.records import Grant\n"
        "def test_it(tq_memory_broker):\n"
        "    grants = tq_memory_broker._history.records.grants\n"
        "    grants.append(Grant('w', None, 1, None, '00' * 16, 1, 1, 0, True))\n"
    )
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*the contract was not kept*"])


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
