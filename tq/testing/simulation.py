"""What ``memory_broker``, ``cluster`` and ``inline`` have in common: a world with clients and workers, and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from tq import config
from tq.client.blocking import Client
from tq.errors import ConfigError, InvalidRequest, InvalidState, WaitTimeout
from tq.logs import hushed
from tq.machine.states import ENDS, State
from tq.sim.checkers.breach import Breach
from tq.testing.baton import BatonLoop
from tq.testing.history import History
from tq.testing.shell import SimulatedClient
from tq.testing.worker import Worker
from tq.testing.world import World

if TYPE_CHECKING:
    from tq.client.asynchronous import AsyncClient

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_DEFAULT: Final = 30.0
LEASE_MIN: Final = 1.0
IDLE_S: Final = 3_600.0
ELECT_MS: Final = 30_000


class Simulation:
    """A context manager; made by the functions of ``tq.testing``.

    Attributes:
        client: a ``tq.Client`` of it. Each of its calls lets the simulation go on until it is answered.
        seed: the same one plays the same run, if the test does the same.
        check: whether its end is judged.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int = 0,
        lease: float = LEASE_DEFAULT,
        start: datetime | None = None,
        check: bool = True,
    ) -> None:
        """See ``memory_broker``. Raises InvalidRequest."""
        if not LEASE_MIN <= lease <= 86_400:
            raise InvalidRequest.of("lease", lease, f"must be {LEASE_MIN:g} to 86,400 seconds")
        if start is not None and start.tzinfo is None:
            raise InvalidRequest.of("start", str(start), "must have a time zone, as datetime(2026, 1, 1, tzinfo=UTC)")
        self.seed = seed
        self.check = check
        self._start = start or START
        self._stack = ExitStack()
        self._workers: list[Worker] = []
        lease_ms = round(lease * 1000)
        leases = config.LeasesSection(lease_ms=lease_ms, heartbeat_ms=lease_ms // 2, session_ms=lease_ms)
        self._world = World(seed, size, leases, round(self._start.timestamp() * 1000))
        self._history = History(lambda: self._world.now_ms)
        self._client: SimulatedClient | None = None

    def __enter__(self) -> Self:
        if self._client is not None:
            raise InvalidState("a simulation is for one block: make another one")
        with ExitStack() as stack:
            stack.enter_context(hushed())
            self._begin()
            self._stack = stack.pop_all()
        return self

    def _begin(self) -> None:
        self._world.start_all()
        self._world.run_until(self._has_leader, ELECT_MS, "a first leader")
        self._client = self._new_client()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for worker in self._workers:
                worker.close()
            if error is None and self.check:
                self._judge()
        except BaseException as breach:
            breach.add_note(self._where())
            raise
        finally:
            self._close()
        if error is not None:
            error.add_note(self._where())

    def _where(self) -> str:
        return f"tq.testing: seed={self.seed}, after {self._world.now_ms / 1000:.3f} s of virtual time"

    def _close(self) -> None:
        for loop in self._world.loops.values():
            assert isinstance(loop, BatonLoop)
            loop.close()
        self._simulated.close()
        self._stack.close()

    # ---- clients and workers ------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """Raises InvalidState before the block."""
        return self._simulated

    @property
    def _simulated(self) -> SimulatedClient:
        if self._client is None:
            raise InvalidState("it begins with its block: with memory_broker() as broker")
        return self._client

    def new_client(self, **options: Any) -> Client:
        """Another one, with a connection of its own. options: ``timeout``, ``reach``, ``middleware`` as of ``tq.Client``."""
        client = self._new_client(**options)
        self._stack.callback(client.close)
        return client

    @property
    def async_client(self) -> AsyncClient:
        """``client`` for coroutines, on trio and on asyncio. Raises InvalidState before the block."""
        return self._simulated.async_client

    def new_async_client(self, **options: Any) -> AsyncClient:
        """``new_client`` for coroutines: ``async with broker.new_async_client() as client``."""
        client = self._new_client(**options)
        self._stack.callback(client.close)
        return client.async_client

    def _new_client(self, **options: Any) -> SimulatedClient:
        return SimulatedClient(self._world, self._history, **options)

    def use(self, app: Any) -> None:
        """Let the app submit to this broker, until this is over."""
        self._stack.enter_context(app.use(self.client))

    def worker(
        self, app: Any, *, queues: Iterable[str] | None = None, concurrency: int = 4, name: str | None = None
    ) -> Worker:
        """Start a worker for an ``App`` or a ``Handlers``. It runs whenever the simulation goes on.

        queues: all that the app's tasks name, unless given. Raises ConfigError, ResourceFailed.
        """
        name = name or f"worker-{len(self._workers) + 1}"
        if name in self._world.hosts or name == "client" or any(name == other.name for other in self._workers):
            raise ConfigError(f"there is a {name!r} already: give the worker another name")
        worker = Worker(
            self._world, self._history, app, queues=queues_of(app) if queues is None else queues,
            concurrency=concurrency, name=name,
        )  # fmt: skip
        self._workers.append(worker)
        return worker

    def run(self, app: Any, **options: Any) -> Worker:
        """``use`` and ``worker``."""
        self.use(app)
        return self.worker(app, **options)

    # ---- time ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self._start + timedelta(milliseconds=self._world.now_ms)

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and all happen that is due meanwhile."""
        if not 0 <= seconds < 1e10:
            raise InvalidRequest.of("seconds", seconds, "must be 0 or more")
        self._world.drive(lambda: False, seconds)

    def run_until_idle(self, timeout: float = IDLE_S) -> None:
        """Run what can run now, to its end: no task is ready, no handler runs. What waits for a later time still does.

        timeout: in virtual seconds. Raises WaitTimeout.
        """
        self._drive(self._is_idle, timeout, "idle")

    def run_until_done(self, timeout: float = 10 * IDLE_S) -> None:
        """Run until all tasks have ended, over delays and retries. Raises WaitTimeout, which says what has not."""
        self._drive(lambda: self._has_leader() and self._world.unended() == 0, timeout, "done")

    @property
    def errors(self) -> list[tuple[str, BaseException]]:
        """What handlers raised, as ``(task id, exception)``, the newest last. The objects, not their texts."""
        return list(self._world.errors)

    def _drive(self, is_done: Callable[[], bool], timeout: float, what: str) -> None:
        if not self._world.drive(is_done, timeout):
            counts = {
                state.name.lower(): count for state in State if state not in ENDS and (count := self._count(state))
            }
            running = {worker.name: worker.running for worker in self._workers if worker.running}
            raise WaitTimeout(
                f"not {what} after {timeout:g} s: {counts or 'no live tasks'}, running at {running or 'no worker'}"
            )

    def _count(self, state: State) -> int:
        return self._world.count(state)

    def _has_leader(self) -> bool:
        return self._world.leader() is not None

    def _is_idle(self) -> bool:
        world = self._world
        leader = world.leader()
        if leader is None or world.has_jobs or not all(worker.is_idle for worker in self._workers):
            return False
        broker = world.broker(leader)
        machine, held = broker.applier.machine, broker.leases.held()
        return broker.is_idle and not any(one.could_take(machine) or one.has_leases(held) for one in self._workers)

    # ---- the verdict --------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        leader = self._world.leader()
        if leader is not None:
            broker = self._world.broker(leader)
            self._raise(self._history.breaches(broker.txn, broker.config.retention.tombstone_keep_ms))

    def _raise(self, breaches: list[str]) -> None:
        if breaches:
            raise Breach("the contract was not kept; this is a bug of tq:\n" + "\n".join(breaches[:20]))


def queues_of(app: Any) -> list[str]:
    named = getattr(app, "queues", None)
    return sorted(named) if named else ["default"]
