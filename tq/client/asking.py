"""What all verbs stand on: the core, the clock, ids, and the time a request may take."""

from __future__ import annotations

from tq.client.core import ClientCore, Make
from tq.client.ids import IdMaker
from tq.client.specs import to_ms
from tq.client.steps import Ask, R, Verb, expect
from tq.world import Clock, Random


class Asking:
    """Collaborators are shared with the shell."""

    def __init__(self, core: ClientCore, clock: Clock, random: Random, timeout_ms: int) -> None:
        """timeout_ms: of a request that names none."""
        self.core = core
        self.clock = clock
        self.random = random
        self.timeout_ms = timeout_ms
        self.ids = IdMaker(clock, random)

    def deadline_ms(self, timeout: float | None) -> int:
        """Of a request that begins now. timeout: seconds, None: the client's."""
        wait_ms = self.timeout_ms if timeout is None else to_ms("timeout", timeout)
        return self.clock.monotonic_ms() + wait_ms

    def ask(self, make: Make, kind: type[R], timeout: float | None) -> Verb[R]:
        reply = yield Ask(make, self.deadline_ms(timeout))
        return expect(reply, kind)

    def new_id(self) -> bytes:
        return self.ids.take(1)[0].to_bytes(16, "big")

    def seen(self, min_index: int = 0) -> int:
        """The index a read must have reached: what was asked for, and whatever this client saw."""
        return max(min_index, self.core.last_index)
