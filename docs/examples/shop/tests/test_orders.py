"""What the tasks do: ``submit`` runs them at once."""

from __future__ import annotations

from datetime import date

import pytest
from shop import bank
from shop.tasks import MAIL, Order, charge, remind

from tq import InvalidRequest, TaskFailed
from tq.testing import Inline

ORDER = Order(1, "4242", 1999, "a@example.org", date(2026, 12, 24))


def test_an_order_is_charged_and_a_receipt_sent(tq_inline: Inline) -> None:
    handle = charge.submit(ORDER)
    assert handle.result() == "R1"
    assert bank.BANK.statement == [("4242", 1999)]
    assert MAIL == [("a@example.org", "Thank you. Your receipt: R1")]


def test_a_refused_card_is_not_tried_again(tq_inline: Inline) -> None:
    handle = charge.submit(Order(2, "stolen", 500, "b@example.org"))
    with pytest.raises(TaskFailed, match="CardRefused"):
        handle.result()
    assert handle.status().attempt == 1
    assert MAIL == []


def test_a_date_travels_as_a_date(tq_inline: Inline) -> None:
    remind.submit("a@example.org", date(2026, 12, 24))
    assert MAIL == [("a@example.org", "Your order comes on 24 December.")]


def test_what_cannot_be_carried_fails_here_too(tq_inline: Inline) -> None:
    with pytest.raises(InvalidRequest, match="to"):
        remind.submit(object(), date(2026, 12, 24))  # type: ignore[arg-type]


def test_a_plain_call_is_a_plain_call() -> None:
    assert remind("a@example.org", date(2026, 1, 1)) == "a@example.org"
