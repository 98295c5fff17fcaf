"""Free disk, looked at from time to time: below the watermark, submissions are refused.

What the store has in its file and does not use counts as free, because the next changes go there. But the log needs
real disk: below half of the watermark of that, nothing else helps.

A leader may have room and still must not take more: if the followers that have room are too few to commit anything,
the next entries would fill the disks of the others, and those nodes stop. A follower that is away counts as one without
room while another has none; if all that is wrong is that some are away, this is not the disk's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tq.world import Clock, Disk

LOOK_MS = 1_000


class DiskWatch:
    """
    Args:
        reusable_bytes: that the store has and does not use.

    Attributes:
        free_bytes: of the disk.
        is_low: from the look that found too little until one finds a twentieth more than the watermark.
    """

    def __init__(
        self, disk: Disk, clock: Clock, free_bytes_min: int, reusable_bytes: Callable[[], int] = lambda: 0
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._free_bytes_min = free_bytes_min
        self._reusable_bytes = reusable_bytes
        self._next_look_ms = clock.monotonic_ms()
        self._low_peers: set[str] = set()
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
        self.is_low = self.free_bytes < bound and (
            self.free_bytes < bound // 2 or self.free_bytes + self._reusable_bytes() < bound
        )

    def heard(self, peer: str, is_low: bool) -> None:
        """What another node said of its own disk."""
        (self._low_peers.add if is_low else self._low_peers.discard)(peer)

    def are_followers_low(self, followers: Collection[str], reachable: Collection[str]) -> bool:
        """Whether those that are there and have room are too few for a majority, and disks are among the reasons."""
        if self._low_peers.isdisjoint(followers):
            return False
        able = 1 + sum(1 for peer in followers if peer in reachable and peer not in self._low_peers)
        return able < (len(followers) + 1) // 2 + 1
