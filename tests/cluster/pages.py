"""Somebody who follows a page of the documentation to the letter, in its order, against real processes.

Blocks by their language: ``console`` has commands behind ``$`` and then what they print (``...`` alone stands for any
lines, within a line for any characters), ``python`` is run, or saved if it begins with the name of a file, ``toml`` is saved
the same way, ``sh`` is for the reader's own machine. Commands that go on (``tq broker``, ``tq worker``, ``tq dev``) go on in
the background; the comment ``<!-- Ctrl-C: dev -->`` ends one. ``cluster.up`` and the faults are those of this repository, on free
ports. Ports of the page become free ones.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from cluster import spec
from tests.cluster.processes import ROOT, Ground, Process, eventually, free_ports
from tq import BrokerUnavailable, Client
from tq.bench.processes import TQ

COMMAND_SECONDS_MAX = 120
FILE_NAME = re.compile(r"# ([\w/]+\.\w+)\n")
PORTS = ("7379", "7380", "9091", "7389", "7390", "9092", "7399", "7400", "9093")

Block = tuple[str, str]
"""Language and text."""


def blocks(page: Path) -> list[Block]:
    """All of a page, with its comments ``Ctrl-C`` as blocks of their own."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$|^<!-- (Ctrl-C): (\w+) -->$", text, re.MULTILINE | re.DOTALL)
    return [(match[1] or match[3], match[2] or match[4]) for match in found]


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Each line behind ``$`` with the lines that it should print."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def matches(printed: list[str], wanted: list[str]) -> bool:
    """``...`` alone stands for any lines, also none; within a line for any characters. Dates are of any year."""
    pattern = ""
    for line in wanted:
        parts = [re.escape(part) for part in line.replace("2026-", "...-").split("...")]
        pattern += r"(?:.*\n)*" if line == "..." else ".*".join(parts) + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


class Reader:
    """In one folder. ``close`` ends what it started."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self.address = f"127.0.0.1:{self.ports['7379']}"
        paths = os.pathsep.join([str(ground.folder), str(ROOT)])
        self.environ = {"TQ_BROKERS": self.address, "NO_COLOR": "1", "PYTHONPATH": paths, "COLUMNS": "120"}
        self.background: dict[str, Process] = {}
        self.cluster = ground.folder / "three.toml"
        self.cluster.write_text(self.local(spec.THREE.read_text()).replace('"../data"', '"cluster-data"'))
        self._is_up = False

    def local(self, text: str) -> str:
        for known, free in self.ports.items():
            text = text.replace(f"127.0.0.1:{known}", f"127.0.0.1:{free}")
        return text

    def read(self, block: Block) -> None:
        language, text = block
        match language:
            case "toml":
                tomllib.loads(text)
                name = FILE_NAME.match(text)
                self.save(name[1] if name else "n1.toml", text)
            case "console":
                self.console(text)
            case "python":
                name = FILE_NAME.match(text)
                if name:
                    self.save(name[1], text)
                else:
                    self.run([sys.executable, "-W", "error", "-c", self.local(text)], [])
            case "Ctrl-C":
                self.stop(text)
            case "sh":
                assert re.fullmatch(r"(?:make [a-z]+|\. \.venv/bin/activate)(?:\n|$)(?:.*\n)*", text), text
            case _:
                raise AssertionError(f"a block of {language}: nobody tries it")

    def save(self, name: str, text: str) -> None:
        path = self.ground.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.local(text))

    def console(self, text: str) -> None:
        for command, wanted in commands(text):
            program, *arguments = shlex.split(self.local(command), comments=True)
            match program, *arguments:
                case "tq", ("broker" | "worker" | "dev") as kind, *_ if "--help" not in arguments:
                    self.start(kind, arguments)
                case "tq", *_:
                    self.run([*TQ, *arguments], wanted)
                case "export", assignment:
                    name, _, value = assignment.partition("=")
                    self.environ[name] = value
                case "python", "-m", "cluster.up", ("--background" | "--down") as option:
                    self.run(self._python("cluster.up", option), wanted)
                    self._is_up = option == "--background"
                case "python", "-m", "cluster.faults", *more:
                    self.run([*self._python("cluster.faults"), *more], wanted)
                case (("python" | "pytest" | "mypy" | "pyright"), *_):
                    module = [] if program == "python" else ["-m", program]
                    self.run([sys.executable, *module, *arguments], wanted)
                case _:
                    raise AssertionError(f"nobody tries this command: {command}")

    def _python(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, "--file", str(self.cluster), *arguments]

    def start(self, kind: str, arguments: list[str]) -> None:
        name = kind if kind not in self.background else f"{kind}-{len(self.background)}"
        if kind == "dev":
            arguments = [*arguments, "--listen", self.address]
        environ = (
            {**self.environ, "TQ_NODE__METRICS_LISTEN": f"127.0.0.1:{self.ports['9091']}"}
            if kind == "dev"
            else self.environ
        )
        process = Process(name, [*TQ, *arguments], self.ground.folder, environ)
        self.ground.processes.append(process)
        self.background[name] = process
        process.start()
        if kind == "broker":
            eventually("the broker serves", self.serves, process)
        else:
            eventually("the worker has a session", lambda: b"session opened" in process.log.read_bytes(), process, 60)

    def stop(self, name: str) -> None:
        """As Ctrl-C does."""
        process = self.background.pop(name)
        assert process.stop() == 0, process.tail()

    def serves(self) -> bool:
        with Client(self.address, timeout=1, reach=0.2) as client:
            try:
                return bool(client.cluster_status()["nodes"][0]["serving"])
            except BrokerUnavailable:
                return False

    def run(self, argv: list[str], wanted: list[str]) -> None:
        environ: Mapping[str, str] = {**os.environ, **self.environ}
        done = subprocess.run(
            argv,
            cwd=self.ground.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        said = f"{argv[-6:]}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said + "".join(f"\n{process.tail()}" for process in self.background.values())
        lines = done.stdout.splitlines() + done.stderr.splitlines()
        assert not wanted or matches(lines, wanted), f"{said}\nThe page says:\n" + "\n".join(wanted)

    def close(self) -> None:
        """Everything that runs still ends well."""
        for name in reversed(list(self.background)):
            self.stop(name)
        self.down()

    def down(self) -> None:
        if self._is_up:
            self.run(self._python("cluster.up", "--down"), [])
            self._is_up = False


def follow(ground: Ground, page: Path) -> None:
    """Read a whole page. AssertionError where it does not work as it says."""
    reader = Reader(ground)
    try:
        for block in blocks(page):
            reader.read(block)
        reader.close()
    finally:
        reader.down()
