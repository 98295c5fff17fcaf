"""README.md is followed to the letter, in its order, against real processes: what a new user types works.

Blocks by their language: ``toml`` is n1.toml (with free ports instead of the defaults), ``console`` has commands behind ``$``
and then what they print (``...`` alone stands for any lines), ``python`` is run, or saved if it begins with a file name,
``sh`` is make and the environment, whose targets ``test_house.py`` looks for. ``tq broker`` and ``tq worker`` go on in the background.
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

from tests.cluster.processes import Ground, Process, eventually, free_ports
from tq import BrokerUnavailable, Client
from tq.bench.processes import TQ

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMAND_SECONDS_MAX = 60


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


class Reading:
    """Somebody who follows the page, in one folder."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        client, metrics = free_ports(2)
        self.ports = {"7379": str(client), "9091": str(metrics)}
        self.address = f"127.0.0.1:{client}"
        self.environ = {"TQ_BROKERS": self.address, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        self.background: list[Process] = []

    def local(self, text: str) -> str:
        for known, free in self.ports.items():
            text = text.replace(f"127.0.0.1:{known}", f"127.0.0.1:{free}")
        return text

    def toml(self, text: str) -> None:
        tomllib.loads(text)
        (self.ground.folder / "n1.toml").write_text(self.local(text))

    def console(self, text: str) -> None:
        for command, wanted in commands(text):
            program, *arguments = shlex.split(command)
            assert program == "tq", command
            if arguments[0] in ("broker", "worker"):
                self.start(arguments)
            else:
                self.run([*TQ, *arguments], wanted)

    def start(self, arguments: list[str]) -> None:
        process = Process(f"{arguments[0]}-{len(self.background)}", [*TQ, *arguments], self.ground.folder, self.environ)
        self.ground.processes.append(process)
        self.background.append(process)
        process.start()
        if arguments[0] == "broker":
            eventually("the broker serves", self.serves, process)
        else:
            eventually("the worker has a session", lambda: b"session opened" in process.log.read_bytes(), process)

    def serves(self) -> bool:
        with Client(self.address, timeout=1, reach=0.2) as client:
            try:
                return bool(client.cluster_status()["nodes"][0]["serving"])
            except BrokerUnavailable:
                return False

    def run(self, argv: list[str], wanted: list[str]) -> None:
        environ: Mapping[str, str] = {**os.environ, **self.environ}
        done = subprocess.run(
            argv, cwd=self.ground.folder, env=environ, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX
        )
        said = f"{argv[-6:]}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        lines = done.stdout.splitlines() + done.stderr.splitlines()
        assert not wanted or matches(lines, wanted), f"{said}\nThe page says:\n" + "\n".join(wanted)

    def python(self, text: str) -> None:
        name = re.match(r"# (\w+\.py)\n", text)
        if name:
            (self.ground.folder / name[1]).write_text(text)
        else:
            self.run([sys.executable, "-W", "error", "-c", self.local(text)], [])


def test_the_readme_can_be_followed(ground: Ground) -> None:
    reader = Reading(ground)
    for language, text in BLOCKS:
        match language:
            case "toml":
                reader.toml(text)
            case "console":
                reader.console(text)
            case "python":
                reader.python(text)
            case "sh":
                assert re.fullmatch(r"(?:make [a-z]+|\. \.venv/bin/activate)(?:\n|$)(?:.*\n)*", text), text
            case _:
                raise AssertionError(f"a block of {language}: nobody tries it")
    for process in reversed(reader.background):
        assert process.stop() == 0, process.tail()


def test_the_page_has_what_this_test_looks_for() -> None:
    languages = [language for language, _ in BLOCKS]
    assert languages.count("python") == 2
    assert languages.count("toml") == 1
    run = [command.split()[1] for language, text in BLOCKS if language == "console" for command, _ in commands(text)]
    assert {"broker", "worker", "submit", "status", "retry", "explain"} <= set(run)
    named = set(re.findall(r"`tq ([a-z][a-z-]*)`", README))
    shown = subprocess.run([*TQ, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert {"list", "events"} <= named <= set(re.findall(r"^\W*([a-z-]+)  ", shown, re.MULTILINE))


def test_other_output_than_the_page_s_is_seen() -> None:
    assert matches(["a", "b", "c"], ["...", "c"])
    assert matches(["c"], ["...", "c"])
    assert matches(["2031-01-02 dead (1)"], ["2026-... dead..."])
    assert not matches(["2031-01-02 completed (1)"], ["2026-... dead..."])
    assert matches(["a", "b", "c"], ["a", "...", "c"])
    assert matches(["a"], ["a"])
    assert not matches(["a", "b"], ["a"])
    assert not matches(["a", "x"], ["...", "c"])
    assert not matches([], ["a"])
