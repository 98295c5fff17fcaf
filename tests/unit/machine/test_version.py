"""Formats of entries: what an old log gives, what a new one needs, and who stops at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.driver import SESSION, START_MS, Driver
from tq import cbor
from tq.errors import InvalidRequest, Unsupported
from tq.machine import commands as c
from tq.machine import version
from tq.machine.apply import Machine, encode_entry
from tq.machine.commands import FORMAT
from tq.machine.decode import _SINCE, encode
from tq.machine.filters import Filter
from tq.store import keys
from tq.store.tables import Table

QUEUE_SET = c.QueueSet(b"operation-------", "mail", "ana", [["paused", True]])


def format_in(entry: bytes) -> int:
    number: int = cbor.loads(entry)[0]
    return number


def test_an_entry_needs_no_more_than_its_commands() -> None:
    old = c.Claim(SESSION, 1, [], 1)
    assert format_in(encode_entry(1, [])) == 1
    assert format_in(encode_entry(1, [old])) == 1
    assert format_in(encode_entry(1, [old, QUEUE_SET, old])) == 2


def test_a_command_says_the_format_in_which_it_exists() -> None:
    assert {c.QueueSet: QUEUE_SET.format, c.Checkpoint: c.Checkpoint([]).format} == _SINCE
    assert max(_SINCE.values()) == FORMAT


def test_in_an_old_entry_new_commands_do_not_exist() -> None:
    """As that version answered: the state of an old log stays what it was."""
    d = Driver()
    before = d.digest()
    d.index += 1
    (answer,) = d.machine.apply(d.index, cbor.dumps([1, d.now_ms, [cbor.loads(encode(QUEUE_SET))]])).answers
    assert isinstance(answer, Unsupported)
    assert d.digest() == before


def test_in_an_old_entry_filters_are_short() -> None:
    d = Driver()
    long = c.JobStart(b"operation-------", 1, Filter(worker="w").command())
    d.index += 1
    assert format_in(encode_entry(1, [long])) == 2
    (answer,) = d.machine.apply(d.index, cbor.dumps([1, d.now_ms, [encode(long)]])).answers
    assert isinstance(answer, InvalidRequest)
    assert d.txn.count(Table.JOBS) == 0
    assert isinstance(d.do(long), list)


@pytest.mark.parametrize("number", [0, FORMAT + 1, True, "1", None])
def test_an_unknown_format_stops_the_node(number: object) -> None:
    with pytest.raises(AssertionError, match="upgrade"):
        Driver().machine.apply(9, cbor.dumps([number, START_MS, []]))


def test_the_highest_format_stands_in_the_state() -> None:
    d = Driver()
    d.submit(1)
    assert d.txn.get(Table.META, keys.FORMAT) is None, "a log without new commands leaves what it always left"
    d.do(QUEUE_SET)
    assert version.stored(d.txn) == 2
    d.submit(2)
    d.restart()
    d.submit(3)
    assert version.stored(d.txn) == 2


def test_a_state_of_a_later_format_is_not_worked_on() -> None:
    """A copy of the state, or a store, that a newer version made."""
    d = Driver()
    version.store(d.txn, FORMAT + 1)
    with pytest.raises(AssertionError, match=f"format {FORMAT + 1}.*upgrade"):
        Machine(d.txn)


def test_a_log_of_format_1_gives_the_state_it_gave() -> None:
    """Its entries, and the digest of the state behind them, were written by the last version that had no other: they are never
    made anew. There is every command in them but the one that closes a session, and timers of every kind."""
    *log, digest = map(bytes.fromhex, (Path(__file__).parent / "log_of_format_1.txt").read_text().split())
    d = Driver()
    for index, entry in enumerate(log, d.index + 1):
        assert format_in(entry) == 1
        d.machine.apply(index, entry)
    assert d.digest() == digest
    assert [d.state(n) for n in (4, 6, 8)] == ["completed"] * 3
