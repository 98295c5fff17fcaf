"""A FastAPI server and a real worker, on a real broker."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.cluster.processes import Broker, Ground
from tq import App, NotFound
from tq.contrib.fastapi import add_error_handlers, lifespan

TASKS = """
from tq import App

app = App()


@app.task(name="add")
def add(x: int, y: int = 1) -> int:
    return x + y
"""


def server(app: App) -> FastAPI:
    api = FastAPI(lifespan=lifespan(app))
    add_error_handlers(api)

    @app.task(name="add")
    def add(x: int, y: int = 1) -> int:
        raise AssertionError("it runs at the worker")

    @api.post("/sums", status_code=202)
    async def submit(x: int) -> dict[str, str]:
        return {"task": (await add.asubmit(x)).id}

    @api.get("/sums/{id}")
    async def result(id: str) -> int:
        return await add.handle(id).aresult(timeout=30)

    @api.post("/blocking")  # in a thread of the server's pool, by the blocking client
    def blocking(x: int) -> int:
        return add.submit(x).result(timeout=30)

    return api


def test_a_server_submits_waits_and_answers_errors(ground: Ground, shared_broker: Broker) -> None:
    (ground.folder / "sums.py").write_text(TASKS)
    ground.worker(shared_broker, "sums", path=[Path(ground.folder)]).start()
    app = App(shared_broker.address)
    with TestClient(server(app)) as client:
        task = client.post("/sums", params={"x": 4}).json()["task"]
        assert client.get(f"/sums/{task}").json() == 5
        assert client.post("/blocking", params={"x": 5}).json() == 6
        answer = client.get("/sums/0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c90")
        assert (answer.status_code, answer.json()["code"]) == (404, NotFound.code)
        assert client.get("/sums/nonsense").status_code == 422
    app.close()
