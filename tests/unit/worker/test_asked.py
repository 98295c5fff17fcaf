"""How handlers ask for resources."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import tq
from tq.errors import NotInHandler
from tq.worker.asked import asked, resource


class Pool:
    size = 3


def test_a_parameter_asks_by_its_default_for_its_own_name_or_another() -> None:
    def handler(to: str, body: str = "", *, db: Pool = resource(), cache: Pool = resource("redis")) -> None: ...

    assert asked(handler) == {"db": "db", "cache": "redis"}


def test_one_that_wraps_another_asks_for_the_same() -> None:
    def handler(db: Pool = resource()) -> None: ...

    @functools.wraps(handler)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert asked(wrapper) == {"db": "db"}


@pytest.mark.parametrize("function", [dict, print, lambda payload, ctx: None])
def test_others_ask_for_nothing(function: Callable[..., Any]) -> None:
    assert asked(function) == {}


def test_who_calls_the_function_himself_is_told_to_pass_it() -> None:
    def handler(db: Pool = resource("pool")) -> int:
        return db.size

    assert handler(Pool()) == 3
    with pytest.raises(NotInHandler, match=r"<resource 'pool', filled by the worker> has no \.size.*pass the resource"):
        handler()
    assert not hasattr(resource("pool"), "__wrapped__"), "tools look for such names"


def test_it_is_found_at_the_front_door() -> None:
    assert tq.resource is resource
