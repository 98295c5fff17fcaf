"""Specs: what is written is read back; what is wrong is refused by name."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq import cbor, limits, spec
from tq.errors import InvalidRequest, PayloadTooLarge, TqError, Unsupported
from tq.spec import (
    JSON,
    JSON_OPTIONS,
    SMALL_BYTES_MAX,
    Option,
    Retry,
    Spec,
    encode,
    options_of,
    parse,
    parse_each,
    parse_plain,
)

EXAMPLES_MAX = 20_000 if os.environ.get("TQ_LONG") else 300
ID = bytes(range(16))
PLAIN = Spec(ID, "echo", b"hello")

GOOD = {
    "least": PLAIN,
    "queue": PLAIN._replace(queue="mail"),
    "priority": PLAIN._replace(priority=0),
    "queue and priority": PLAIN._replace(queue="mail", priority=255),
    "names of one": PLAIN._replace(type="x", queue="y"),
    "long names": PLAIN._replace(type="t" * 128, queue="é" * 128),
    "inner space": PLAIN._replace(type="a b"),
    "empty payload": PLAIN._replace(payload=b""),
    "content type": PLAIN._replace(content_type="application/json"),
    "delay": PLAIN._replace(delay_ms=1),
    "not before": PLAIN._replace(not_before_ms=0),
    "not before, late": PLAIN._replace(not_before_ms=limits.TIME_MS_MAX),
    "expires": PLAIN._replace(expires_in_ms=1),
    "timeout": PLAIN._replace(timeout_ms=limits.DURATION_MS_MAX),
    "deadline": PLAIN._replace(deadline_ms=5),
    "retry": PLAIN._replace(retry=Retry(1, 0, 1_000, 0, 1_000)),
    "unique": PLAIN._replace(unique=("key", spec.UNIQUE_PENDING)),
    "unique, running": PLAIN._replace(unique=("k" * 256, spec.UNIQUE_RUNNING)),
    "idempotency": PLAIN._replace(idempotency_key="order 7 "),
    "tags": PLAIN._replace(tags=("b", "a")),
    "headers": PLAIN._replace(headers=(("a", "line\nline"), ("b", ""))),
    "result_ttl": PLAIN._replace(result_ttl_ms=0),
    "all": Spec(ID, "t", b"p", "q", 1, "c", 2, None, 3, 4, 5, Retry(6), ("u", 0), "i", ("t",), (("h", "v"),), 7),
}


@pytest.mark.parametrize("task", GOOD.values(), ids=GOOD)
def test_written_and_read(task: Spec) -> None:
    raw = encode(task)
    got = parse(raw)
    assert got == task
    assert type(got) is Spec
    assert type(got.retry) is Retry


@pytest.mark.parametrize("task", GOOD.values(), ids=GOOD)
def test_defaults_written_out_mean_the_same(task: Spec) -> None:
    """Every option that has a value, default or not, in any order."""
    options: dict[int, Any] = {
        1: task.content_type, 2: task.delay_ms, 3: task.not_before_ms, 4: task.expires_in_ms, 5: task.timeout_ms,
        6: task.deadline_ms, 7: list(task.retry), 8: None if task.unique is None else list(task.unique),
        9: task.idempotency_key, 10: list(task.tags), 11: dict(reversed(task.headers)), 12: task.result_ttl_ms,
    }  # fmt: skip
    options = {number: value for number, value in reversed(options.items()) if value is not None}
    if task.not_before_ms is not None:
        del options[Option.DELAY_MS]
    assert parse(cbor.dumps([*task[:5], options])) == task


def test_defaults_are_left_out() -> None:
    assert encode(PLAIN) == b"\x83\x50" + ID + b"\x64echo\x45hello"
    assert parse(cbor.dumps([ID, "echo", b"hello", "default"])) == PLAIN
    assert parse(cbor.dumps([ID, "echo", b"hello", "default", 150])) == PLAIN
    assert parse(cbor.dumps([ID, "echo", b"hello", "default", 150, {}])) == PLAIN


def test_heads_may_be_longer_than_they_must() -> None:
    """Plain CBOR; some encoders do it. Both ways of reading take it."""
    five = b"\x58\x10" + ID + b"\x79\x00\x04echo" + b"\x5a\x00\x00\x00\x05hello" + b"\x78\x07default" + b"\x19\x00\x96"
    for head in (b"\x85", b"\x98\x05", b"\x99\x00\x05", b"\x9a\x00\x00\x00\x05", b"\x9b" + bytes(7) + b"\x05"):
        assert parse(head + five) == PLAIN
    for options in (b"\xa1\x18\x02\x07", b"\xb8\x01\x02\x07", b"\xb9\x00\x01\x02\x19\x00\x07"):
        for head in (b"\x86", b"\x98\x06"):
            assert parse(head + five + options) == PLAIN._replace(delay_ms=7)


def test_nothing_may_follow() -> None:
    for fields in ([ID, "t", b""], [ID, "t", b"", "q"], [ID, "t", b"", "q", 1], [ID, "t", b"", "q", 1, {2: 7}]):
        raw = cbor.dumps(fields)
        longer_head = bytes((0x98, len(fields))) + raw[1:]
        for whole in (raw, longer_head):
            parse(whole)
            with pytest.raises(InvalidRequest):
                parse(whole + b"\x00")
            with pytest.raises(InvalidRequest):
                parse(whole[:-1])


def with_options(options: dict[Any, Any]) -> bytes:
    return cbor.dumps([ID, "echo", b"x", "default", 150, options])


BAD_FIELDS: list[tuple[str, list[Any], str]] = [
    ("short id", [ID[:15], "t", b""], "id"),
    ("long id", [ID + b"x", "t", b""], "id"),
    ("text id", ["0123456789abcdef", "t", b""], "id"),
    ("no type", [ID, "", b""], "type"),
    ("long type", [ID, "t" * 129, b""], "type"),
    ("null type", [ID, None, b""], "type"),
    ("bytes type", [ID, b"t", b""], "type"),
    ("space before", [ID, " t", b""], "type"),
    ("space behind", [ID, "t ", b""], "type"),
    ("wide space", [ID, "t\u3000", b""], "type"),
    ("wide space before", [ID, "\u00a0é", b""], "type"),
    ("control", [ID, "a\nb", b""], "type"),
    ("NUL", [ID, "a\0b", b""], "type"),
    ("DEL", [ID, "a\x7fb", b""], "type"),
    ("C1 control", [ID, "a\x85b", b""], "type"),
    ("turned text", [ID, "a\u202eb", b""], "type"),
    ("text payload", [ID, "t", "p"], "payload"),
    ("null payload", [ID, "t", None], "payload"),
    ("array payload", [ID, "t", [b"p"]], "payload"),
    ("null queue", [ID, "t", b"", None], "queue"),
    ("no queue", [ID, "t", b"", ""], "queue"),
    ("long queue", [ID, "t", b"", "q" * 129], "queue"),
    ("low priority", [ID, "t", b"", "q", -1], "priority"),
    ("high priority", [ID, "t", b"", "q", 256], "priority"),
    ("boolean priority", [ID, "t", b"", "q", True], "priority"),
    ("float priority", [ID, "t", b"", "q", 1.0], "priority"),
    ("NaN priority", [ID, "t", b"", "q", float("nan")], "priority"),
    ("map as payload", [ID, "t", {"a": 1}], "payload"),
    ("too few", [ID, "t"], "spec"),
    ("too many", [ID, "t", b"", "q", 1, {}, 0], "spec"),
    ("null options", [ID, "t", b"", "q", 1, None], "spec"),
    ("array options", [ID, "t", b"", "q", 1, [1, "c"]], "spec"),
    ("id before options", [ID[:15], "t", b"", "q", 1, {}], "id"),
    ("type before options", [ID, " t", b"", "q", 1, {}], "type"),
    ("array type before options", [ID, ["t"], b"", "q", 1, {}], "type"),
    ("priority before options", [ID, "t", b"", "q", 256, {}], "priority"),
    ("negative priority before options", [ID, "t", b"", "q", -1, {}], "priority"),
]


@pytest.mark.parametrize(("fields", "named"), [case[1:] for case in BAD_FIELDS], ids=[case[0] for case in BAD_FIELDS])
def test_bad_fields_are_named(fields: list[Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(cbor.dumps(fields))
    assert caught.value.detail["field"] == named
    assert named in caught.value.message


DAY = limits.DURATION_MS_MAX + 1
BAD_OPTIONS: list[tuple[dict[Any, Any], str]] = [
    ({1: ""}, "content_type"), ({1: "c" * 129}, "content_type"), ({1: b"c"}, "content_type"), ({1: "a\nb"}, "content_type"),
    ({2: -1}, "delay_ms"), ({2: DAY}, "delay_ms"), ({2: 1.0}, "delay_ms"), ({2: True}, "delay_ms"), ({2: None}, "delay_ms"),
    ({3: -1}, "not_before_ms"), ({3: limits.TIME_MS_MAX + 1}, "not_before_ms"), ({3: 1, 2: 0}, "not_before_ms"),
    ({4: 0}, "expires_in_ms"), ({4: DAY}, "expires_in_ms"), ({5: 0}, "timeout_ms"), ({5: DAY}, "timeout_ms"),
    ({6: 0}, "deadline_ms"), ({6: DAY}, "deadline_ms"),
    ({7: None}, "retry"), ({7: [5, 0, 1000, 0]}, "retry"), ({7: [0, 0, 1000, 0, 0]}, "retry.attempts_max"),
    ({7: [10_001, 0, 1000, 0, 0]}, "retry.attempts_max"), ({7: [5, -1, 1000, 0, 0]}, "retry.base_ms"),
    ({7: [5, 0, 999, 0, 0]}, "retry.factor_milli"), ({7: [5, 0, 100_001, 0, 0]}, "retry.factor_milli"),
    ({7: [5, 0, 1000, DAY, 0]}, "retry.cap_ms"), ({7: [5, 0, 1000, 0, 1001]}, "retry.jitter_milli"),
    ({7: [5, 0, 2.0, 0, 0]}, "retry.factor_milli"),
    ({8: "k"}, "unique"), ({8: ["k"]}, "unique"), ({8: ["", 0]}, "unique.key"), ({8: ["k" * 257, 0]}, "unique.key"),
    ({8: ["k", 2]}, "unique.during"), ({8: ["k", True]}, "unique.during"), ({8: [1, 0]}, "unique.key"),
    ({9: ""}, "idempotency_key"), ({9: "k" * 257}, "idempotency_key"), ({9: b"k"}, "idempotency_key"),
    ({10: "t"}, "tags"), ({10: ["a", "a"]}, "tags"), ({10: [""]}, "tags"), ({10: ["t" * 129]}, "tags"), ({10: [1]}, "tags"),
    ({10: [str(n) for n in range(33)]}, "tags"), ({10: [" a"]}, "tags"),
    ({11: [["a", "b"]]}, "headers"), ({11: {"a": 1}}, "headers['a']"), ({11: {"": "v"}}, "headers"), ({11: {"a\n": "v"}}, "headers"),
    ({12: -1}, "result_ttl_ms"), ({12: DAY}, "result_ttl_ms"),
    ({"1": "c"}, "options"), ({None: 1}, "options"), ({True: 1}, "options"), ({1.0: "c"}, "options"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "named"), BAD_OPTIONS, ids=lambda value: repr(value)[:40])
def test_bad_options_are_named(options: dict[Any, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(with_options(options))
    assert caught.value.detail["field"] == named


def test_what_is_later_is_refused_by_name() -> None:
    for option in Option:
        if option > Option.RESULT_TTL_MS:
            with pytest.raises(Unsupported, match=f"{option.name.lower()} is not supported yet"):
                parse(with_options({int(option): []}))
    for number in (0, 17, -1, 1 << 40):
        with pytest.raises(Unsupported, match=f"option {number} is not known"):
            parse(with_options({number: 1}))


def test_sizes() -> None:
    most = limits.PAYLOAD_BYTES_MAX
    assert len(parse(cbor.dumps([ID, "t", bytes(most)])).payload) == most
    assert len(parse(cbor.dumps([ID, "t", bytes(most), "q", 1, {2: 7}])).payload) == most
    for raw in (
        cbor.dumps([ID, "t", bytes(most + 1)]),
        cbor.dumps([ID, "t", bytes(most + 1), "q", 1, {2: 7}]),
        bytes(limits.SPEC_BYTES_MAX + 1),
        with_options({11: {"a": "v" * limits.HEADERS_BYTES_MAX}}),
        cbor.dumps([ID, "t", b"", "q", 1, {9: "k", 11: {"a": "é" * (limits.HEADERS_BYTES_MAX // 2)}}]),
    ):
        with pytest.raises(PayloadTooLarge) as caught:
            parse(raw)
        assert caught.value.detail["value"] > caught.value.detail["bound"]
    assert parse(with_options({11: {"a": "v" * (limits.HEADERS_BYTES_MAX - 1)}})).headers


def test_options_are_read_strictly() -> None:
    """The map is not built by the decoder, so what the decoder would refuse is refused by us."""
    five = cbor.dumps([ID, "t", b"", "q", 1])[1:]
    for options in (
        b"\xa2\x02\x01\x02\x01",  # twice the same number
        b"\xa2\x02\x01\x18\x02\x01",  # the same in another length
        b"\xbf\x02\x01\xff",  # indefinite
        b"\xa1\x02",  # no value
        b"\xa1\x02\x01\x00",  # something behind
        b"\xa1\x02\xc1\x01",  # tag
        b"\xa1\x02\xf9\x7e\x00",  # NaN
        b"\xa1\x80\x01",  # array as key
        b"\xa1\x0b\xa1\x80\x60",  # array as key of the headers
        b"\xa1\x0b\xa2\x61a\x60\x61a\x60",  # the same header twice
        b"\xb1" + b"".join(bytes((n, 0)) for n in range(17)),  # more than there are
        b"\xbb" + b"\xff" * 8,
        b"",
    ):
        with pytest.raises(InvalidRequest):
            parse(b"\x86" + five + options)


def test_hash_collisions_do_not_hold_the_broker() -> None:
    """Arrays as keys could be made to collide by the ten thousand; they are refused at the first."""
    keys = b"".join(b"\x82" + struct.pack(">BQBQ", 0x1B, n, 0x1B, n) + b"\x00" for n in range(1000))
    five = cbor.dumps([ID, "t", b"", "q", 1])[1:]
    with pytest.raises(InvalidRequest):
        parse(b"\x86" + five + b"\xa1\x0b\xb9\x03\xe8" + keys)


MUTABLE = [encode(task) for task in GOOD.values()]


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(st.sampled_from(MUTABLE), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_specs_give_a_spec_or_a_typed_error(raw: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(raw)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    _parse_or_typed(bytes(damaged))


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(
    st.binary(max_size=100), st.sampled_from([b"", b"\x83\x50", b"\x86\x50" + ID + b"\x61t\x40\x61q\x01", b"\x98\x06"])
)
def test_any_bytes_give_a_spec_or_a_typed_error(raw: bytes, begin: bytes) -> None:
    _parse_or_typed(begin + raw)


def _parse_or_typed(raw: bytes) -> None:
    try:
        task = parse(raw)
    except (InvalidRequest, PayloadTooLarge, Unsupported):
        return
    assert parse(encode(task)) == task


def test_name_rule_does_not_follow_the_interpreter() -> None:
    """A letter that Unicode got after Python 3.11 is judged alike everywhere."""
    newer = "\U0001fadc\U0003134f\u0cf3"
    assert parse(encode(PLAIN._replace(type=newer))).type == newer


# ---- many at once ----------------------------------------------------------------------------------


def is_only_json(raw: bytes, task: Spec) -> bool:
    return raw.endswith(JSON_OPTIONS) and task == Spec(*task[:5], content_type=JSON)


def expected_plain(raws: list[bytes]) -> Any:
    """By ``parse``: what ``parse_plain`` must say, or None."""
    try:
        tasks = [parse(raw) for raw in raws]
    except (InvalidRequest, PayloadTooLarge, Unsupported):
        return None
    for raw, task in zip(raws, tasks, strict=True):
        if raw[:1] not in (b"\x83", b"\x84", b"\x85") and not is_only_json(raw, task):
            return None
    return [task.id for task in tasks], [(task.type, task.queue, task.priority) for task in tasks]


bare = st.one_of(
    st.tuples(st.binary(min_size=15, max_size=17), st.text(max_size=3), st.binary(max_size=30)),
    st.tuples(st.just(bytes(16)), st.sampled_from(["a", " a", "", "b" * 129]), st.just(b""), st.text(max_size=3)),
    st.tuples(
        st.just(bytes(16)), st.just("a"), st.one_of(st.just(b"x"), st.just("x")), st.just("q"),
        st.one_of(st.integers(-1, 256), st.booleans(), st.just(1.0)),
    ),
    st.tuples(st.just(bytes(16)), st.just("a"), st.just(b""), st.just("q"), st.just(1), st.just({1: 1})),
).map(cbor.dumps)  # fmt: skip


json_only = st.builds(
    lambda id, type, payload, queue, priority: cbor.dumps([id, type, payload, queue, priority, {1: JSON}]),
    st.sampled_from([bytes(16), bytes(15), "x"]), st.sampled_from(["t", "", " a"]), st.sampled_from([b"", b"p" * 300, JSON_OPTIONS, "p"]),
    st.sampled_from(["q", ""]), st.sampled_from([0, 255, 256, -1]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.one_of(bare, st.just(encode(Spec(bytes(16), "t", b"p"))), json_only), min_size=1, max_size=4))
def test_many_at_once_are_read_as_one_by_one(raws: list[bytes]) -> None:
    assert parse_plain(raws) == expected_plain(raws)
    assert [judged(raw) for raw in raws] == [
        (type(found), found.message) if isinstance(found, TqError) else found for found in parse_each(raws)
    ]


def judged(raw: bytes) -> Any:
    """What ``parse`` returns or raises."""
    try:
        return parse(raw)
    except TqError as error:
        return type(error), error.message


def test_each_of_none_is_none() -> None:
    assert parse_each([]) == []


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=3),
)
def test_tasks_cannot_take_bytes_from_their_neighbours(sizes: list[int], cuts: list[tuple[int, int]]) -> None:
    """The same bytes, cut at other places, are no tasks."""
    raws = [encode(Spec(bytes([n]) * 16, "t", b"p" * size * 30)) for n, size in enumerate(sizes)]
    whole = b"".join(raws)
    places = sorted({0, len(whole), *(cut % len(whole) for cut, _ in cuts), *(len(raws[0]) for _ in cuts)})
    pieces = [whole[a:b] for a, b in pairwise(places)]
    assert parse_plain(pieces) == expected_plain(pieces)


def test_a_neighbour_cannot_be_swallowed() -> None:
    """The first task says that its payload goes on into the second: together they are well-formed."""
    second = encode(Spec(bytes(16), "t", b"payload"))
    first = b"\x83" + cbor.dumps(bytes(16)) + cbor.dumps("t") + bytes((0x58, len(second) + 1)) + b"x"
    assert cbor.loads_shaped(first + second)[2] == b"x" + second
    assert parse_plain([first, second]) is None
    assert parse_plain([first + second]) is not None


def test_what_is_not_written_in_the_shortest_way_goes_the_general_one() -> None:
    raw = b"\x83" + cbor.dumps(bytes(16)) + cbor.dumps("t") + b"\x58\x01p"
    assert parse(raw).payload == b"p"
    assert parse_plain([raw]) is None
    assert parse_each([raw]) == [parse(raw)]


def test_a_payload_above_its_bound_is_not_plain() -> None:
    raw = cbor.dumps([bytes(16), "t", bytes(limits.PAYLOAD_BYTES_MAX + 1)])
    assert parse_plain([raw]) is None


# ---- shortcuts -------------------------------------------------------------------------------------------


def raw_of(payload: bytes, options: Any) -> bytes:
    return cbor.dumps([bytes(16), "t", payload, "q", 7, options])


@pytest.mark.parametrize("size", [0, 30, SMALL_BYTES_MAX, SMALL_BYTES_MAX * 2])
def test_json_alone_is_read_as_any_other_option(size: int) -> None:
    """By the shortcut, or by hand where it would copy too much."""
    payload = (JSON_OPTIONS * size)[:size]  # looks like the end at every place
    raw = raw_of(payload, {1: JSON})
    assert raw.endswith(JSON_OPTIONS)
    assert parse(raw) == Spec(bytes(16), "t", payload, "q", 7, JSON)
    assert options_of(raw) == {Option.CONTENT_TYPE}
    assert (parse_plain([raw]) is not None) == (len(raw) <= SMALL_BYTES_MAX)
    assert encode(parse(raw)) == raw


def test_another_text_may_end_like_it() -> None:
    header = "\u00e1\x01p" + JSON  # its last bytes are those of the option
    raw = raw_of(b"p", {11: {"h": header}})
    assert raw.endswith(JSON_OPTIONS)
    assert parse(raw).headers == (("h", header),)
    assert parse_plain([raw]) is None
    assert parse_plain([raw, raw_of(b"", {1: JSON})]) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"\x86" + JSON_OPTIONS, b"\x86" + cbor.dumps(bytes(16)) + JSON_OPTIONS, raw_of(b"p", {1: JSON})[:-1], raw_of(b"p", {1: JSON}) + b"x",
        b"\x87" + raw_of(b"p", {1: JSON})[1:], b"\x85" + raw_of(b"p", {1: JSON})[1:],
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(raw)
    assert parse_plain([raw]) is None


def test_options_are_remembered_by_their_bytes_alone() -> None:
    for timeout in (5, 6, 5):
        assert parse(raw_of(b"p", {5: timeout, 1: "a/b"})).timeout_ms == timeout
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="timeout_ms"):
            parse(raw_of(b"p", {5: 0}))
    long = {"h" * 100: "v" * 500}
    assert parse(raw_of(b"p", {11: long})).headers == tuple(long.items())
