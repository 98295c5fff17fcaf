"""Tasks from FastAPI (and Starlette): the app's client lives as long as the server, and its errors are answers.

    api = FastAPI(lifespan=lifespan(app))
    add_error_handlers(api)

    @api.post("/mails", status_code=202)
    async def send(mail: Mail) -> dict[str, str]:
        handle = await send_mail.asubmit(mail.to, mail.body)
        return {"task": handle.id}

Wants FastAPI or Starlette, which you have: ``pip install tq[fastapi]``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from tq.app.app import App
from tq.errors import TqError

STATUS: Final = {
    "INVALID": 422, "TOO_LARGE": 413, "NOT_FOUND": 404, "CONFLICT": 409, "INVALID_STATE": 409,
    "QUEUE_FULL": 429, "RATE_LIMITED": 429, "BACKPRESSURE": 503, "DISK_FULL": 503, "NOT_LEADER": 503,
    "UNAVAILABLE": 503, "WAIT_TIMEOUT": 504, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
}  # fmt: skip
"""By code of the error; every other one is a 500."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def lifespan(app: App, inner: Lifespan | None = None) -> Lifespan:
    """For ``FastAPI(lifespan=...)``: coroutines of the server share one client of ``app``. inner: a lifespan of yours, within it."""

    @asynccontextmanager
    async def run(api: Any) -> AsyncIterator[None]:
        async with app:
            if inner is None:
                yield
            else:
                async with inner(api):
                    yield

    return run


def add_error_handlers(api: Starlette) -> None:
    """Answer an error of tq that a route lets pass with the status that fits, as problem details (RFC 9457) with our ``code``."""
    api.add_exception_handler(TqError, _answer)


async def _answer(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TqError)
    status = STATUS.get(error.code, 500)
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    problem = {
        "type": "about:blank", "title": type(error).__name__, "status": status, "detail": error.message, "code": error.code,
        "retryable": error.retryable,
    }  # fmt: skip
    return JSONResponse(problem, status, headers, media_type="application/problem+json")
