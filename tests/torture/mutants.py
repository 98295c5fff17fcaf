"""``python -m tests.torture.mutants [NAME ...]``: does the torture run find bugs? Break the product on purpose, and see.

Each mutant is a small edit of a copy of the source; the torture run of that copy must fail: by a breach that the
checker names, or because a process stopped itself or the work did not drain. First the copy as it is must pass.
A mutant whose text is not in the source any more is an error: write it anew.

Not part of the tests: the run takes half a minute a mutant.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

from tests.mutants.plant import plant

ROOT = Path(__file__).resolve().parents[2]
SEED = 1


@attrs.frozen
class Mutant:
    """edits: (file, text, what takes its place). nodes: of the run that shall find it."""

    name: str
    what: str
    edits: tuple[tuple[str, str, str], ...]
    nodes: int = 1


MUTANTS = (
    Mutant(
        "answer-before-log",
        "a submission is answered before it is in the log",
        (
            (
                "tq/broker/writes.py",
                "        self._propose(commands.Submit(specs, message.atomic), len(specs), size, replying(connection, rid, reply))\n",
                "        self._propose(commands.Submit(specs, message.atomic), len(specs), size, lambda answer, index: None)\n"
                "        connection.send(reply([0] * len(specs), 1))\n",
            ),
        ),
    ),
    Mutant(
        "journal-one-behind",
        "the journal writes a record with the next one: kill -9 takes the last acknowledged entry",
        (
            (
                "tq/raft/journal.py",
                "        segment.file.append(self.data)\n",
                '        segment.file.append(globals().get("held", b""))\n        globals()["held"] = self.data\n',
            ),
        ),
    ),
    Mutant(
        "replay-skipped",
        "after a restart what the journal holds behind the checkpoint is not applied",
        (
            (
                "tq/broker/applier.py",
                "        if not entry.data:\n            return None\n        try:",
                "        if self._entries == 0:\n"
                "            self.old_term = entry.term if self.store.checkpointed_index else 0\n"
                "        if not entry.data or entry.term == self.old_term:\n            return None\n        try:",
            ),
        ),
    ),
    Mutant(
        "checkpoint-too-far",
        "the store says that it holds one entry more than it does",
        (
            (
                "tq/broker/applier.py",
                "        try:\n            self.store.checkpoint(self.applied_index)\n",
                "        try:\n            self.store.checkpoint(self.applied_index + 1)\n",
            ),
        ),
    ),
    Mutant(
        "fence-unchecked",
        "an outcome under an older fence ends the task",
        (
            ("tq/machine/report.py", "if kind is None or current != fence:", "if kind is None:"),
            (
                "tq/machine/report.py",
                "if task.state is State.RUNNING and task.fence == fence:",
                "if task.state is State.RUNNING:",
            ),
        ),
    ),
    Mutant(
        "stale-is-already",
        "a stale outcome is answered as if it had been recorded",
        (("tq/machine/report.py", "    if is_known:\n        return _ALREADY\n", "    return _ALREADY\n"),),
    ),
    Mutant(
        "fence-restarts",
        "fences begin anew every 256 entries",
        (
            (
                "tq/machine/claim.py",
                "first = entry.index * limits.FENCE_ORDINALS + entry.grants",
                "first = (entry.index % 256) * limits.FENCE_ORDINALS + entry.grants",
            ),
        ),
    ),
    Mutant(
        "fence-shared",
        "two claims in one entry grant under the same fences",
        (("tq/machine/claim.py", "    entry.grants += len(ids)\n", ""),),
    ),
    Mutant(
        "grant-twice",
        "a claim leaves its tasks in line for the next one",
        (
            (
                "tq/machine/claim.py",
                "        lines_left.append(lines[n][0])\n",
                "        if n % 50:\n            lines_left.append(lines[n][0])\n",
            ),
            (
                "tq/machine/claim.py",
                "assert (version, state) == (RECORD_VERSION, _PENDING)",
                "assert version == RECORD_VERSION",
            ),
        ),
    ),
    Mutant(
        "expiry-forgets",
        "a lease that runs out is counted, and its task is not put in line again",
        (
            (
                "tq/machine/leases.py",
                "            crash(entry, task)\n",
                "            pass\n",
            ),
            ("tq/machine/sessions.py", "        _end(entry, id, crash)\n", "        pass\n"),
        ),
    ),
    Mutant(
        "crash-is-attempt",
        "a crash counts as an attempt",
        (
            (
                "tq/machine/leases.py",
                "    task.attempt -= 1\n    task.crashes += 1\n",
                "    task.crashes += 1\n",
            ),
        ),
    ),
    Mutant(
        "release-is-attempt",
        "a task that is given back has lost an attempt",
        (
            (
                "tq/machine/report.py",
                "    task.attempt -= 1\n    if not answers_cancel:",
                "    if not answers_cancel:",
            ),
        ),
    ),
    Mutant(
        "priority-upside-down",
        "the lower priority first",
        (
            ("tq/machine/submit.py", "bytes((255 - priority,))", "bytes((priority,))"),
            (
                "tq/machine/moves.py",
                "\n    key = keys.pack_ready(*pair, 255 - task.priority,",
                "\n    key = keys.pack_ready(*pair, task.priority,",
            ),
            (
                "tq/machine/moves.py",
                "\n        key = keys.pack_ready(*pair, 255 - task.priority,",
                "\n        key = keys.pack_ready(*pair, task.priority,",
            ),
        ),
    ),
    Mutant(
        "line-backwards",
        "of the tasks that one claim takes, the last comes first",
        (
            (
                "tq/machine/claim.py",
                "    ids = [id for _, id in lines]\n",
                "    lines = lines[::-1]\n    ids = [id for _, id in lines]\n",
            ),
        ),
    ),
    Mutant(
        "results-mixed",
        "the tasks of a batch of results all get the first one's",
        (
            (
                "tq/machine/report.py",
                "results.append((id, head + dumps_bytes(result)))",
                "results.append((id, results[0][1] if results else head + dumps_bytes(result)))",
            ),
        ),
    ),
    Mutant(
        "cancel-says-so-only",
        "a cancel of a waiting task is answered, and not done",
        (
            (
                "tq/machine/cancel.py",
                "        to_end(entry, task, Event.CANCEL, State.CANCELLED)\n",
                "        return [int(State.CANCELLED), None]\n",
            ),
        ),
    ),
    Mutant(
        "dead-are-dropped",
        "a task that failed for good is purged",
        (
            (
                "tq/machine/retries.py",
                "        to_end(entry, task, Event.FAIL, State.DEAD, Reason.PERMANENT)\n",
                "        to_end(entry, task, Event.FAIL, State.DEAD, Reason.PERMANENT)\n"
                "        from tq.machine.retention import bury\n\n        bury(entry, task)\n",
            ),
        ),
    ),
    Mutant(
        "completed-may-retry",
        "a retry takes completed tasks, too",
        (
            (
                "tq/machine/bulk.py",
                "RETRYABLE: Final = (State.CANCELLED,",
                "RETRYABLE: Final = (State.COMPLETED, State.CANCELLED,",
            ),
            (
                "tq/machine/task.py",
                "for state in (S.CANCELLED, S.EXPIRED, S.SKIPPED, S.DEAD)}",
                "for state in (S.COMPLETED, S.CANCELLED, S.EXPIRED, S.SKIPPED, S.DEAD)}",
            ),
        ),
    ),
    Mutant(
        "half-the-delay",
        "a delayed task starts when half of its delay is over",
        (("tq/machine/submit.py", "entry.time_ms + spec.delay_ms if", "entry.time_ms + spec.delay_ms // 2 if"),),
    ),
    Mutant(
        "keys-forgotten",
        "an idempotency key is not remembered",
        (
            (
                "tq/machine/submit.py",
                "        txn.put(Table.KEYS, keys.idempotency(spec.idempotency_key), spec.id)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "unique-forgotten",
        "a unique key holds nobody off",
        (
            (
                "tq/machine/submit.py",
                "        holder = _find_holder(entry.txn, overlay, spec.unique[0])\n",
                "        holder = None\n",
            ),
        ),
    ),
    Mutant(
        "content-unchecked",
        "any task under a taken id is a duplicate",
        (
            (
                "tq/machine/submit.py",
                "        return known == raw or parse(known)[1:] == spec[1:]\n",
                "        return True\n",
            ),
        ),
    ),
    Mutant(
        "old-reads",
        "a read answers what it answered some hundred reads ago",
        (
            (
                "tq/broker/reads.py",
                "    def get(self, connection: Connection, message: m.GetTask) -> None:\n        facts = self._facts\n",
                "    def get(self, connection: Connection, message: m.GetTask) -> None:\n        facts = self._facts\n"
                "        old = self.__dict__.setdefault('old', {})\n"
                "        if len(old) > 300:\n            old.clear()\n"
                "        if message.id in old:\n"
                "            connection.send(m.GetReply(message.rid, facts.applied_index, old[message.id]))\n"
                "            return\n"
                "        old[message.id] = queries.get_task(facts.txn, message.id, message.parts)\n",
            ),
        ),
    ),
    Mutant(
        "worker-runs-twice",
        "the worker starts one in a hundred grants twice",
        (
            (
                "tq/worker/jobs.py",
                "            start(job)\n",
                "            start(job)\n            if fence % 97 == 0:\n                start(job)\n",
            ),
            ("tq/worker/jobs.py", "        del self.running[fence]\n", "        self.running.pop(fence, None)\n"),
        ),
    ),
    Mutant(
        "each-node-draws",
        "each node draws the jitter of a retry for itself",
        (
            (
                "tq/machine/report.py",
                "    session, draw = command.session, command.draw\n",
                "    import os\n\n    session, draw = command.session, (command.draw + os.getpid() * 0x9E3779B1) % (1 << 32)\n",
            ),
        ),
        nodes=3,
    ),
    Mutant(
        "read-behind",
        "a node answers reads before it has applied what the client has seen",
        (
            (
                "tq/broker/reads.py",
                "        if min_index <= self._facts.applied_index:\n            go_on()\n            return\n",
                "        if True:\n            go_on()\n            return\n",
            ),
        ),
        nodes=3,
    ),
)


def copy_of_source(folder: Path) -> None:
    for part in ("tq", "tests/torture"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def run(folder: Path, seconds: float, nodes: int) -> tuple[int, str]:
    argv = [sys.executable, "-m", "tests.torture", "--minutes", str(seconds / 60), "--seed", str(SEED)]
    argv += ["--nodes", str(nodes)]
    environ = {**os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(folder), "TQ_TORTURE_DRAIN_SECONDS": "60"}
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def found_by(output: str) -> str:
    """In a few words, what told that the copy is broken."""
    breaches = re.search(r"^breaches: (.*)$", output, re.MULTILINE)
    if breaches:
        return f"the checker: {breaches[1]}"
    lines = output.strip().splitlines()
    failed = next((line for line in lines if "TortureFailed:" in line or "ProcessFailed:" in line), lines[-1])
    reason = re.findall(r"\| *(?:\|? *)((?:AssertionError|\w+Error): .*|tq broker: .*)", output)
    return failed.split(": ", 1)[-1] + (f" ({reason[-1]})" if reason else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; none: the source as it is")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run, without its drain")
    options = parser.parse_args()
    unknown = set(options.names) - {"none"} - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    missed = 0
    whole = [Mutant("none", "the source as it is must pass", (), nodes) for nodes in (1, 3)]
    for mutant in (*whole, *MUTANTS):
        if options.names and mutant.name not in options.names:
            continue
        with tempfile.TemporaryDirectory(prefix="tq-mutant-") as name:
            folder = Path(name)
            copy_of_source(folder)
            plant(folder, mutant.name, mutant.edits)
            code, output = run(folder, options.seconds, mutant.nodes)
            is_right = (code == 0) == (not mutant.edits)
            missed += not is_right
            said = "passed" if code == 0 else found_by(output)
            print(f"{'ok    ' if is_right else 'WRONG '} {mutant.name}: {mutant.what}\n         {said}", flush=True)
            if code != 0 and not mutant.edits:
                print(output)
    print("each was found" if not missed else f"{missed} were not told apart")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
