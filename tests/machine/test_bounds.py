"""The rules that need a thousand of something, or large bytes: bounds of claims, snoozes, history, retention, jobs.

Where the model can follow, it runs beside (``Pair``); where settings or sizes differ, the machine is alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from harness import START_MS, Pair, job_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import past, seen

from tq import cbor, limits, spec
from tq.errors import Backpressure, Conflict, InvalidRequest, PayloadTooLarge, TqError
from tq.machine import commands as c
from tq.machine.apply import Machine, Settings, encode_entry
from tq.machine.commands import Op, Outcome, Timer
from tq.machine.states import State
from tq.store import keys
from tq.store.dump import state_digest
from tq.store.memory import MemoryStore
from tq.store.tables import Table

W1, W2, W3 = (name.ljust(16, b"\0") for name in (b"w1", b"w2", b"w3"))


def number_id(n: int) -> bytes:
    return b"t" + n.to_bytes(15, "big")


def task(n: int, **fields: Any) -> bytes:
    return spec.encode(spec.Spec(id=number_id(n), **{"type": "echo", "payload": b"", **fields}))


def opened(types: list[str] | None = None, queues: list[str] | None = None) -> Pair:
    pair = Pair()
    pair.apply([c.SessionOpen(w, "w", types or ["echo"], queues or ["default"]) for w in (W1, W2)])
    return pair


def test_a_session_holds_no_more_than_its_bound_and_an_entry_grants_no_more_than_its() -> None:
    pair = opened()
    for first in (0, 1_000, 2_000):
        pair.apply([c.Submit([task(n) for n in range(first, first + 1_000)])])
    applied = pair.apply([c.Claim(W1, 1, [], 600), c.Claim(W1, 2, [], 600), c.Claim(W2, 1, [], 10)])
    assert [len(answer) for answer in applied.answers] == [600, 400, 0]  # type: ignore[arg-type]
    assert [len(a) for a in pair.apply([c.Claim(W1, 3, [], 1), c.Claim(W2, 2, [], 1_000)]).answers] == [0, 1_000]  # type: ignore[arg-type]
    id, fence, _ = applied.granted[0]
    pair.apply([c.Report(W1, [[id, fence, int(Outcome.RELEASE), None]], 0)])
    assert len(pair.apply([c.Claim(W1, 3, [], 10)]).granted) == 1
    pair.check()
    pair.apply([c.SessionClose(W1), c.SessionsEnd([W2])])
    pair.check()


def test_a_long_claim_over_many_lines_keeps_the_order() -> None:
    """Three queues and two types, some hundreds of tasks each: more than the machine reads at once."""
    pair = opened(["echo", "mail"], ["a", "b", "c"])
    fields = [
        {"queue": "abc"[n * 7 % 3], "type": ("echo", "mail")[n * 5 % 2], "priority": (150, 150, 150, 10, 200)[n % 5]}
        for n in range(900)
    ]
    pair.apply([c.Submit([task(n, **fields[n]) for n in range(900)])])
    for seq, (queues, n) in enumerate([(["c", "a"], 350), (["b"], 70), ([], 200), (["b", "c", "a"], 500)], 1):
        pair.apply([c.Claim(W1, seq, queues, n)])
    pair.check()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_claims_among_many_types_keep_the_order(data: st.DataObject) -> None:
    """Sessions that run one, some or all of twenty types, in two queues; tasks come, go and come back meanwhile."""
    types = [f"type{n}" for n in range(20)]
    pair = Pair()
    pair.apply([c.SessionOpen(w, "w", t, ["a", "b"]) for w, t in ((W1, types[3:5]), (W2, types), (W3, types[::2]))])
    n = seq = 0
    granted: list[tuple[bytes, int, bytes]] = []
    for _ in range(data.draw(st.integers(2, 8), "rounds")):
        batch = data.draw(
            st.lists(st.tuples(st.integers(0, 19), st.booleans(), st.sampled_from([150, 10, 200])), max_size=25)
        )
        pair.apply(
            [c.Submit([task(n + i, type=types[t], queue="ab"[q], priority=p) for i, (t, q, p) in enumerate(batch)])]
        )
        n += len(batch)
        for session in data.draw(st.lists(st.sampled_from([W1, W2, W3]), min_size=1, max_size=3), "sessions"):
            seq += 1
            granted += pair.apply(
                [c.Claim(session, seq, data.draw(st.sampled_from([[], ["b", "a"]])), n // 4 + 1)]
            ).granted
        back = granted[: data.draw(st.integers(0, 3), "back")]
        granted = granted[len(back) :]
        pair.apply([c.Report(W1, [[id, fence, int(Outcome.RELEASE), None] for id, fence, _ in back], 0)])
        pair.check()


def test_one_claim_gets_no_more_bytes_than_fit_a_reply() -> None:
    pair = opened()
    half = bytes(limits.GRANT_BYTES_MAX * 6 // 10)
    for n in range(2):
        pair.apply([c.Submit([task(n, payload=half)])])
    raw = encode_entry(START_MS, [c.Claim(W1, 1, [], 10)])
    assert len(pair.machine.apply(pair.index + 1, raw).granted) == 1
    raw = encode_entry(START_MS, [c.Claim(W1, 2, [], 10)])
    assert len(pair.machine.apply(pair.index + 2, raw).granted) == 1


def test_checkpoints_count_among_the_bytes_of_a_grant() -> None:
    """The next attempts of many tasks get what was kept, and yet their grants fit a reply."""
    pair = opened()
    n = limits.GRANT_BYTES_MAX // limits.CHECKPOINT_BYTES_MAX + 10
    pair.apply([c.Submit([task(number) for number in range(n)])])
    granted = pair.apply([c.Claim(W1, 1, [], n)]).granted
    assert len(granted) == n
    data = bytes(limits.CHECKPOINT_BYTES_MAX)
    for at in range(0, n, 100):
        pair.apply([c.Checkpoint([[id, fence, 1, data] for id, fence, _ in granted[at : at + 100]])])
    pair.apply([c.SessionClose(W1)])
    raw = encode_entry(START_MS, [c.Claim(W2, 1, [], n)])
    grants: Any = pair.machine.apply(pair.index + 1, raw).answers[0]
    assert 0 < len(grants) < n
    assert {grant[7] for grant in grants} == {data}
    assert sum(len(grant[0]) + len(grant[7]) for grant in grants) <= limits.GRANT_BYTES_MAX


@pytest.mark.parametrize("wrong", [bytes(limits.CHECKPOINT_BYTES_MAX + 1), "text", 5])
def test_a_checkpoint_that_is_none_is_refused_and_changes_nothing(wrong: Any) -> None:
    pair = opened()
    pair.apply([c.Submit([task(1)])])
    ((id, fence, _),) = pair.apply([c.Claim(W1, 1, [], 1)]).granted
    before = state_digest(pair.store.txn)
    for items in ([[id, fence, 1, wrong]], [[id, fence, -1, b""]], [[id[1:], fence, 1, b""]], [[id, fence, 1]]):
        raw = encode_entry(START_MS, [c.Checkpoint(items)])
        (answer,) = pair.machine.apply(pair.index + 1, raw).answers
        assert isinstance(answer, InvalidRequest), items
        pair.index += 1
    # The format of the entry is remembered; nothing else was written.
    pair.store.txn.delete(Table.META, keys.FORMAT)
    assert state_digest(pair.store.txn) == before


def test_the_snooze_after_the_last_counts_as_a_failure() -> None:
    pair = opened()
    pair.apply([c.Submit([task(1, retry=spec.Retry(2, 1_000, 2_000, 5_000, 0))])])

    def snooze() -> None:
        granted = pair.apply([c.Claim(W1, pair.index, [], 1)]).granted
        pair.apply([c.Report(W1, [[id, fence, int(Outcome.SNOOZE), 1] for id, fence, _ in granted], 0)])
        pair.time_ms += 1_000
        pair.apply([c.Advance(int(Timer.DUE), 10, 0)])

    for _ in range(limits.SNOOZES_MAX):
        snooze()
    shown = seen(pair.store.txn, number_id(1))
    assert shown is not None
    assert (shown["state"], shown["attempt"], shown["snoozes"]) == (State.PENDING, 0, limits.SNOOZES_MAX)
    snooze()
    assert (seen(pair.store.txn, number_id(1)) or {})["attempt"] == 1
    snooze()
    shown = seen(pair.store.txn, number_id(1))
    assert shown is not None
    assert (shown["state"], shown["reason"]) == (State.DEAD, "attempts")
    assert len(past(pair.store.txn, number_id(1))) == limits.HISTORY_ROWS_MAX


def test_a_result_is_remembered_as_long_as_the_history_knows_it() -> None:
    pair = opened()
    pair.apply([c.Submit([task(1)])])
    fences = []
    for _ in range(limits.HISTORY_ROWS_MAX + 1):
        ((id, fence, _),) = pair.apply([c.Claim(W1, pair.index, [], 1)]).granted
        fences.append(fence)
        pair.apply([c.Report(W1, [[id, fence, int(Outcome.RELEASE), None]], 0)])
    machine, index = pair.machine, pair.index

    def again(fence: int) -> object:
        nonlocal index
        index += 1
        entry = encode_entry(START_MS, [c.Report(W1, [[number_id(1), fence, int(Outcome.RELEASE), None]], 0)])
        return machine.apply(index, entry).answers[0]

    assert again(fences[1]) == [1]
    assert again(fences[-1]) == [1]
    assert again(fences[0]) == [[2, int(State.PENDING)]]


def test_a_long_error_is_cut_with_a_mark() -> None:
    pair = opened()
    pair.apply([c.Submit([task(1)])])
    ((id, fence, _),) = pair.apply([c.Claim(W1, 1, [], 1)]).granted
    error = ["E", "é" * limits.ERROR_TEXT_BYTES_MAX, "t" * limits.ERROR_TEXT_BYTES_MAX]
    pair.apply([c.Report(W1, [[id, fence, int(Outcome.FAIL), [error, True, None]]], 0)])
    (row,) = past(pair.store.txn, id)
    kept = row[7]
    assert sum(len(text.encode()) for text in kept) <= limits.ERROR_TEXT_BYTES_MAX
    assert kept[1] != error[1]
    assert "[cut]" in kept[1]
    assert "[cut]" in kept[2]


def test_retention_keeps_no_more_than_a_number_of_finished_tasks_the_latest_ones() -> None:
    store = MemoryStore()
    machine = Machine(store.txn, Settings(finished_keep_tasks=2))
    machine.apply(1, encode_entry(START_MS, [c.Submit([task(n) for n in range(5)])]))
    for n in range(4):
        machine.apply(n + 2, encode_entry(START_MS + n, [c.Cancel([number_id(n)], 0)]))
    applied = machine.apply(9, encode_entry(START_MS + 9, [c.Advance(int(Timer.RETENTION), 100, 0)]))
    assert applied.answers == [2]
    left = [n for n in range(5) if seen(store.txn, number_id(n)) is not None]
    assert left == [2, 3, 4]


@pytest.mark.parametrize(("before_ms", "after_ms"), [(48, 1), (1, 48)])
def test_retention_may_be_set_otherwise_between_two_runs(before_ms: int, after_ms: int) -> None:
    """Whatever was kept under one setting must go in order under another."""
    store = MemoryStore()
    hour = limits.HOUR_MS
    machine = Machine(store.txn, Settings(finished_keep_ms=before_ms * hour))
    first = [c.SessionOpen(W1, "w", ["echo"], ["default"]), c.Submit([task(1)]), c.Claim(W1, 1, [], 1)]
    ((id, fence, _),) = machine.apply(1, encode_entry(START_MS, first)).granted
    machine.apply(2, encode_entry(START_MS, [c.Report(W1, [[id, fence, 0, ["t", b""]]], 0)]))
    machine = Machine(store.txn, Settings(finished_keep_ms=after_ms * hour))
    for n, step in enumerate((2, 24, 49, 100)):
        both = [c.Advance(int(kind), 100, 0) for kind in (Timer.RETENTION, Timer.RESULT_TTL, Timer.TOMBSTONE)]
        machine.apply(3 + n, encode_entry(START_MS + step * hour, both))
    assert seen(store.txn, id) is None


def test_no_more_jobs_at_once_than_the_bound() -> None:
    pair = Pair()
    starts = [c.JobStart(number_id(n), 1, job_filter({})) for n in range(limits.JOBS_MAX + 1)]
    raw = encode_entry(START_MS, starts)
    answers = pair.machine.apply(1, raw).answers
    assert not any(isinstance(answer, TqError) for answer in answers[:-1])
    assert isinstance(answers[-1], Backpressure)
    assert answers[-1].retry_after


def test_an_operation_of_another_kind_is_a_conflict() -> None:
    pair = opened()
    operation = number_id(7)
    pair.apply([c.Retry(operation, [])])
    applied = pair.apply([c.Purge(operation, []), c.JobStart(operation, 0, job_filter({})), c.Retry(operation, [])])
    assert isinstance(applied.answers[0], Conflict)
    assert isinstance(applied.answers[1], Conflict)
    assert applied.answers[2] == []
    pair.check()


def test_a_result_above_its_bound_is_refused_and_changes_nothing() -> None:
    pair = opened()
    pair.apply([c.Submit([task(1)])])
    ((id, fence, _),) = pair.apply([c.Claim(W1, 1, [], 1)]).granted
    before = state_digest(pair.store.txn)
    body = ["t", bytes(limits.RESULT_BYTES_MAX + 1)]
    raw = encode_entry(START_MS, [c.Report(W1, [[id, fence, int(Outcome.COMPLETE), body]], 0)])
    (answer,) = pair.machine.apply(pair.index + 1, raw).answers
    assert isinstance(answer, PayloadTooLarge)
    assert state_digest(pair.store.txn) == before


# ---- apply never raises on what a user sent ------------------------------------------------------------

odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=4) | st.binary(max_size=17)
    | st.just(number_id(1)) | st.sampled_from([0, 1, 2, 3, 4, 5, 1_024]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)  # fmt: skip


SETTINGS = ("paused", "reason", "max_length", "retry", "timeout_ms", "dead_keep_ms", "rate")


@st.composite
def odd_commands(draw: st.DrawFn) -> Any:
    """A right command with some fields replaced by anything at all."""
    right: dict[Op, list[Any]] = {
        Op.SUBMIT: [[task(1)], False],
        Op.SESSION_OPEN: [W1, "w", ["echo"], ["default"]],
        Op.SESSION_CLOSE: [W1],
        Op.CLAIM: [W1, 1, [], 1],
        Op.REPORT: [W1, [[number_id(1), 3 * limits.FENCE_ORDINALS, draw(st.integers(0, 4)), draw(odd)]], 0],
        Op.LEASES_EXPIRE: [[[number_id(1), 1]]],
        Op.SESSIONS_END: [[W1]],
        Op.CANCEL: [[number_id(1)], 0],
        Op.ADVANCE: [0, 1, 0],
        Op.RETRY: [number_id(2), [number_id(1)], 0],
        Op.PURGE: [number_id(3), [number_id(1)]],
        Op.JOB_START: [number_id(4), 0, [None, None, None, None, None], None, 0],
        Op.JOB_STEP: [number_id(4), 1],
        Op.CLUSTER_FORM: [number_id(5), "n"],
        Op.CHECKPOINT: [[[number_id(1), 3 * limits.FENCE_ORDINALS, draw(st.integers(0, 2)), draw(odd)]]],
        Op.SETTINGS_SET: [1_000, 3, 1_000, 10, 1_000, 1_000],
        Op.QUEUE_SET: [number_id(6), "default", "ana", [[draw(st.sampled_from(SETTINGS)), draw(odd)]]],
    }
    op = draw(st.sampled_from(Op))
    fields = right[op]
    for _ in range(draw(st.integers(0, 2))):
        fields[draw(st.integers(0, len(fields) - 1))] = draw(odd)
    if draw(st.integers(0, 9)) == 0:
        fields = fields[:-1]
    return [int(op), *fields]


def encodable(value: Any) -> bool:
    """What the leader can put into an entry at all."""
    try:
        cbor.loads(cbor.dumps(value))
    except ValueError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(st.lists(odd_commands() | odd, max_size=4).filter(encodable))
def test_apply_answers_whatever_it_is_given(commands: list[Any]) -> None:
    store = MemoryStore()
    machine = Machine(store.txn)
    first = [c.SessionOpen(W1, "w", ["echo"], ["default"]), c.Submit([task(1)])]
    machine.apply(1, encode_entry(START_MS, first))
    machine.apply(3, encode_entry(START_MS, [c.Claim(W1, 0, [], 1)]))
    applied = machine.apply(4, cbor.dumps([c.FORMAT, START_MS, commands]))
    assert len(applied.answers) == len(commands)


def test_a_command_nobody_knows_is_refused_by_name() -> None:
    (unknown, empty) = Machine(MemoryStore().txn).apply(1, cbor.dumps([c.FORMAT, START_MS, [[99], []]])).answers
    assert isinstance(unknown, TqError)
    assert unknown.code == "UNSUPPORTED"
    assert isinstance(empty, InvalidRequest)
