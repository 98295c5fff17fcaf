"""Free disk, looked at from time to time: below the watermark, submissions are refused."""

from __future__ import annotations

from tq.world import Clock, Disk

LOOK_MS = 1_000


class DiskWatch:
    """``is_low`` is true from the look that found too little until one finds a twentieth more than the watermark."""

    def __init__(self, disk: Disk, clock: Clock, free_bytes_min: int) -> None:
        self._disk = disk
        self._clock = clock
        self._free_bytes_min = free_bytes_min
        self._next_look_ms = clock.monotonic_ms()
        self.free_bytes = 0
        self.is_low = False
        self.run_once()

    def run_once(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_look_ms:
            return
        self._next_look_ms = now_ms + LOOK_MS
        self.free_bytes = self._disk.free_bytes()
        bound = self._free_bytes_min * 21 // 20 if self.is_low else self._free_bytes_min
        self.is_low = self.free_bytes < bound
