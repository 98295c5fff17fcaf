from __future__ import annotations

import pytest

from tq.sim.network import SimNetwork
from tq.sim.random import SeededRandom


@pytest.fixture
def network() -> SimNetwork:
    return SimNetwork(SeededRandom(3))


def arrived(network: SimNetwork, by_ms: int = 10_000) -> list[bytes]:
    return [message for _, _, message in network.take_due(by_ms)]


def test_a_message_arrives_once_and_within_its_time(network):
    network.delay_ms = (5, 9)
    network.send(100, "a", "b", b"x")
    due = network.next_due_ms()
    assert due is not None
    assert 105 <= due <= 109
    assert network.take_due(due - 1) == []
    assert network.take_due(due) == [("b", "a", b"x")]
    assert network.next_due_ms() is None


def test_messages_overtake_each_other(network):
    network.delay_ms = (1, 50)
    sent = [bytes([number]) for number in range(50)]
    for message in sent:
        network.send(0, "a", "b", message)
    got = arrived(network)
    assert got != sent
    assert sorted(got) == sent


def test_some_are_lost_and_some_come_twice(network):
    network.loss_permille = 300
    for number in range(200):
        network.send(0, "a", "b", bytes([number]))
    assert 100 < len(arrived(network)) < 180
    assert 20 < network.lost < 100
    network.loss_permille, network.duplicate_permille = 0, 300
    for number in range(200):
        network.send(0, "a", "b", bytes([number]))
    got = arrived(network)
    assert 230 < len(got) < 300
    assert len(set(got)) == 200


def test_a_cut_is_one_way_and_hits_what_is_under_way(network):
    network.send(0, "a", "b", b"1")
    network.cut("a", "b")
    network.send(0, "b", "a", b"2")
    assert arrived(network) == [b"2"]
    network.heal()
    network.send(0, "a", "b", b"3")
    assert arrived(network) == [b"3"]


def test_a_partition_keeps_each_side_together(network):
    network.partition(["a", "b"], ["c"])
    for sender in "abc":
        for to in "abc":
            network.send(0, sender, to, (sender + to).encode())
    assert sorted(arrived(network)) == [b"aa", b"ab", b"ba", b"bb", b"cc"]


def test_all_that_is_under_way_can_be_lost(network):
    network.send(0, "a", "b", b"x")
    network.drop_all()
    assert arrived(network) == []


def test_the_same_seed_is_the_same_network():
    def story(seed: int) -> list[tuple[str, str, bytes]]:
        network = SimNetwork(SeededRandom(seed))
        network.delay_ms, network.loss_permille, network.duplicate_permille = (1, 40), 200, 200
        for number in range(50):
            network.send(number, "a", "b", bytes([number]))
        return network.take_due(1_000)

    assert story(1) == story(1) != story(2)
