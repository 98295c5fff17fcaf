"""The table of transitions, line by line, and the header's bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq.machine import task as t
from tq.machine.states import ENDS, State
from tq.machine.task import (
    BACK,
    FRONT,
    FRONT_BYTES,
    HEADER_BYTES,
    TRANSITIONS,
    WHOLE,
    Event,
    Given,
    Task,
    check,
    unpack,
)
from tq.spec import Retry
from tq.store.keys import HASH_BYTES

CONTRACT = """
-          submit       waiting scheduled pending
waiting    dependency   scheduled pending
waiting    unmeetable   skipped
scheduled  due          pending
pending    claim        running
running    complete     completed
running    fail         scheduled dead cancelled
running    release      pending cancelled
running    snooze       scheduled cancelled
running    crash        pending dead cancelled
running    cancel       running
running    grace        cancelled
waiting    cancel       cancelled
scheduled  cancel       cancelled
pending    cancel       cancelled
waiting    expire       expired
scheduled  expire       expired
pending    expire       expired
waiting    deadline     dead
scheduled  deadline     dead
pending    deadline     dead
running    deadline     dead
dead       retry        pending scheduled
cancelled  retry        pending scheduled
expired    retry        pending scheduled
skipped    retry        pending scheduled
completed  purge        -
dead       purge        -
cancelled  purge        -
expired    purge        -
skipped    purge        -
"""


def _state(word: str) -> State | None:
    return None if word == "-" else State[word.upper()]


def test_the_table_is_the_contracts() -> None:
    wanted = {}
    for line in CONTRACT.strip().splitlines():
        old, event, *new = line.split()
        wanted[_state(old), Event[event.upper()]] = frozenset(map(_state, new))
    assert wanted == TRANSITIONS


def test_a_completed_task_only_leaves() -> None:
    assert {event for state, event in TRANSITIONS if state is State.COMPLETED} == {Event.PURGE}


@pytest.mark.parametrize("old", [*State, None])
@pytest.mark.parametrize("event", Event)
def test_check_stops_at_what_the_table_lacks(old: State | None, event: Event) -> None:
    for new in (*State, None):
        if new in TRANSITIONS.get((old, event), ()):
            check(old, event, new)
        else:
            with pytest.raises(AssertionError, match="impossible transition"):
                check(old, event, new)


def test_every_state_can_end_and_every_end_is_left_by_purge() -> None:
    reach = {state: {new for (old, _), many in TRANSITIONS.items() if old is state for new in many} for state in State}
    for state in State:
        seen, todo = set(), [state]
        while todo:
            for new in reach.get(todo.pop(), set()) - seen:
                seen.add(new)
                if new is not None:
                    todo.append(new)
        assert None in seen, f"{state} never leaves"
    assert {old for (old, event) in TRANSITIONS if event is Event.PURGE} == ENDS


U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    task = Task()
    task.id = draw(st.binary(min_size=16, max_size=16))
    task.state = draw(st.sampled_from(State))
    task.flags = draw(U16)
    task.reason = draw(st.integers(0, 4))
    task.priority = draw(st.integers(0, 255))
    for name in ("attempt", "crashes", "snoozes", "attempts_max", "stale"):
        setattr(task, name, draw(U16))
    for name in ("queue", "type", "history", "spec_bytes", "ready_ordinal"):
        setattr(task, name, draw(U32))
    for name in (
        "fence",
        "started",
        "ended",
        "created",
        "due",
        "expires",
        "deadline",
        "timeout",
        "grace",
        "ready_index",
    ):
        setattr(task, name, draw(U64))
    task.unique_hash = draw(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)) if task.flags & t.HAS_UNIQUE else b""
    task.given = None
    if task.flags & t.HAS_GIVEN:
        task.given = Given(draw(U64), draw(U64), Retry(draw(U16), draw(U64), draw(U32), draw(U64), draw(U16)))
    task.session, task.worker = b"", ""
    if draw(st.booleans()):
        task.session = draw(st.binary(min_size=16, max_size=16))
        task.worker = draw(st.text(max_size=10))
    return task


@given(tasks())
def test_a_header_reads_back(task: Task) -> None:
    again = unpack(task.id, task.pack())
    assert {name: getattr(again, name) for name in Task.__slots__} == {
        name: getattr(task, name) for name in Task.__slots__
    }
    assert t.state_of(task.pack()) is task.state


@given(tasks())
def test_front_and_back_meet(task: Task) -> None:
    raw = task.pack()
    assert WHOLE.unpack_from(raw) == FRONT.unpack_from(raw) + BACK.unpack_from(raw, FRONT_BYTES)
    assert FRONT_BYTES + BACK.size == HEADER_BYTES
    assert FRONT.unpack_from(raw)[-1] == task.spec_bytes
    assert raw[HEADER_BYTES - 4 : HEADER_BYTES] == task.ready_ordinal.to_bytes(4, "big")


def test_a_header_of_a_later_version_stops_the_node() -> None:
    raw = bytes((t.RECORD_VERSION + 1,)) + bytes(HEADER_BYTES - 1)
    with pytest.raises(AssertionError, match="record version"):
        unpack(bytes(16), raw)


@pytest.mark.parametrize(("priority", "band"), [(0, 0), (99, 0), (100, 1), (199, 1), (200, 2), (255, 2)])
def test_bands(priority: int, band: int) -> None:
    assert t.BAND[priority] == band
