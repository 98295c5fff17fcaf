"""Lifespan and answers, without a broker; ``tests/cluster/test_contrib.py`` has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tq import errors
from tq.app.app import App
from tq.contrib.fastapi import STATUS, add_error_handlers, lifespan
from tq.errors import BrokerUnavailable, InternalError, InvalidRequest, NotFound, QueueFull, TqError


def raising(error: TqError) -> TestClient:
    api = FastAPI()
    add_error_handlers(api)

    @api.get("/")
    async def route() -> None:
        raise error

    return TestClient(api)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (InvalidRequest("argument 'to': must be str"), 422, None),
        (NotFound("there is no task"), 404, None),
        (QueueFull("queue 'mail' is full", retry_after=2.2), 429, "3"),
        (BrokerUnavailable("no broker can be reached", retry_after=0), 503, "1"),
        (InternalError("a bug"), 500, None),
    ],
)
def test_an_error_is_a_problem_with_its_code(error: TqError, status: int, retry_after: str | None) -> None:
    answer = raising(error).get("/")
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["code"], told["detail"], told["status"]) == (error.code, error.message, status)


def test_each_code_of_the_table_is_one_of_ours() -> None:
    ours = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TqError)}
    assert set(STATUS) <= ours


def test_the_client_lives_as_long_as_the_server() -> None:
    app = App("127.0.0.1:1")
    order: list[str] = []

    @asynccontextmanager
    async def inner(_api: Any) -> AsyncIterator[None]:
        assert app.async_client
        order.append("began")
        yield
        assert app.async_client
        order.append("ended")

    api = FastAPI(lifespan=lifespan(app, inner))

    @api.get("/")
    async def route() -> bool:
        return app.async_client is not None

    with TestClient(api) as client:
        assert client.get("/").json() is True
        assert order == ["began"]
    assert order == ["began", "ended"]
    with TestClient(FastAPI(lifespan=lifespan(app))):
        pass
