"""README.md is followed to the letter: what a new user types works. See ``pages.py``."""

from __future__ import annotations

import re
import subprocess

from tests.cluster.pages import blocks, commands, follow
from tests.cluster.processes import ROOT, Ground
from tq.bench.processes import TQ

PAGE = ROOT / "README.md"
README = PAGE.read_text(encoding="utf-8")


def test_the_readme_can_be_followed(ground: Ground) -> None:
    follow(ground, PAGE)


def test_the_page_has_what_this_test_looks_for() -> None:
    languages = [language for language, _ in blocks(PAGE)]
    assert languages.count("python") == 2
    assert languages.count("toml") == 1
    run = [
        command.split()[1] for language, text in blocks(PAGE) if language == "console" for command, _ in commands(text)
    ]
    assert {"dev", "broker", "worker", "submit", "status", "retry", "explain"} <= set(run)
    named = set(re.findall(r"`tq ([a-z][a-z-]*)`", README))
    shown = subprocess.run([*TQ, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert {"list", "events"} <= named <= set(re.findall(r"^\W*([a-z-]+)  ", shown, re.MULTILINE))
