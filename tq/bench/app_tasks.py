"""The same work through the front door, ``tq worker tq.bench.app_tasks``: arguments by name, JSON, a checked result."""

from __future__ import annotations

from tq import App

app = App()


@app.task(name="bench.call")
async def call(text: str, number: int = 0) -> int:
    return number
