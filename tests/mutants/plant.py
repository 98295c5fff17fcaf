"""How a bug gets into a copy of the sources."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def plant(copy: Path, name: str, changes: Iterable[tuple[str, str, str]]) -> dict[Path, str]:
    """Replace (file, old, new), each of which must stand there exactly once. Returns what the files were."""
    before: dict[Path, str] = {}
    for path, old, new in changes:
        file = copy / path
        text = file.read_text()
        before.setdefault(file, text)
        if text.count(old) != 1:
            sys.exit(f"{name}: {path} has {text.count(old)} times\n{old}")
        file.write_text(text.replace(old, new))
    return before
