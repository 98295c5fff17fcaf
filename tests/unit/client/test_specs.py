"""What a TaskSpec becomes on the wire: read back by the parser that the broker uses."""

from __future__ import annotations

import datetime
from typing import Any

import attrs
import pytest

from tq import cbor
from tq import spec as wire
from tq.client.specs import CONTENT_TYPE_DEFAULT, Mould, Priority, Retry, TaskSpec, Unique, encode
from tq.errors import InvalidRequest
from tq.spec import Spec, parse

ID = b"i" * 16


def read(**fields: Any) -> Spec:
    return parse(encode(TaskSpec(**{"type": "echo", **fields}), ID))


def test_a_plain_task_is_as_short_as_can_be() -> None:
    assert cbor.loads(encode(TaskSpec("echo", b"x"), ID)) == [ID, "echo", b"x"]
    assert cbor.loads(encode(TaskSpec("echo", b"x", "mail", 7), ID)) == [ID, "echo", b"x", "mail", 7]


def test_defaults_are_those_of_the_wire() -> None:
    assert read() == Spec(ID, "echo", b"")
    assert Spec(ID, "echo", b"").content_type == CONTENT_TYPE_DEFAULT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"queue": "mail"}, {"queue": "mail"}),
        ({"priority": Priority.HIGH}, {"priority": 225}),
        ({"delay": 1.5}, {"delay_ms": 1500}),
        ({"not_before": 1e9}, {"not_before_ms": 1_000_000_000_000}),
        (
            {"not_before": datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.UTC)},
            {"not_before_ms": 1_000_000_000_000},
        ),
        ({"expires_in": 60}, {"expires_in_ms": 60_000}),
        ({"timeout": 0.25}, {"timeout_ms": 250}),
        ({"deadline": 3600}, {"deadline_ms": 3_600_000}),
        ({"retry": Retry(max_attempts=8)}, {"retry": wire.Retry(attempts_max=8)}),
        ({"retry": Retry(3, 0.1, 1.5, 9, 0)}, {"retry": wire.Retry(3, 100, 1500, 9000, 0)}),
        ({"unique": "k"}, {"unique": ("k", wire.UNIQUE_RUNNING)}),
        ({"unique": Unique("k", during="pending")}, {"unique": ("k", wire.UNIQUE_PENDING)}),
        ({"idempotency_key": "k"}, {"idempotency_key": "k"}),
        ({"tags": ["a", "b"]}, {"tags": ("a", "b")}),
        ({"headers": {"b": "2", "a": "1"}}, {"headers": (("a", "1"), ("b", "2"))}),
        ({"content_type": "text/plain"}, {"content_type": "text/plain"}),
        ({"result_ttl": 5}, {"result_ttl_ms": 5000}),
        ({"payload": bytearray(b"p")}, {"payload": b"p"}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_each_field(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read(**fields) == Spec(ID, "echo", expected.get("payload", b""))._replace(**expected)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"delay": -1}, "delay is -1: must be a number of seconds, 0 to 316,224,000"),
        ({"timeout": 0}, "timeout is 0: must be a number of seconds, 0.001 to 316,224,000"),
        ({"expires_in": 1e9}, "expires_in is 1000000000.0: must be a number of seconds, 0.001 to 316,224,000"),
        ({"not_before": "tomorrow"}, "not_before is 'tomorrow': must be an aware datetime, or epoch seconds"),
        ({"retry": 3}, "retry is 3: must be a Retry, for example Retry(max_attempts=3)"),
        ({"retry": Retry(max_attempts=0)}, "retry.max_attempts is 0: must be 1 to 10,000"),
        ({"retry": Retry(jitter=3)}, "retry.jitter is 3: must be a number, 0 to 1"),
        ({"retry": Retry(factor=0.5)}, "retry.factor is 0.5: must be a number, 1 to 100"),
        ({"unique": 5}, "unique is 5: must be a text, or a Unique"),
    ],
)
def test_what_is_refused_is_told_in_the_names_and_units_that_were_written(fields: dict[str, Any], says: str) -> None:
    """Not in those of the wire, which the broker would answer with."""
    with pytest.raises(InvalidRequest) as caught:
        encode(TaskSpec("echo", **fields), ID)
    assert caught.value.message == says


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"payload": "text"}, "payload"),
        ({"type": 5}, "type"),
        ({"queue": b"q"}, "queue"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"delay": "5"}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"timeout": float("inf")}, "timeout"),
        ({"not_before": datetime.datetime(2001, 1, 1)}, "not_before"),
        ({"tags": "abc"}, "tags"),
        ({"tags": [1]}, "tags"),
        ({"headers": {"a": 1}}, "headers"),
        ({"unique": Unique("k", during="always")}, "unique.during"),  # type: ignore[arg-type]
        ({"retry": Retry(max_attempts=2.5)}, "retry.max_attempts"),  # type: ignore[arg-type]
        ({"idempotency_key": 5}, "idempotency_key"),
    ],
)
def test_what_has_no_bytes_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.detail["field"] == field


def test_bounds_are_left_to_the_broker() -> None:
    raw = encode(TaskSpec("echo", priority=999), ID)
    with pytest.raises(InvalidRequest, match="priority"):
        parse(raw)


@pytest.mark.parametrize("size", [0, 100, 70_000])
def test_json_alone_is_written_as_any_other_option(size: int) -> None:
    task = TaskSpec("t", b"p" * size, queue="q", priority=7, content_type="application/json")
    assert encode(task, bytes(16)) == cbor.dumps([bytes(16), "t", b"p" * size, "q", 7, {1: "application/json"}])
    assert parse(encode(task, bytes(16))).content_type == "application/json"
    with pytest.raises(InvalidRequest, match="priority"):
        encode(TaskSpec("t", priority=True, content_type="application/json"), bytes(16))
    with pytest.raises(InvalidRequest, match="queue"):
        encode(TaskSpec("t", queue=b"q", content_type="application/json"), bytes(16))  # type: ignore[arg-type]


# ---- moulds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"p", b"p" * 24, b"p" * 300, b"p" * 70_000, bytearray(b"b")], ids=len)
@pytest.mark.parametrize(
    "fields",
    [{}, {"type": "t" * 30}, {"queue": "q"}, {"priority": 3}, {"content_type": wire.JSON},
     {"content_type": wire.JSON, "timeout": 5, "tags": ("a",), "headers": {"h": "v"}, "retry": Retry(3)}],
    ids=",".join,
)  # fmt: skip
def test_a_mould_makes_the_same_tasks_with_the_same_bytes(fields: dict[str, Any], payload: bytes) -> None:
    fields = {"type": "t", **fields}
    plain = TaskSpec(**fields, payload=payload)
    mould = Mould(TaskSpec(**fields))
    made = mould.spec(payload)
    assert made == plain
    assert repr(made) == repr(plain)
    other = bytes(range(16))
    assert (encode(made, ID), encode(made, other)) == (encode(plain, ID), encode(plain, other))
    assert encode(mould.spec(b"other"), ID) == encode(attrs.evolve(plain, payload=b"other"), ID)


def test_a_task_from_a_mould_may_be_changed() -> None:
    made = Mould(TaskSpec("t", content_type=wire.JSON)).spec(b"p")
    changed = attrs.evolve(made, queue="other")
    assert parse(encode(changed, ID)).queue == "other"
    assert changed == TaskSpec("t", b"p", queue="other", content_type=wire.JSON)


def test_a_mould_of_what_has_no_bytes_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="delay"):
        Mould(TaskSpec("t", delay="x"))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="payload"):
        encode(Mould(TaskSpec("t")).spec("text"), ID)  # type: ignore[arg-type]
