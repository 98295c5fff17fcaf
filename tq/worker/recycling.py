"""When a process has lived long enough: after so many tasks, or above so much memory.

For code that leaks. The worker drains and begins anew under the same process id; a child process ends between two of
its tasks, alone. So that the workers of a fleet that were started together do not all pause at once, each life has
limits of its own, up to a tenth below the given ones.
"""

from __future__ import annotations

from typing import Final

import attrs

from tq import limits
from tq.world import Random

JITTER_PARTS: Final = 10


@attrs.frozen
class Recycling:
    """Of each process that runs handlers; None: no limit."""

    tasks_max: int | None = None
    memory_bytes_max: int | None = None

    @property
    def is_on(self) -> bool:
        return self.tasks_max is not None or self.memory_bytes_max is not None


NEVER: Final = Recycling()


class Life:
    """Of one process. Its answers say why it should end now, or are None."""

    def __init__(self, recycling: Recycling, random: Random) -> None:
        self._tasks_max = _drawn(recycling.tasks_max, random)
        self._memory_bytes_max = _drawn(recycling.memory_bytes_max, random)
        self._tasks = 0

    @property
    def is_measured(self) -> bool:
        """``grown`` is of use."""
        return self._memory_bytes_max is not None

    def task_ended(self) -> str | None:
        self._tasks += 1
        if self._tasks_max is None or self._tasks < self._tasks_max:
            return None
        return f"it has run {self._tasks} tasks"

    def grown(self, rss_bytes: int) -> str | None:
        """A process that is too large from the start still runs one task: it would else begin anew for ever."""
        if self._memory_bytes_max is None or not self._tasks or rss_bytes <= self._memory_bytes_max:
            return None
        return f"it takes {rss_bytes // limits.MIB} MiB of memory"


def _drawn(limit: int | None, random: Random) -> int | None:
    return None if limit is None else limit - random.below(limit // JITTER_PARTS + 1)
