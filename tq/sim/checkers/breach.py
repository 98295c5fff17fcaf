"""What the checkers of a running simulation raise."""

from __future__ import annotations


class Breach(AssertionError):
    """A promise was broken."""
