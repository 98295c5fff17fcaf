"""Arguments are bound as a call would bind them, refused as it would refuse them, and reach the function as they were given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from tq.app.arguments import Parameters
from tq.errors import InvalidRequest


def plain(to: str, body: str = "hi") -> Any:
    return to, body


def named(to: str, *, cc: str = "", bcc: str) -> Any:
    return to, cc, bcc


def placed(a: int, b: int = 2, /, c: int = 3) -> Any:
    return a, b, c


def rest(a: int, b: int = 2, *more: int, flag: bool = False, **others: int) -> Any:
    return a, b, more, flag, others


def odd(self: int, args: int, /, *rest: int, kwargs: int = 0, **more: int) -> Any:
    """Names that others use for their own."""
    return self, args, rest, kwargs, more


def nothing() -> Any:
    return ()


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (plain, ("a",), {}), (plain, ("a", "b"), {}), (plain, (), {"to": "a"}), (plain, ("a",), {"body": "b"}), (plain, (), {}),
    (plain, ("a", "b", "c"), {}), (plain, ("a",), {"to": "b"}), (plain, ("a",), {"cc": "b"}), (plain, (), {"body": "b"}),
    (named, ("a",), {"bcc": "b"}), (named, ("a",), {}), (named, ("a", "b"), {"bcc": "c"}), (named, ("a",), {"bcc": "b", "cc": "c"}),
    (placed, (1,), {}), (placed, (1, 5), {}), (placed, (1, 5, 6), {}), (placed, (1,), {"c": 7}), (placed, (), {"a": 1}), (placed, (1,), {"b": 1}),
    (rest, (1,), {}), (rest, (1, 2, 3, 4), {"flag": True, "x": 1}), (rest, (1,), {"y": 1}), (rest, (), {"a": 1, "z": 2}), (rest, (1, 2), {"a": 3}),
    (odd, (1, 2), {}), (odd, (1, 2, 3), {"kwargs": 4, "self": 5, "args": 6}), (odd, (1,), {}),
    (nothing, (), {}), (nothing, (1,), {}), (nothing, (), {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_as_python_does(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """``inspect`` is the judge: of what is refused, and of what arrives."""
    parameters = Parameters(function, function.__name__)
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(InvalidRequest, match=rf"{function.__name__}\(\)"):
            parameters.bind(args, kwargs)
        return
    bound = parameters.bind(args, kwargs)
    again_args, again_kwargs = parameters.unbind(dict(bound))
    assert function(*again_args, **again_kwargs) == function(*args, **kwargs)


def test_what_is_left_out_stays_out() -> None:
    """So the default is the one of the code that runs the task."""
    assert Parameters(plain, "f").bind(("a",), {}) == {"to": "a"}
    assert Parameters(rest, "f").bind((1, 2, 3), {"x": 4}) == {"a": 1, "b": 2, "more": [3], "others": {"x": 4}}


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "field", "text"),
    [
        (plain, (), {}, "to", "f() is missing argument 'to'"),
        (plain, ("a", "b", "c"), {}, "arguments", "f() takes 2 arguments by place, 3 were given"),
        (nothing, (1,), {}, "arguments", "f() takes no arguments by place, 1 were given"),
        (plain, ("a",), {"to": "b"}, "to", "f() got two values for argument 'to'"),
        (plain, ("a",), {"cc": "b"}, "cc", "f() has no argument 'cc'; it has to, body"),
        (placed, (), {"a": 1}, "a", "f() takes argument 'a' by place only"),
    ],
)
def test_the_argument_is_named(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Parameters(function, "f").bind(args, kwargs)
    assert caught.value.message == text
    assert caught.value.detail["field"] == field


def test_another_version_of_the_code() -> None:
    parameters = Parameters(plain, "f")
    assert parameters.unbind({"to": "a"}) == ([], {"to": "a"})  # a new argument with a default
    with pytest.raises(
        InvalidRequest, match=r"f\(\) has no argument 'cc'; it has to, body: the task was submitted by another"
    ):
        parameters.unbind({"to": "a", "cc": "b"})
    with pytest.raises(InvalidRequest, match=r"is missing argument 'to': the task was submitted by another version"):
        parameters.unbind({"body": "b"})


def test_what_the_worker_fills_is_no_argument() -> None:
    parameters = Parameters(plain, "f", {"body"})
    assert parameters.names == ["to"]
    with pytest.raises(InvalidRequest, match="filled by the worker"):
        parameters.bind(("a",), {"body": "b"})
    with pytest.raises(InvalidRequest, match="takes 1 argument by place"):
        parameters.bind(("a", "b"), {})
