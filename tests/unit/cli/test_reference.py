"""The pages of the command line and of the configuration are what the code says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tq.cli import config_page, reference
from tq.cli.main import new_app

COMMANDS = list(reference.commands())
DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["cli.md", "configuration.md"])
def test_the_page_is_up_to_date(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    assert reference.renewed(text) == text, f"python -m tq.cli.reference docs/{name} renews it"


def test_what_is_written_by_hand_stays() -> None:
    page = f"by hand\n{reference.MARK}\nold"
    assert reference.renewed(page).startswith(f"by hand\n{reference.MARK}\n")
    assert "old\n" not in reference.renewed(page)
    page = f"by hand\n{config_page.BEGIN}\nold\n{config_page.END}\nmine\n"
    assert reference.renewed(page) == f"by hand\n{config_page.generated()}\nmine\n"
    for page in ("by hand", f"{config_page.BEGIN}\n", config_page.END):
        with pytest.raises(ValueError, match="no line"):
            reference.renewed(page)


def test_a_file_is_renewed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"mine\n{reference.MARK}\n")
    reference.main([str(page)])
    assert page.read_text() == "mine\n" + reference.generated()
    with pytest.raises(SystemExit):
        reference.main([])


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _command in COMMANDS])
def test_every_command_has_help_and_examples_that_can_be_typed(name: str, command: Any) -> None:
    assert command.help
    assert reference.examples(command), "write one: Example: tq ..."
    for example in reference.examples(command):
        assert parsed(example.split()[1:])[: len(name.split())] == name.split(), example


def parsed(words: list[str]) -> list[str]:
    """The commands that these words name. Fails where they cannot be parsed; nothing is run."""
    command: Any = get_command(new_app())
    context = command.make_context("tq", _unquoted(words))
    names = []
    while getattr(command, "commands", None) and context._protected_args:
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        names.append(name)
        context = command.make_context(name, rest, parent=context)
    return names


def _unquoted(words: list[str]) -> list[str]:
    """As a shell hands them on."""
    return shlex.split(" ".join(words))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _command in COMMANDS])
def test_every_option_says_what_it_is(name: str, command: Any) -> None:
    for param in command.params:
        assert param.help, f"tq {name}: {param.name} has no help"


def test_an_example_that_is_wrong_is_seen() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["list", "--nonsense"])


def test_the_tables_of_the_page_are_whole() -> None:
    for row in re.findall(r"^\|.*\|$", reference.generated(), re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) == 3, row
