"""``tq verify``: play stories of random trouble on this very code, and judge them. What is found can be played again.

A story (``story.py``) is one seed: whole brokers on simulated disks, clocks and networks, with clients and workers that
misbehave. The same seed on the same version is the same story, so a breach is told with its seed. docs/simulation.md
says what is simulated, and what is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from tq.errors import TqError
from tq.sim.story import Story, play
from tq.world import Clock

CHECKS: Final = (
    "no two leaders of one term; nodes hand out the same entries, and only what a majority has synced",
    "every node makes the same answers, events and state of an entry, and a replay of the log makes them again",
    "no accepted task is lost; none runs that nobody submitted; all work is done in the end",
    "one outcome is recorded, under the fence that it was reported with; stale outcomes never count",
    "fences are unique and rise; a handler runs once per fence",
    "inside one queue and type: the higher priority first, then the earlier submitted; nothing before its delay is over",
    "a paused queue gives out nothing; one that is full takes nothing",
    "no read goes back in time or shows what the log does not say; a linearizable one is behind nobody",
    "every request that a node has read is answered, once; events come in order, and gaps are told",
)
"""What a breach of ends a run. The names of single rules stand in a breach."""

Play = Callable[[int, int], Story]
"""(seed, nodes) -> the story, played and judged."""


@attrs.frozen
class Failure:
    """A story in which a promise was broken. log: what was done to the nodes before."""

    seed: int
    nodes: int
    message: str
    log: str

    @property
    def repeat(self) -> str:
        return repeat(self.seed, 1, self.nodes)


@attrs.define
class Tally:
    """What was played so far."""

    first_seed: int
    nodes: int
    runs: int = 0
    tasks: int = 0
    answers: int = 0
    events: int = 0
    leaders: int = 0
    snapshots: int = 0
    simulated_ms: int = 0
    wall_ms: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)
    failure: Failure | None = None

    def add(self, story: Story) -> None:
        self.tasks += len(story.stage.ids)
        self.answers += sum(actor.answers for actor in story.actors)
        self.events += story.listener.events
        self.leaders += len(story.cluster.leaders.by_term)
        self.snapshots += story.cluster.installations
        self.simulated_ms += story.cluster.now_ms
        self.faults += story.storm.counts

    @property
    def repeat(self) -> str:
        return repeat(self.first_seed, self.runs, self.nodes)

    def as_document(self) -> dict[str, Any]:
        """Plain values."""
        failure = self.failure
        return {
            "verdict": "kept" if failure is None else "broken",
            "nodes": self.nodes,
            "seeds": {"first": self.first_seed, "runs": self.runs},
            "wall_s": self.wall_ms / 1000,
            "simulated_s": self.simulated_ms / 1000,
            "tasks": self.tasks,
            "answers": self.answers,
            "events": self.events,
            "leaders": self.leaders,
            "snapshots": self.snapshots,
            "faults": dict(sorted(self.faults.items())),
            "checks": list(CHECKS),
            "failure": None if failure is None else {**attrs.asdict(failure), "repeat": failure.repeat},
            "repeat": self.repeat,
        }


def repeat(seed: int, runs: int, nodes: int) -> str:
    """The command that plays the same."""
    return f"tq verify --seed {seed} --runs {runs} --nodes {nodes}"


def verify(
    seeds: Iterable[int],
    tally: Tally,
    clock: Clock,
    tell: Callable[[Tally], None],
    play_one: Play = lambda seed, nodes: play(seed, size=nodes),
) -> None:
    """Play the seeds until a promise is broken; ``tally`` has what was done, at any moment. tell: after each story.

    What is raised is no breach but a bug, of the brokers or of the simulation; it names the seed.
    """
    begun_ms = clock.monotonic_ms()
    for seed in seeds:
        try:
            tally.add(play_one(seed, tally.nodes))
        except (AssertionError, TqError) as error:
            tally.failure = Failure(seed, tally.nodes, _message(error), "\n".join(getattr(error, "__notes__", ())))
        except BaseException as error:
            error.add_note(f"in the story of seed {seed}: {repeat(seed, 1, tally.nodes)}")
            raise
        tally.runs += 1
        tally.wall_ms = clock.monotonic_ms() - begun_ms
        tell(tally)
        if tally.failure is not None:
            return


def _message(error: BaseException) -> str:
    text = str(error) or "an invariant of the brokers does not hold"
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"
