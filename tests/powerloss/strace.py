"""Records with strace, which sees every system call there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.powerloss.calls import Call, RecordingFailed, Translator

TRACED = (
    "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,"
    "lseek,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,"
    "mmap,msync,sendfile,copy_file_range,io_uring_setup"
)
STRING_BYTES_MAX = 100_000_000
THROUGH_A_MAP = ("lock.mdb",)  # LMDB's table of readers: made anew at each start

_BEGUN = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$", re.DOTALL)
_ENDED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$", re.DOTALL)
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)$", re.DOTALL)
_DESCRIPTOR = re.compile(r"^(-?\d+)<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def why_not() -> str | None:
    """Why it cannot be used here; None: it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.decode().strip()}"


def record(argv: list[str], root: Path, diary: Path, folder: Path) -> list[Call]:
    """Run ``argv`` to its end. Raises RecordingFailed."""
    trace = folder / "strace"
    reader = _Reader(Translator(str(root), str(diary)))
    options = ["-f", "-qq", "-y", "-xx", "-s", str(STRING_BYTES_MAX), "-e", f"trace={TRACED}", "-e", "signal=none"]
    done = subprocess.run(["strace", *options, "-o", str(trace), *argv], capture_output=True, check=False)
    if done.returncode != 0:
        raise RecordingFailed(done.stderr.decode())
    with trace.open() as lines:
        for line in lines:
            reader.take(line.rstrip("\n"))
    return reader.to.calls


class _Reader:
    """Line by line. Knows where each descriptor stands, for the writes that do not say where they go.

    Calls of two threads or processes may overlap (an import may run a program), if they are none of those recorded.
    """

    def __init__(self, to: Translator) -> None:
        self.to = to
        self._positions: dict[int, int] = {}
        self._begun: dict[str, str] = {}  # by thread

    def take(self, line: str) -> None:
        if (begun := _BEGUN.match(line)) is not None:
            self._begun[begun[1]] = begun[2]
        elif (ended := _ENDED.match(line)) is not None:
            before = len(self.to.calls)
            self._call(self._begun.pop(ended[1]) + ended[2])
            if len(self.to.calls) > before:
                raise RecordingFailed(f"two threads make calls at once, their order is not known: {line[:200]}")
        else:
            self._call(line)

    def _call(self, line: str) -> None:
        match = _LINE.match(line)
        if match is None:
            raise RecordingFailed(f"strace wrote what is not understood: {line[:200]}")
        name, arguments, result, rest = match.groups()
        if result == "?" or result.startswith("-"):
            return
        found = _TEXT.findall(arguments)
        if any(cut for _, cut in found):
            raise RecordingFailed(f"strace cut a text: {line[:200]}")
        texts = [_bytes(text) for text, _ in found]
        if name in ("write", "writev", "pwrite64", "pwritev"):
            self._written(name, arguments, b"".join(texts), int(result))
        elif name in ("open", "openat", "creat"):
            flags = os.O_CREAT | os.O_TRUNC if name == "creat" else _flags(arguments)
            descriptor, path = _descriptor(result + rest)
            self._positions[descriptor] = 0
            self.to.opened(descriptor, path, flags)
        elif name == "lseek":
            self._positions[_descriptor(arguments)[0]] = int(result)
        else:
            self._named(name, arguments, [text.decode(errors="replace") for text in texts])

    def _written(self, name: str, arguments: str, data: bytes, result: int) -> None:
        if len(data) != result:
            raise RecordingFailed(f"{name}({arguments[:100]}: only {result} of {len(data)} bytes")
        descriptor, path = _descriptor(arguments)
        if name.startswith("p"):
            at = int(arguments.rsplit(",", 1)[1])
        else:
            at = self._positions.get(descriptor, 0)
            self._positions[descriptor] = at + len(data)
        self.to.wrote(descriptor, path, at, data)

    def _named(self, name: str, arguments: str, texts: list[str]) -> None:
        to = self.to
        _, path = _descriptor(arguments)
        match name:
            case "ftruncate":
                to.truncated(path, int(arguments.rsplit(",", 1)[1]))
            case "fsync" | "fdatasync":
                to.synced(path)
            case "rename":
                to.renamed(texts[0], texts[1])
            case "mkdir":
                to.made_directory(texts[0])
            case "unlink" | "rmdir":
                to.removed(texts[0])
            case "mmap":
                _, mapped = _descriptor(arguments.split(", ")[4])
                if "PROT_WRITE" in arguments and "MAP_SHARED" in arguments and not mapped.endswith(THROUGH_A_MAP):
                    to.did("a writable map", mapped)
            case _:
                for known in (path, *texts):
                    to.did(name, known)


def _descriptor(text: str) -> tuple[int, str]:
    match = _DESCRIPTOR.match(text)
    return (int(match[1]), _bytes(match[2]).decode()) if match else (-1, "")


def _flags(arguments: str) -> int:
    flags = 0
    for name in re.findall(r"O_\w+", arguments):
        flags |= getattr(os, name)
    return flags


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
