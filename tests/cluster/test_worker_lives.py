"""Workers that begin anew, and what they make before they begin: with real processes and a real broker."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.cluster.processes import SHORT_LEASES, Broker, Ground, Process, eventually
from tq import TaskSpec
from tq.client.blocking import Client

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0

HEAD = """
import os, signal, time
from contextlib import asynccontextmanager
from pathlib import Path
from tq import Middleware, current, resource
from tq.worker.handlers import Handlers
HERE = Path(__file__).parent
def log(text):
    with (HERE / "log").open("a") as file:
        file.write(f"{text}\\n")
"""


@attrs.define
class Field:
    """A broker that runs, and a module of a user's that the test writes."""

    ground: Ground
    broker: Broker
    client: Client
    folder: Path

    def write(self, text: str, name: str = "mine.py") -> None:
        (self.folder / name).write_text(HEAD + textwrap.dedent(text))

    def worker(self, *arguments: str, name: str = "worker", module: str = "mine") -> Process:
        environ = {"PYTHONDONTWRITEBYTECODE": "1"}
        worker = self.ground.worker(
            self.broker, module, "--name", name, *arguments, name=name, path=[self.folder, ROOT], environ=environ
        )
        worker.start()
        return worker

    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def submit(self, type: str, count: int, payload: bytes = b"") -> list[str]:
        return [item.id for item in self.client.submit_many([TaskSpec(type=type, payload=payload)] * count)]

    def results(self, ids: list[str]) -> list[bytes]:
        infos = [self.client.wait(id, WAIT_S) for id in ids]
        assert {(info.state, info.attempt, info.crashes) for info in infos} == {("completed", 1, 0)}
        return [info.result or b"" for info in infos]


@pytest.fixture
def field(ground: Ground) -> Iterator[Field]:
    broker = ground.broker(SHORT_LEASES)
    broker.start_ready()
    folder = ground.folder / "mine"
    folder.mkdir()
    with Client(broker.address) as client:
        yield Field(ground, broker, client, folder)


# ---- recycling -------------------------------------------------------------------------------------------


def test_a_worker_begins_anew_after_so_many_tasks_in_the_same_process_and_loses_none(field: Field) -> None:
    field.write("""
        HANDLERS = Handlers()
        LIFE = os.urandom(4).hex()
        def handler(payload, ctx): return f"{os.getpid()} {LIFE}".encode()
        async def coroutine(payload, ctx): return handler(payload, ctx)
        HANDLERS.register("thread", handler)
        HANDLERS.register("async", coroutine)
        HANDLERS.register("asyncio", coroutine, executor="asyncio")
    """)
    worker = field.worker("--max-tasks", "20")
    ids = [id for name in ("thread", "async", "asyncio") for id in field.submit(name, 20)]
    said = [result.decode().split() for result in field.results(ids)]
    assert {int(pid) for pid, _life in said} == {worker.pid}
    lives = [life for _pid, life in said]
    assert len(set(lives)) >= 3
    assert max(map(lives.count, lives)) <= 20 + 4, "those that ran when the limit was reached end, too"
    assert worker.stop() in (0, -signal.SIGTERM), "one that begins just then knows no signal yet, and holds nothing"
    assert list(field.client.workers()) == []


def test_a_worker_that_takes_too_much_memory_begins_anew(field: Field) -> None:
    field.write("""
        HANDLERS = Handlers()
        LIFE = os.urandom(4).hex()
        KEPT = []
        @HANDLERS.handler("leak")
        def leak(payload, ctx):
            KEPT.append(b"x" * 40_000_000)
            time.sleep(0.25)  # a user's work; its memory is looked at meanwhile
            return LIFE.encode()
    """)
    worker = field.worker("--max-memory-mb", "150", "--concurrency", "1")
    assert len(set(field.results(field.submit("leak", 8)))) >= 2
    assert "MiB of memory" in worker.tail()


