"""Broken clocks and disks for real brokers, by a library that stands before libc (faulty.c); for Linux with a C compiler.

machines = Machines(folder)
machine = machines.under(broker)      # before it starts
machine.wall_offset_ms = 90_000       # at any time, also while it runs
"""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

from tests.powerloss.preload import compiler, why_not
from tq.bench.processes import Broker

__all__ = ["Machine", "Machines", "why_not"]

SOURCE = Path(__file__).with_name("faulty.c")

_FAULTS = struct.Struct("=qqqq")  # as in faulty.c: wall_offset_ms, sync_ms, full, low


class Machine:
    """What is wrong with the machine of one broker. All of it may be changed at any time."""

    def __init__(self, control: Path) -> None:
        control.write_bytes(_FAULTS.pack(0, 0, 0, 0))
        with control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FAULTS.size)

    def _get(self, at: int) -> int:
        return int(_FAULTS.unpack(self._memory[: _FAULTS.size])[at])

    def _set(self, at: int, value: int) -> None:
        self._memory[at * 8 : at * 8 + 8] = struct.pack("=q", value)

    @property
    def wall_offset_ms(self) -> int:
        """The wall clock less the true one."""
        return self._get(0)

    @wall_offset_ms.setter
    def wall_offset_ms(self, offset_ms: int) -> None:
        self._set(0, offset_ms)

    @property
    def sync_ms(self) -> int:
        """How much longer a sync of the data folder takes."""
        return self._get(1)

    @sync_ms.setter
    def sync_ms(self, sync_ms: int) -> None:
        self._set(1, sync_ms)

    @property
    def is_full(self) -> bool:
        """Whether nothing that needs room can be written to the data folder, and none is free."""
        return bool(self._get(2))

    @is_full.setter
    def is_full(self, is_full: bool) -> None:
        self._set(2, int(is_full))

    @property
    def is_low(self) -> bool:
        """Whether no room is free for who asks; what is written is written all the same."""
        return bool(self._get(3))

    @is_low.setter
    def is_low(self, is_low: bool) -> None:
        self._set(3, int(is_low))

    def repair(self) -> None:
        self.wall_offset_ms = self.sync_ms = 0
        self.is_full = self.is_low = False


class Machines:
    """folder: for the library and what is wrong with each machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / "faulty.so"
        argv = [compiler(), "-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE", "-o", str(self._library), str(SOURCE)]
        built = subprocess.run([*argv, "-ldl"], capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr

    def under(self, broker: Broker) -> Machine:
        """Have ``broker`` run on such a machine from its next start on."""
        assert not broker.alive, f"{broker.name} runs already"
        control = self._folder / f"{broker.name}.faults"
        machine = Machine(control)
        broker.environ.update(
            LD_PRELOAD=str(self._library), TQ_FAULTY_CONTROL=str(control), TQ_FAULTY_FOLDER=str(broker.data)
        )
        return machine
