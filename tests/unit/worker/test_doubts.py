"""Queues that nobody but the command line names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.worker.rig import Rig, only
from tq.errors import Backpressure
from tq.protocol import messages as m
from tq.worker.doubts import UNKNOWN, Doubts

NEAR = "did you mean 'mail'?"


def said(typed: list[str], known: list[str], theirs: list[str]) -> list[tuple[str, bool]]:
    """Each queue that is said, and whether with the near name."""
    doubts = Doubts(typed, known)
    if not doubts:
        return []
    reply = m.QueuesReply(doubts.ask(7).rid, 1, [{"name": name} for name in theirs])
    return [(values["queue"], NEAR in values["hint"]) for values in doubts.answered(reply)]


@pytest.mark.parametrize(
    ("typed", "known", "theirs", "wanted"),
    [
        (["mial"], ["mail"], [], [("mial", True)]),  # of a task of the app
        (["mial"], ["default"], ["mail", "other"], [("mial", True)]),  # of a queue that the cluster has
        (["zebra"], ["default"], ["mail"], [("zebra", False)]),
        (["mail", "mial", "zebra"], ["mail"], ["x"], [("mial", True), ("zebra", False)]),
        (["mail"], ["mail"], ["x"], []),
        (["mail"], ["default"], ["mail"], []),
        (["default"], ["mail"], ["mail"], []),
        (["zebra"], ["default"], [], []),  # the first worker of a new cluster
        ([], ["mail"], ["x"], []),
    ],
)
def test_a_name_that_neither_the_app_nor_the_cluster_knows_is_said(
    typed: list[str], known: list[str], theirs: list[str], wanted: list[tuple[str, bool]]
) -> None:
    assert said(typed, known, theirs) == wanted


def opened(**settings: Any) -> tuple[Rig, list[m.Message]]:
    rig = Rig(**settings)
    rig.connect()
    return rig, rig.step()


def test_it_is_asked_with_the_registration_and_said_once() -> None:
    rig, sent = opened(queues_typed=("mial",), queues_known=("mail",))
    only(sent, m.RegisterWorker)
    asked = only(sent, m.Queues)
    rig.core.received(m.QueuesReply(asked.rid, 1, [{"name": "mail"}]))
    rig.step()
    assert [event for event in rig.events() if event == UNKNOWN] == [UNKNOWN]
    rig.core.disconnected()
    rig.connect()
    assert [type(message) for message in rig.step()] == [m.RegisterWorker]


def test_an_answer_that_was_lost_or_refused_is_asked_for_again() -> None:
    rig, sent = opened(queues_typed=("mial",))
    assert rig.refused(only(sent, m.Queues).rid, Backpressure("not now")) == []
    rig.core.disconnected()
    rig.connect()
    sent = rig.step()
    only(sent, m.RegisterWorker)
    only(sent, m.Queues)


def test_who_types_no_queue_asks_nothing() -> None:
    assert [type(message) for message in opened(queues_known=("mail",))[1]] == [m.RegisterWorker]
