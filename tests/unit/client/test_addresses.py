from __future__ import annotations

import pytest

from tq.client.addresses import Addresses, parse, show
from tq.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7000", [("127.0.0.1", 7000)]),
        ("a:1, b:2,a:1", [("a", 1), ("b", 2)]),
        ("host", [("host", 7379)]),
        ("[::1]:80", [("::1", 80)]),
        ("[::1]", [("::1", 7379)]),
        (["a:1", "b:2"], [("a", 1), ("b", 2)]),
    ],
)
def test_forms(text: str, expected: list[tuple[str, int]]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", ",", "a:b", "a:0", "a:99999", ":5", []])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="brokers"):
        parse(text)


def test_a_hint_is_tried_once_and_first() -> None:
    addresses = Addresses(parse("a:1,b:2"))
    assert addresses.take() == ("a", 1)
    addresses.prefer("c:3")
    assert [addresses.take() for _ in range(3)] == [("c", 3), ("b", 2), ("a", 1)]
    addresses.prefer(None)
    addresses.prefer("not an address:")
    assert addresses.take() == ("b", 2)


def test_shown_as_it_is_read() -> None:
    for text in ("127.0.0.1:1", "[::1]:2"):
        (address,) = parse(text)
        assert show(address) == text
