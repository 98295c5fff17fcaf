from __future__ import annotations

import pytest

from tq.errors import InvalidRequest
from tq.protocol.addresses import BACKOFF_MS_MAX, BACKOFF_MS_MIN, Addresses, backoff_ms, parse, show


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


def test_the_wait_before_the_next_try_doubles_to_a_bound_and_half_of_it_is_chance() -> None:
    assert [backoff_ms(failures, 0) for failures in (1, 2, 3, 100)] == [25, 50, 100, BACKOFF_MS_MAX // 2]
    assert {backoff_ms(1, draw) for draw in range(1_000)} == set(range(25, BACKOFF_MS_MIN + 1))
