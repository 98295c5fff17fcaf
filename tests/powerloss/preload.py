"""Records with a library that stands before libc (preload.c): where strace is missing and a C compiler is not.

It sees what the process asks libc for. A call that goes past libc, or through a function that preload.c does not have,
is not seen; ``run.py`` compares the two recorders where both can be used.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from tests.powerloss.calls import Call, RecordingFailed, Translator

SOURCE = Path(__file__).with_name("preload.c")
COMPILERS = ("cc", "gcc", "clang")

_HEAD = struct.Struct("=ciqII")


def why_not() -> str | None:
    """Why it cannot be used here; None: it can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD is for Linux"
    return None if compiler() else "no C compiler (cc, gcc, clang) is installed"


def record(argv: list[str], root: Path, diary: Path, folder: Path) -> list[Call]:
    """Run ``argv`` to its end. Raises RecordingFailed."""
    library, journal = folder / "preload.so", folder / "recorded"
    built = subprocess.run(
        [compiler(), "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
        capture_output=True,
        check=False,
    )
    if built.returncode != 0:
        raise RecordingFailed(built.stderr.decode())
    translator = Translator(str(root), str(diary))
    environ = {**os.environ, "LD_PRELOAD": str(library), "TQ_RECORD_TO": str(journal)}
    done = subprocess.run(argv, env=environ, capture_output=True, check=False)
    if done.returncode != 0:
        raise RecordingFailed(done.stderr.decode())
    _read(journal.read_bytes(), translator)
    return translator.calls


def compiler() -> str:
    """Of C; empty if there is none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), "")


def _read(data: bytes, to: Translator) -> None:
    at = 0
    while at < len(data):
        kind, descriptor, number, first_bytes, second_bytes = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        first = data[at : at + first_bytes].decode()
        second = data[at + first_bytes : at + first_bytes + second_bytes]
        at += first_bytes + second_bytes
        match kind:
            case b"o":
                to.opened(descriptor, first, number)
            case b"w":
                to.wrote(descriptor, first, number, second)
            case b"t":
                to.truncated(first, number)
            case b"s":
                to.synced(first)
            case b"r":
                to.renamed(first, second.decode())
            case b"m":
                to.made_directory(first)
            case b"d":
                to.removed(first)
            case _:
                raise RecordingFailed(f"record {kind!r} before byte {at} is not understood")
