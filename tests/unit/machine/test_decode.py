"""Commands from strangers: every array is a command or an error, and an error leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.driver import SESSION, Driver, id_of
from tq import cbor, limits
from tq.errors import InvalidRequest, TqError, Unsupported
from tq.machine import commands as c
from tq.machine.commands import FORMAT, Command, Op
from tq.machine.decode import decode, encode

OPERATION = b"operation-------"
EXAMPLES: list[Command] = [
    c.Submit([b"spec"], True),
    c.SessionOpen(SESSION, "n", ["t"], ["q"]),
    c.SessionClose(SESSION),
    c.Claim(SESSION, 1, ["q"], 3),
    c.Report(
        SESSION,
        [
            [id_of(1), 5, 0, ["t", b"r"]],
            [id_of(1), 5, 1, [["E", "m", "t"], True, 5]],
            [id_of(1), 5, 2, None],
            [id_of(1), 5, 3, 7],
            [id_of(1), 5, 4, None],
        ],
        7,
    ),
    c.LeasesExpire([[id_of(1), 5]]),
    c.SessionsEnd([SESSION]),
    c.Cancel([id_of(1)], 5),
    c.Advance(3, 10, 7),
    c.Retry(OPERATION, [id_of(1)], 5),
    c.Purge(OPERATION, [id_of(1)]),
    c.JobStart(OPERATION, 1, [None, "q", None, None, 5], 10, 0),
    c.JobStep(OPERATION, 10),
    c.ClusterForm(id_of(9), "name"),
    c.SettingsSet(30_000, 3, 1_000, 100, 2_000, 3_000),
    c.QueueSet(OPERATION, "mail", "ana", [["paused", True], ["retry", [1, 2, 3, 4, 5]]]),
    c.Checkpoint([[id_of(1), 5, 1, b"data"], [id_of(1), 5, 2, None]]),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.floats() | st.text(max_size=3)
    | st.binary(max_size=3) | st.sampled_from([id_of(1), SESSION, OPERATION]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)  # fmt: skip


def test_there_is_an_example_of_each() -> None:
    assert [example.OP for example in EXAMPLES] == list(Op)


bodies = st.one_of(
    st.tuples(st.just(0), st.tuples(st.text(max_size=30), st.binary(max_size=300)).map(list)),
    st.tuples(st.just(2), st.none()),
    st.tuples(st.just(3), st.integers(0, 1 << 40)),
)


@given(
    st.lists(st.tuples(st.binary(min_size=15, max_size=17), st.integers(0, (1 << 63) - 1), bodies), max_size=30),
    st.integers(0, (1 << 32) - 1),
)
def test_outcomes_are_written_as_the_library_would(given: list[Any], draw: int) -> None:
    items = [[id, fence, *body] for id, fence, body in given]
    assert encode(c.Report(SESSION, items, draw)) == cbor.dumps([int(Op.REPORT), SESSION, items, draw])


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: type(command).__name__)
def test_encode_and_decode_are_opposites(command: Command) -> None:
    assert decode(cbor.loads(encode(command))) == command


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: type(command).__name__)
def test_each_field_is_checked(command: Command) -> None:
    array = cbor.loads(encode(command))
    for wrong in (array[:-1], [*array, None]):
        assert isinstance(decode(wrong), InvalidRequest)
    for at in range(1, len(array)):
        wrong = [*array[:at], {"no": "field is a map"}, *array[at + 1 :]]
        error = decode(wrong)
        assert isinstance(error, InvalidRequest)
        assert type(command).__name__ in error.detail["field"]


@pytest.mark.parametrize("array", [None, 5, [], {}, ["SUBMIT"], [True], [None]])
def test_what_is_no_command(array: Any) -> None:
    assert isinstance(decode(array), InvalidRequest)


@pytest.mark.parametrize("number", [0, max(Op) + 1, 99, -1, 1 << 63])
def test_an_unknown_number_is_unsupported(number: int) -> None:
    assert isinstance(decode([number, 1, 2]), Unsupported)


@st.composite
def bent(draw: st.DrawFn) -> Any:
    """A good command with something else somewhere, or anything at all."""
    array: Any = cbor.loads(encode(draw(st.sampled_from(EXAMPLES))))
    if draw(st.booleans()):
        at = draw(st.integers(1, len(array) - 1))
        if isinstance(array[at], list) and array[at] and draw(st.booleans()):
            inner = list(array[at])
            inner[draw(st.integers(0, len(inner) - 1))] = draw(values)
            array[at] = inner
        else:
            array[at] = draw(values)
    return draw(st.one_of(st.just(array), st.just(array), values))


@settings(max_examples=200)
@given(st.lists(bent(), min_size=1, max_size=6))
def test_apply_never_raises(arrays: list[Any]) -> None:
    d = Driver()
    d.do(c.QueueSet(OPERATION[::-1], "mail", "ana", []))  # the state knows of the newest format
    d.open()
    d.submit(1, timeout_ms=5)
    d.claim()
    for array in arrays:
        before = d.digest()
        d.index += 1
        answer = d.machine.apply(d.index, cbor.dumps([FORMAT, d.now_ms, [array]])).answers[0]
        if isinstance(answer, TqError):
            assert d.digest() == before


def test_what_a_message_may_nest_an_entry_can_hold() -> None:
    deep: Any = b""
    for _ in range(limits.CBOR_DEPTH_MAX):
        deep = [deep]
    d = Driver()
    assert isinstance(d.do(c.Report(SESSION, [[id_of(1), 5, 0, deep]], 1)), InvalidRequest)


@pytest.mark.parametrize("fence", [-1, 1 << 63, -(1 << 64), True])
def test_a_fence_is_a_number_that_the_history_can_hold(fence: int) -> None:
    d = Driver()
    d.submit(1)
    assert isinstance(d.do(c.Report(SESSION, [[id_of(1), fence, 2, None]], 1)), InvalidRequest)
    assert isinstance(d.do(c.LeasesExpire([[id_of(1), fence]])), InvalidRequest)
    d.show(1)


def test_another_format_stops_the_node() -> None:
    with pytest.raises(AssertionError, match="format 99"):
        Driver().machine.apply(9, cbor.dumps([99, 1, []]))
