"""Pages: every filter and order against a walk over all tasks, whatever rows they are read from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from machine.driver import SESSION, Driver, id_of
from tq import limits
from tq.errors import InvalidRequest
from tq.machine import commands as c
from tq.machine import listing, queries
from tq.machine.commands import Outcome, Timer
from tq.machine.states import ENDS, GROUPS
from tq.spec import Spec, encode

END_NAMES = {state.name.lower() for state in ENDS}
ERRORS = ("ValueError", "shop.errors.OutOfStock", "OutOfMemory")
W2 = b"second".ljust(16, b"-")
TASKS = 120


def crowd(seed: int) -> Driver:
    """Tasks of all states, in two queues and types, with tags, of two workers, whose times differ; ids in any order."""
    rng = random.Random(seed)
    d = Driver()
    for session in (SESSION, W2):
        d.do(c.SessionOpen(session, "one" if session is SESSION else "two", ["a", "b"], ["left", "right"]))
    numbers = [(rng.randrange(1 << 112) << 16) + n for n in range(TASKS)]
    for at in range(0, TASKS, 6):
        d.now_ms += rng.randrange(3)
        for number in numbers[at : at + 6]:
            more: dict[str, Any] = rng.choice([{}, {}, {}, {"delay_ms": 10_000}, {"expires_in_ms": 1}])
            spec = Spec(
                id_of(number), rng.choice("ab"), b"", rng.choice(("left", "right")), rng.choice((50, 150)),
                tags=tuple(rng.sample(("t", "u", "tu"), rng.randrange(3))), **more,
            )  # fmt: skip
            d.do(c.Submit([encode(spec)]))
        for session in (SESSION, W2):
            for id, fence in d.claim(2, session=session):
                d.now_ms += rng.randrange(2)
                what, body = rng.choice(
                    [
                        (Outcome.COMPLETE, ["t", b""]),
                        (Outcome.FAIL, [[rng.choice(ERRORS), "m", "t"], rng.random() < 0.6, 0]),
                        (Outcome.RELEASE, None),
                        (None, None),
                    ]
                )
                if what is not None:
                    d.do(c.Report(session, [[id, fence, int(what), body]], 0))
                    if rng.random() < 0.2:  # a worker that says something else afterwards
                        d.do(c.Report(W2, [[id, fence, int(Outcome.SNOOZE), 5]], 0))
        d.do(c.Cancel([id_of(rng.choice(numbers[: at + 6]))], 0))
        d.advance(Timer.EXPIRES)
        d.advance(Timer.GRACE)
        d.advance(Timer.DUE)
    return d


def everything(d: Driver) -> list[dict[str, Any]]:
    return [queries.get_task(d.txn, id, 7) for id, _ in d.txn.scan(listing.Table.TASKS, bytes(16), None, 10_000)]


def worker_of(task: dict[str, Any]) -> str | None:
    if task["state"] in ("running", "completed"):
        return task["worker"]
    ran = [row for row in task["history"] if row["outcome"] != "stale"]
    return ran[-1]["worker"] if ran else None


def meets(task: dict[str, Any], fields: dict[str, Any]) -> bool:
    """The rules again, in the words of the page about them."""
    states = fields.get("state")
    if states is not None:
        named = [states] if isinstance(states, str) else states
        members = {s.name.lower() for name in named for s in GROUPS.get(name, ())} | set(named)
        if task["state"] not in members:
            return False
    if any(fields.get(name) not in (None, task[name]) for name in ("queue", "type")):
        return False
    if fields.get("tag") not in (None, *task["tags"]):
        return False
    if not task["id"].hex().startswith(fields.get("id_prefix", "").replace("-", "").lower()):
        return False
    if "worker" in fields and fields["worker"] not in (
        worker_of(task),
        {"one": SESSION, "two": W2}.get(worker_of(task) or "", b"").hex(),
    ):
        return False
    error = None if task["error"] is None else task["error"][0]
    if "error" in fields and fields["error"] not in (error, (error or "").rpartition(".")[2]):
        return False
    for name in ("created", "ended"):
        at, since, before = task[f"{name}_ms"], fields.get(f"{name}_since_ms"), fields.get(f"{name}_before_ms")
        if (since, before) != (None, None) and not (at is not None and (since or 0) <= at < (before or 1 << 62)):
            return False
    return True


def wanted(tasks: list[dict[str, Any]], fields: dict[str, Any], *, oldest_first: bool) -> list[bytes]:
    found = [task for task in tasks if meets(task, fields)]
    states = fields.get("state", [])
    named = [states] if isinstance(states, str) else states
    members = {s.name.lower() for name in named for s in GROUPS.get(name, ())} | {n for n in named if n not in GROUPS}
    by_end = "id_prefix" not in fields and (
        "ended_since_ms" in fields or "ended_before_ms" in fields or (bool(named) and members <= END_NAMES)
    )
    found.sort(key=lambda task: (task["ended_ms"] if by_end else 0, task["id"]), reverse=not oldest_first)
    return [task["id"] for task in found]


def walk(d: Driver, fields: dict[str, Any], limit: int, *, oldest_first: bool = False) -> Iterator[bytes]:
    cursor = None
    for _ in range(1_000):
        page, cursor = queries.list_tasks(d.txn, fields, limit, cursor, oldest_first=oldest_first)
        assert len(page) <= limit
        yield from [task["id"] for task in page]
        if cursor is None:
            return
    raise AssertionError("a list without end")


def drawn(tasks: list[dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    """A filter at random: some fields, with values that occur."""
    fields: dict[str, Any] = {}
    if rng.random() < 0.7:
        names = rng.sample(
            ["waiting", "scheduled", "pending", "running", "completed", "cancelled", "expired", "dead", *GROUPS], 3
        )
        fields["state"] = rng.choice([names[0], names[:1], names[:2], names])
    for name, values in (
        ("queue", ("left", "right", "nowhere")),
        ("type", ("a", "b", "c")),
        ("tag", ("t", "tu", "v")),
        ("worker", ("one", "two", SESSION.hex(), "nobody", bytes(16).hex())),
        ("error", (*ERRORS, "OutOfStock", "Stock", "None")),
    ):
        if rng.random() < 0.2:
            fields[name] = rng.choice(values)
    if rng.random() < 0.15:
        fields["id_prefix"] = rng.choice(tasks)["id"].hex()[: rng.choice((1, 2, 3, 32))]
    for name in ("created", "ended"):
        times = [task[f"{name}_ms"] for task in tasks if task[f"{name}_ms"] is not None]
        for bound in ("since", "before"):
            if rng.random() < 0.12:
                fields[f"{name}_{bound}_ms"] = rng.choice(times)
    return fields


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gathered_max", [0, listing.GATHERED_MAX])
def test_a_list_is_what_a_walk_over_all_tasks_finds(
    seed: int, gathered_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "GATHERED_MAX", gathered_max)
    monkeypatch.setattr(listing, "_CHUNK", 7)
    rng = random.Random(seed)
    d = crowd(seed)
    tasks = everything(d)
    sizes = []
    for _ in range(150):
        fields, oldest_first = drawn(tasks, rng), rng.random() < 0.5
        monkeypatch.setattr(limits, "LIST_HEADERS_MAX", rng.choice((5, 100, 5_000)))
        found = list(walk(d, fields, rng.choice((1, 3, 10, 1_000)), oldest_first=oldest_first))
        assert found == wanted(tasks, fields, oldest_first=oldest_first), f"seed {seed}: {fields} {oldest_first}"
        sizes.append(len(found))
    assert sum(size > 0 for size in sizes) > 40, f"seed {seed}: the filters hit nothing"


def test_live_tasks_are_found_without_a_walk_over_those_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each live state has an index; looking at one header more than there are such tasks is too many."""
    d = Driver()
    d.open()
    d.dead(*range(50))
    d.submit(60, 61, 62)
    d.submit(63, delay_ms=50)
    d.claim()
    for fields, n in (
        ({"state": "pending"}, 2),
        ({"state": "scheduled"}, 1),
        ({"state": "running"}, 1),
        ({"state": "running", "worker": "worker"}, 1),
        ({"state": "live"}, 4),
        ({"state": "queued", "queue": "default", "type": "echo"}, 3),
        ({"id_prefix": id_of(60).hex()}, 1),
    ):
        monkeypatch.setattr(limits, "LIST_HEADERS_MAX", (1 + listing.SHOW_COST) * n + 1)
        page, cursor = queries.list_tasks(d.txn, fields, 10, None)
        assert (len(page), cursor) == (n, None), fields


