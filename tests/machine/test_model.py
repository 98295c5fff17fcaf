"""Hypothesis drives the real machine and the naive model with the same entries and compares all there is to see.

Entries are small programs: several commands each, sensible and foolish, at rising (and sometimes falling) times. At
the end the same bytes are applied again: on LMDB, and on a store that is rolled back in the middle; the digests of
all must be equal. ``TQ_LONG=1`` runs many more and longer examples.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import cbor2
from harness import START_MS, Pair, job_filter, state_digest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tq import limits, spec
from tq.machine import commands as c
from tq.machine.apply import Machine
from tq.machine.commands import Outcome, Timer
from tq.machine.states import State
from tq.sim.clock import VirtualClock
from tq.store.lmdb_store import LmdbStore
from tq.store.memory import MemoryStore
from tq.world import RealDisk

LONG = bool(os.environ.get("TQ_LONG"))
NAMES = [b"%c" % letter for letter in b"abcdefghijkl"]
IDS = [name.ljust(16, b"\0") for name in NAMES]
SESSIONS = [b"session-1".ljust(16, b"\0"), b"session-2".ljust(16, b"\0"), b"session-3".ljust(16, b"\0")]
OPERATIONS = [(b"operation-%d" % n).ljust(16, b"\0") for n in range(4)]
QUEUES = ["default", "q1", "q2"]
TYPES = ["echo", "mail", "t3", "t4", "t5"]

ids = st.sampled_from(IDS)
some_ids = st.lists(ids, min_size=1, max_size=4)
durations = st.sampled_from([1, 1_000, 5_000, 60_000])
optional_durations = st.none() | durations


@st.composite
def specs(draw: st.DrawFn) -> bytes:
    """Mostly plain tasks out of a small world, so that ids, keys and queues collide."""
    fields: dict[str, Any] = {
        "id": draw(ids),
        "type": draw(st.sampled_from(TYPES)),
        "payload": draw(st.sampled_from([b"", b"x"])),
        "queue": draw(st.sampled_from(QUEUES)),
        "priority": draw(st.sampled_from([150, 150, 0, 99, 100, 200, 255])),
    }
    if draw(st.booleans()):
        unique = st.none() | st.tuples(st.sampled_from(["u", "v"]), st.sampled_from([0, 1]))
        attempts, base = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([0, 1_000, 7_777]))
        jitter = draw(st.sampled_from([0, 0, 200, 1_000]))
        fields |= {
            "delay_ms": draw(st.sampled_from([0, 0, 1, 5_000])),
            "expires_in_ms": draw(optional_durations),
            "timeout_ms": draw(optional_durations),
            "deadline_ms": draw(optional_durations),
            "retry": spec.Retry(attempts, base, draw(st.sampled_from([1_000, 1_500, 3_000])), 20_000, jitter),
            "unique": draw(unique),
            "idempotency_key": draw(st.none() | st.sampled_from(["k", "l"])),
            "result_ttl_ms": draw(st.sampled_from([86_400_000, 5_000, 2 * 86_400_000])),
        }
        if not fields["delay_ms"] and draw(st.booleans()):
            fields["not_before_ms"] = START_MS + draw(st.sampled_from([0, 5_000, 60_000]))
    if draw(st.integers(0, 19)) == 0:
        fields["priority"] = 256
    if draw(st.integers(0, 4)) == 0:
        return written_out(spec.Spec(**fields))
    return spec.encode(spec.Spec(**fields))


def written_out(task: spec.Spec) -> bytes:
    """With time to live and retry rules said, whatever they are: no default of a queue is for this one."""
    array = cbor2.loads(spec.encode(task._replace(tags=("said",))))
    array[5] |= {12: task.result_ttl_ms, 7: list(task.retry)}
    return cbor2.dumps(array)


def bodies(outcome: Outcome) -> st.SearchStrategy[Any]:
    if outcome is Outcome.COMPLETE:
        return st.sampled_from([["text/plain", b"one"], ["text/plain", b"two"]])
    if outcome is Outcome.FAIL:
        after = st.none() | st.sampled_from([0, 3_000])
        return st.tuples(st.just(["E", "m", "t"]), st.sampled_from([False, False, False, True]), after).map(list)
    if outcome is Outcome.SNOOZE:
        return st.sampled_from([1, 5_000])
    return st.none()


SETTINGS = {
    "paused": st.sampled_from([True, True, False, None]),
    "max_length": st.sampled_from([0, 1, 2, 5, None, -1]),
    "timeout_ms": optional_durations,
    "expires_in_ms": optional_durations,
    "result_ttl_ms": st.none() | st.sampled_from([1_000, 2 * 86_400_000]),
    "retry": st.none() | st.sampled_from([[1, 0, 1_000, 0, 0], [2, 1_000, 1_500, 20_000, 1_000]]),
    "finished_keep_ms": st.none() | st.sampled_from([0, 5_000, 7 * 86_400_000]),
    "dead_keep_ms": st.none() | st.sampled_from([5_000]),
    "rate": st.just("100/s"),
}


SET_AT_FIRST: list[list[list[object]]] = [
    [["finished_keep_ms", 7 * 86_400_000], ["result_ttl_ms", 1_000], ["dead_keep_ms", 5_000]],
    [["timeout_ms", 5_000], ["retry", [2, 1_000, 1_500, 20_000, 1_000]], ["finished_keep_ms", 5_000]],
    [["max_length", 2], ["expires_in_ms", 60_000]],
]


@st.composite
def queue_changes(draw: st.DrawFn) -> list[list[object]]:
    """One or two settings; mostly good ones."""
    names = draw(st.lists(st.sampled_from(sorted(SETTINGS)), min_size=1, max_size=2, unique=True))
    changes: list[list[object]] = [[name, draw(SETTINGS[name])] for name in names]
    if ["paused", True] in changes and draw(st.booleans()):
        changes.append(["reason", "deploy"])
    return changes


filters = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["dead", "completed", "cancelled"]),
        "queue": st.sampled_from([*QUEUES, "nowhere"]),
        "type": st.sampled_from(TYPES),
    },
)


class MachineAgainstModel(RuleBasedStateMachine):
    @initialize(is_set=st.sampled_from([False, True, True]))
    def begin(self, is_set: bool) -> None:
        self.pair = Pair()
        self.waiting: list[c.Command] = []
        self.granted: list[tuple[bytes, int, bytes]] = []
        self.seqs = dict.fromkeys(SESSIONS, 0)
        opened = [c.SessionOpen(s, "w", TYPES[: 1 + 2 * n], QUEUES[:2]) for n, s in enumerate(SESSIONS[:2])]
        plain = [spec.encode(spec.Spec(id, TYPES[n % 5], b"", QUEUES[n % 3])) for n, id in enumerate(IDS[:6])]
        self.issue(opened[0], alone=False)
        self.issue(opened[1], alone=False)
        if is_set:  # by chance alone few tasks would meet settings
            for n, changes in enumerate(SET_AT_FIRST):
                self.issue(c.QueueSet((b"begin-%d" % n).ljust(16, b"\0"), QUEUES[n], "ana", changes), alone=False)
        self.issue(c.Submit(plain))

    # ---- an entry is what was gathered, and the last command -------------------------------------

    def issue(self, command: c.Command, alone: bool = True) -> None:
        self.waiting.append(command)
        if not alone:
            return
        commands, self.waiting = self.waiting, []
        self.granted += self.pair.apply(commands).granted
        self.pair.check()

    def grant(self, back: int) -> tuple[bytes, int, bytes]:
        """(id, fence, session) of a grant, old ones too, counted from the newest."""
        return self.granted[-1 - back % len(self.granted)]

    @rule()
    def restart(self) -> None:
        self.pair.restart()

    @rule(step=st.sampled_from([1, 999, 1_000, 5_000, 60_000, -3_000, 3_600_000]))
    def time_passes(self, step: int) -> None:
        self.pair.time_ms += step

    @rule(batch=st.lists(specs(), min_size=1, max_size=5), atomic=st.booleans(), alone=st.booleans())
    def submit(self, batch: list[bytes], atomic: bool, alone: bool) -> None:
        self.issue(c.Submit(batch, atomic), alone)

    @rule(session=st.sampled_from(SESSIONS), types=st.sampled_from([TYPES, TYPES[:1], TYPES[1:4]]))
    def session_open(self, session: bytes, types: list[str]) -> None:
        self.issue(c.SessionOpen(session, "w", types, QUEUES[:2]))

    @rule(session=st.sampled_from(SESSIONS), crashed=st.booleans(), alone=st.booleans())
    def session_over(self, session: bytes, crashed: bool, alone: bool) -> None:
        command = c.SessionsEnd([session]) if crashed else c.SessionClose(session)
        self.issue(command, alone)

    @rule(
        session=st.sampled_from(SESSIONS[:2]),
        queues=st.sampled_from([[], ["q2"], ["q1", "default"], ["q2", "q1", "default"], ["nowhere"]]),
        max_n=st.sampled_from([1, 2, 3, 10, 0, 1_001]),
        step=st.sampled_from([1, 1, 1, 0, -1]),
        alone=st.booleans(),
    )
    def claim(self, session: bytes, queues: list[str], max_n: int, step: int, alone: bool) -> None:
        seq = max(0, self.seqs[session] + step)
        self.seqs[session] = max(seq, self.seqs[session])
        self.issue(c.Claim(session, seq, queues, max_n), alone)

    @precondition(lambda self: self.granted)
    @rule(
        kept=st.lists(
            st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from([b"", b"one", b"two", None])),
            min_size=1,
            max_size=3,
        ),
        alone=st.booleans(),
    )
    def checkpoint(self, kept: list[tuple[int, int, bytes | None]], alone: bool) -> None:
        grants = [(*self.grant(back)[:2], number, data) for back, number, data in kept]
        self.issue(c.Checkpoint([list(item) for item in grants]), alone)

    @precondition(lambda self: self.granted)
    @rule(
        said=st.lists(
            st.tuples(st.integers(0, 9), st.sampled_from(Outcome).flatmap(lambda o: st.tuples(st.just(o), bodies(o)))),
            min_size=1,
            max_size=3,
        ),
        draw=st.integers(0, 2**32 - 1),
        alone=st.booleans(),
    )
    def report(self, said: list[Any], draw: int, alone: bool) -> None:
        items: list[list[object]] = []
        for back, (outcome, body) in said:
            id, fence, session = self.grant(back)
            items.append([id, fence, int(outcome), body])
        self.issue(c.Report(session, items, draw), alone)

    @rule(retried=st.booleans(), wait=st.booleans())
    def all_hands(self, retried: bool, wait: bool) -> None:
        """Whatever can run, runs: so that what is rare by chance (a third crash, an old fence) comes up."""
        self.pair.time_ms += 10_000 if wait else 0
        self.issue(c.Advance(int(Timer.DUE), 500, 0), alone=False)
        if retried:
            operation = b"all".ljust(12, b"\0") + self.pair.index.to_bytes(4, "big")
            self.issue(c.Retry(operation, IDS), alone=False)
        for session in SESSIONS[:2]:
            self.issue(c.SessionOpen(session, "w", TYPES, QUEUES), alone=False)
            self.seqs[session] += 1
            self.issue(c.Claim(session, self.seqs[session], QUEUES, 4), alone=False)
        self.issue(c.SessionClose(SESSIONS[2]))

    def running(self) -> list[tuple[bytes, Any]]:
        return sorted((id, task) for id, task in self.pair.model.tasks.items() if task.state is State.RUNNING)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), old=st.booleans(), alone=st.booleans())
    def lease_expires(self, data: st.DataObject, old: bool, alone: bool) -> None:
        """Of a running task, under its fence or an old one of it."""
        id, task = data.draw(st.sampled_from(self.running()), "running")
        self.issue(c.LeasesExpire([[id, self.old_fence(id) if old else task.fence]]), alone)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def report_late(self, data: st.DataObject, outcome: Outcome) -> None:
        """A worker that lost a task reports while another one runs it."""
        id, task = data.draw(st.sampled_from(self.running()), "running")
        body = data.draw(bodies(outcome), "body")
        self.issue(c.Report(task.session, [[id, self.old_fence(id), int(outcome), body]], 0))

    def old_fence(self, id: bytes) -> int:
        fences = [fence for granted, fence, _ in self.granted if granted == id]
        return fences[-2] if len(fences) > 1 else fences[-1] - 1

    @precondition(lambda self: self.running())
    @rule(draw=st.integers(0, 2**32 - 1), outcome=st.sampled_from(Outcome), data=st.data())
    def report_running(self, draw: int, outcome: Outcome, data: st.DataObject) -> None:
        id, task = data.draw(st.sampled_from(self.running()), "running")
        body = data.draw(bodies(outcome), "body")
        assert task.session is not None
        self.issue(c.Report(task.session, [[id, task.fence, int(outcome), body]], draw))

    @precondition(lambda self: self.granted)
    @rule(lost=st.lists(st.integers(0, 5), min_size=1, max_size=3), alone=st.booleans())
    def leases_expire(self, lost: list[int], alone: bool) -> None:
        self.issue(c.LeasesExpire([list(self.grant(back)[:2]) for back in lost]), alone)

    @rule(named=some_ids, grace=st.sampled_from([0, 5_000]), alone=st.booleans())
    def cancel(self, named: list[bytes], grace: int, alone: bool) -> None:
        self.issue(c.Cancel(named, grace), alone)

    @rule(kind=st.sampled_from(Timer), limit=st.sampled_from([1, 2, 500]), draw=st.integers(0, 9))
    def advance(self, kind: Timer, limit: int, draw: int) -> None:
        self.issue(c.Advance(int(kind), limit, draw))

    @rule(step=st.sampled_from([0, 5_000, 86_400_000]), draw=st.integers(0, 9))
    def all_timers(self, step: int, draw: int) -> None:
        self.pair.time_ms += step
        for kind in Timer:
            self.issue(c.Advance(int(kind), 500, draw))

    @rule(
        operation=st.sampled_from(OPERATIONS),
        named=some_ids,
        delay=st.sampled_from([0, 0, 5_000]),
        purge=st.booleans(),
        alone=st.booleans(),
    )
    def retry_or_purge(self, operation: bytes, named: list[bytes], delay: int, purge: bool, alone: bool) -> None:
        command = c.Purge(operation, named) if purge else c.Retry(operation, named, delay)
        self.issue(command, alone)

    @rule(
        purge=st.booleans(),
        found=filters,
        limit=st.none() | st.just(1),
        operation=st.sampled_from(OPERATIONS),
        delay=st.sampled_from([0, 0, 5_000]),
    )
    def job_start(self, purge: bool, found: dict[str, str], limit: int | None, operation: bytes, delay: int) -> None:
        self.issue(c.JobStart(operation, int(purge), job_filter(found), limit, 0 if purge else delay))
        self.pair.time_ms += 1  # who ends in the very millisecond may be the job's or not

    @rule(operation=st.sampled_from(OPERATIONS), limit=st.sampled_from([1, 2, 500]))
    def job_step(self, operation: bytes, limit: int) -> None:
        self.issue(c.JobStep(operation, limit))

    @rule(
        queue=st.sampled_from(QUEUES),
        changes=queue_changes(),
        by=st.sampled_from(["ana", "ben"]),
        operation=st.none() | st.sampled_from(OPERATIONS),
        alone=st.booleans(),
    )
    def queue_set(self, queue: str, changes: list[list[object]], by: str, operation: bytes | None, alone: bool) -> None:
        own = b"queue".ljust(8, b"\0") + (1_000 * self.pair.index + len(self.waiting)).to_bytes(8, "big")
        self.issue(c.QueueSet(operation or own, queue, by, changes), alone)

    @rule(queue=st.sampled_from(QUEUES), alone=st.booleans())
    def queue_opens(self, queue: str, alone: bool) -> None:
        """So that a run does not end with all of it paused and full."""
        own = b"opens".ljust(8, b"\0") + (1_000 * self.pair.index + len(self.waiting)).to_bytes(8, "big")
        self.issue(c.QueueSet(own, queue, "ana", [["paused", False], ["max_length", None]]), alone)

    # ---- at the end: the same bytes again --------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        if self.waiting:
            self.issue(self.waiting.pop())
        digest = self.pair.digest()
        assert self._rolled_back() == digest, "rollback and replay led elsewhere"
        if LONG or self.pair.index % 4 == 0:
            assert self._on_lmdb() == digest, "LMDB led elsewhere"

    def _rolled_back(self) -> bytes:
        """A checkpoint at a third, a loss at two thirds, a machine made anew from what was kept."""
        entries = self.pair.entries
        third = len(entries) // 3
        store = MemoryStore()
        machine = Machine(store.txn)
        for index, raw in entries[:third]:
            machine.apply(index, raw)
        store.checkpoint(third)
        for index, raw in entries[third : 2 * third]:
            machine.apply(index, raw)
        store.rollback()
        machine = Machine(store.txn)
        for index, raw in entries[third:]:
            machine.apply(index, raw)
        return state_digest(store.txn)

    def _on_lmdb(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            store = open_lmdb(Path(folder))
            machine = Machine(store.txn)
            for index, raw in self.pair.entries:
                machine.apply(index, raw)
            digest = state_digest(store.txn)
            store.close()
            return digest


def open_lmdb(folder: Path) -> LmdbStore:
    return LmdbStore.open(RealDisk(str(folder)), "store", VirtualClock(), map_bytes=limits.MIB * 4)


MachineAgainstModel.TestCase.settings = settings(
    max_examples=1_000 if LONG else 120,
    stateful_step_count=100 if LONG else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestMachineAgainstModel = MachineAgainstModel.TestCase
