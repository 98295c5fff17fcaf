"""The bytes of keys: their order is that of what they hold, and no two things have the same key."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq import limits
from tq.store import keys as k
from tq.store.store import KEY_BYTES_MAX

U8, U32, U64 = st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
ID = st.binary(min_size=16, max_size=16)


@given(st.lists(st.tuples(U32, U32, U8, U64, U32), min_size=2, max_size=2))
def test_ready_tasks_stand_by_queue_type_priority_and_age(places: list[tuple[int, int, int, int, int]]) -> None:
    by_bytes = sorted(places, key=lambda place: k.pack_ready(*place))
    assert by_bytes == sorted(places)
    queue, type_, *place = places[0]
    assert k.pack_ready(*places[0]) == k.READY_PAIR.pack(queue, type_) + k.READY_PLACE.pack(*place)


@given(st.lists(st.tuples(U8, U64, ID), min_size=2, max_size=2))
def test_timers_and_ended_tasks_stand_by_kind_and_time(rows: list[tuple[int, int, bytes]]) -> None:
    assert sorted(rows, key=lambda row: k.timer(*row)) == sorted(rows)
    assert sorted(rows, key=lambda row: k.pack_ended(*row)) == sorted(rows)


@given(U8, st.integers(0, limits.TIME_MS_MAX), st.integers(0, limits.TIME_MS_MAX), U8, ID)
def test_due_are_the_timers_up_to_now(kind: int, now_ms: int, time_ms: int, other: int, id: bytes) -> None:
    start, stop = k.timers_until(kind, now_ms)
    assert (start <= k.timer(kind, time_ms, id) < stop) == (time_ms <= now_ms)
    assert other == kind or not start <= k.timer(other, time_ms, id) < stop


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_after_is_the_end_of_a_prefix(prefix: bytes, rest: bytes) -> None:
    end = k.after(prefix)
    assert end is None or prefix + rest < end
    if end is None:
        assert prefix.strip(b"\xff") == b""
    else:
        # Nothing between the prefix and its end has another beginning.
        assert end[:-1] + bytes((end[-1] - 1,)) + b"\xff" * 9 >= prefix
        assert prefix.startswith(end[:-1])


def test_after_by_example() -> None:
    assert k.after(b"a") == b"b"
    assert k.after(b"a\xff") == b"b"
    assert k.after(b"\x00") == b"\x01"
    assert k.after(b"\xff\xff") is None
    assert k.after(b"") is None


@given(st.text(max_size=600))
def test_keys_of_users_have_a_fixed_length(text: str) -> None:
    assert len(k.hashed(text)) == k.HASH_BYTES
    assert k.idempotency(text) == b"i" + k.hashed(text)
    assert k.unique(k.hashed(text), bytes(16)).startswith(k.unique_prefix(k.hashed(text)))
    assert k.idempotency(text)[:1] != k.unique_prefix(k.hashed(text))[:1]
    assert len(k.number_of_name(k.KIND_QUEUE, text)) <= KEY_BYTES_MAX


@given(st.text(max_size=300), st.text(max_size=300))
def test_names_have_keys_of_their_own(one: str, other: str) -> None:
    keys = {k.number_of_name(kind, name) for kind in (k.KIND_QUEUE, k.KIND_TYPE) for name in (one, other)}
    assert len(keys) == (2 if one == other else 4)
    assert not keys & {k.name_of_number(kind, number) for kind in (b"q", b"t") for number in range(50)}


def test_a_long_name_is_hashed_and_cannot_be_taken_for_a_short_one() -> None:
    longest = "n" * k.NAME_PLAIN_BYTES_MAX
    assert k.number_of_name(b"q", longest) == b"Q" + longest.encode()
    hashed = k.number_of_name(b"q", longest + "n")
    assert len(hashed) == 2 + k.HASH_BYTES
    assert hashed[1:2] == b"\xff"  # no UTF-8 text begins so


@given(ID, st.lists(U32, min_size=2, max_size=2))
def test_history_is_in_the_order_of_its_numbers(id: bytes, numbers: list[int]) -> None:
    assert sorted(numbers, key=lambda number: k.history(id, number)) == sorted(numbers)
    assert all(k.history(id, number).startswith(id) for number in numbers)


def test_counts_of_states_and_of_ready_tasks_are_apart() -> None:
    keys = {k.count_state(q, s, b) for q in range(3) for s in range(9) for b in range(3)}
    keys |= {k.count_ready(q, t) for q in range(3) for t in range(9)} | {k.COUNT_FINISHED}
    assert len(keys) == 3 * 9 * 3 + 3 * 9 + 1


def test_numbers_are_packed_whole_or_not_at_all() -> None:
    assert k.unpack_u64(k.pack_u64(2**64 - 1)) == 2**64 - 1
    assert k.unpack_u64(None) == 0
    with pytest.raises(struct.error):
        k.pack_u64(2**64)
    with pytest.raises(struct.error):
        k.timer(256, 0, bytes(16))


def test_all_fixed_keys_fit_the_store() -> None:
    for packed in (
        k.pack_ready(0, 0, 0, 0, 0), k.timer(0, 0, bytes(16)), k.pack_ended(0, 0, bytes(16)), k.history(bytes(16), 0),
        k.unique(bytes(20), bytes(16)), k.LOG_TIME, k.CLUSTER, k.SETTINGS,
    ):  # fmt: skip
        assert 0 < len(packed) <= KEY_BYTES_MAX
