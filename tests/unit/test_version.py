"""The version that is shown is the one that is built."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tq.version import VERSION

ROOT = Path(__file__).parents[2]


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION, "installed from other sources? run: make install"


def test_version_has_the_form_that_packages_need() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", VERSION)
