"""What only the leader does by itself, from time to time. Each service has ``run_once()``, which looks and at most
proposes commands; what happens is decided when those are applied. So a service may run twice, or at two nodes
that both believe they lead, and no harm is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tq.machine.commands import Command

PERIOD_MS = 50
"""How often the services look. Timers are late by up to this."""
REST_MS = 250
"""The same while nothing happens and no timer is due before."""


class Propose(Protocol):
    def __call__(self, command: Command, operations: int, size: int, done: Callable[[object, int], None]) -> None: ...


class Service(Protocol):
    def run_once(self) -> None: ...
