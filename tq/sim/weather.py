"""Random trouble for a group, and random clients: one seed, one story."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tq.errors import Backpressure, InvalidRequest, NotLeader
from tq.limits import RAFT_VOTERS_MAX
from tq.sim.group import Member, SimGroup
from tq.sim.random import SeededRandom

T = TypeVar("T")

SIZES = (3, 3, 3, 5, 5, 7)
SYNC_MS = (None, None, (1, 5), (5, 40), (30, 150))
DELAY_MS = ((1, 3), (1, 3), (1, 15), (5, 60))
PERMILLE = (0, 0, 20, 150)
RATES_PERMILLE = (1000, 1000, 1000, 950, 1050, 1200)
PAYLOAD_BYTES_MAX = 300


class Weather:
    """
    Attributes:
        group: in the trouble.
        log: what was done, in words.
    """

    def __init__(self, seed: int, *, size: int | None = None) -> None:
        self.random = SeededRandom(seed).fork()
        self.group = SimGroup(seed, size or self._one_of(SIZES), segment_bytes=self._one_of((600, 600, 4096)))
        for member in self.group.members.values():
            member.sync_ms = self._one_of(SYNC_MS)
            member.rate_permille = self._one_of(RATES_PERMILLE)
        network = self.group.network
        network.delay_ms = self._one_of(DELAY_MS)
        network.loss_permille = self._one_of(PERMILLE)
        network.duplicate_permille = self._one_of(PERMILLE)
        self.group.keep_bytes = self._one_of((0, 0, 3_000))
        self._compacts = self.random.below(4) > 0
        self._changes = self.random.below(2) == 0
        self._loses_disks = self.random.below(2) == 0
        self.log: list[str] = []
        self._proposed = 0
        self._acts: list[tuple[int, Callable[[], None]]] = [
            (60, self._propose), (15, self._read), (3, self._transfer), (3, self._change_voters), (14, self._checkpoint), (4, self._kill), (4, self._power_loss),
            (3, self._power_fails_soon), (14, self._restart), (4, self._pause), (8, self._go_on), (3, self._isolate),
            (3, self._cut_one_way), (2, self._partition), (5, self._heal), (1, self._all_down), (2, self._lose_messages),
            (2, self._lose_disk), (12, self._admit), (3, self._old_disk),
            (2, self._tell_untruth),
        ]  # fmt: skip

    def play(self, for_ms: int) -> None:
        """Let it blow for ``for_ms`` of true time, then see that all comes to a good end."""
        group = self.group
        group.start_all()
        total = sum(weight for weight, _ in self._acts)
        while group.now_ms < for_ms:
            group.run(1 + self.random.below(30))
            chance = self.random.below(total)
            for weight, act in self._acts:
                chance -= weight
                if chance < 0:
                    act()
                    break
        group.finish()

    def _one_of(self, choices: Sequence[T]) -> T:
        return choices[self.random.below(len(choices))]

    def _any(self) -> Member:
        members = list(self.group.members.values())
        return members[self.random.below(len(members))]

    def _note(self, text: str) -> None:
        self.log.append(f"{self.group.now_ms} {text}")

    # ---- clients --------------------------------------------------------------------------------------

    def _propose(self) -> None:
        for member in self.group.live():
            if member.node is not None and member.node.is_leader:
                for _ in range(1 + self.random.below(4)):
                    self._proposed += 1
                    data = b"%d " % self._proposed + bytes(self.random.below(PAYLOAD_BYTES_MAX))
                    try:
                        self.group.propose(member.name, data)
                    except (NotLeader, Backpressure):
                        break

    def _read(self) -> None:
        for member in self.group.live():
            if member.node is not None and member.node.is_leader:
                self.group.read_index(member.name)

    def _change_voters(self) -> None:
        """One leaves, or comes back, or a new one joins."""
        if not self._changes or self.group.unadmitted:
            return
        name = self.group.leader()
        if name is None:
            return
        voters = list(self.group.node(name).voters)
        away = [other for other in self.group.members if other not in voters]
        chance = self.random.below(3)
        if chance == 0 and len(voters) > 2:
            voters.remove(self._one_of([voter for voter in voters if voter != name]))
        elif chance == 1 and away:
            voters.append(self._one_of(away))
        elif len(self.group.members) < RAFT_VOTERS_MAX:
            newcomer = f"n{len(self.group.members) + 1}"
            self.group.join(newcomer)
            voters.append(newcomer)
        else:
            return
        try:
            self.group.change_voters(name, voters)
        except (Backpressure, InvalidRequest):
            return
        self._note(f"voters {voters}")

    def _transfer(self) -> None:
        for member in self.group.live():
            if member.node is not None and member.node.is_leader and len(self.group.members) > 1:
                try:
                    target = member.node.transfer()
                except InvalidRequest:
                    continue  # it is alone
                self._note(f"transfer from {member.name} to {target}")

    # ---- disks ----------------------------------------------------------------------------------------

    def _lose_disk(self) -> None:
        """One at a time, and only if those that are left can go on without it."""
        group = self.group
        if not self._loses_disks or group.unadmitted:
            return
        group.run(2)
        leader = group.leader()
        if leader is None or group.members[leader].paused:
            return
        node = group.node(leader)
        listed = node.journal.members.current
        is_settled = not node.joining and (listed is None or listed.index <= node.commit_index)
        name = self._one_of([voter for voter in group.members if voter != leader] or [leader])
        if name != leader and is_settled and len(node.voters) > 2 and name in node.voters:
            self._note(f"the disk of {name} is lost")
            group.lose_disk(name)

    def _admit(self) -> None:
        for name in self.group.unadmitted:
            if self.group.admit(name):
                self._note(f"the new disk of {name} is admitted by entry {self.group.members[name].admitted_index}")

    def _old_disk(self) -> None:
        """One that was lost comes back, or goes again."""
        if self.group.old:
            member = self._one_of(self.group.old)
            self._note(f"the old disk {member.label} {'comes back' if member.node is None else 'goes'}")
            if member.node is None:
                self.group.start_old(member)
            else:
                self.group.stop_old(member)

    # ---- trouble --------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self.group.checkpoint(self._any().name, compact=self._compacts)

    def _kill(self) -> None:
        member = self._any()
        if member.node is not None:
            self._note(f"kill {member.name}")
            self.group.kill(member.name)

    def _power_loss(self) -> None:
        member = self._any()
        if member.node is not None:
            self._note(f"power loss at {member.name}")
            self.group.power_loss(member.name)

    def _power_fails_soon(self) -> None:
        member = self._any()
        if member.node is not None:
            member.disk.stop_at(member.disk.steps + 1 + self.random.below(12))

    def _all_down(self) -> None:
        self._note("power loss of all")
        for member in self.group.live():
            self.group.power_loss(member.name)

    def _restart(self) -> None:
        member = self._any()
        if member.node is None:
            self._note(f"start {member.name}")
            self.group.start(member.name)

    def _pause(self) -> None:
        member = self._any()
        self._note(f"pause {member.name}")
        member.paused = member.node is not None

    def _go_on(self) -> None:
        for member in self.group.members.values():
            member.paused = False

    def _isolate(self) -> None:
        name = self._any().name
        self._note(f"isolate {name}")
        self.group.network.isolate(name, self.group.members)

    def _cut_one_way(self) -> None:
        sender, to = self._any().name, self._any().name
        self._note(f"cut {sender} to {to}")
        self.group.network.cut(sender, to)

    def _partition(self) -> None:
        names = sorted(self.group.members)
        side = [name for name in names if self.random.below(2)]
        self._note(f"partition {side}")
        self.group.network.partition(side, [name for name in names if name not in side])

    def _heal(self) -> None:
        self._note("heal")
        self.group.network.heal()

    def _lose_messages(self) -> None:
        self.group.network.drop_all()

    def _tell_untruth(self) -> None:
        """A process is said to have ended, and lives perhaps."""
        peer = self._any().name
        self._note(f"all are told that {peer} ended")
        for member in self.group.live():
            if member.name != peer and self.random.below(3):
                self.group.tell_gone(member.name, peer)
