"""docs/python.md is followed to the letter; see ``pages.py``."""

from __future__ import annotations

import re

import pytest

from tests.cluster.pages import Reader, blocks
from tests.cluster.processes import ROOT, Ground
from tq.app.options import DECLARED, SUBMITTED

PAGE = ROOT / "docs" / "python.md"


@pytest.mark.timeout(300)
def test_the_guide_can_be_followed(ground: Ground) -> None:
    """It begins where a broker runs."""
    broker = ground.broker()
    broker.start_ready()
    reader = Reader(ground)
    reader.environ["TQ_BROKERS"] = broker.address
    for block in blocks(PAGE):
        reader.read(block)
    reader.close()


def test_each_option_stands_in_the_guide() -> None:
    table = PAGE.read_text().split("\n## Options\n")[1].split("\n## ")[0]
    shown = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    assert shown >= DECLARED | SUBMITTED
