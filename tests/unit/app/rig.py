"""An app whose broker is the real state machine, and a worker that is one call: it runs what waits, here and now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tests.unit.client.fake_broker import FakeBroker
from tests.unit.client.machine_broker import MachineBroker
from tq import App
from tq.worker.context import Context
from tq.worker.frame import acall, call
from tq.worker.outcomes import COMPLETE, FAIL, SNOOZE, Said


@contextmanager
def broker() -> Iterator[FakeBroker]:
    with FakeBroker(MachineBroker()) as fake:
        yield fake


class Worker:
    """Runs the handlers of an app by the frame of the real worker, and reports as it does."""

    def __init__(self, app: App) -> None:
        self.app = app

    def run(self) -> list[Said]:
        """All tasks that are ready; what was said of each."""
        handlers = self.app.handlers
        said = []
        with self.app.client.register_worker(handlers.types, ["default", "mail", "q"]) as session:
            while grants := session.claim(100):
                for grant in grants:
                    context = Context(
                        grant.raw_id,
                        grant.type,
                        grant.queue,
                        grant.attempt,
                        grant.crashes,
                        grant.fence,
                        None,
                        grant.headers,
                        content_type=grant.content_type,
                    )
                    handler = handlers.get(grant.type)
                    assert handler is not None
                    if handler.is_async:
                        outcome = trio.run(acall, handler, grant.payload, context, trio.Cancelled)
                    else:
                        outcome = call(handler, grant.payload, context)
                    said.append(outcome)
                    session.report_many([[grant.raw_id, grant.fence, *outcome]])
        return said


def completed(said: Said) -> tuple[str, bytes]:
    """(content type, result)."""
    assert said[0] == COMPLETE, said
    content_type, data = said[1]
    return content_type, data


def failed(said: Said) -> tuple[str, str, bool]:
    """(type, message, whether for good)."""
    assert said[0] == FAIL, said
    error, permanent, _after_ms = said[1]
    return error[0], error[1], permanent


__all__ = ["SNOOZE", "Worker", "broker", "completed", "failed"]
