"""What users are shown about tests is run: the snippets of docs/testing.md, and the project in docs/examples."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"
SHOP = ROOT / "docs" / "examples" / "shop"


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a user does, in a process of its own; the plugin is loaded by its entry point if tq is installed with it."""
    installed = {point.name for point in importlib.metadata.entry_points(group="pytest11")}
    plugin = [] if "tq" in installed else ["-p", "tq.testing.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


def test_the_shop() -> None:
    done = run_pytest(SHOP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^14 passed", done.stdout, re.MULTILINE), done.stdout


def test_the_page(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    (tmp_path / "test_page.py").write_text("\n\n".join(blocks), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = run_pytest(tmp_path, "-c", "pytest.ini", "--rootdir", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(len(re.findall(r"^def test_", block, re.MULTILINE)) for block in blocks)
    assert f"{tests} passed" in done.stdout


def test_a_slip_of_the_shop_is_seen(tmp_path: Path) -> None:
    """Its tests are tests: without the key the right task is as wrong as the naive one."""
    for path in SHOP.rglob("*.py"):
        target = tmp_path / path.relative_to(SHOP)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8").replace(", key=current().id", ""), encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text((SHOP / "pyproject.toml").read_text(encoding="utf-8"))
    done = run_pytest(tmp_path, "tests/test_faults.py", "-k", "with_a_key")
    assert done.returncode == 1, done.stdout
    assert "R2" in done.stdout
