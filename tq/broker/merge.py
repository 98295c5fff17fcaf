"""Small submissions of many clients, waiting for the same entry, become one command.

A command costs the machine several times what a task costs it: names, templates, one write a table. Sixty-four
clients that each submit one task would pay that for every task. Submissions that stand side by side are joined,
and the answer, an item a task in order, is cut again, so nobody can tell.

Rules
- Only submissions that are not atomic, and only neighbours: the order of commands stays.
- Only small ones: a large one gains nothing, and an item with a key or a delay sends the whole command down the
  machine's slower path.
- Joined, they are still a submission that the machine takes (BATCH_TASKS_MAX).

Rejected: joining in the machine (the log would keep the many commands, and every node would join them again).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tq import limits
from tq.errors import TqError
from tq.machine.commands import Command, Submit

Done = Callable[[object, int], None]

SMALL_TASKS_MAX: Final = 16


def merge(commands: Iterable[tuple[Command, Done]]) -> list[tuple[Command, Done]]:
    """The same work in fewer commands."""
    merged: list[tuple[Command, Done]] = []
    specs: list[bytes] = []  # of the submissions being joined
    parts: list[tuple[int, Done]] = []

    def close() -> None:
        if len(parts) == 1:
            merged.append((Submit(specs), parts[0][1]))
        elif parts:
            merged.append((Submit(specs), _Cut(parts)))

    for command, done in commands:
        if command.__class__ is Submit and _is_small(command):
            more: list[bytes] = command.specs
            if len(specs) + len(more) > limits.BATCH_TASKS_MAX:
                close()
                specs, parts = [], []
            specs.extend(more)
            parts.append((len(more), done))
        else:
            close()
            specs, parts = [], []
            merged.append((command, done))
    close()
    return merged


def _is_small(command: Submit) -> bool:
    return not command.atomic and len(command.specs) <= SMALL_TASKS_MAX


class _Cut:
    """Gives everybody the answers to its own tasks; an error is everybody's."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[tuple[int, Done]]) -> None:
        self._parts = parts

    def __call__(self, answer: object, index: int) -> None:
        if isinstance(answer, TqError):
            for _count, done in self._parts:
                done(answer, index)
            return
        assert isinstance(answer, list)
        assert len(answer) == sum([count for count, _done in self._parts]), "an answer to each task"
        at = 0
        for count, done in self._parts:
            done(answer[at : at + count], index)
            at += count
