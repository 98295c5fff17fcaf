"""The machine as a whole: log time, restarts, and that one entry's commands see each other."""

from __future__ import annotations

import pytest

from machine.driver import SESSION, START_MS, Driver, id_of
from tq.errors import InvalidRequest
from tq.machine import commands as c
from tq.machine import queries
from tq.machine.apply import Machine, encode_entry
from tq.machine.settings import Settings
from tq.spec import Spec, encode
from tq.store.tables import Table


def test_log_time_never_runs_backwards() -> None:
    d = Driver()
    d.now_ms += 5_000
    assert d.apply().time_ms == START_MS + 5_000
    d.now_ms -= 3_000
    assert d.apply().time_ms == START_MS + 5_000
    d.restart()
    assert d.apply().time_ms == START_MS + 5_000
    assert queries.log_time_ms(d.txn) == START_MS + 5_000


def test_an_entry_is_not_applied_twice() -> None:
    d = Driver()
    with pytest.raises(AssertionError, match="is not above"):
        d.machine.apply(d.index, encode_entry(START_MS, []))


def test_commands_of_one_entry_see_each_other() -> None:
    d = Driver()
    spec = encode(Spec(id_of(1), "echo", b""))
    applied = d.apply(
        c.SessionOpen(SESSION, "w", ["echo"], ["default"]),
        c.Submit([spec]),
        c.Claim(SESSION, 1, [], 1),
        c.Cancel([id_of(1)], 5),
    )
    assert applied.answers[1:] == [[0], [[spec, 1, 0, applied.granted[0][1], 30_000, None, None]], [[3, None]]]
    assert applied.cancels == [(id_of(1), applied.granted[0][1], SESSION, 5)]
    assert applied.ready == {(0, 0): 1}
    assert applied.sessions_opened == [SESSION]


def test_a_new_machine_knows_what_the_old_one_knew() -> None:
    d = Driver()
    d.open(types=("x", "y"))
    for n in range(8):
        d.submit(n, type="xy"[n % 2], queue=["default", "other"][n // 4])
    d.claim(3)
    old = d.machine
    d.restart()
    new = d.machine
    assert new.ready == old.ready == {(0, 1): 1, (1, 0): 2, (1, 1): 2}
    assert new._ready.types_by_queue == old._ready.types_by_queue
    assert new._counts._values == old._counts._values
    assert [(s.id, s.name, s.types, s.queues, s.held, s.seq, s.first, s.n, s.tail) for s in new._sessions.values()] == [
        (s.id, s.name, s.types, s.queues, s.held, s.seq, s.first, s.n, s.tail) for s in old._sessions.values()
    ]
    assert (new._queues.numbers, new._types.texts) == (old._queues.numbers, old._types.texts)
    assert [new.queue_name(1), new.type_name(0)] == ["other", "x"]
    assert [new.number_of_queue("other"), new.number_of_type("none")] == [1, None]


def test_a_rollback_and_a_replay_give_the_same_state() -> None:
    d = Driver()
    d.open()
    d.submit(1, 2, 3)
    d.store.checkpoint(d.index)
    saved = d.index
    entries = [
        encode_entry(START_MS + 1, [c.Submit([encode(Spec(id_of(4), "new", b"", "new"))]), c.Claim(SESSION, 1, [], 2)]),
        encode_entry(START_MS + 2, [c.LeasesExpire([[id_of(1), (saved + 1) * 1024]])]),
    ]
    first = [d.machine.apply(saved + 1 + n, entry) for n, entry in enumerate(entries)]
    digest = d.digest()
    d.store.rollback()
    d.restart()
    assert [d.machine.apply(saved + 1 + n, entry) for n, entry in enumerate(entries)] == first
    assert d.digest() == digest


def test_the_first_cluster_id_wins() -> None:
    d = Driver()
    assert queries.cluster_id(d.txn) is None
    assert d.do(c.ClusterForm(id_of(1), "a")) == id_of(1)
    assert d.do(c.ClusterForm(id_of(2), "b")) == id_of(1)
    assert queries.cluster_id(d.txn) == id_of(1)


def test_settings_in_the_log_count_from_where_they_stand() -> None:
    """Not what a node was started with: two nodes with other configurations would have two states."""
    d = Driver()
    session = c.SessionOpen(id_of(90), "w", ["echo"], ["default"])
    tasks = c.Submit([encode(Spec(id_of(n), "echo", b"")) for n in range(2)])
    d.apply(session, tasks)
    own, keep = d.machine.settings, (1_000, 10, 2_000, 3_000)
    (first,), _, (second,) = d.apply(
        c.Claim(id_of(90), 1, [], 1), c.SettingsSet(777, 9, *keep), c.Claim(id_of(90), 2, [], 1)
    ).answers
    assert (first[4], second[4]) == (own.lease_ms, 777)
    assert d.machine.settings == Settings(777, 9, *keep)
    d.restart()
    assert d.machine.settings == Settings(777, 9, *keep)


def test_settings_that_cannot_be_are_refused_by_all_alike() -> None:
    d = Driver()
    before = d.machine.settings
    for crashes_max in (0, 1 << 16):
        assert isinstance(d.do(c.SettingsSet(1, crashes_max, 1, 1, 1, 1)), InvalidRequest)
    assert d.machine.settings == before


def test_counters_are_written_once_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver()
    puts = []
    put = d.txn.put
    monkeypatch.setattr(d.txn, "put", lambda table, key, value: (puts.append((table, key)), put(table, key, value)))
    d.apply(*[c.Submit([encode(Spec(id_of(n), "echo", b""))]) for n in range(10)])
    counts = [key for table, key in puts if table is Table.COUNTS]
    assert len(counts) == len(set(counts)) == 2


def test_settings_are_what_a_header_can_hold() -> None:
    with pytest.raises(AssertionError):
        Settings(crashes_max=0)
    assert Machine(Driver().txn).settings == Settings()
