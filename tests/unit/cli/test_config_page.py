"""What the reference of the configuration says of a setting; that it stands in docs/configuration.md is test_reference's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from tq import config
from tq.cli import config_page

FIELDS = {
    (section, field.name): field
    for section, cls in config.SECTIONS.items()
    for field in attrs.fields(attrs.resolve_types(cls))
}


def row(section: str, name: str) -> list[str]:
    part = config_page.generated().split(f"\n## [{section}]\n")[1].split("\n## ")[0]
    (found,) = re.findall(rf"^\| `{name}` \|.*$", part, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", found)[1:-1]]


@pytest.mark.parametrize(
    ("section", "name", "says"),
    [
        ("node", "id", ['`"n1"`', "text, 1 – 128 characters", ""]),
        ("node", "listen", ['`"127.0.0.1:7379"`', "`host:port`, loopback", ""]),
        ("node", "peer_listen", ['`"127.0.0.1:7380"`', "`host:port`, loopback without TLS", ""]),
        ("node", "data_dir", ['`"tq-data"`', "a folder", ""]),
        ("cluster", "peers", ["none", "1, 3, 5 or 7 nodes", ""]),
        ("cluster", "secret_file", ["none", "a file", ""]),
        ("leases", "lease_ms", ["30,000 (30s)", "whole number, 200 – 86,400,000", "ms"]),
        ("leases", "crashes_max", ["3", "whole number, 1 – 1,000", ""]),
        ("retention", "dead_keep_ms", ["2,592,000,000 (30d)", "whole number, 0 – 316,224,000,000", "ms"]),
        ("storage", "checkpoint_ms", ["100", "whole number, 10 – 10,000", "ms"]),
        ("storage", "sync", ['`"auto"`', '`"inline"`, `"thread"`, `"auto"`', ""]),
        ("limits", "disk_free_min_bytes", ["536,870,912 (512 MiB)", "whole number, 0 – 1,152,921,504,606,846,976", "bytes"]),
    ],
)  # fmt: skip
def test_a_row(section: str, name: str, says: list[str]) -> None:
    _key, _variable, kind, unit, default, words = row(section, name)
    assert [default, kind, unit] == says
    assert words.startswith(FIELDS[section, name].metadata["comment"])


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_each_setting_has_words_and_a_variable_that_sets_it(section: str, name: str) -> None:
    field: attrs.Attribute[Any] = FIELDS[section, name]
    key, variable, kind, *_rest, words = row(section, name)
    assert key == f"`{name}`"
    assert kind
    assert words.endswith((".", ")"))
    if (section, name) == ("cluster", "peers"):
        assert variable == ""
        return
    values = {name: text for name, text in TLS.items() if section == "tls"} | {variable.strip("`"): text_of(field)}
    loaded = config.load(None, values)
    assert loaded.origins[f"{section}.{name}"] == variable.strip("`")


TLS = {"TQ_TLS__CA_FILE": "ca", "TQ_TLS__CERT_FILE": "cert", "TQ_TLS__KEY_FILE": "key"}
"""All or none."""


def text_of(field: attrs.Attribute[Any]) -> str:
    return str(field.default) or "some-file"


def test_each_section_says_what_it_is_for() -> None:
    page = config_page.generated()
    for section, cls in config.SECTIONS.items():
        assert cls.__doc__
        assert f"## [{section}]\n\n{cls.__doc__.split(chr(10))[0]}" in page


def test_a_check_without_words_is_not_passed_over() -> None:
    @attrs.frozen
    class Section:
        key: str = attrs.field(default="x", validator=attrs.validators.max_len(3))

    with pytest.raises(KeyError):
        config_page.kind(attrs.fields(Section).key)


def test_the_page_has_it_between_hand_and_hand() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page.index("**Precedence.**") < page.index(config_page.BEGIN)
    assert page.index(config_page.END) < page.index("## Health and metrics")
