"""At most one node leads a term."""

from __future__ import annotations

from tq.sim.checkers.breach import Breach


class RaftLeaders:
    """
    Attributes:
        by_term: who led each term.
    """

    def __init__(self) -> None:
        self.by_term: dict[int, str] = {}

    def leads(self, node_id: str, term: int) -> bool:
        """``node_id`` leads ``term`` now. Returns whether that is news."""
        is_news = term not in self.by_term
        leader = self.by_term.setdefault(term, node_id)
        if leader != node_id:
            raise Breach(f"{leader} and {node_id} both lead term {term}")
        return is_news