def test_many_live_tasks_are_not_sorted_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver()
    d.submit(*range(20))
    monkeypatch.setattr(listing, "GATHERED_MAX", 19)
    monkeypatch.setattr(listing, "scan_all", None)  # must not be used
    assert [task["id"] for task in queries.list_tasks(d.txn, {"state": "pending"}, 2, None)[0]] == [
        id_of(19),
        id_of(18),
    ]


@pytest.mark.parametrize("oldest_first", [False, True])
def test_what_stays_as_it_is_is_seen_once_while_others_change(oldest_first: bool) -> None:
    rng = random.Random(5)
    d = Driver()
    d.open()
    d.submit(*range(100, 200))
    for fields in ({}, {"state": "pending"}, {"state": "live"}):
        changing = rng.sample(range(100, 200), 30)
        before = {id_of(n) for n in range(100, 200) if d.state(n) == "pending"}
        seen = []
        for id in walk(d, fields, 4, oldest_first=oldest_first):
            seen.append(id)
            if changing:
                d.do(c.Cancel([id_of(changing.pop())], 0))
                d.submit(rng.randrange(1 << 60) * 2 + 1)
        assert len(seen) == len(set(seen))
        still = {id for id in before if queries.get_task(d.txn, id, 0)["state"] == "pending"}
        assert still <= set(seen)


