"""Options are known by name, later ones win, and which errors are permanent is told by classes and tests."""

from __future__ import annotations

import datetime
from typing import Any, get_type_hints

import attrs
import pytest

from tq import TaskSpec
from tq.app import options as o
from tq.client.specs import Retry
from tq.errors import ConfigError, InvalidRequest


def test_each_option_is_a_field_of_the_task() -> None:
    known = {field.name for field in attrs.fields(TaskSpec)}
    assert known - {"type", "payload", "content_type"} == o.SUBMITTED
    assert o.DECLARED - o.RUNS < o.SUBMITTED
    assert get_type_hints(o.Options).keys() == o.SUBMITTED
    for name in o.SUBMITTED:
        assert f"    {name}: " in (o.Options.__doc__ or ""), name
    for name in o.RUNS:
        assert f"    {name}: " in (o.TaskOptions.__doc__ or ""), name


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    o.check_names("f.options()", ["queue", "delay"], o.SUBMITTED)
    with pytest.raises(TypeError, match=r"f\.options\(\) has no option 'prioritty'; did you mean 'priority'\?"):
        o.check_names("f.options()", ["prioritty"], o.SUBMITTED)
    with pytest.raises(TypeError, match="has no option 'x'; it has deadline, "):
        o.check_names("f.options()", ["x"], o.SUBMITTED)
    with pytest.raises(TypeError, match="'executor'"):
        o.check_names("f.options()", ["executor"], o.SUBMITTED)


def test_later_ones_win() -> None:
    before = {"queue": "a", "timeout": 5, "headers": {"x": "1", "y": "1"}, "delay": 5}
    assert o.merged(before, {"timeout": None, "headers": {"y": "2"}}) == {
        "queue": "a", "timeout": None, "headers": {"x": "1", "y": "2"}, "delay": 5,
    }  # fmt: skip
    assert o.merged(before, {"headers": None})["headers"] is None
    assert "delay" not in o.merged(before, {"not_before": 5.0})
    assert "not_before" not in o.merged({"not_before": 5.0}, {"delay": 1})
    assert before["timeout"] == 5


def test_fields_of_a_spec() -> None:
    tags = iter(["a", "b"])
    retry = Retry(3)
    given = {"tags": tags, "timeout": None, "unique": "k", "retry": retry, "headers": {"a": "b"}}
    found = o.fields(given)
    assert found == {"tags": ("a", "b"), "retry": retry, "headers": {"a": "b"}}
    TaskSpec("t", b"", **found)
    with pytest.raises(InvalidRequest, match="tags"):
        o.fields({"tags": "abc"})
    moment = datetime.datetime.now(datetime.UTC)
    assert o.fields({"not_before": moment, "priority": 0, "delay": 0}) == {
        "not_before": moment,
        "priority": 0,
        "delay": 0,
    }


class Status(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


ERRORS: list[BaseException] = [ConnectionError("x"), ValueError("x"), Status(404), Status(503)]


@pytest.mark.parametrize(
    ("retry_on", "give_up_on", "permanent"),
    [
        (ConnectionError, None, [False, True, True, True]),
        (OSError, None, [False, True, True, True]),
        (None, ValueError, [False, True, False, False]),
        (None, (ValueError, lambda error: isinstance(error, Status) and error.code < 500), [False, True, True, False]),
        ([OSError, Status], [lambda error: getattr(error, "code", 0) == 404], [False, True, True, False]),
        ((), None, [True, True, True, True]),
        (None, (), [False, False, False, False]),
        (Exception, ValueError, [False, True, False, False]),
    ],
)
def test_which_errors_are_permanent(retry_on: Any, give_up_on: Any, permanent: list[bool]) -> None:
    test = o.gives_up(retry_on, give_up_on)
    assert test is not None
    assert [test(error) for error in ERRORS] == permanent


def test_nothing_is_asked_where_nothing_is_said() -> None:
    assert o.gives_up(None, None) is None


@pytest.mark.parametrize("test", [5, "ValueError", int, (ValueError, 5)])
def test_what_is_no_test(test: Any) -> None:
    with pytest.raises(ConfigError, match=r"retry_on has .*: it takes exceptions"):
        o.gives_up(test, None)
    with pytest.raises(ConfigError, match="give_up_on has"):
        o.gives_up(None, test)
