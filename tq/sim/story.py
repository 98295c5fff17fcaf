"""Whole brokers in random trouble, with clients and workers at full speed at any of them: one story a seed.

Machines lose power, processes are killed and stopped, connections between nodes are cut, one-way too, and reset; what
Raft sends is lost, doubled and late besides; disks are slow, fail and fill; clocks run at different speeds, and one is
wrong. Then all is healed, all work is done, and everything that was seen is judged: by the checkers of Raft, by the
history of clients and workers, and by a replay of the log.
"""

from __future__ import annotations

from typing import Any

from tq.broker.broker import Broker
from tq.errors import NotFound, StorageFailed, from_wire
from tq.machine import queries
from tq.protocol import messages as m
from tq.sim.checkers.breach import Breach as Broken
from tq.sim.checkers.history import Breach, check
from tq.sim.checkers.queues import QueuePromises
from tq.sim.checkers.records import parse
from tq.sim.checkers.replay import check_replay
from tq.sim.cluster import SimCluster
from tq.sim.crowd.actor import Actor
from tq.sim.crowd.listener import Listener
from tq.sim.crowd.operator import Operator
from tq.sim.crowd.stage import LIVE, WAIT_MS_MAX, AnyNode, Stage
from tq.sim.crowd.submitter import Submitter
from tq.sim.crowd.worker import Worker
from tq.sim.host import Host
from tq.sim.random import SeededRandom
from tq.sim.storm import Storm
from tq.store.dump import state_digest

STORY_MS = 8_000
DRAIN_MS = 120_000
BREACHES_SHOWN_MAX = 20
LOG_SHOWN_MAX = 30


class Story:
    """One seed, from empty disks to the verdict."""

    def __init__(self, seed: int, story_ms: int = STORY_MS, size: int = 3) -> None:
        self.seed = seed
        self.story_ms = story_ms
        self.random = SeededRandom(seed)
        self.cluster = SimCluster(seed, size, expected=(StorageFailed,))
        self.storm = Storm(self.cluster, self.random.fork())
        self.stage = Stage(AnyNode(self.cluster), self.random.fork(), is_hasty=self.random.below(2) == 0)
        self.queues = QueuePromises()
        self.cluster.on_broker = self._watch
        self.listener = Listener(self.stage, "l1")
        self.actors: list[Actor] = [
            *[Submitter(self.stage, f"c{number}") for number in range(3)],
            *[Worker(self.stage, f"w{number}", 1 + 3 * number) for number in range(3)],
            self.listener,
            Operator(self.stage, "o1"),
        ]

    def _watch(self, _host: Host, broker: Broker) -> None:
        self.stage.truth.watch(broker)
        self.queues.watch(broker)

    # ---- the story ---------------------------------------------------------------------------------

    def play(self) -> None:
        """Raises AssertionError: a promise was broken meanwhile."""
        cluster, random = self.cluster, self.random
        cluster.start_all()
        while cluster.now_ms < self.story_ms:
            if random.below(40) == 0:
                self.stage.is_calm = not self.stage.is_calm
            for actor in self.actors:
                actor.step()
            cluster.run(1 + random.below(50))
            if random.below(6) == 0:
                self.storm.act()
            if random.below(15) == 0:
                self.actors[random.below(len(self.actors))].break_off()
        self._drain()

    def _drain(self) -> None:
        """No more faults: the cluster goes on, and everything ends."""
        cluster = self.cluster
        cluster.heal()
        cluster.elect()
        self.stage.is_draining = True
        end_ms = cluster.now_ms + DRAIN_MS
        while self._live() or cluster.now_ms % 1_000 > 100:
            if cluster.now_ms > end_ms:
                raise Broken(f"{self._live()} tasks do not end")
            for actor in self.actors:
                actor.step()
            cluster.run(20)
        cluster.settle()
        cluster.run_until(lambda: not self._owed(), WAIT_MS_MAX + 2_000, "all that was asked is answered")
        self._compare()
        self._read_ends()

    def _live(self) -> int:
        leader = self.cluster.leader()
        if leader is None:
            return 1
        counts = queries.counts(self.cluster.broker(leader).txn)
        unsure = sum(len(getattr(actor, "_unsure", ())) + len(getattr(actor, "_sent", ())) for actor in self.actors)
        return sum(counts[state] for state in LIVE) + unsure

    def _owed(self) -> list[m.Message]:
        """Nobody asks for more now, and who does not read is not waited for."""
        clients = [client for host in self.cluster.hosts.values() for client in host.clients if client.reads]
        return [message for client in clients for message in client.asked.values()]

    def _compare(self) -> None:
        for host in self.cluster.hosts.values():
            assert host.broker is not None
            self.cluster.effects.compare(host.life, host.broker.applied_index, state_digest(host.broker.txn))

    def _read_ends(self) -> None:
        """At a follower: nothing of it may depend on who leads."""
        cluster = self.cluster
        client = cluster.hosts[cluster.followers()[0]].connect()
        client.ask(m.Hello, 1, 1, "the end")
        cluster.run_until(lambda: bool(client.answers), 5_000, "a greeting")
        client.answers.clear()
        asked = {client.ask(m.GetTask, id): id for id in self.stage.ids}
        cluster.run_until(lambda: len(client.answers) == len(asked), 5_000, "all ends are read")
        for rid, id in asked.items():
            reply: Any = client.answers[rid]
            if isinstance(reply, m.ErrorReply):
                assert isinstance(from_wire(reply.error), NotFound)
            else:
                self.stage.recorder.final(id, reply.task)

    # ---- the verdict ---------------------------------------------------------------------------------

    def judge(self) -> list[Breach]:
        """What the history and the log say; empty: all was kept."""
        history = parse([self.stage.recorder.lines])
        committed = self.cluster.committed.entries
        entries = [committed[index] for index in sorted(committed)]
        host = next(iter(self.cluster.hosts.values()))
        settings = host.broker.applier.machine.settings  # type: ignore[union-attr]
        return [
            *check(history, drained=True),
            *check_replay(entries, settings, history.reads, self.cluster.effects.digests),
        ]


def play(seed: int, story_ms: int = STORY_MS, size: int = 3) -> Story:
    """Play and judge. What is wrong is raised with its seed, and with what was done before.

    Raises AssertionError: a promise was broken. Anything else is a bug of the brokers, or of the simulation.
    """
    story = Story(seed, story_ms, size)
    try:
        story.play()
        breaches = story.judge()
        if breaches:
            raise Broken("\n".join(map(str, breaches[:BREACHES_SHOWN_MAX])))
    except BaseException as error:
        error.add_note(f"seed {seed}: it ended at {story.cluster.now_ms} ms, after")
        error.add_note("\n".join(story.storm.log[-LOG_SHOWN_MAX:]))
        raise
    return story
