"""What is decided for a queue: pause, resume, and its settings."""

from __future__ import annotations

import enum
from typing import Any, Final

from tq.client import records
from tq.client.asking import Asking
from tq.client.models import QueueSettings
from tq.client.specs import Retry, retry_fields, to_ms
from tq.client.steps import Verb
from tq.protocol import messages as m


class Unset(enum.Enum):
    """An argument that was not given. (None is a value: back to the default.)"""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class QueueVerbs(Asking):
    who = "unknown"
    """Who asks, where no ``by`` is given. For people: it proves nothing."""

    def pause(
        self, queue: str, reason: str | None = None, *, by: str | None = None, timeout: float | None = None
    ) -> Verb[QueueSettings]:
        """Grant nothing from a queue until it is resumed. What runs goes on, and tasks are still taken.

        Args:
            queue: it need not have had a task.
            reason: shown by ``explain`` and in lists, with who paused it and when.
            by: who; user and host of this process unless given.
        """
        return self._set_queue(queue, {"paused": True, "reason": reason}, by, timeout)

    def resume(self, queue: str, *, by: str | None = None, timeout: float | None = None) -> Verb[QueueSettings]:
        """Grant tasks of a queue again. Workers that wait get them at once."""
        return self._set_queue(queue, {"paused": False}, by, timeout)

    def set_queue(
        self,
        queue: str,
        *,
        max_length: int | Unset | None = UNSET,
        timeout: float | Unset | None = UNSET,
        expires_in: float | Unset | None = UNSET,
        result_ttl: float | Unset | None = UNSET,
        retry: Retry | Unset | None = UNSET,
        finished_keep: float | Unset | None = UNSET,
        dead_keep: float | Unset | None = UNSET,
        rate: str | Unset | None = UNSET,
        concurrency: int | Unset | None = UNSET,
        by: str | None = None,
        request_timeout: float | None = None,
    ) -> Verb[QueueSettings]:
        """Change settings of a queue. What is not named stays; None is the default again. Times are seconds.

        Args:
            queue: it need not have had a task.
            max_length: so many tasks may wait (waiting, scheduled, pending); a submission over it is ``QueueFull``.
            timeout (of one attempt), expires_in, result_ttl, retry: for tasks submitted from now on that do not say them.
            finished_keep: how long completed, cancelled and expired tasks that end from now on are kept.
            dead_keep: the same for dead ones.
            rate, concurrency: not supported yet; brokers refuse them.
            by: who asks; user and host of this process unless given.
            request_timeout: seconds this call may take.

        Returns:
            All settings as they are then.

        Raises:
            InvalidRequest: a value is out of bounds. Unsupported: the broker does not know a setting.
        """
        durations = {
            "timeout": timeout,
            "expires_in": expires_in,
            "result_ttl": result_ttl,
            "finished_keep": finished_keep,
            "dead_keep": dead_keep,
        }
        changes: dict[str, Any] = {
            f"{name}_ms": None if value is None else to_ms(name, value)
            for name, value in durations.items()
            if not isinstance(value, Unset)
        }
        if not isinstance(retry, Unset):
            changes["retry"] = None if retry is None else retry_fields(retry)
        for name, plain in {"max_length": max_length, "rate": rate, "concurrency": concurrency}.items():
            if not isinstance(plain, Unset):
                changes[name] = plain
        return self._set_queue(queue, changes, by, request_timeout)

    def _set_queue(
        self, queue: str, changes: dict[str, Any], by: str | None, timeout: float | None
    ) -> Verb[QueueSettings]:
        operation = self.new_id()
        who = by or self.who
        reply = yield from self.ask(
            lambda rid: m.SetQueue(rid, operation, queue, changes, who), m.SetQueueReply, timeout
        )  # fmt: skip
        return records.queue_settings(reply.settings)
