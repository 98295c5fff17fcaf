"""What becomes of tasks in the course of time: minutes and hours pass at once."""

from __future__ import annotations

from datetime import date

import pytest
from shop import bank
from shop.tasks import MAIL, Order, charge, remind, send_receipt

from tq import TaskCancelled, TaskFailed
from tq.testing import MemoryBroker

ORDER = Order(1, "4242", 1999, "a@example.org")


def test_the_bank_comes_back(tq_memory_broker: MemoryBroker) -> None:
    bank.BANK.is_away = True
    handle = charge.submit(ORDER)
    tq_memory_broker.run_until_idle()
    assert handle.status().state == "scheduled"  # the first attempt failed, the second is due in 10 s or so
    assert handle.explain().why

    bank.BANK.is_away = False
    tq_memory_broker.advance(15)
    assert handle.result() == "R1"
    assert handle.status().attempt == 2


def test_the_bank_stays_away(tq_memory_broker: MemoryBroker) -> None:
    bank.BANK.is_away = True
    handle = charge.submit(ORDER)
    began = tq_memory_broker.now
    with pytest.raises(TaskFailed, match="BankAway"):
        handle.result()  # waits for all four attempts
    assert (tq_memory_broker.now - began).total_seconds() == pytest.approx(10 + 20 + 40, rel=0.25)
    assert handle.status().state == "dead"


def test_a_reminder_comes_when_it_is_due(tq_memory_broker: MemoryBroker) -> None:
    remind.options(delay=6 * 3600).submit("a@example.org", date(2026, 12, 24))
    tq_memory_broker.advance(6 * 3600 - 60)
    assert MAIL == []
    tq_memory_broker.advance(60)
    assert len(MAIL) == 1


def test_a_reminder_that_is_not_wanted_any_more(tq_memory_broker: MemoryBroker) -> None:
    handle = remind.options(delay=3600).submit("a@example.org", date(2026, 12, 24))
    assert handle.cancel() == "cancelled"
    tq_memory_broker.advance(7200)
    assert MAIL == []
    with pytest.raises(TaskCancelled):
        handle.result()


def test_two_receipts_for_one_order_are_one(tq_memory_broker: MemoryBroker) -> None:
    first = send_receipt.options(unique="receipt:1").submit("a@example.org", "R1")
    second = send_receipt.options(unique="receipt:1").submit("a@example.org", "R1")
    assert (second.outcome, second.id) == ("duplicate", first.id)
    tq_memory_broker.run_until_done()
    assert len(MAIL) == 1
