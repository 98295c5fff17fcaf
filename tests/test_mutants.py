"""Bugs can only be planted while the source reads as it did. To see them caught takes hours: ``make mutants``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants import cluster, mutants
from tests.mutants.plant import plant
from tests.mutants.suites import sources
from tests.torture import mutants as torture

Changes = tuple[tuple[str, str, str], ...]
SUITES: dict[str, list[tuple[str, Changes]]] = {
    "raft": [(one.name, one.changes) for one in mutants.MUTANTS],
    "cluster": [(one.what, one.changes) for one in cluster.MUTANTS],
    "torture": [(one.name, one.edits) for one in torture.MUTANTS],
}


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    with sources() as copy:
        yield copy


@pytest.mark.parametrize("suite", SUITES)
def test_each_bug_can_be_planted(copy: Path, suite: str) -> None:
    for name, changes in SUITES[suite]:
        for file, text in plant(copy, name, changes).items():
            file.write_text(text)
