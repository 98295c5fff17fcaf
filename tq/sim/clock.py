"""Time that passes when it is told to."""

from __future__ import annotations


class VirtualClock:
    """Starts at ``monotonic_ms`` 1,000 and the given Unix time. ``advance_ms`` moves both; the wall can also jump."""

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self._monotonic_ms = 1_000
        self._wall_offset_ms = wall_ms - self._monotonic_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def monotonic_s(self) -> float:
        return self._monotonic_ms / 1000

    def wall_ms(self) -> int:
        return self._monotonic_ms + self._wall_offset_ms

    def advance_ms(self, by_ms: int) -> None:
        if by_ms < 0:
            raise ValueError("time does not run backwards")
        self._monotonic_ms += by_ms

    def jump_wall_ms(self, by_ms: int) -> None:
        """What an operator or a time service does: the wall clock alone moves, either way."""
        self._wall_offset_ms += by_ms

    def set_wall_ms(self, wall_ms: int) -> None:
        self._wall_offset_ms = wall_ms - self._monotonic_ms
