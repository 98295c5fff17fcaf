"""The bank. It plays a service outside of us: what it has done stays done, whatever becomes of the worker that asked."""

from __future__ import annotations


class BankAway(Exception):
    """It does not answer; try again later."""


class CardRefused(Exception):
    """There is no use in trying again."""


class Bank:
    """
    Attributes:
        statement: what was charged: (card, cents).
        is_away: it answers nobody.
    """

    def __init__(self) -> None:
        self.statement: list[tuple[str, int]] = []
        self.is_away = False
        self._receipts: dict[str, str] = {}

    def charge(self, card: str, cents: int, key: str | None = None) -> str:
        """Returns the number of the receipt. The same key again is the same charge."""
        if self.is_away:
            raise BankAway
        if card == "stolen":
            raise CardRefused(card)
        if key is not None and key in self._receipts:
            return self._receipts[key]
        self.statement.append((card, cents))
        receipt = f"R{len(self.statement)}"
        if key is not None:
            self._receipts[key] = receipt
        return receipt


BANK = Bank()
