"""What was seen is judged: the records of clients and handlers, and that each kind of breach is found in them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.unit.testing.handlers import Book, handlers
from tq import BrokerUnavailable, Retry
from tq.sim.checkers.breach import Breach
from tq.testing import MemoryBroker, cluster, memory_broker
from tq.testing.history import History


def history_of(simulation: Any) -> History:
    found = simulation._history
    assert isinstance(found, History)
    return found


def busy(broker: MemoryBroker) -> None:
    """A little of all."""
    client = broker.client
    broker.worker(handlers(Book()))
    ids = [client.submit("echo", str(number).encode(), priority=50 + number).id for number in range(5)]
    client.submit("fail", b"no", retry=Retry(max_attempts=2))
    gone = client.submit("echo", delay=500)
    client.cancel(gone.id)
    client.submit("echo", b"k", idempotency_key="k")
    client.submit("echo", b"k", idempotency_key="k")
    broker.run_until_done()
    for id in ids:
        client.get(id)
    client.retry(gone.id)
    client.purge(ids[0])
    broker.run_until_done()


def test_all_that_is_asked_is_kept() -> None:
    with memory_broker() as broker:
        busy(broker)
        records = history_of(broker).records
        assert len(records.submits) == 9
        assert [submit.answer for submit in records.submits].count("duplicate") == 1
        assert len(records.grants) == len(records.reports) == 9
        assert len(records.reads) == 5
        assert {change.verb: change.state for change in records.changes} == {
            "cancel": "cancelled", "retry": "pending", "purge": "completed",
        }  # fmt: skip


def spoiled(what: str) -> None:
    with memory_broker() as broker:
        busy(broker)
        records = history_of(broker).records
        match what:
            case "invented":
                records.submits = [one for one in records.submits if one.type != "fail"]
            case "outcome":
                records.reports = [attrs.evolve(one, body="00") if one.body else one for one in records.reports]
            case "fence":
                records.grants.append(records.grants[-1])
            case "read":
                records.reads.append(attrs.evolve(records.reads[1], state="pending"))
            case "duplicate":
                records.submits.append(attrs.evolve(records.submits[1], start=10**18, end=10**18 + 1))
            case "count":
                records.grants[1] = attrs.evolve(records.grants[1], attempt=7)


@pytest.mark.parametrize("what", ["invented", "outcome", "fence", "read", "duplicate", "count"])
def test_a_breach_is_seen(what: str) -> None:
    with pytest.raises(Breach, match=rf"this is a bug of tq:\n(.|\n)*{what}"):
        spoiled(what)


def test_a_request_without_an_answer_may_have_been_done() -> None:
    with cluster(3) as nodes:
        nodes.kill("n1")
        nodes.kill("n2")
        with pytest.raises(BrokerUnavailable):
            nodes.client.submit("echo", request_timeout=5)
        assert history_of(nodes).records.submits[-1].answer is None


def test_what_its_retention_has_ended_is_not_lost() -> None:
    with memory_broker() as broker:
        broker.worker(handlers(Book()))
        submitted = broker.client.submit("echo", result_ttl=60)
        broker.advance(3_600)
        assert broker.client.get(submitted.id).result is None
        broker.advance(40 * 86_400)
        assert not broker.client.list().tasks, "it is gone, and nobody complains"
