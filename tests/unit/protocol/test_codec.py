"""Each message in both directions; each thing that can be wrong with one, and what comes of it."""

from __future__ import annotations

import os
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tq import cbor, limits
from tq.errors import InvalidRequest, PayloadTooLarge, ProtocolError, TqError, Unsupported
from tq.protocol import fields as f
from tq.protocol import messages as m
from tq.protocol.codec import MESSAGES, REPLY_BIT, REQUEST_TYPE_MAX, decode, encode
from tq.protocol.frames import FrameReader
from tq.protocol.messages import Message

from .cases import CASES, ERROR, ID, OP, SESSION

EXAMPLES_MAX = 20_000 if os.environ.get("TQ_LONG") else 400
NAMES = [f"{at}-{type(message).__name__}" for at, (message, _) in enumerate(CASES)]


def test_every_message_has_a_case() -> None:
    assert {type(message) for message, _ in CASES} == set(MESSAGES.values())


def test_each_request_has_its_reply() -> None:
    requests = {type_ for type_ in MESSAGES if type_ <= REQUEST_TYPE_MAX}
    replies = {type_ for type_ in MESSAGES if type_ & REPLY_BIT} - {m.ErrorReply.TYPE}
    assert {type_ | REPLY_BIT for type_ in requests} == replies
    for type_, cls in MESSAGES.items():
        first = attrs.fields(cls)[0].name
        assert (first == "rid") == (type_ <= REQUEST_TYPE_MAX or bool(type_ & REPLY_BIT))


@pytest.mark.parametrize(("message", "frame"), CASES, ids=NAMES)
def test_written(message: Message, frame: str) -> None:
    assert encode(message) == bytes.fromhex(frame)


@pytest.mark.parametrize(("message", "frame"), CASES, ids=NAMES)
@pytest.mark.parametrize("how", ["whole", "byte by byte", "with a tail"])
def test_read(message: Message, frame: str, how: str) -> None:
    raw = bytes.fromhex(frame)
    reader = FrameReader(limits.FRAME_BYTES_MAX)
    pieces = {"whole": [raw], "byte by byte": [bytes((byte,)) for byte in raw], "with a tail": [raw + raw[:6]]}[how]
    got = []
    for piece in pieces:
        reader.receive(piece)
        while (found := reader.next_frame()) is not None:
            got.append(decode(*found))
    assert got == [message]
    assert reader.is_at_border == (how != "with a tail")


@pytest.mark.parametrize(("message", "frame"), CASES, ids=NAMES)
def test_defaults_may_be_left_off(message: Message, frame: str) -> None:
    fields = list(attrs.astuple(message, recurse=False))
    least = [field.default is attrs.NOTHING for field in attrs.fields(type(message))].count(True)
    while len(fields) > least:
        fields.pop()
        cut = decode(message.TYPE, cbor.dumps(fields))
        assert cut == type(message)(*fields)
    fields.pop()
    with pytest.raises(ProtocolError, match=type(message).__name__):
        decode(message.TYPE, cbor.dumps(fields))


# ---- what is wrong ---------------------------------------------------------------------------------

NAN = float("nan")
LONG = "n" * 129


def bad(message: Message, **changes: Any) -> tuple[int, bytes]:
    """The frame of ``message`` with fields that need not be right."""
    fields = attrs.asdict(message, recurse=False) | changes
    return message.TYPE, cbor.dumps(list(fields.values()))


SUBMIT = m.SubmitTask(1, [b"spec"])
GET = m.GetTask(1, ID)
CLAIM = m.ClaimTask(1, SESSION, 1, [], 1, 0)
RESULT = m.TaskResult(1, SESSION, [])
BEAT = m.Heartbeat(1, SESSION, [])
REGISTER = m.RegisterWorker(1, SESSION, "w", ["t"], ["q"])
RETRY = m.RetryTasks(1, OP, [ID])
LIST = m.ListTasks(1, {})


def item(outcome: Any, body: Any, id: Any = ID, fence: Any = 1) -> tuple[int, bytes]:
    return bad(RESULT, items=[[id, fence, outcome, body]])


