"""Which rules this code applies.

Theory. Every node must make the same of an entry. A node of an older version would refuse a command that it does not
know, a newer one would do it, and from then on their states differ. So each entry says which *format* it needs, and a
node stops at one that is too new for it: it must be upgraded, not guess.

Rules
- An entry has the least format that has all of its commands. While the new ones are not used, old and new versions work
  together, and a cluster can be upgraded node by node.
- A command never changes its meaning. In an entry of format n the commands that came later do not exist, so an old log
  gives the state that it always gave.
- The highest format that was applied stands in the state, and goes with it into snapshots and dumps: a version that does
  not know it does not begin to work on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tq.machine.commands import FORMAT, Command
from tq.store import keys
from tq.store.tables import Table
from tq.store.txn import ReadTxn, Txn

FORMATS: Final = range(1, FORMAT + 1)


def format_of(commands: Sequence[Command]) -> int:
    """What an entry with these commands needs."""
    return max([command.format for command in commands], default=1)


def check_format(format_: object, index: int) -> None:
    assert format_.__class__ is int, f"entry {index} has format {format_!r}, which is no number: upgrade"
    assert format_ in FORMATS, (
        f"entry {index} has format {format_}; this version of tq knows {FORMATS[0]} to {FORMATS[-1]}: upgrade"
    )


def stored(txn: ReadTxn) -> int:
    """The highest format that made this state."""
    raw = txn.get(Table.META, keys.FORMAT)
    format_ = 1 if raw is None else keys.unpack_u64(raw)
    assert format_ in FORMATS, (
        f"the state was made by format {format_}; this version of tq knows {FORMATS[0]} to {FORMATS[-1]}: upgrade"
    )
    return format_


def store(txn: Txn, format_: int) -> None:
    txn.put(Table.META, keys.FORMAT, keys.pack_u64(format_))
