"""The references of the command line and of the configuration, made from the code: ``python -m tq.cli.reference PAGE...``.

What stands outside of the marks in a page is written by hand and stays. A test compares: who changes a command or a
setting runs this.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from tq.cli import config_page
from tq.cli.main import new_app

MARK = "<!-- From here on: python -m tq.cli.reference docs/cli.md -->"
COMMON = ("--brokers", "--output", "--verbose", "--timeout", "--help", "--watch", "--every")
"""Told once, by hand."""
EXAMPLE = re.compile(r"^Example: (tq .*)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, Any]]:
    """``("queues pause", command)`` of each, in the order of the help. A group that does something itself is one, too."""
    root: Any = get_command(new_app())
    for name, command in root.commands.items():
        parts = getattr(command, "commands", None)
        if parts is None or command.invoke_without_command:
            yield name, command
        for part, inner in (parts or {}).items():
            yield f"{name} {part}", inner


def examples(command: Any) -> list[str]:
    """The lines that its help shows."""
    return EXAMPLE.findall(command.help or "")


def generated() -> str:
    """All commands, in Markdown."""
    return "\n".join([f"{MARK}\n", *(_section(name, command) for name, command in commands())])


def renewed(page: str) -> str:
    """The page with what is generated in its place. Raises ValueError: it has no mark."""
    kept, mark, _old = page.partition(MARK)
    if mark:
        return kept + generated()
    kept, mark, rest = page.partition(config_page.BEGIN)
    _old, end, tail = rest.partition(config_page.END)
    if mark and end:
        return kept + config_page.generated() + tail
    raise ValueError(f"the page has no line {MARK}, and no lines {config_page.BEGIN} and {config_page.END}")


def _section(name: str, command: Any) -> str:
    text = EXAMPLE.sub("", command.help or "").strip()
    text = re.sub(r"\n{3,}", "\n\n", text)
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = " ".join(["tq", name, *(_argument(param) for param in arguments)])
    lines = [f"## tq {name}\n", f"{text}\n", "```", *(examples(command) or [usage]), "```\n"]
    rows = [(f"`{_argument(param)}`", param.help or "") for param in arguments]
    own = [param for param in options if not set(param.opts) & set(COMMON)]
    rows += [(_option(param), _help(param)) for param in own]
    if rows:
        lines += ["| | |", "|---|---|", *(f"| {left} | {_escaped(right)} |" for left, right in rows), ""]
    shared = [f"`{max(param.opts, key=len)}`" for param in options if set(param.opts) & set(COMMON) - {"--help"}]
    if shared:
        lines.append(f"Also {', '.join(shared)}.\n")
    return "\n".join(lines)


def _argument(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    many = "..." if param.nargs != 1 else ""
    return f"{name}{many}" if param.required else f"[{name}]{many}"


def _option(param: Any) -> str:
    names = sorted([*param.opts, *param.secondary_opts], key=lambda name: (name.startswith("--no-"), -len(name)))
    value = "" if param.is_flag else " " + _value(param)
    return _escaped(f"`{', '.join(names)}{value}`")


def _value(param: Any) -> str:
    if param.metavar:
        return str(param.metavar)
    is_number = isinstance(param.default, (int, float)) and not isinstance(param.default, bool)
    return "N" if is_number else "TEXT"


def _help(param: Any) -> str:
    text = param.help or ""
    default = param.default
    if default in (None, "", False, True) or callable(default) or "[default" in text:
        return text
    shown = getattr(default, "value", default)
    return f"{text} [default: {shown:g}]" if isinstance(shown, float) else f"{text} [default: {shown}]"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str]) -> None:
    if not arguments:
        typer.echo("usage: python -m tq.cli.reference docs/cli.md docs/configuration.md", err=True)
        raise SystemExit(2)
    for page in map(Path, arguments):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
