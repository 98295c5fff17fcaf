"""mypy and pyright know the signatures of tasks: right.py is accepted, and each wrong line of wrong.py is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Found = dict[str, dict[int, set[str]]]
"""File -> line -> codes."""


def wanted(number: int) -> dict[int, set[str]]:
    """Line -> codes of wrong.py. number: of the checker, in the order of the comments."""
    found: dict[int, set[str]] = {}
    for line, text in enumerate((HERE / "wrong.py").read_text().splitlines(), 1):
        comment = re.search(r"  # error: (.+)$", text)
        if comment:
            found[line] = set(comment[1].split(", ")[number].split())
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
        [*argv, "--disable-error-code=unused-ignore", "tests/typing/right.py", "tests/typing/wrong.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = {"right.py": {}, "wrong.py": {}}
    for path, line, code in re.findall(
        r"^tests/typing/(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE
    ):
        found[path].setdefault(int(line), set()).add(code)
    return found


def by_pyright(tmp_path: Path) -> Found:
    """In a project of its own, as a user has one."""
    for name in ("right.py", "wrong.py"):
        shutil.copy(HERE / name, tmp_path)
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = {"right.py": {}, "wrong.py": {}}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            line = one["range"]["start"]["line"] + 1
            found[Path(one["file"]).name].setdefault(line, set()).add(one.get("rule", one["message"]))
    return found


def shown(found: dict[int, set[str]]) -> list[str]:
    return [f"{line}: {' '.join(sorted(codes))}" for line, codes in sorted(found.items())]


def test_mypy() -> None:
    found = by_mypy()
    assert shown(found["right.py"]) == []
    assert shown(found["wrong.py"]) == shown(wanted(0))


def test_pyright(tmp_path: Path) -> None:
    found = by_pyright(tmp_path)
    assert shown(found["right.py"]) == []
    assert shown(found["wrong.py"]) == shown(wanted(1))


def test_each_wrong_line_says_what_is_expected() -> None:
    assert len(wanted(0)) == len(wanted(1)) > 20