def test_a_page_does_a_bounded_amount_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver()
    d.submit(*range(9), payload=bytes(100), tags=("t",))
    monkeypatch.setattr(limits, "LIST_HEADERS_MAX", 4)
    assert queries.list_tasks(d.txn, {"type": "echo", "created_since_ms": d.now_ms + 1}, 100, None)[0] == []
    page, cursor = queries.list_tasks(d.txn, {"tag": "none"}, 100, None)
    assert page == []
    assert cursor is not None
    monkeypatch.setattr(limits, "LIST_HEADERS_MAX", 5_000)
    monkeypatch.setattr(limits, "LIST_READ_BYTES_MAX", 300)
    page, cursor = queries.list_tasks(d.txn, {}, 100, None)
    assert len(page) < 4
    assert cursor is not None
    page, cursor = queries.list_tasks(d.txn, {"tag": "none"}, 100, None)
    assert page == []
    assert cursor is not None


def test_headers_that_are_read_one_by_one_are_twice_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver()
    d.open()
    d.dead(*range(20))
    monkeypatch.setattr(limits, "LIST_HEADERS_MAX", 10)
    for fields, requests in (
        ({"created_since_ms": d.now_ms + 1}, 3),
        ({"state": "dead", "created_since_ms": d.now_ms + 1}, 5),
    ):
        cursor, count = None, 0
        while count == 0 or cursor is not None:
            page, cursor = queries.list_tasks(d.txn, fields, 100, cursor)
            assert page == []
            count += 1
        assert count == requests, fields


def test_long_histories_are_work_too(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Driver()
    d.open()
    d.dead(2)
    d.submit(1)
    for _ in range(20):
        d.report(*d.claim()[0], Outcome.RELEASE)
    monkeypatch.setattr(limits, "LIST_HEADERS_MAX", 10 * listing.LOOK_COST)
    page, cursor = queries.list_tasks(d.txn, {"error": "E"}, 100, None)
    assert [task["id"] for task in page] == [id_of(2)]
    assert cursor is not None
    assert queries.list_tasks(d.txn, {"error": "E"}, 100, cursor)[0] == []


def test_a_cursor_belongs_to_an_order() -> None:
    d = Driver()
    d.open()
    d.submit(*range(5))
    d.dead(*range(10, 15))
    _, by_id = queries.list_tasks(d.txn, {}, 1, None)
    _, by_end = queries.list_tasks(d.txn, {"state": "dead"}, 1, None)
    assert queries.list_tasks(d.txn, {"state": "pending"}, 1, by_id)[0]
    for fields, cursor, oldest_first in (
        ({}, by_end, False),
        ({"state": "dead"}, by_id, False),
        ({}, by_id, True),
        ({"state": "dead"}, by_end, True),
    ):
        with pytest.raises(InvalidRequest, match="cursor"):
            queries.list_tasks(d.txn, fields, 5, cursor, oldest_first=oldest_first)


@pytest.mark.parametrize(
    "cursor", [b"", b"x", b"\x02", b"\x07abc", bytes(1) + b"k" * 500, b"\x40" + b"k" * 500, b"\x42"]
)
@pytest.mark.parametrize("state", ["pending", "dead"])
def test_a_foreign_cursor_is_refused(cursor: bytes, state: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        queries.list_tasks(Driver().txn, {"state": state}, 5, cursor)


@pytest.mark.parametrize("limit", [0, limits.LIST_TASKS_MAX + 1])
def test_a_page_has_a_size(limit: int) -> None:
    with pytest.raises(InvalidRequest, match="limit"):
        queries.list_tasks(Driver().txn, {}, limit, None)


def test_no_state_is_left_where_live_ones_are_asked_for_by_their_end() -> None:
    d = Driver()
    d.submit(1)
    assert queries.list_tasks(d.txn, {"state": "pending", "ended_since_ms": 0}, 5, None) == ([], None)
