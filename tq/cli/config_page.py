"""The reference of the configuration, made from the settings themselves: their words, types, bounds and defaults.

``tq/cli/reference.py`` puts it between the two marks of docs/configuration.md; what stands outside is written by hand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import attrs

from tq import config, limits
from tq.cli import times

BEGIN = "<!-- From here on: python -m tq.cli.reference docs/configuration.md -->"
END = "<!-- From here on by hand -->"
UNITS = {"_ms": "ms", "_bytes": "bytes"}
"""By the end of a key's name; ``unit`` looks for it before ``_min`` and ``_max``, too."""
TEXTS: dict[Callable[..., None] | None, str] = {
    config.is_name: f"text, 1 – {limits.NAME_CHARS_MAX} characters",
    config.is_folder: "a folder",
    config.is_address: "`host:port`, loopback",
    config.is_host_port: "`host:port`, loopback without TLS",
    None: "a file",
}
"""What a text may be, by who checks it."""


def generated() -> str:
    """All sections, in Markdown, with the marks."""
    return "\n".join([f"{BEGIN}\n", *(_section(name, cls) for name, cls in config.SECTIONS.items()), END])


def _section(section: str, cls: type) -> str:
    lines = [f"## [{section}]\n", f"{inspect.getdoc(cls)}\n"]
    lines += ["| key | environment | type | unit | default | what it does |", "|---|---|---|---|---|---|"]
    for field in attrs.fields(attrs.resolve_types(cls)):
        words = " ".join(filter(None, (field.metadata["comment"], field.metadata["more"])))
        cells = (
            f"`{field.name}`",
            f"`{variable(section, field.name)}`" if is_in_environment(field) else "",
            kind(field),
            unit(field.name),
            default(field),
            words.replace("|", "\\|"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def variable(section: str, name: str) -> str:
    """Of the environment."""
    return f"TQ_{section}__{name}".upper()


def is_in_environment(field: attrs.Attribute[Any]) -> bool:
    """A list of nodes is no text, so a variable cannot hold it."""
    return field.type != tuple[config.PeerEntry, ...]


def kind(field: attrs.Attribute[Any]) -> str:
    """What a value may be. Raises KeyError: a validator that has no words here."""
    if not is_in_environment(field):
        *most, largest = (str(size) for size in config.CLUSTER_SIZES if size)
        return f"{', '.join(most)} or {largest} nodes"
    if get_origin(field.type) is Literal:
        return ", ".join(f'`"{choice}"`' for choice in get_args(field.type))
    if isinstance(field.validator, config.Between):
        return f"whole number, {field.validator.low:,} – {field.validator.high:,}"
    return TEXTS[field.validator]


def unit(name: str) -> str:
    """Of a key: it stands in its name."""
    bare = name.removesuffix("_max").removesuffix("_min")
    return next((unit for end, unit in UNITS.items() if bare.endswith(end)), "")


def default(field: attrs.Attribute[Any]) -> str:
    """As the file has it; large numbers also as people say them."""
    value = field.default
    if not isinstance(value, int):
        return f'`"{value}"`' if value else "none"
    said = ""
    if unit(field.name) == "ms" and value >= 1_000:
        said = f" ({times.span(value / 1_000)})"
    elif unit(field.name) == "bytes" and value >= limits.MIB:
        said = f" ({value / limits.MIB:g} MiB)"
    return f"{value:,}{said}"
