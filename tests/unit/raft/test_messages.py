"""What members say to each other: every kind comes back as it was written, and nothing else comes in."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tq import limits
from tq.errors import ProtocolError
from tq.raft import messages
from tq.raft.members import Voters, pack
from tq.raft.messages import (
    Ack,
    Append,
    Lost,
    PreVote,
    PreVoteReply,
    Reject,
    Removed,
    RequestVote,
    SnapshotAck,
    SnapshotPart,
    Stale,
    TimeoutNow,
    Vote,
    decode,
    encode,
)

ONE_OF_EACH = [
    PreVote(3, 7, 20, 2),
    PreVoteReply(3, 7, True),
    RequestVote(4, 20, 2, False),
    Vote(4),
    Append(4, 9, 2, 1_700_000_000_000, 20, 2, 18, ((3, b"\x01a"), (4, b"\x01"))),
    Append(4, 9, 2, 1_700_000_000_000, 20, 2, 18, ()),
    Ack(4, 9, 2, 1_700_000_000_000, 20),
    Reject(4, 9, 2, 1_700_000_000_000, 20, 12),
    Stale(5),
    TimeoutNow(5),
    Lost(5, 12),
    SnapshotPart(5, 1_700_000_000_000, 12, 4, 9_000, bytes(32), pack(Voters(7, ("a", "b"))), 4_096, b"data"),
    SnapshotPart(5, 1_700_000_000_000, 12, 4, 9_000, bytes(32), b"", 4_096, b""),
    Removed(5, 12),
    SnapshotAck(5, 1_700_000_000_000, 12, 4, 9_000, bytes(32), 4_100, False),
]


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_it_comes_back_as_it_was(message):
    assert decode(encode(message)) == message


def test_there_is_one_of_each():
    assert {type(message) for message in ONE_OF_EACH} == set(messages._KINDS)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_every_message_has_the_term_of_its_sender_first(message):
    values = cbor2.loads(encode(message))
    assert values[1] == message.term


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("wrong", [-1, 1 << 63, "x", None, 1.0, b"\x01", [], [1], {}, True, 2], ids=repr)
def test_a_field_of_another_kind_is_refused(message, wrong):
    whole = cbor2.loads(encode(message))
    for at in range(1, len(whole)):
        if type(whole[at]) is type(wrong) and wrong not in (-1, 1 << 63, [1]):  # a value that may be
            continue
        values = list(whole)
        values[at] = wrong
        with pytest.raises(ProtocolError):
            decode(cbor2.dumps(values))


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_fields_too_many_or_too_few_are_refused(message):
    values = cbor2.loads(encode(message))
    for other in ([*values, 0], values[:-1]):
        with pytest.raises(ProtocolError, match="fields, not"):
            decode(cbor2.dumps(other))
    with pytest.raises(ProtocolError):
        decode(encode(message) + b"\x00")
    with pytest.raises(ProtocolError):
        decode(encode(message)[:-1])


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x81\x61a", b"\x82\x18\x63\x01", b"\x82\x00\x01", b"\xa0", b"\x82\xf5\x01"]
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(ProtocolError):
        decode(data)


@pytest.mark.parametrize("entries", [
    [1], [1, b""], [1, b"\x00x"], [1, b"\x02x"], [1, b"\x03x"], [b"\x01", 1], [-1, b"\x01"], [True, b"\x01"],
    [1, bytearray(b"\x01")] and [1, "\x01"], [[1, b"\x01"]],
    [1, b"\x01"] * (limits.PEER_BATCH_ENTRIES_MAX + 1),
], ids=lambda entries: repr(entries)[:30])  # fmt: skip
def test_entries_are_checked(entries):
    with pytest.raises(ProtocolError, match="Append: entries"):
        decode(cbor2.dumps([5, 1, 1, 0, 0, 1, 0, 1, entries]))


def test_the_largest_entry_passes_and_a_larger_one_does_not():
    largest = b"\x01" + bytes(limits.ENTRY_BYTES_MAX)
    assert decode(encode(Append(1, 1, 0, 0, 1, 0, 1, ((1, largest),)))).entries == ((1, largest),)
    with pytest.raises(ProtocolError):
        decode(encode(Append(1, 1, 0, 0, 1, 0, 1, ((1, largest + b"x"),))))


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_a_message_or_refused(data):
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert decode(encode(message)) == message