def test_child_processes_end_singly(field: Field) -> None:
    field.write("""
        HANDLERS = Handlers()
        @HANDLERS.handler("child", executor="process")
        def child(payload, ctx): return f"{os.getpid()} {os.getppid()}".encode()
    """)
    worker = field.worker("--max-tasks", "5", "--concurrency", "2")
    said = [result.decode().split() for result in field.results(field.submit("child", 20))]
    assert {int(parent) for _pid, parent in said} == {worker.pid}
    pids = [pid for pid, _parent in said]
    assert len(set(pids)) >= 4
    assert max(map(pids.count, pids)) <= 5
    assert worker.tail().count("session opened") == 1
    assert worker.stop() == 0


def test_a_signal_while_it_begins_anew_ends_it(field: Field) -> None:
    field.write("""
        HANDLERS = Handlers()
        @HANDLERS.handler("quick")
        def quick(payload, ctx): return b""
        @HANDLERS.handler("slow")
        def slow(payload, ctx):
            log("begun")
            while not (HERE / "release").exists():
                time.sleep(0.01)  # a user's handler that polls
            return b""
    """)
    worker = field.worker("--max-tasks", "1")
    (slow,) = field.submit("slow", 1)
    eventually("it runs", lambda: field.log() == ["begun"], worker)
    field.results(field.submit("quick", 1))
    eventually("it drains", lambda: "draining" in worker.tail(), worker)
    worker.terminate()
    (field.folder / "release").touch()
    assert worker.wait(WAIT_S) == 0
    field.results([slow])


# ---- reload ----------------------------------------------------------------------------------------------

VERSION = """
    from part import TEXT
    HANDLERS = Handlers()
    @HANDLERS.handler("t")
    def t(payload, ctx): return TEXT
"""


def test_a_change_of_the_code_is_taken_up_and_one_that_cannot_be_loaded_waited_out(field: Field) -> None:
    field.write(VERSION)
    field.write("TEXT = b'one'", "part.py")
    worker = field.worker("--reload")
    pid = worker.pid

    def now(text: bytes) -> None:
        eventually(f"it says {text!r}", lambda: field.results(field.submit("t", 1)) == [text], worker, WAIT_S)

    now(b"one")
    field.write("TEXT = b'the second'", "part.py")
    now(b"the second")
    field.write("TEXT = b'third", "part.py")
    eventually("it says what is wrong", lambda: "SyntaxError" in worker.tail(), worker, WAIT_S)
    assert "part.py" in worker.tail()
    field.write("TEXT = b'and on'", "part.py")
    now(b"and on")
    field.write(VERSION.replace("from part", "from new_part"))
    eventually("it waits", lambda: "No module named 'new_part'" in worker.tail(), worker, WAIT_S)
    field.write("TEXT = b'found'", "new_part.py")
    now(b"found")
    assert worker.pid == pid
    assert worker.stop() == 0


# ---- resources and middleware ----------------------------------------------------------------------------

FULL = """
    def make(name):
        def factory():
            log(f"make {name}")
            yield name
            log(f"close {name}")
        return factory

    def make_async(name):
        async def factory():
            log(f"make {name}")
            yield name
            log(f"close {name}")
        return factory

    class Layer(Middleware):
        def before(self, ctx): log(f"before {ctx.type}")
        def after(self, ctx, outcome): log(f"after {ctx.type} {outcome.result.decode()}")

    HANDLERS = Handlers(
        middleware=[Layer()],
        resources={"db": make("db"), "pool": make_async("pool"), "loop": make_async("loop"), "child": make("child")},
    )

    @HANDLERS.handler("thread")
    def thread(payload, ctx, db=resource()):
        assert current() is ctx
        return db.encode()

    @HANDLERS.handler("async")
    async def on_trio(payload, ctx, db=resource(), pool=resource()):
        assert current() is ctx
        return f"{db} {pool}".encode()

    @HANDLERS.handler("asyncio", executor="asyncio")
    async def on_asyncio(payload, ctx, mine=resource("loop")):
        assert current() is ctx
        return mine.encode()

    @HANDLERS.handler("process", executor="process")
    def process(payload, ctx, child=resource()):
        assert current() is ctx
        return child.encode()
"""


