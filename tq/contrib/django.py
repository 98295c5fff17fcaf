"""Tasks from Django: submitted when the transaction is committed, and run with connections that are alive.

    on_commit(send_mail).submit("a@example.org", body="hi")      # in a view, within a transaction

    app = App(worker_middleware=[Connections()])                 # for the worker

Wants Django, which you have: ``pip install tq[django]``.
"""

from __future__ import annotations

from typing import Any, Generic, ParamSpec

from django.db import close_old_connections, reset_queries, transaction

from tq.app.task import BoundTask
from tq.worker.context import Context
from tq.worker.middleware import Middleware, Outcome

P = ParamSpec("P")


class OnCommit(Generic[P]):
    """Made by ``on_commit``."""

    def __init__(self, task: BoundTask[P, Any], using: str | None) -> None:
        self._task = task
        self._using = using

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Submit this call when the transaction is committed, or now if there is none; never if it is rolled back.

        Arguments become bytes now: what the objects are by then does not matter, and what cannot be carried is refused
        here, where the transaction can still be rolled back.

        Raises InvalidRequest. After the commit: what the submit raises, which does not undo the commit. A process may also
        die in between. Where that matters give the task an ``idempotency_key`` made of the row, and let something look for rows
        without a task now and then, and submit them again.
        """
        spec = self._task.spec(*args, **kwargs)
        app = self._task.app

        def submit() -> None:
            app.client.submit_spec(spec)

        transaction.on_commit(submit, using=self._using)


def on_commit(task: BoundTask[P, Any], using: str | None = None) -> OnCommit[P]:
    """``on_commit(task).submit(...)``, or with options ``on_commit(task.options(delay=60)).submit(...)``. using: the database."""
    return OnCommit(task, using)


class Connections(Middleware):
    """For workers: each attempt begins and ends without database connections that are broken or too old, as a request does."""

    def before(self, ctx: Context) -> None:
        reset_queries()
        close_old_connections()

    def after(self, ctx: Context, outcome: Outcome) -> None:
        close_old_connections()
