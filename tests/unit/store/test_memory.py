"""What the store in memory has beside what all stores have: faults that a test asks for, and power loss."""

from __future__ import annotations

import random

import pytest

from tq.errors import StorageFailed
from tq.store.memory import MemoryStore
from tq.store.store import ReaderEnded, StoreFull
from tq.store.tables import Table

TASKS = Table.TASKS


def test_power_loss_leaves_the_last_checkpoint() -> None:
    store = MemoryStore()
    store.txn.put_many(TASKS, [(b"kept", b"1"), (b"changed", b"1"), (b"deleted", b"1")])
    store.checkpoint(7)
    store.txn.put(TASKS, b"changed", b"2")
    store.txn.put(TASKS, b"added", b"2")
    assert store.txn.delete(TASKS, b"deleted")
    with store.reader() as reader:
        store.power_loss()
        with pytest.raises(ReaderEnded):
            reader.count(TASKS)
    assert store.txn.scan(TASKS, b"", None, 9) == [(b"changed", b"1"), (b"deleted", b"1"), (b"kept", b"1")]
    assert store.checkpointed_index == 7
    assert store.dirty_bytes == 0
    store.txn.put(TASKS, b"again", b"3")
    store.checkpoint(8)


def test_power_loss_opens_a_closed_or_failed_store() -> None:
    store = MemoryStore()
    store.txn.put(TASKS, b"a", b"1")
    store.checkpoint(1)
    store.close()
    store.power_loss()
    store.txn.put(TASKS, b"b", b"1")
    store.fail_checkpoint()
    with pytest.raises(StorageFailed, match="as a test asked"):
        store.checkpoint(2)
    with pytest.raises(StorageFailed, match="closed by an earlier error"):
        store.rollback()
    store.power_loss()
    assert store.txn.scan(TASKS, b"", None, 9) == [(b"a", b"1")]
    store.checkpoint(2)


class Off(BaseException):
    pass


@pytest.mark.parametrize(("at", "left"), [(1, []), (2, [(b"a", b"1")])])
def test_the_power_may_go_on_either_side_of_a_checkpoint(at: int, left: list[tuple[bytes, bytes]]) -> None:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Off

    store = MemoryStore(between)
    store.txn.put(TASKS, b"a", b"1")
    with pytest.raises(Off):
        store.checkpoint(1)
    store.power_loss()
    assert store.txn.scan(TASKS, b"", None, 9) == left
    assert store.checkpointed_index == len(left)


def test_nothing_is_asked_between_when_nothing_changed() -> None:
    calls: list[int] = []
    store = MemoryStore(lambda: calls.append(1))
    store.checkpoint(0)
    assert calls == []
    store.checkpoint(1)
    assert calls == [1, 1]


def test_full_until_it_grows() -> None:
    store = MemoryStore()
    store.full_after(2)
    store.txn.put(TASKS, b"a", b"1")
    store.txn.put_many(TASKS, [(b"b", b"1")])
    for _ in range(2):
        with pytest.raises(StoreFull):
            store.txn.put(TASKS, b"c", b"1")
    with pytest.raises(StoreFull):
        store.checkpoint(1)
    store.rollback()
    with pytest.raises(StoreFull):
        store.txn.put(TASKS, b"c", b"1")
    store.grow()
    store.txn.put(TASKS, b"c", b"1")
    store.checkpoint(1)
    assert store.txn.scan(TASKS, b"", None, 9) == [(b"c", b"1")]


def test_the_order_is_right_after_any_changes_between_scans() -> None:
    """Keys come and go between two scans, sometimes most of them: the order is kept late and must not miss one."""
    draw = random.Random(11)
    store = MemoryStore()
    model: dict[bytes, bytes] = {}
    for _ in range(60):
        for _ in range(draw.choice((1, 5, 400))):
            key = b"%d" % draw.randrange(500)
            if draw.random() < 0.5:
                store.txn.put(TASKS, key, b"v")
                model[key] = b"v"
            else:
                assert store.txn.delete(TASKS, key) == (model.pop(key, None) is not None)
        assert store.txn.scan(TASKS, b"", None, 1_000) == sorted(model.items())
        assert store.txn.first(TASKS, b"", b"z") == (min(model.items()) if model else None)


def test_statistics_count_bytes_of_rows() -> None:
    store = MemoryStore()
    before = store.statistics().used_bytes
    store.txn.put(TASKS, b"key", b"value")
    assert store.statistics().used_bytes == before + 8
    assert (store.statistics().map_bytes, store.statistics().file_bytes) == (0, 0)
