from __future__ import annotations

import pytest

from tq import cbor
from tq.broker.deadlines import Deadlines
from tq.broker.gather import ASK, TELL, WAIT_MS, Gather, Status
from tq.errors import InternalError
from tq.sim.clock import VirtualClock


class Ring:
    """Three nodes; messages arrive when ``carry`` says so."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.down: set[str] = set()
        self.wire: list[tuple[str, str, bytes]] = []
        self.ids = ("n1", "n2", "n3")
        self.deadlines = {id: Deadlines(self.clock) for id in self.ids}
        self.nodes = {id: self.node(id) for id in self.ids}
        self.done: list[dict[str, Status | None]] = []

    def node(self, id: str) -> Gather:
        def send(peer: str, message: bytes) -> bool:
            if peer in self.down:
                return False
            self.wire.append((id, peer, message))
            return True

        return Gather([other for other in self.ids if other != id], send, lambda: {"id": id}, self.deadlines[id])

    def carry(self) -> None:
        while self.wire:
            sender, peer, message = self.wire.pop(0)
            if peer not in self.down:
                self.nodes[peer].received(sender, message)

    def wait(self) -> None:
        self.clock.advance_ms(WAIT_MS)
        self.deadlines["n1"].run()


def test_all_are_asked_and_each_is_shown_with_its_own_words() -> None:
    ring = Ring()
    ring.nodes["n1"].ask(ring.done.append)
    assert ring.done == []
    ring.carry()
    assert ring.done == [{"n2": {"id": "n2"}, "n3": {"id": "n3"}}]
    ring.wait()
    assert len(ring.done) == 1


def test_one_that_cannot_be_reached_or_does_not_answer_is_none() -> None:
    ring = Ring()
    ring.down.add("n3")
    ring.nodes["n1"].ask(ring.done.append)
    ring.carry()
    assert ring.done == [{"n2": {"id": "n2"}, "n3": None}]
    ring.down = set()
    ring.nodes["n1"].ask(ring.done.append)
    ring.wire.pop()  # to n3
    ring.carry()
    assert len(ring.done) == 1
    ring.wait()
    assert ring.done[1] == {"n2": {"id": "n2"}, "n3": None}


def test_late_double_and_foreign_answers_find_nobody() -> None:
    ring = Ring()
    ring.nodes["n1"].ask(ring.done.append)
    ring.wait()
    assert ring.done == [{"n2": None, "n3": None}]
    ring.carry()
    ring.nodes["n1"].received("n2", cbor.dumps([TELL, 99, {}]))
    assert len(ring.done) == 1


def test_alone_it_answers_at_once() -> None:
    done: list[dict[str, Status | None]] = []
    Gather([], lambda _peer, _message: False, dict, Deadlines(VirtualClock())).ask(done.append)
    assert done == [{}]


@pytest.mark.parametrize("message", [[ASK], [TELL, 1], [7, 1], "x"])
def test_what_is_no_message_of_ours_stops_the_node(message: object) -> None:
    with pytest.raises(InternalError, match="tells"):
        Ring().nodes["n1"].received("n2", cbor.dumps(message))


def test_each_answer_is_heard_when_it_comes_and_late_ones_are_not() -> None:
    ring = Ring()
    heard: list[tuple[str, Status]] = []
    deadlines = ring.deadlines["n1"]
    ring.nodes["n1"] = Gather(
        ["n2", "n3"], lambda peer, message: not ring.wire.append(("n1", peer, message)), dict, deadlines,
        lambda peer, status: heard.append((peer, status)),
    )  # fmt: skip
    ring.nodes["n1"].ask(ring.done.append)
    late = ring.wire.pop()
    ring.carry()
    assert heard == [("n2", {"id": "n2"})]
    ring.wait()
    ring.wire.append(late)
    ring.carry()
    assert heard == [("n2", {"id": "n2"})]
