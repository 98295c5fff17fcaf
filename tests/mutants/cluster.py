"""``python -m tests.mutants.cluster [--only TEXT] [--quick]``: plant bugs in what a broker does as one of several nodes, and see each caught.

Each is planted in a copy of the source. Then the scripts for three brokers run, up to the first that fails, and the random
stories, up to the first that fails; where neither sees anything, the unit tests of the broker do. A bug that nothing sees
ends this with 1: the proof has a hole. A text that is not in the source (any more) does, too: write it anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.mutants.plant import plant
from tests.mutants.suites import first_failure, first_story, sources

Suite = tuple[str, Callable[[Path], str | None]]
SUITES: tuple[Suite, ...] = (
    ("scripts", partial(first_failure, tests=["tests/sim/test_cluster_scripts.py"])),
    ("random", partial(first_story, kind="cluster", runs=20)),
)
LAST_SUITE: Suite = ("unit", partial(first_failure, tests=["tests/unit/broker"]))


class Mutant(NamedTuple):
    """changes: (file, text that stands in it once, what takes its place)."""

    what: str
    changes: tuple[tuple[str, str, str], ...]


def _broker(what: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(what, tuple((f"tq/{path}", old, new) for path, old, new in changes))


MUTANTS = (
    # ---- the relay --------------------------------------------------------------------------------------
    _broker(
        "a relayed request that was answered is answered again when the way is lost",
        ("broker/relay.py", "                out.in_flight.discard(message.rid)\n", "                pass\n"),
    ),
    _broker(
        "what is in flight at a leader that cannot be reached any more is not answered",
        (
            "broker/relay.py",
            "if out.leader == peer]:\n            self._lose(",
            "if out.leader == peer]:\n            out.in_flight.clear()\n            self._lose(",
        ),
    ),
    _broker(
        "what is in flight at the old leader is not answered when another one leads",
        ("broker/broker.py", "                self.relay.leader_is(leader)\n", "                pass\n"),
    ),
    _broker(
        "an end that could not be told is never told",
        ("broker/relay.py", "            self._untold[peer, kind, id] = None\n", "            pass\n"),
    ),
    _broker(
        "a client that leaves is not told to the leader",
        ("broker/relay.py", "        self._tell(out.leader, CLOSED, out.id)\n\n    def _tell", "\n    def _tell"),
    ),
    _broker(
        "a reply that cannot be sent to the follower is lost in silence",
        ("broker/relay.py", "            raise BrokenPipeError\n", "            pass\n"),
    ),
    _broker(
        "a refused relay is not answered: NotLeader is swallowed",
        (
            "broker/relay.py",
            '            raise NotLeader("this node cannot reach the leader; nothing was done", retry_after=0.1)\n',
            "            return\n",
        ),
    ),
    _broker(
        "a follower without a leader answers nothing",
        (
            "broker/broker.py",
            '            raise NotLeader("this node does not lead the cluster", retry_after=0.1, leader=self.leader_address)\n'
            "        if self._holding:",
            "            return\n        if self._holding:",
        ),
    ),
    _broker(
        "what was held for a leader is forgotten",
        (
            "broker/holding.py",
            "                self._ask(one.connection, one.message)\n",
            "                pass\n",
        ),
    ),
    _broker(
        "what is held for a leader is held without end",
        ("broker/holding.py", "HOLD_MS: Final = 1_000", "HOLD_MS: Final = 1_000_000"),
    ),
    # ---- reads ------------------------------------------------------------------------------------------
    _broker(
        "a linearizable read is answered without a word of the others",
        (
            "broker/broker.py",
            "        if not self.config.cluster.peers:\n            done(",
            "        if True:\n            done(",
        ),
    ),
    _broker(
        "a follower answers linearizable reads by itself",
        ("broker/dispatch.py", '    return getattr(message, "linearizable", False)\n', "    return False\n"),
        (
            "broker/reads.py",
            "        if linearizable:\n            self._confirm(",
            "        if False:\n            self._confirm(",
        ),
    ),
    _broker(
        "min_index is not waited for",
        (
            "broker/reads.py",
            "        if min_index <= self._facts.applied_index:\n            go_on()\n",
            "        if True:\n            go_on()\n",
        ),
    ),
    _broker(
        "a listener hears again what it had heard at a node that was ahead",
        ("broker/events.py", "batch.index <= subscription.after[0] else None", "batch.index < 0 else None"),
    ),
    # ---- who leads --------------------------------------------------------------------------------------
    _broker(
        "a new leader serves before it knows what was decided before",
        (
            "broker/broker.py",
            '            self._log.info("leads", term=self.node.term)\n',
            '            self._log.info("leads", term=self.node.term)\n            self.is_serving = True\n',
        ),
    ),
    _broker(
        "a new leader does not know the leases: none of them ends",
        (
            "broker/broker.py",
            "            self.leases.granted(session, fence, [id])\n            if grace_ms is not None:\n"
            "                self.leases.cancelling(fence, grace_ms)\n",
            "            pass\n",
        ),
    ),
    _broker(
        "a new leader ends the leases that it finds",
        (
            "broker/broker.py",
            "            self.leases.granted(session, fence, [id])\n",
            "            self.leases.granted(session, fence, [id])\n            self.leases._leases[fence] = self.leases._leases[fence]._replace(due_ms=0)\n",
        ),
    ),
    _broker(
        "a new leader does not know the sessions",
        (
            "broker/broker.py",
            "            self.leases.open(session, name, types, queues)\n        for session, id",
            "            pass\n        for session, id",
        ),
    ),
    _broker(
        "a new leader forgets cancels that are on their way",
        (
            "broker/broker.py",
            "            if grace_ms is not None:\n                self.leases",
            "            if False:\n                self.leases",
        ),
    ),
    _broker(
        "a leader that leads no more keeps its parked claims",
        (
            "broker/broker.py",
            '        self.claims.clear(NotLeader("this node is not the leader any more", retry_after=0.1, leader=leader))\n',
            "",
        ),
    ),
    _broker(
        "a leader that leads no more does not answer what it had taken",
        (
            "broker/broker.py",
            "        self.proposer.leadership_lost(leader)\n",
            "        self.proposer._queue.clear()\n",
        ),
    ),
    _broker(
        "an entry of another leader at the same index is taken for ours",
        (
            "broker/proposer.py",
            "        if (flight_term, flight_index) != (term, index):\n",
            "        if flight_index != index:\n",
        ),
    ),
    _broker(
        "what is in flight when leadership is lost is said not to be done",
        (
            "broker/proposer.py",
            '                done(_lost("the leader changed while this was in flight"), 0)\n',
            '                done(NotLeader("nothing was done", leader=leader), 0)\n',
        ),
    ),
    _broker(
        "a leader proposes while it hands over",
        ("broker/proposer.py", "        if self._node.transfer_target is not None:\n            return\n", ""),
    ),
    _broker(
        "a leader answers a submission when it is proposed",
        (
            "broker/proposer.py",
            "        self._flight = (term, index, [done for _command, done in merged])\n",
            "        self._flight = (term, index, [done for _command, done in merged])\n"
            "        for at, (command, done) in enumerate(merged):\n"
            '            if type(command).__name__ == "Submit":\n'
            "                done([0] * len(command.specs), index)\n"
            "                self._flight[2][at] = lambda _answer, _index: None\n",
        ),
    ),
    # ---- time -------------------------------------------------------------------------------------------
    _broker(
        "log time follows the leader's own clock",
        ("broker/log_time.py", "statistics.median_low([0, *self._offsets_ms()])", "statistics.median_low([0])"),
    ),
    _broker(
        "a jump of the own clock is taken for one of the members that are silent",
        (
            "raft/node.py",
            "        ours_ms = self._clock.wall_ms() - self._clock.monotonic_ms()\n",
            "        ours_ms = 1_700_000_000_000 - 1_000\n",
        ),
    ),
    _broker(
        "to read log time moves it",
        (
            "broker/log_time.py",
            "        return int(max(self._wall_ms(), self._slow_ms()))\n",
            "        return self.next_ms()\n",
        ),
    ),
    # ---- the log and the store ----------------------------------------------------------------------------
    _broker(
        "the log is cut above the checkpoint",
        (
            "broker/broker.py",
            "        if self.applier.checkpoint():\n            self.node.compact(self.snapshots.compactable(self._store.checkpointed_index))\n",
            "        if self.applier.applied_index % 4:\n            self.node.compact(self.applier.applied_index)\n            return\n"
            "        if self.applier.checkpoint():\n            self.node.compact(self.snapshots.compactable(self._store.checkpointed_index))\n",
        ),
    ),
    _broker(
        "a node goes on with what it had read before a snapshot was installed",
        (
            "broker/broker.py",
            "        self.applier.begin_anew()\n",
            "        self.applier.applied_index = self._store.checkpointed_index\n",
        ),
    ),
    _broker(
        "a listener is not told of the gap that a snapshot leaves",
        ("broker/broker.py", "        self.events.begin_anew(index)\n", ""),
    ),
    _broker(
        "who waits for an index that a snapshot has passed waits on",
        ("broker/broker.py", "        self.waits.begin_anew(index)\n", ""),
    ),
    _broker(
        "each node applies by its own clock",
        (
            "broker/applier.py",
            "            return self.machine.apply(entry.index, entry.data)\n        except StoreFull:",
            "            self.machine.time_ms += int(self._monotonic_s() * 1000) % 2 * 100\n"
            "            return self.machine.apply(entry.index, entry.data)\n        except StoreFull:",
        ),
    ),
    # ---- queues -------------------------------------------------------------------------------------------
    _broker(
        "settings of queues are lost with a process, and with a snapshot",
        (
            "machine/queue_settings.py",
            "in stored(txn).items():\n            self._lay_out",
            "in ():\n            self._lay_out",
        ),
    ),
    _broker(
        "now and then a paused queue is claimed from",
        ("machine/claim.py", "if number not in paused]", "if number not in paused or entry.index % 5 == 0]"),
    ),
    _broker(
        "a full queue takes one more",
        (
            "machine/submit.py",
            "    return sum(map(entry.counts.value, counted))\n",
            "    return sum(map(entry.counts.value, counted)) - 1\n",
        ),
    ),
    _broker(
        "who waits is not told that a queue is resumed",
        ("machine/queue_set.py", "            _wake(entry, number)\n", "            pass\n"),
    ),
    _broker(
        "what is told of a resumed queue is in the order of a node's life",
        (
            "machine/queue_set.py",
            "in sorted(entry.ready.types_by_queue.get(number, ())):",
            "in entry.ready.types_by_queue.get(number, ()):",
        ),
    ),
    # ---- who belongs to it -----------------------------------------------------------------------------------
    _broker(
        "a node whose disk was lost votes again under its old name",
        (
            "raft/identity.py",
            "        if ident.incarnation != record.members[ident.node_id] and ident.admitted_index == 0:\n",
            "        if False:\n",
        ),
        (
            "raft/voting.py",
            "        if known is None or known.incarnation == incarnation or index > committed_index:\n",
            "        if True:\n",
        ),
        (
            "raft/voting.py",
            "return peer in self.peers and (known is None or known.incarnation == incarnation)",
            "return peer in self.peers",
        ),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.cluster", description=__doc__)
    parser.add_argument("--only", help="those whose name contains this")
    parser.add_argument("--quick", action="store_true", help="only until one suite catches it")
    parser.add_argument("--check", action="store_true", help="see that each can be planted, and run nothing")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.only or options.only in mutant.what]
    survivors = []
    counts = dict.fromkeys(("scripts", "random", "unit"), 0)
    with sources() as copy:
        for number, mutant in enumerate(chosen, 1):
            began_s = time.monotonic()
            before = plant(copy, mutant.what, mutant.changes)
            found: dict[str, str | None] = {}
            for name, look in () if options.check else SUITES:
                if not (options.quick and any(found.values())):
                    found[name] = look(copy)
            if not options.check and not any(found.values()):
                found[LAST_SUITE[0]] = LAST_SUITE[1](copy)
            for file, text in before.items():
                file.write_text(text)
            print(f"{number}/{len(chosen)} {mutant.what} ({time.monotonic() - began_s:.0f} s)")
            for name, failure in found.items():
                counts[name] += failure is not None
                print(f"    {name}: {failure or '-'}", flush=True)
            if found and not any(found.values()):
                survivors.append(mutant.what)
    if not options.check:
        print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught; by suite: {counts}")
    for name in survivors:
        print(f"survived: {name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
