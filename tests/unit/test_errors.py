"""Each error survives the wire; codes are one to one and stable."""

from __future__ import annotations

import pytest

from tq import cbor, errors
from tq.errors import ERRORS, InvalidRequest, NotLeader, TqError, from_wire, to_wire

CODES = {
    "INTERNAL", "PROTOCOL", "INVALID", "UNSUPPORTED", "TOO_LARGE", "NOT_FOUND", "CONFLICT", "INVALID_STATE", "STALE",
    "SESSION_LOST", "NOT_DONE", "BATCH_REFUSED", "UNAUTHENTICATED", "PERMISSION_DENIED", "BACKPRESSURE", "QUEUE_FULL",
    "DISK_FULL", "RATE_LIMITED", "NOT_LEADER", "UNAVAILABLE", "WAIT_TIMEOUT", "CONFIG", "DATA_DAMAGED", "STORAGE_FAILED",
}  # fmt: skip


def test_codes_are_stable() -> None:
    """A code may be added; taking one away or giving it another meaning breaks clients in the field."""
    assert set(ERRORS) >= CODES


def test_every_class_is_registered_under_its_code() -> None:
    classes = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, TqError)} - {TqError}
    assert set(ERRORS.values()) == classes
    assert all(ERRORS[cls.code] is cls for cls in classes)


@pytest.mark.parametrize("cls", ERRORS.values(), ids=ERRORS)
def test_round_trip(cls: type[TqError]) -> None:
    error = cls("what happened", retry_after=0.25, leader="127.0.0.1:7379", detail={"field": "id", "value": 7})
    fields = cbor.loads(cbor.dumps(to_wire(error)))
    again = from_wire(fields)
    assert type(again) is cls
    assert again.message == str(again) == "what happened"
    assert (again.retry_after, again.leader, again.detail) == (0.25, "127.0.0.1:7379", {"field": "id", "value": 7})
    assert to_wire(again) == fields == [
        cls.code, "what happened", cls.retryable, 250, "127.0.0.1:7379", cls.fault, {"field": "id", "value": 7},
    ]  # fmt: skip


def test_what_is_left_out() -> None:
    assert to_wire(NotLeader("not here")) == ["NOT_LEADER", "not here", True, None, None, "cluster", {}]
    assert from_wire(to_wire(NotLeader("not here"))).retry_after is None


def test_a_code_of_a_later_version() -> None:
    error = from_wire(["NEW_CODE", "something new", True, None, None, "caller", {}])
    assert type(error) is TqError
    assert "NEW_CODE" in str(error)
    assert "something new" in str(error)
    assert error.retryable
    assert error.fault == "caller"


def test_a_code_is_registered_once() -> None:
    before = dict(ERRORS)
    with pytest.raises(TypeError, match="twice"):
        type("Again", (TqError,), {"code": "INVALID"})
    assert before == ERRORS


def test_invalid_names_field_value_and_bound() -> None:
    error = InvalidRequest.of("priority", 300, "0 .. 255")
    assert error.message == "priority is 300: 0 .. 255"
    assert error.detail == {"field": "priority", "value": "300", "bound": "0 .. 255"}
    long = InvalidRequest.of("queue", "q" * 1_000, "shorter")
    assert len(long.detail["value"]) == 80


def test_fault_and_retryable_are_of_the_known_kinds() -> None:
    for cls in ERRORS.values():
        assert cls.fault in ("caller", "broker", "cluster")
        assert isinstance(cls.retryable, bool)