def test_resources_and_middleware_serve_each_kind_of_handler(field: Field) -> None:
    field.write(FULL)
    worker = field.worker()
    eventually("it has its resources", lambda: "session opened" in worker.tail(), worker, WAIT_S)
    assert sorted(field.log()) == ["make child", "make db", "make loop", "make pool"]
    for name, result in (("thread", b"db"), ("async", b"db pool"), ("asyncio", b"loop"), ("process", b"child")):
        assert field.results(field.submit(name, 2)) == [result] * 2
        said = [line for line in field.log() if name in line.split()]
        assert sorted(said) == [f"after {name} {result.decode()}"] * 2 + [f"before {name}"] * 2
    assert worker.stop() == 0
    closed = [line for line in field.log() if line.startswith("close")]
    children = closed.count("close child")
    assert children == field.log().count("make child")
    assert [line for line in closed if line != "close child"] == ["close loop", "close pool", "close db"]


NO_DATABASE = "make(): raise OSError('no database')"
FAILURES = {
    "thread": (f"def {NO_DATABASE}", "resource 'db' could not be made: OSError: no database"),
    "async": (f"async def {NO_DATABASE}", "resource 'db' could not be made: OSError: no database"),
    "asyncio": (f"async def {NO_DATABASE}", "resource 'db' could not be made: OSError: no database"),
    "process": (f"def {NO_DATABASE}", "in a child process: resource 'db' could not be made: OSError: no database"),
    "crashing": ("def make(): os._exit(7)", "a child process did not get ready: its process ended with exit code 7"),
}


def test_a_resource_that_cannot_be_made_stops_the_worker_before_it_claims(field: Field) -> None:
    (id,) = field.submit("t", 1)
    workers = {}
    for name, (factory, _text) in FAILURES.items():
        executor = "process" if name == "crashing" else name
        kind = "async def" if executor.startswith("async") else "def"
        text = f"""
            {factory}
            HANDLERS = Handlers(resources={{"db": make}})
            {kind} handler(payload, ctx, db=resource()): return b"ran"
            HANDLERS.register("t", handler, executor="{executor}")
        """
        field.write(text, f"fails_{name}.py")
        workers[name] = field.worker(name=name, module=f"fails_{name}")
    for name, (_factory, text) in FAILURES.items():
        assert workers[name].wait(WAIT_S) == 1
        assert text in workers[name].tail()
        assert "Traceback" not in workers[name].tail()
    info = field.client.get(id)
    assert (info.state, info.attempt, info.history) == ("pending", 0, ())


# ---- queues ----------------------------------------------------------------------------------------------


def test_of_several_queues_priority_comes_first_and_then_their_order(field: Field) -> None:
    field.write("""
        HANDLERS = Handlers()
        @HANDLERS.handler("t")
        def t(payload, ctx):
            log(payload.decode())
            return b""
    """)
    client, ids = field.client, []
    for queue, priority in (("c", 150), ("b", 150), ("a", 150), ("c", 210), ("a", 20), ("other", 250)):
        payload = f"{queue}{priority}".encode()
        ids.append(client.submit("t", payload, queue=queue, priority=priority).id)
    worker = field.worker("--queues", "a, b,c,a", "--concurrency", "1")
    field.results(ids[:-1])
    assert field.log() == ["c210", "a150", "b150", "c150", "a20"]
    assert client.get(ids[-1]).state == "pending", "nobody named its queue"
    # While it waits: a queue that is paused holds up none of the others, and goes on when it may.
    client.pause("a", reason="deploy")
    paused = client.submit("t", b"paused", queue="a", priority=255).id
    field.results([client.submit("t", b"woken", queue=queue).id for queue in ("b", "c")])
    assert client.get(paused).state == "pending"
    client.resume("a")
    field.results([paused])
    assert field.log()[-1] == "paused"
    assert worker.stop() == 0
