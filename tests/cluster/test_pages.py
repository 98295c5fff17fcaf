"""The pages for users are followed to the letter: each command is run, each example works. See ``pages.py``."""

from __future__ import annotations

import pytest

from tests.cluster.pages import follow, matches
from tests.cluster.processes import ROOT, Ground


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["quickstart", "tutorial", "howto", "celery", "integrations"])
def test_the_page_can_be_followed(ground: Ground, page: str) -> None:
    follow(ground, ROOT / "docs" / f"{page}.md")


def test_other_output_than_the_page_s_is_seen() -> None:
    assert matches(["a", "b", "c"], ["...", "c"])
    assert matches(["c"], ["...", "c"])
    assert matches(["2031-01-02 dead (1)"], ["2026-... dead..."])
    assert not matches(["2031-01-02 completed (1)"], ["2026-... dead..."])
    assert matches(["a", "b", "c"], ["a", "...", "c"])
    assert matches(["a"], ["a"])
    assert not matches(["a", "b"], ["a"])
    assert not matches(["a", "x"], ["...", "c"])
    assert not matches([], ["a"])
