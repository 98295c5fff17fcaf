"""A story that was played, as far as it is counted."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any


class FakeStory:
    def __init__(self) -> None:
        self.stage: Any = SimpleNamespace(ids=[b""] * 100)
        self.actors: Any = [SimpleNamespace(answers=400), SimpleNamespace(answers=600)]
        self.listener: Any = SimpleNamespace(events=50)
        self.cluster: Any = SimpleNamespace(
            leaders=SimpleNamespace(by_term={1: "n1", 2: "n2"}), installations=1, now_ms=8_000
        )
        self.storm: Any = SimpleNamespace(counts=Counter({"kill": 2, "power loss": 1}))
