"""The order of the house: each module has its tests, what the pages name is there, and the product speaks of itself alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.test_layers import read

ROOT = Path(__file__).parents[1]
FOLDERS = ["tq", "tests", "docs", "cluster", "deploy", ".ci"]
MODULES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "tq").rglob("*.py") if p.name != "__init__.py")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TEXTS = {".py", ".md", ".txt", ".toml", ".yml", ".yaml", ".json", ".sh", ".cfg", ""}

# ---- each module has its test file ---------------------------------------------------------------------

SCRIPTS = "tests/machine/test_scripts.py"  # one script a rule, beside the model

TESTED_BY: dict[str, str] = {
    # The machine: a rule is a script, and is compared with a model written from the contract.
    "tq/machine/answers.py": SCRIPTS,
    "tq/machine/cancel.py": SCRIPTS,
    "tq/machine/checkpoint.py": SCRIPTS,
    "tq/machine/commands.py": "tests/unit/machine/test_decode.py",
    "tq/machine/counts.py": "tests/unit/machine/test_apply.py",
    "tq/machine/entry.py": "tests/unit/machine/test_apply.py",
    "tq/machine/explain.py": "tests/unit/machine/test_queries.py",
    "tq/machine/jobs.py": "tests/unit/machine/test_bulk.py",
    "tq/machine/leases.py": SCRIPTS,
    "tq/machine/moves.py": "tests/unit/machine/test_lives.py",
    "tq/machine/names.py": "tests/unit/machine/test_submit.py",
    "tq/machine/retention.py": "tests/unit/machine/test_lives.py",
    "tq/machine/session.py": SCRIPTS,
    "tq/machine/sessions.py": SCRIPTS,
    "tq/machine/settings.py": "tests/unit/machine/test_lives.py",
    "tq/machine/show.py": "tests/unit/machine/test_queries.py",
    "tq/machine/states.py": "tests/unit/machine/test_task.py",
    "tq/machine/timers.py": "tests/unit/machine/test_lives.py",
    "tq/machine/version.py": "tests/unit/machine/test_decode.py",
    "tq/broker/requests.py": "tests/unit/broker/test_listen.py",
    # The store: one suite for both of them, and for what they share.
    "tq/store/dump.py": "tests/conformance/test_store.py",
    "tq/store/keys.py": "tests/conformance/test_store.py",
    "tq/store/lmdb_file.py": "tests/unit/store/test_lmdb_store.py",
    "tq/store/lmdb_store.py": "tests/conformance/test_store.py",
    "tq/store/memory.py": "tests/conformance/test_store.py",
    "tq/store/store.py": "tests/conformance/test_store.py",
    "tq/store/tables.py": "tests/conformance/test_store.py",
    "tq/store/txn.py": "tests/conformance/test_store.py",
    # The protocol: one table of cases for both ends.
    "tq/protocol/fields.py": "tests/unit/protocol/test_codec.py",
    "tq/protocol/messages.py": "tests/unit/protocol/test_codec.py",
    # The log
    "tq/raft/candidacy.py": "tests/unit/raft/test_elections.py",
    "tq/raft/proposals.py": "tests/unit/raft/test_guard.py",
    "tq/raft/reads.py": "tests/unit/raft/test_leading.py",
    "tq/raft/recovery.py": "tests/unit/raft/test_journal.py",
    "tq/raft/snapshot_receiving.py": "tests/unit/raft/test_snapshots.py",
    "tq/raft/snapshot_sending.py": "tests/unit/raft/test_snapshots.py",
    "tq/raft/segments.py": "tests/unit/raft/test_journal.py",
    # What users' tests are made of
    "tq/testing/world.py": "tests/unit/testing/test_simulation.py",
    "tq/testing/baton.py": "tests/unit/testing/test_trio_loop.py",
    # The simulated cluster: by what is played on it
    "tq/sim/client.py": "tests/sim/test_cluster_scripts.py",
    "tq/sim/cluster.py": "tests/sim/test_cluster_scripts.py",
    "tq/sim/host.py": "tests/sim/test_cluster_scripts.py",
    "tq/sim/peers.py": "tests/sim/test_cluster_scripts.py",
    "tq/sim/crowd/actor.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/listener.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/operator.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/recorder.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/stage.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/submitter.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/truth.py": "tests/sim/test_cluster_random.py",
    "tq/sim/crowd/worker.py": "tests/sim/test_cluster_random.py",
    "tq/sim/storm.py": "tests/sim/test_cluster_random.py",
    "tq/sim/story.py": "tests/sim/test_cluster_random.py",
    # The client, through what users call
    "tq/client/asking.py": "tests/unit/client/test_with_machine.py",
    "tq/client/async_shell.py": "tests/unit/client/test_asynchronous.py",
    "tq/client/base.py": "tests/unit/client/test_asynchronous.py",  # both clients beside each other
    "tq/client/records.py": "tests/unit/client/test_models.py",
    "tq/client/session.py": "tests/unit/client/test_with_machine.py",
    "tq/client/shell.py": "tests/unit/client/test_blocking.py",
    "tq/client/running.py": "tests/unit/client/test_blocking.py",
    "tq/client/steps.py": "tests/unit/client/test_with_machine.py",
    "tq/client/submits.py": "tests/unit/client/test_blocking.py",
    "tq/client/wire.py": "tests/unit/client/test_blocking.py",
    "tq/client/verbs.py": "tests/unit/client/test_with_machine.py",
    # The command line, through the program
    "tq/cli/base.py": "tests/unit/cli/test_main.py",
    "tq/cli/bench.py": "tests/unit/cli/test_main.py",
    "tq/cli/broker.py": "tests/unit/cli/test_main.py",
    "tq/cli/config.py": "tests/unit/cli/test_main.py",
    "tq/cli/dev.py": "tests/cluster/test_dev.py",
    "tq/dev/child.py": "tests/cluster/test_dev.py",
    "tq/cli/changes.py": "tests/unit/cli/test_bulk.py",
    "tq/cli/filters.py": "tests/unit/cli/test_tasks.py",
    "tq/cli/show.py": "tests/unit/cli/test_tasks.py",
    "tq/cli/worker.py": "tests/unit/cli/test_main.py",
    # The simulated world: where what runs in it is tested
    "tq/raft/voting.py": "tests/unit/raft/test_members.py",
    "tq/sim/clock.py": "tests/sim/test_power_loss_journal.py",
    "tq/sim/disk.py": "tests/conformance/test_disk.py",
    "tq/sim/group.py": "tests/sim/test_raft_group.py",
    "tq/sim/weather.py": "tests/sim/test_raft_random.py",
    "tq/sim/late_sync.py": "tests/unit/raft/test_sync.py",
    "tq/sim/random.py": "tests/sim/test_power_loss_journal.py",
    "tq/sim/checkers/history.py": "tests/unit/sim/test_checkers_history.py",
    "tq/sim/checkers/breach.py": "tests/unit/sim/test_checkers_raft.py",
    "tq/sim/checkers/queues.py": "tests/unit/sim/test_checkers_queues.py",
    "tq/sim/checkers/paused.py": "tests/unit/sim/test_checkers_queues.py",
    "tq/sim/checkers/raft_*.py": "tests/unit/sim/test_checkers_raft.py",
    "tq/sim/checkers/*.py": "tests/unit/sim/test_checkers_history.py",
    # The broker's parts, joined
    "tq/broker/hand_over.py": "tests/sim/test_hand_over.py",
    "tq/broker/services.py": "tests/unit/broker/test_broker.py",
    "tq/broker/run.py": "tests/cluster/test_readme.py",
    "tq/broker/listen.py": "tests/cluster/test_readme.py",
    "tq/worker/jobs.py": "tests/unit/worker/test_core.py",
    "tq/samples.py": "tests/cluster/test_readme.py",
    # Measuring
    "tq/bench/*.py": "tests/unit/bench",
}
"""Modules whose tests stand elsewhere -> where."""


def own_test(module: str) -> Path:
    """tq/a/b.py -> tests/unit/a/test_b.py"""
    path = Path(module).relative_to("tq")
    return ROOT / "tests" / "unit" / path.parent / f"test_{path.stem}.py"


def elsewhere(module: str) -> str | None:
    return next((test for pattern, test in TESTED_BY.items() if fnmatch(module, pattern)), None)


def missing() -> list[str]:
    return [module for module in MODULES if not own_test(module).exists() and elsewhere(module) is None]


def test_each_module_has_its_test_file() -> None:
    unknown = missing()
    assert not unknown, (
        f"write {own_test(unknown[0]).relative_to(ROOT)}, or say in TESTED_BY where they are tested: {unknown}"
    )


def test_what_stands_elsewhere_is_there() -> None:
    for pattern, test in TESTED_BY.items():
        assert (ROOT / test).exists(), test
        assert any(fnmatch(module, pattern) for module in MODULES), pattern


# ---- how tests are written -----------------------------------------------------------------------------------

REAL_TIME = ["tests/cluster/*", "tests/soak/*", "tests/torture/*", "tests/powerloss/*"]  # real processes
REAL_THREADS = [
    "tests/unit/client/test_blocking.py",  # polls, with an end, until a thread of the client got there
    "tests/unit/worker/process_handlers.py",  # runs in a child, where it plays a handler that is busy
]


def breaches_of(path: str, text: str) -> Iterator[str]:
    for line, name in read(path, text).uses:
        if name.startswith(("unittest.mock", "mock.", "pytest_mock")):
            yield f"{path}:{line}: {name}: play it with a fake"
        if name == "time.sleep" and not any(fnmatch(path, pattern) for pattern in REAL_TIME + REAL_THREADS):
            yield f"{path}:{line}: a test never sleeps: it waits for the event, or moves a virtual clock"


def test_tests_neither_sleep_nor_mock() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    found = [
        b for path in paths for b in breaches_of(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_sleeps_and_mocks_are_seen() -> None:
    assert list(breaches_of("tests/unit/x.py", "import time as t\nt.sleep(1)"))
    assert list(breaches_of("tests/unit/x.py", "from unittest.mock import Mock"))
    assert not list(breaches_of("tests/cluster/x.py", "import time\ntime.sleep(1)"))


# ---- the product speaks of itself alone ------------------------------------------------------------------

ELSEWHERE = [
    "shared" + "/design",
    "../" + "shared",
    "/" + "work/",
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "npmjs" + ".org",
]


def texts() -> list[Path]:
    found = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXTS and path.name != ".git"]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in TEXTS]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def test_nothing_refers_to_places_outside() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in texts()
        for word in ELSEWHERE
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert len(texts()) > 100
    assert not found


# ---- what the pages name is there --------------------------------------------------------------------------


def prose(page: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as hosts of repositories make them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    return broken


def missing_paths(page: Path) -> list[str]:
    """Files and folders of ours between backticks: `tq/a.py`, `docs/b.md`, `tests/sim/`."""
    named = re.findall(r"`((?:tq|tests|docs|cluster|deploy)/[\w./*-]*)`", page.read_text(encoding="utf-8"))
    return [name for name in named if not list(ROOT.glob(name.rstrip("/")))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_name_what_is_there(page: Path) -> None:
    assert broken_links(page) == []
    assert missing_paths(page) == []


def test_each_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", prose(page))
        todo += [(page.parent / target).resolve() for target in targets if not re.match(r"[a-z]+:", target)]
    lonely = sorted(page.relative_to(ROOT).as_posix() for page in set(PAGES) - reached)
    assert not lonely, "give them a row in README.md, under Where to read on"


def test_broken_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A first, `b`\n[x](#a-first-b) [y](#gone) [z](no.md) [w](page.md#no) [ok](https://example.org)\n`tq/no.py`"
    )
    assert broken_links(page) == ["#gone", "no.md", "page.md#no"]
    assert missing_paths(page) == ["tq/no.py"]


# ---- make --------------------------------------------------------------------------------------------------

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_help_shows_each_target_and_no_other() -> None:
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", MAKEFILE, re.MULTILINE)).split())
    shown = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    assert shown == phony == TARGETS


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_help_is_printed() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert set(re.findall(r"make ([a-z-]+)", done.stdout)) == TARGETS


def test_targets_run_modules_that_are_there() -> None:
    modules = set(re.findall(r"-m ((?:cluster|tests|tq)[\w.]*)", MAKEFILE))
    gone = {m for m in modules if not any((ROOT / m.replace(".", "/")).with_suffix(s).exists() for s in (".py", ""))}
    assert not gone


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_name_targets_that_are_there(page: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
    named |= set(re.findall(r"^\$? ?make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= TARGETS
