"""What is answered later is answered by a reply, or by the error that came of it."""

from __future__ import annotations

import pytest

from tq.broker.replies import attempt, replying
from tq.errors import NotFound, TqError
from tq.protocol import messages as m


class Recorder:
    """As a connection: what is sent over it."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: m.Message) -> None:
        self.sent.append(message)

    def send_error(self, rid: int, error: TqError) -> None:
        self.sent.append((rid, error))


@pytest.fixture
def connection():
    return Recorder()


def test_an_answer_becomes_the_reply(connection):
    decided = replying(connection, 5, lambda answer, index: m.SubmitReply(5, index, answer))
    decided([0], 77)
    decided([1])
    assert connection.sent == [m.SubmitReply(5, 77, [0]), m.SubmitReply(5, 0, [1])]


def test_an_error_is_the_answer_and_no_reply_is_made(connection):
    error = NotFound("gone")
    replying(connection, 5, lambda answer, index: pytest.fail("a reply"))(error, 77)
    assert connection.sent == [(5, error)]


def test_what_is_attempted_answers_or_fails(connection):
    error = NotFound("gone")

    def fail() -> None:
        raise error

    attempt(connection, 5, lambda: connection.send(m.PingReply(5, 1)))
    attempt(connection, 6, fail)
    assert connection.sent == [m.PingReply(5, 1), (6, error)]


def test_a_bug_is_no_answer(connection):
    with pytest.raises(ZeroDivisionError):
        attempt(connection, 5, lambda: 1 // 0)
    assert connection.sent == []
