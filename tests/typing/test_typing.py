"""mypy and pyright know the signatures of tasks and clients: right*.py is accepted, each wrong line of wrong*.py is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted([*HERE.glob("right*.py"), *HERE.glob("wrong*.py")])
Found = dict[str, dict[int, set[str]]]
"""File -> line -> codes."""


def wanted(number: int) -> Found:
    """number: of the checker, in the order of the comments."""
    found: Found = {path.name: {} for path in FILES}
    for path in FILES:
        for line, text in enumerate(path.read_text().splitlines(), 1):
            comment = re.search(r"  # error: (.+?)(?:  #.*)?$", text)
            if comment:
                found[path.name][line] = set(comment[1].split(", ")[number].split())
    return found


def by_mypy() -> Found:
    argv = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-version=3.11",
        "--no-error-summary",
        "--hide-error-context",
    ]
    done = subprocess.run(
        [*argv, "--disable-error-code=unused-ignore", *(str(path.relative_to(ROOT)) for path in FILES)],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = {path.name: {} for path in FILES}
    for path, line, code in re.findall(
        r"^tests/typing/(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE
    ):
        found[path].setdefault(int(line), set()).add(code)
    return found


def by_pyright(tmp_path: Path) -> Found:
    """In a project of its own, as a user has one."""
    for path in FILES:
        shutil.copy(path, tmp_path)
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = {path.name: {} for path in FILES}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            line = one["range"]["start"]["line"] + 1
            found[Path(one["file"]).name].setdefault(line, set()).add(one.get("rule", one["message"]))
    return found


def shown(found: Found) -> list[str]:
    return [
        f"{name}:{line}: {' '.join(sorted(codes))}" for name in found for line, codes in sorted(found[name].items())
    ]


def test_mypy() -> None:
    assert shown(by_mypy()) == shown(wanted(0))


def test_pyright(tmp_path: Path) -> None:
    assert shown(by_pyright(tmp_path)) == shown(wanted(1))


def test_each_wrong_line_says_what_is_expected() -> None:
    for number in (0, 1):
        lines = {name: len(found) for name, found in wanted(number).items()}
        assert lines["right.py"] == lines["right_clients.py"] == 0
        assert lines["wrong.py"] > 20
        assert lines["wrong_clients.py"] > 10