WRONG_KIND = [
    *[bad(SUBMIT, rid=rid) for rid in (-1, 1 << 32, None, "1", 1.0, True, b"1", [1], NAN)],
    *[bad(SUBMIT, specs=specs) for specs in (None, b"spec", {}, [1], ["spec"], [b"spec", None], "spec")],
    *[bad(SUBMIT, atomic=atomic) for atomic in (None, 0, 1, "true")],
    *[bad(GET, id=id) for id in (None, "0123456789abcdef", 7, [ID])],
    *[bad(GET, parts=parts) for parts in (None, 1.0, True, "7", NAN)],
    *[bad(GET, min_index=index) for index in (None, 1.5, False)],
    *[bad(CLAIM, queues=queues) for queues in (None, "mail", [1], [b"mail"], {"mail": 1})],
    *[bad(CLAIM, session=session) for session in (None, "s" * 16, 1)],
    *[bad(RESULT, items=items) for items in (None, {}, [1], [[ID, 1, 0]], [[ID, 1, 2, None, None]], [{}], b"")],
    *[bad(BEAT, tasks=tasks) for tasks in (None, [ID], [[ID]], [[ID, 1, 1]], [[1, ID]], [[ID, True]], [[ID, 1.0]])],
    *[bad(BEAT, stats=stats) for stats in (None, [], 1, {"a": NAN}, {"a": float("inf")}, {"a": -(1 << 64)})],
    (BEAT.TYPE, b"\x84\x01\x50" + SESSION + b"\x80\xa1\x61a\xf7"),  # undefined
    (BEAT.TYPE, b"\x84\x01\x50" + SESSION + b"\x80\xa1\x61a\xe0"),  # a simple value
    (BEAT.TYPE, b"\x84\x01\x50" + SESSION + b"\x80\xa1\x41a\x00"),  # a key that is bytes
    *[bad(REGISTER, name=name) for name in (None, 1, b"w")],
    *[bad(RETRY, ids=ids) for ids in (ID, [None], ["x"], {})],
    *[bad(RETRY, filter=filter_) for filter_ in ([], "dead", 1)],
    *[bad(LIST, cursor=cursor) for cursor in ("c", 1, [])],
    *[bad(m.Subscribe(1), after=after) for after in (1, [1], [1, 2, 3], [1, None], {})],
    *[item(outcome, ["t", b""]) for outcome in (None, True, 0.0, "0")],
    *[item(0, body) for body in (None, b"", ["t"], ["t", "r"], [b"t", b"r"], ["t", b"r", 1], {"t": b"r"})],
    *[item(1, body) for body in (None, [], [["E", "m"], False, None], [["E", "m", 1], False, None],
                                 [["E", "m", "t"], 0, None], [["E", "m", "t"], False, 1.5], ["E", False, None])],
    *[item(2, body) for body in (0, False, [], "")],
    *[item(3, body) for body in (None, 1.0, "5", True)],
    *[item(4, body) for body in (0, [None])],
    *[item(2, None, id=id, fence=fence) for id, fence in (("x" * 16, 1), (None, 1), (ID, None), (ID, True), (ID, "1"))],
]  # fmt: skip


