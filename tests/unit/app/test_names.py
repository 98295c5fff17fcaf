"""A task has the name that its worker, who imports the module, gives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tq.app.names import module_name, name_of

SCRIPT = "from tq.app.names import name_of\ndef send(): ...\nprint(name_of(send))\n"


def outer() -> None:
    """Has a name."""


def test_a_function_of_a_module() -> None:
    def inner() -> None: ...

    assert name_of(outer) == f"{__name__}.outer"
    assert name_of(inner) == f"{__name__}.test_a_function_of_a_module.<locals>.inner"
    with pytest.raises(AttributeError):
        name_of(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["script", "-m"])
def test_the_program_itself_is_called_as_others_import_it(tmp_path: Path, how: str) -> None:
    package = tmp_path / "shop" / "jobs"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "mail.py").write_text(SCRIPT)
    (tmp_path / "plain.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[3])

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    if how == "script":
        assert run("shop/jobs/mail.py") == "shop.jobs.mail.send"
        assert run("plain.py") == "plain.send"
    else:
        assert run("-m", "shop.jobs.mail") == "shop.jobs.mail.send"
        assert run("-c", SCRIPT) == "__main__.send"


def test_a_package_that_is_run() -> None:
    assert module_name("__main__", "shop.__main__", "/x/shop/__main__.py") == "shop"
    assert module_name("__main__", None, None) == "__main__"
