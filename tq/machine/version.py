"""Which rules this code applies. An entry of a later format stops the node: it must be upgraded, not guess."""

from __future__ import annotations

from typing import Final

from tq.machine.commands import FORMAT

FORMATS: Final = frozenset({FORMAT})


def check_format(format_: object, index: int) -> None:
    assert format_ in FORMATS, (
        f"entry {index} has format {format_}; this version of tq knows {sorted(FORMATS)}: upgrade"
    )