@pytest.mark.parametrize("frame", WRONG_KIND, ids=lambda frame: f"{frame[0]:02x}-{frame[1].hex()[:60]}")
def test_wrong_kind_is_a_protocol_error(frame: tuple[int, bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(*frame)


OUT_OF_BOUNDS: list[tuple[tuple[int, bytes], str]] = [
    (bad(SUBMIT, specs=[b""] * 1_001), "SubmitTask.specs"),
    (bad(GET, id=ID[:15]), "GetTask.id"),
    (bad(GET, id=ID + b"x"), "GetTask.id"),
    (bad(GET, parts=8), "GetTask.parts"),
    (bad(GET, parts=-1), "GetTask.parts"),
    (bad(GET, min_index=1 << 63), "GetTask.min_index"),
    (bad(GET, min_index=-1), "GetTask.min_index"),
    (bad(CLAIM, queues=[""]), "item of ClaimTask.queues"),
    (bad(CLAIM, queues=[LONG]), "item of ClaimTask.queues"),
    (bad(CLAIM, queues=["q"] * 101), "ClaimTask.queues"),
    (bad(CLAIM, max_n=0), "ClaimTask.max_n"),
    (bad(CLAIM, max_n=1_001), "ClaimTask.max_n"),
    (bad(CLAIM, wait_ms=30_001), "ClaimTask.wait_ms"),
    (bad(CLAIM, seq=-1), "ClaimTask.seq"),
    (bad(CLAIM, session=b""), "ClaimTask.session"),
    (bad(m.WaitTask(1, ID, 0), wait_ms=30_001), "WaitTask.wait_ms"),
    (bad(REGISTER, name=""), "RegisterWorker.name"),
    (bad(REGISTER, name=LONG), "RegisterWorker.name"),
    (bad(REGISTER, types=["t"] * 1_001), "RegisterWorker.types"),
    (bad(REGISTER, info={str(n): n for n in range(65)}), "RegisterWorker.info"),
    (bad(REGISTER, info={"a": "x" * 1_025}), "RegisterWorker.info.a"),
    (bad(REGISTER, info={"a": {}}), "RegisterWorker.info.a"),
    (bad(REGISTER, info={LONG: 1}), "RegisterWorker.info"),
    (bad(LIST, limit=0), "ListTasks.limit"),
    (bad(LIST, limit=1_001), "ListTasks.limit"),
    (bad(LIST, cursor=bytes(1_025)), "ListTasks.cursor"),
    (bad(m.CancelTask(1, [], 0), ids=[ID[:15]]), "CancelTask.ids"),
    (bad(m.CancelTask(1, [], 0), ids=[ID] * 1_001), "CancelTask.ids"),
    (bad(m.CancelTask(1, [], 0), grace_ms=-1), "CancelTask.grace_ms"),
    (bad(RETRY, delay_ms=limits.DURATION_MS_MAX + 1), "RetryTasks.delay_ms"),
    (bad(RETRY, limit=0), "RetryTasks.limit"),
    (bad(BEAT, tasks=[[ID[:15], 1]]), "item of Heartbeat.tasks"),
    (bad(BEAT, tasks=[[ID, -1]]), "item of Heartbeat.tasks"),
    (bad(BEAT, tasks=[[ID, 1]] * 1_001), "Heartbeat.tasks"),
    (bad(RESULT, items=[[ID, 1, 2, None]] * 1_001), "TaskResult.items"),
    (item(5, None), "outcome in an item of TaskResult.items"),
    (item(-1, None), "outcome in an item of TaskResult.items"),
    (item(2, None, id=b""), "item of TaskResult.items"),
    (item(2, None, fence=1 << 63), "item of TaskResult.items"),
    (item(0, [LONG, b""]), "content type in an item of TaskResult.items"),
    (item(1, [["E", "m", "t"], False, -1]), "failure in an item of TaskResult.items"),
    (item(3, -1), "delay in an item of TaskResult.items"),
    (item(0, ["t", bytes(limits.RESULT_BYTES_MAX + 1)]), "result"),
    (bad(m.Hello(1, 1, 1, "c"), client="c" * 257), "Hello.client"),
    (bad(m.Hello(1, 1, 1, "c"), version_min=-1), "Hello.version_min"),
]


@pytest.mark.parametrize(("frame", "named"), OUT_OF_BOUNDS, ids=[named for _, named in OUT_OF_BOUNDS])
def test_out_of_bounds_is_the_fault_of_one_request(frame: tuple[int, bytes], named: str) -> None:
    with pytest.raises((InvalidRequest, PayloadTooLarge)) as caught:
        decode(*frame)
    assert named in str(caught.value.detail["field"])
    assert caught.value.detail["rid"] == 1


def test_replies_have_nobody_to_answer() -> None:
    for frame in (
        bad(m.SubmitReply(1, 1, []), index=-1),
        bad(m.SubmitReply(1, 1, []), items=[256]),
        bad(m.SubmitReply(1, 1, []), items=[[1, 4, ID[:15], None]]),
        bad(m.SubmitReply(1, 1, []), items=[[5, None, None, ["INVALID"]]]),
        bad(m.ClaimReply(1, 1, []), grants=[[b"", 1, 0, 1, 30_000, None]]),
        bad(m.ClaimReply(1, 1, []), grants=[[b"", 1, 0, None, 30_000, None, None]]),
        bad(m.ErrorReply(1, ERROR), error=["INVALID", "m", False, None, None, "caller", []]),
        bad(m.ErrorReply(1, ERROR), error=["INVALID", "m", False, None, None, "caller", {"a": NAN}]),
        bad(m.ErrorReply(1, ERROR), rid=-1),
        bad(m.GetReply(1, 1, {}), task=[]),
        bad(m.Event(1, []), events=[[1, 2, 3]]),
        bad(m.HeartbeatReply(1, [], [], False), cancel=[[ID, 1]]),
        bad(m.GoAway(""), leader=7),
    ):
        with pytest.raises(ProtocolError):
            decode(*frame)


def test_unknown_requests_are_answered() -> None:
    for type_ in range(0x100):
        if type_ in MESSAGES:
            continue
        body = cbor.dumps([77, "whatever", {"a": 1}])
        if 0 < type_ <= REQUEST_TYPE_MAX:
            with pytest.raises(Unsupported, match=f"{type_:#04x}") as caught:
                decode(type_, body)
            assert caught.value.detail == {"type": type_, "rid": 77}
            for other in ([], {}, [None], [True], [-1], [1 << 32], 7):
                with pytest.raises(Unsupported) as caught:
                    decode(type_, cbor.dumps(other))
                assert caught.value.detail["rid"] is None
            for raw in (b"", b"\xff", body + b"\x00"):
                with pytest.raises(ProtocolError):
                    decode(type_, raw)
        else:
            with pytest.raises(ProtocolError):
                decode(type_, body)


def test_fields_of_a_later_version_are_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="SubmitTask has 4 fields") as caught:
        decode(SUBMIT.TYPE, cbor.dumps([9, [b""], False, "new"]))
    assert caught.value.detail["rid"] == 9
    with pytest.raises(ProtocolError):
        decode(SUBMIT.TYPE, cbor.dumps([None, [b""], False, "new"]))
    with pytest.raises(ProtocolError):
        decode(m.SubmitReply.TYPE, cbor.dumps([9, 1, [], "new"]))


@pytest.mark.parametrize(
    "body", [b"", b"\x80", b"\xa0", b"\x00", b"\xf6", b"\x81\x01" + b"\x00", b"\x9f\x01\xff", b"\xc1\x81\x01"]
)
def test_bodies_that_are_not_ours(body: bytes) -> None:
    for type_ in MESSAGES:
        with pytest.raises(ProtocolError):
            decode(type_, body)


# ---- anything --------------------------------------------------------------------------------------


def _valid_or_typed(type_: int, body: bytes) -> None:
    refusal: TqError | None = None
    try:
        message = decode(type_, body)
    except ProtocolError:
        return
    except (InvalidRequest, PayloadTooLarge, Unsupported) as error:
        refusal = error
    if refusal is not None:
        assert 0 < type_ <= REQUEST_TYPE_MAX
        rid = refusal.detail["rid"]
        assert (rid is None and isinstance(refusal, Unsupported)) or 0 <= rid < 1 << 32
        return
    again = encode(message)
    assert decode(again[4], again[5:]) == message


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(st.integers(0, 255) | st.sampled_from(sorted(MESSAGES)), st.binary(max_size=60))
def test_any_bytes(type_: int, body: bytes) -> None:
    _valid_or_typed(type_, body)


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(
    st.sampled_from([bytes.fromhex(frame) for _, frame in CASES]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_frames(frame: bytes, changes: list[tuple[int, int]]) -> None:
    body = bytearray(frame[5:])
    for at, value in changes:
        body[at % len(body)] = value
    _valid_or_typed(frame[4], bytes(body))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.text(max_size=5) | st.just(ID) | st.binary(max_size=5)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.binary(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(st.sampled_from([message for message, _ in CASES]), st.data())
def test_one_field_is_anything(message: Message, data: st.DataObject) -> None:
    fields = list(attrs.astuple(message, recurse=False))
    at = data.draw(st.integers(0, len(fields) - 1))
    fields[at] = data.draw(VALUES)
    _valid_or_typed(message.TYPE, cbor.dumps(fields))


GRANT_ROW = f.row(
    f.data(limits.SPEC_BYTES_MAX), f.whole(), f.whole(), f.whole(), f.whole(), f.maybe(f.whole()), f.maybe(f.whole()),
    f.data(limits.CHECKPOINT_BYTES_MAX), optional=1,
)  # fmt: skip


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(
    st.integers(0, 7), st.one_of(VALUES, st.sampled_from([0, -1, True, f.U63_MAX, f.U63_MAX + 1])), st.integers(6, 9)
)
def test_grants_are_judged_as_field_by_field(at: int, value: Any, length: int) -> None:
    """The quick look at a grant takes nothing that the slow one refuses."""
    grant = [b"spec", 1, 0, 1 << 40, 30_000, None, None, b"kept", 0][:length]
    if at < length:
        grant[at] = value
    outcomes: list[Any] = []
    for check in (f.grants("grants"), f.many(GRANT_ROW, limits.CLAIM_TASKS_MAX)("grants")):
        try:
            check([[b"", 1, 0, 1, 1, None, None], grant])
            outcomes.append(None)
        except TqError as error:
            outcomes.append((type(error), error.message))
    assert outcomes[0] == outcomes[1]
