"""docs/protocol.md is true of the code: its conversation is played, its layouts, codes, options and bounds compared."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from tq import errors, limits, spec
from tq.errors import ERRORS
from tq.machine.answers import EventKind, SubmitOutcome
from tq.machine.queue_settings import LATER, QueueSettings
from tq.machine.show import HISTORY_FIELDS, TASK_FIELDS
from tq.machine.states import State
from tq.protocol import messages as m
from tq.protocol.codec import MESSAGES, REPLY_BIT, decode
from tq.protocol.connection import BrokerConnection, ClientConnection
from tq.protocol.connection import State as ConnectionState
from tq.protocol.messages import Message

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
FLAT = " ".join(DOCUMENT.split())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def name_of(cls: type[Message]) -> str:
    """SubmitTask and SubmitReply -> SUBMIT_TASK and SUBMIT_TASK reply."""
    if cls is m.ErrorReply:
        return "ERROR"
    if cls.TYPE & REPLY_BIT:
        return f"{name_of(MESSAGES[cls.TYPE & ~REPLY_BIT])} reply"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper().replace("GO_AWAY", "GOAWAY")


def test_the_conversation_can_be_held() -> None:
    """Each frame is decoded by the other end, in order, through both state tables; the remark names the message."""
    (text,) = blocks("conversation")
    ends = {"C": ClientConnection(), "B": BrokerConnection()}
    count = 0
    for remark, side, frame in re.findall(r"^# (.*)\n([CB]) ((?:.*\n)(?:  .*\n)*)", text, re.MULTILINE):
        raw = bytes.fromhex("".join(frame.split()))
        hearer = ends["B" if side == "C" else "C"]
        hearer.receive_data(raw)
        message = hearer.next_event()
        assert isinstance(message, Message)
        assert re.match(rf"{name_of(type(message))}\b", remark), remark
        assert "reply" not in name_of(type(message)) or "reply" in remark
        assert ends[side].send(message) == raw
        count += 1
    assert count == text.count("# ") == 21
    assert ends["C"].state is ends["B"].state is ConnectionState.LEAVING
    assert ends["C"].in_flight == ends["B"].in_flight == 0


def test_specs() -> None:
    found = [spec.parse(bytes.fromhex("".join(text.split()))) for text in blocks("spec")]
    plain = found[0]
    assert (plain.type, plain.payload) == ("echo", b"hello")
    assert found[1:] == [
        plain._replace(queue="mail", priority=200, delay_ms=60_000, idempotency_key="order-7", tags=("eu",))
    ]


def test_frames_by_themselves() -> None:
    """Requests and replies as they stand in the middle of a conversation; the remark names the message."""
    (text,) = blocks("frames")
    ends = {"C": ClientConnection(), "B": BrokerConnection()}
    for end in ends.values():
        end.state = ConnectionState.OPEN
    found = []
    for remark, side, frame in re.findall(r"^# (.*)\n([CB]) ((?:.*\n)(?:  .*\n)*)", text, re.MULTILINE):
        raw = bytes.fromhex("".join(frame.split()))
        message = decode(raw[4], raw[5:])
        assert re.match(rf"{name_of(type(message))}\b", remark), remark
        assert ("reply" in remark) == (side == "B")
        assert ends[side].send(message) == raw
        hearer = ends["B" if side == "C" else "C"]
        hearer.receive_data(raw)
        assert hearer.next_event() == message
        found.append(message)
    assert [type(message) for message in found] == [m.SetQueue, m.SetQueueReply] * 2
    assert found[1].settings.keys() == QueueSettings().shown().keys()


def test_settings_of_a_queue() -> None:
    section = FLAT[FLAT.index("### Settings of a queue") : FLAT.index("### Work")]
    for name in QueueSettings().shown():
        assert f"`{name}`" in section
    assert f"1 … {limits.QUEUE_REASON_CHARS_MAX} characters" in section
    assert f"1 … {limits.KEY_CHARS_MAX} characters" in section
    assert limits.QUEUE_LENGTH_MAX == 10**12
    assert "0 … 10¹²" in section
    assert "`rate` and `concurrency` are reserved" in section
    assert LATER == ("rate", "concurrency")


def test_no_other_hexadecimal() -> None:
    assert {kind for kind, _ in BLOCKS} == {"", "conversation", "frames", "spec"}


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_layouts(cls: type[Message]) -> None:
    fields = [field.name + ("" if field.default is attrs.NOTHING else "?") for field in attrs.fields(cls)]
    assert f"`{cls.TYPE:#04x}` {name_of(cls)} `[{', '.join(fields)}]`" in DOCUMENT


def test_nothing_is_described_that_is_not_there() -> None:
    described = {int(number, 16) for number in re.findall(r"^`(0x[0-9a-f]{2})` ", DOCUMENT, re.MULTILINE)}
    assert described == set(MESSAGES)


def test_error_codes() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| (yes|no) \| (\w+) \|", DOCUMENT, re.MULTILINE)
    assert rows == [(code, "yes" if cls.retryable else "no", cls.fault) for code, cls in ERRORS.items()]
    assert len(errors.to_wire(ERRORS["INVALID"]("x"))) == 7


def test_options() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+_\w+|retry|unique|tags|headers) \|", DOCUMENT, re.MULTILINE)
    sentence = FLAT[FLAT.index("Numbers 13") :].split(" are reserved")[0]
    reserved = re.findall(r"(\d+) (\w+)", sentence)
    named = [(int(number), name) for number, name in [*rows, *reserved]]
    assert named == [(int(option), option.name.lower()) for option in spec.Option]
    defaults = spec.Spec(b"", "", b"")
    assert f"`{list(defaults.retry)}`" in DOCUMENT
    assert f"`{defaults.content_type}`" in DOCUMENT
    assert f"| {defaults.result_ttl_ms} |" in DOCUMENT
    assert f"| {defaults.priority} |" in DOCUMENT


def test_states_outcomes_and_kinds() -> None:
    assert ", ".join(f"{state.value} {state.name.lower()}" for state in State) in FLAT
    assert ", ".join(f"{kind.value} {kind.name.lower()}" for kind in EventKind) in FLAT
    for outcome in SubmitOutcome:
        assert f"| {outcome.value} {outcome.name.lower()} |" in DOCUMENT
    for names in (TASK_FIELDS, HISTORY_FIELDS):
        assert ", ".join(f"`{name}`" for name in names) in FLAT


def test_connection_states() -> None:
    rows = re.findall(r"^\| (\w+) \| .* \|$", DOCUMENT[: DOCUMENT.index("## Frames")], re.MULTILINE)
    assert rows == ["state", *[state.value for state in ConnectionState]]


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("payload, bytes", limits.PAYLOAD_BYTES_MAX),
        ("result, bytes", limits.RESULT_BYTES_MAX),
        ("headers of a task, bytes of names and values", limits.HEADERS_BYTES_MAX),
        ("texts of one error, bytes; longer is cut, with a mark", limits.ERROR_TEXT_BYTES_MAX),
        ("name, characters", limits.NAME_CHARS_MAX),
        ("unique or idempotency key, characters", limits.KEY_CHARS_MAX),
        ("tags of a task", limits.TAGS_MAX),
        ("tasks, ids or results in one request", limits.BATCH_TASKS_MAX),
        ("specs or results of one request, bytes", limits.BATCH_BYTES_MAX),
        ("type and body of a frame, bytes", limits.FRAME_BYTES_MAX),
        ("the same before HELLO is answered", limits.FRAME_HELLO_BYTES_MAX),
        ("containers inside each other", limits.CBOR_DEPTH_MAX),
        ("requests in flight on a connection", limits.REQUESTS_IN_FLIGHT_MAX),
        ("tasks of one claim", limits.CLAIM_TASKS_MAX),
        ("tasks held by a session", limits.SESSION_TASKS_MAX),
        ("types of a session", limits.SESSION_TYPES_MAX),
        ("queues of a session", limits.SESSION_QUEUES_MAX),
        ("wait of a claim, ms", limits.CLAIM_WAIT_MS_MAX),
        ("wait for a task, ms", limits.WAIT_MS_MAX),
        ("tasks of a page", limits.LIST_TASKS_MAX),
        ("any duration, ms", limits.DURATION_MS_MAX),
        ("time until HELLO, ms", limits.HELLO_TIMEOUT_MS),
        ("time without a frame, ms", limits.IDLE_TIMEOUT_MS),
    ],
)
def test_bounds(row: str, value: int) -> None:
    assert f"| {row} | {value:,} |" in DOCUMENT
