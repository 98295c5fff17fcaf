"""The tasks of the shop. ``tq worker shop.tasks --queues payments,mail`` runs them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import trio

from shop import bank
from tq import App, Retry, current

app = App()
MAIL: list[tuple[str, str]] = []
"""What was sent: (to, text)."""


@dataclass
class Order:
    id: int
    card: str
    cents: int
    email: str
    wished_for: date | None = None


@app.task(queue="payments", retry=Retry(max_attempts=4, backoff_base=10, factor=2), give_up_on=bank.CardRefused)
def charge(order: Order) -> str:
    """Charge the order, and have a receipt sent. Safe to run twice: the task's id is the key that the bank knows."""
    receipt = bank.BANK.charge(order.card, order.cents, key=current().id)
    send_receipt.options(unique=f"receipt:{order.id}").submit(order.email, receipt)
    return receipt


@app.task(queue="payments")
def charge_naively(order: Order) -> str:
    """The same without a key. It looks fine, until a worker dies at the wrong moment."""
    return bank.BANK.charge(order.card, order.cents)


@app.task(queue="mail", timeout=30)
async def send_receipt(to: str, receipt: str) -> None:
    await trio.sleep(0.5)  # the mail server is slow
    MAIL.append((to, f"Thank you. Your receipt: {receipt}"))


@app.task(queue="mail")
def remind(to: str, day: date) -> str:
    MAIL.append((to, f"Your order comes on {day:%d %B}."))
    return to
