"""SUBMIT: the bulk path leaves what the general path leaves; what is refused leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine.driver import Driver, id_of
from tq import cbor, limits
from tq.machine import commands as c
from tq.machine import submit as submit_module
from tq.machine.answers import EventKind, SubmitOutcome
from tq.spec import Spec, encode
from tq.store import keys
from tq.store.tables import Table

plain = st.builds(
    lambda type_, queue, priority, payload: {"type": type_, "queue": queue, "priority": priority, "payload": payload},
    st.sampled_from("ab"),
    st.sampled_from(["default", "q"]),
    st.sampled_from([0, 100, 150, 255]),
    st.binary(max_size=4),
)


@settings(max_examples=50)
@given(st.lists(plain, min_size=1, max_size=12), st.booleans())
def test_bulk_and_general_paths_agree(batch: list[dict[str, Any]], atomic: bool) -> None:
    specs = [encode(Spec(id=id_of(n), **fields)) for n, fields in enumerate(batch)]
    bulk, general = Driver(), Driver()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit_module, "_create_plain", _must_not_be_used)
        patch.setattr(submit_module, "_plain", lambda _raws: None)
        one = general.apply(c.Submit(specs, atomic))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit_module, "_submit_general", _must_not_be_used)
        two = bulk.apply(c.Submit(specs, atomic))
    assert one == two
    assert general.digest() == bulk.digest()
    assert general.machine.ready == bulk.machine.ready


def _must_not_be_used(*_args: Any) -> Any:
    raise AssertionError("the other path was to be tested")


def test_a_refused_atomic_batch_leaves_nothing() -> None:
    d = Driver()
    d.submit(1)
    before = d.digest()
    specs = [encode(Spec(id_of(2), "new-type", b"", "new-queue")), encode(Spec(id_of(1), "echo", b"other"))]
    applied = d.apply(c.Submit(specs, True))
    innocent, guilty = applied.answers[0]
    assert innocent[:3] == [SubmitOutcome.NOT_DONE, None, None]
    assert innocent[3][0] == "NOT_DONE"
    assert guilty[:3] == [SubmitOutcome.CONFLICT, 2, id_of(1)]
    assert not applied.events
    assert d.digest() == before
    assert d.machine.number_of_queue("new-queue") is None


def test_what_is_wrong_with_one_item_is_its_answer_alone() -> None:
    d = Driver()
    large = encode(Spec(id_of(2), "t", bytes(limits.PAYLOAD_BYTES_MAX + 1)))
    items = d.do(
        c.Submit([encode(Spec(id_of(1), "t", b"")), b"\xff", large, encode(Spec(id_of(4), "t", b"", priority=256))])
    )
    assert items[0] == 0
    assert [item[0] for item in items[1:]] == [SubmitOutcome.INVALID, SubmitOutcome.TOO_LARGE, SubmitOutcome.INVALID]
    assert items[3][3][6]["field"] == "priority"
    assert d.txn.count(Table.TASKS) == 1


def test_equal_content_in_other_bytes_is_the_same_task() -> None:
    d = Driver()
    short = cbor.dumps([id_of(1), "echo", b"x"])
    long = cbor.dumps([id_of(1), "echo", b"x", "default", 150])
    assert short != long
    assert d.do(c.Submit([short])) == [0]
    assert d.do(c.Submit([long])) == [[SubmitOutcome.DUPLICATE, 2, id_of(1), None]]


@pytest.mark.parametrize("kind", ["queue", "type"])
def test_names_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NAMES_MAX", 2)
    d = Driver()
    assert d.submit(1, **{kind: "a"}) == [0]
    specs = [
        encode(Spec(**{"id": id_of(n), "type": "echo", "payload": b"", kind: name}))
        for n, name in ((2, "b"), (3, "c"), (4, "b"))
    ]
    items = d.do(c.Submit(specs))
    assert [items[0], items[2]] == [0, 0]
    assert items[1][0] == SubmitOutcome.INVALID
    assert items[1][3][6]["field"] == kind
    assert d.submit(5, **{kind: "d"})[0][0] == SubmitOutcome.INVALID


def test_events_of_a_batch_are_in_its_order() -> None:
    d = Driver()
    specs = [encode(Spec(id_of(1), "t", b"", delay_ms=5)), encode(Spec(id_of(2), "t", b""))]
    events = [(kind, id) for kind, id, *_ in d.apply(c.Submit(specs)).events]
    assert events == [
        (EventKind.CREATED, id_of(1)),
        (EventKind.SCHEDULED, id_of(1)),
        (EventKind.CREATED, id_of(2)),
    ]


def test_a_delay_that_is_over_is_none() -> None:
    d = Driver()
    assert d.submit(1, not_before_ms=d.now_ms) == [0]
    assert d.submit(2, not_before_ms=d.now_ms + 1)[0][:2] == [SubmitOutcome.CREATED, 1]


def test_long_keys_and_names_fit_the_store() -> None:
    d = Driver()
    key, name = "\U0001f600" * limits.KEY_CHARS_MAX, "\U0001f600" * limits.NAME_CHARS_MAX
    fields: dict[str, Any] = {"queue": name, "type": name, "unique": (key, 1), "idempotency_key": key}
    assert d.submit(1, **fields) == [0]
    assert d.submit(2, **fields)[0][0] == SubmitOutcome.DUPLICATE
    assert d.show(1)["queue"] == name
    d.restart()
    assert d.machine.number_of_queue(name) == 0


def test_twins_in_one_batch() -> None:
    d = Driver()
    one, same, other = (encode(Spec(id_of(1), "t", payload)) for payload in (b"x", b"x", b"y"))
    items = d.do(c.Submit([one, same, other]))
    assert items[:2] == [0, [SubmitOutcome.DUPLICATE, 2, id_of(1), None]]
    assert items[2][:3] == [SubmitOutcome.CONFLICT, 2, id_of(1)]
    assert d.show(1)["payload"] == b"x"


@pytest.mark.parametrize("field", [{"unique": ("k", 0)}, {"idempotency_key": "k"}])
def test_keys_hold_inside_a_batch(field: dict[str, Any]) -> None:
    d = Driver()
    specs = [encode(Spec(id_of(n), "t", b"", **field)) for n in (1, 2)]
    assert d.do(c.Submit(specs)) == [0, [SubmitOutcome.DUPLICATE, 2, id_of(1), None]]


def test_an_id_and_a_key_that_name_different_tasks_are_a_conflict() -> None:
    d = Driver()
    d.submit(1, idempotency_key="k")
    d.submit(2)
    assert d.submit(2, idempotency_key="k")[0][:3] == [SubmitOutcome.CONFLICT, 2, id_of(2)]
    assert d.submit(3, idempotency_key="l") == [0]
    assert d.submit(1, idempotency_key="l")[0][0] == SubmitOutcome.CONFLICT


def test_an_id_and_a_key_that_name_different_tasks_conflict_although_the_content_is_the_same() -> None:
    """Only possible where the key's task was made by other means than this id's; judged before the content is."""
    d = Driver()
    d.submit(1, idempotency_key="k")
    d.submit(2, idempotency_key="l")
    key = keys.idempotency("l")
    d.txn.put(Table.KEYS, key, id_of(1))
    item = d.submit(2, idempotency_key="l")[0]
    assert item[:3] == [SubmitOutcome.CONFLICT, 2, id_of(2)]
    assert "different tasks" in item[3][1]


@pytest.mark.parametrize(("during", "free_while_running"), [(0, True), (1, False)])
def test_a_unique_key_is_held_as_long_as_it_says(during: int, free_while_running: bool) -> None:
    d = Driver()
    d.open()
    d.submit(1, unique=("k", during))
    grant = d.claim()[0]
    assert (d.submit(2, unique=("k", during), delay_ms=10) == [[0, 1, id_of(2), None]]) is free_while_running
    if not free_while_running:
        d.complete(*grant)
        assert d.submit(2, unique=("k", during), delay_ms=10) == [[0, 1, id_of(2), None]]
    d.do(c.Cancel([id_of(2)], 0))
    assert d.txn.count(Table.KEYS) == 0


def test_the_bulk_path_tells_the_fronts_of_queues() -> None:
    d = Driver()
    d.open(types=("x", "y"))
    d.submit(1, type="x")
    d.submit(2, type="y")
    assert len(d.claim()) == 1  # the front of the queue is known from here on
    specs = [encode(Spec(id_of(n), "xyz"[n % 3], b"", priority=[100, 200][n % 2])) for n in range(10, 20)]
    d.do(c.Submit(specs))
    types = set(range(3))
    known = list(d.machine._ready.in_order(d.txn, 0, types))
    d.restart()
    assert known == list(d.machine._ready.in_order(d.txn, 0, types))
