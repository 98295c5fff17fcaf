"""tq status and list: what they ask of the client, and what they print where."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.unit.cli.fake import ID, NOW, FakeClient, FakeEvents, run, task
from tq.client.models import Attempt, Page, Progress, TaskEvent
from tq.errors import BrokerUnavailable, NotFound

# ---- status and list -------------------------------------------------------------------------------


FAILED = Attempt(
    "failed", 1, 2048, NOW - 50, NOW - 40, "w1", ("ValueError", "bad", "Traceback (most recent call last)")
)


def test_status_for_people() -> None:
    info = task(
        state="running", attempt=2, attempts_max=5, fence=4096, worker="w2", started_at=NOW - 30.0, payload=b"hi",
        progress=Progress(3, 10, "resizing"), history=(FAILED,),
    )  # fmt: skip
    result = run(FakeClient(get=info), "status", ID, terminal=True, size=(80, 24))
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        f"id          {ID}",
        "type        echo",
        "queue       default",
        "priority    150",
        "state       running",
        "attempt     2 of 5",
        "fence       4096",
        "worker      w2",
        "progress    3 of 10 (30 %): resizing",
        "created_at  1970-01-01T00:00:01.500Z  (11d13h ago)",
        "started_at  1970-01-12T13:46:10.000Z  (30s ago)",
        "payload     hi",
        "",
        "attempt  outcome  ended  took  error            worker  fence",
        "      1  failed   40s    10s   ValueError: bad  w1      2048",
    ]
    assert "Traceback" not in result.stdout
    verbose = run(FakeClient(get=info), "status", ID, "-v", terminal=True).stdout
    assert verbose.endswith("\n\nattempt 1:\nTraceback (most recent call last)\n")
    assert "Traceback (most" in run(FakeClient(get=info), "status", ID, "-v").stdout


def test_a_follower_does_not_know_the_progress_so_the_leader_is_asked() -> None:
    known = task(state="running", progress=Progress(3))
    unknown = task(state="running", progress_known=False)
    client = FakeClient(get=lambda _id, linearizable=False, timeout=None: known if linearizable else unknown)
    assert "progress  3\n" in run(client, "status", ID, terminal=True).stdout.replace("    ", "  ")

    def get(_id: str, linearizable: bool = False, timeout: float | None = None) -> Any:
        if linearizable:
            raise BrokerUnavailable("no leader")
        return unknown

    assert "running" in run(FakeClient(get=get), "status", ID).stdout, "what is known is better than nothing"
    client = FakeClient(get=task(progress_known=False))
    run(client, "status", ID)
    assert len(client.asked) == 1, "only what runs has progress"


def test_status_in_a_pipe_has_a_line_a_field() -> None:
    info = task(state="running", attempt=2, history=(FAILED,))
    lines = run(FakeClient(get=info), "status", ID).stdout.splitlines()
    assert "state\trunning" in lines
    assert any(line.startswith("past\toutcome failed") and "worker w1" in line for line in lines)


def test_a_terminal_is_not_flooded_and_not_steered() -> None:
    info = task(payload=b"\x1b[2Jx" + b"y" * 1_000_000)
    shown = run(FakeClient(get=info), "status", ID, terminal=True).stdout
    assert "\x1b" not in shown
    assert "\\x1b[2Jxyyy" in shown
    assert "1,000,005 characters; all of it: --output json" in shown
    assert len(shown) < 2_000
    assert "y" * 1_000_000 in run(FakeClient(get=info), "status", ID).stdout, "a pipe gets all of it"


def test_states_have_colours_on_a_terminal_that_wants_them() -> None:
    client = FakeClient(get=task(state="dead"), list=Page([task(state="dead")], None))
    for command in (["status", ID], ["list"]):
        assert "\x1b[31mdead" in run(client, *command, terminal=True, colour=True).stdout
        assert "\x1b" not in run(client, *command, terminal=True).stdout
        assert "\x1b" not in run(client, *command, colour=True).stdout


def test_status_for_programs() -> None:
    info = task(fence=4096, payload=b"\xff", result=b"text", error=("E", "m", "t"))
    result = run(FakeClient(get=info), "status", ID, "--output", "json")
    shown = json.loads(result.stdout)
    assert (shown["id"], shown["fence"], shown["created_at"]) == (ID, "4096", 1.5)
    assert (shown["payload"], shown["result"]) == ({"base64": "/w=="}, {"text": "text"})
    assert yaml.safe_load(run(FakeClient(get=info), "status", ID, "-o", "yaml").stdout) == shown


def test_status_of_a_purged_task() -> None:
    client = FakeClient(get=NotFound("no such task", detail={"purged": True}))
    result = run(client, "status", ID)
    assert result.exit_code == 1
    assert "purged" in result.stderr


OTHER = "0192f3c4-8b1e-7c3a-9d51-2f6e8a4b7c91"


def event(index: int, kind: str = "started") -> TaskEvent:
    return TaskEvent(index, 0, kind, ID, 1.5, "default", "echo", 7)


def test_watch_prints_changes_until_the_end() -> None:
    infos = iter([task(index=9), task(state="running", index=10), task(state="completed", index=12)])
    client = FakeClient(
        get=lambda *_args, **_kwargs: next(infos), events=FakeEvents([event(9), event(10), event(12), event(13)])
    )
    result = run(client, "status", ID, "--watch", "--output", "json")
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["pending", "running", "completed"]
    # Subscribed before the first look, so that nothing falls between; what that look saw is not asked again.
    assert [name for name, _args, _fields in client.asked] == ["events", "get", "get", "get"]
    assert client.asked[2][2] == {"min_index": 10}


def test_watch_of_an_ended_task_does_not_wait() -> None:
    client = FakeClient(get=task(state="dead"), events=FakeEvents([event(99)]))
    assert "dead" in run(client, "status", ID, "--watch").stdout


def test_list_is_tsv_in_a_pipe_and_a_table_on_a_terminal() -> None:
    client = FakeClient(list=Page([task(reason="a\tb\nc")], None))
    result = run(client, "list", "--state", "dead", "--queue", "mail", "--type", "t", "--tag", "x", "--older-than", "9")
    header, line = result.stdout.splitlines()
    assert header.split("\t")[:3] == ["id", "type", "queue"]
    assert line.split("\t")[0] == ID
    assert line.split("\t")[-1] == "a b c"
    expected = {"state": "dead", "queue": "mail", "type": "t", "tag": "x", "ended_until": NOW - 9}
    assert client.asked[0][2] == {"limit": 100, "cursor": None, "timeout": 30.0, **expected}
    on_terminal = run(client, "list", terminal=True).stdout
    assert "\t" not in on_terminal
    assert ID in on_terminal


def test_list_hands_on_every_filter() -> None:
    client = FakeClient()
    run(
        client, "list", "-s", "dead", "-s", "expired,failed", "--id", "0192f3", "--worker", "w1", "--error", "ValueError",
        "--since", "2h", "--until", "1970-01-12T13:46:40Z", "--ended-since", "10m", "--oldest", "--limit", "7",
    )  # fmt: skip
    assert client.asked[0][2] == {
        "state": ["dead", "expired", "failed"], "id_prefix": "0192f3", "worker": "w1", "error": "ValueError",
        "created_since": NOW - 7_200, "created_until": NOW, "ended_since": NOW - 600, "oldest_first": True, "limit": 7,
        "cursor": None, "timeout": 30.0,
    }  # fmt: skip


def test_list_goes_on_over_short_pages_and_says_where_to_go_on() -> None:
    pages = {None: Page([task()], b"\xff1"), b"\xff1": Page([], b"2"), b"2": Page([task()] * 2, b"\xfe3")}
    client = FakeClient(list=lambda **fields: pages[fields["cursor"]])
    result = run(client, "list", "--limit", "3", "-o", "json")
    assert len(json.loads(result.stdout)) == 3
    assert [fields["limit"] for _name, _args, fields in client.asked] == [3, 2, 2]
    shown = run(client, "list", "--limit", "3")
    cursor = shown.stderr.split("--cursor ")[1].strip()
    client = FakeClient()
    run(client, "list", "--cursor", cursor)
    assert client.asked[0][2]["cursor"] == b"\xfe3"
    assert run(FakeClient(), "list", "--cursor", "ä").exit_code == 2


WIDE = f"""\
id                                    state      type        queue    created  attempt  reason    priority  ended
{ID}  running    echo        default  2m             2                 150
{ID}  dead       make.thumb  images   1h             5  attempts       150  10s
{ID}  scheduled  echo        default  0s                               150
"""
NARROW = f"""\
id                                    state      type        queue    created
{ID}  running    echo        default  2m
{ID}  dead       make.thumb  images   1h
{ID}  scheduled  echo        default  0s
"""


@pytest.mark.parametrize(
    ("width", "shown", "hidden"), [(160, WIDE, ""), (80, NARROW, "attempt, reason, priority, ended")]
)
def test_list_wide_and_narrow(width: int, shown: str, hidden: str) -> None:
    tasks = [
        task(state="running", attempt=2, created_at=NOW - 120),
        task(state="dead", type="make.thumb", queue="images", attempt=5, reason="attempts", created_at=NOW - 3_600, ended_at=NOW - 10),
        task(state="scheduled", created_at=NOW),
    ]  # fmt: skip
    result = run(FakeClient(list=Page(tasks, None)), "list", terminal=True, size=(width, 24))
    assert "".join(f"{line.rstrip()}\n" for line in result.stdout.splitlines()) == shown
    assert (f"no room for {hidden}: widen the terminal" in result.stderr) == bool(hidden)


def test_an_empty_list_is_said_with_what_to_do() -> None:
    nothing = FakeClient(list=Page([], None))
    result = run(nothing, "list", "--state", "dead", "--queue", "mail", terminal=True)
    assert (result.stdout, result.stderr) == ("", "there is no task with state dead, queue mail\n")
    assert "tq submit" in run(nothing, "list").stderr
    assert json.loads(run(nothing, "list", "-o", "json").stdout) == []


def test_list_in_json_is_one_document() -> None:
    shown = json.loads(run(FakeClient(), "list", "-o", "json").stdout)
    assert [row["id"] for row in shown] == [ID]


def test_a_time_that_is_none_exits_with_2() -> None:
    client = FakeClient()
    result = run(client, "list", "--since", "yesterday")
    assert result.exit_code == 2
    assert "--since" in result.stderr
    assert client.asked == []


# ---- first digits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "explain", "cancel", "retry", "events"])
def test_the_first_digits_of_an_id_will_do(command: str) -> None:
    client = FakeClient(events=FakeEvents())
    assert run(client, command, "0192F3C4-8b").exit_code == 0
    assert client.asked[0] == ("list", (), {"id_prefix": "0192F3C4-8b", "limit": 6})
    assert ID in str(client.asked[1])


def test_digits_that_name_several_tasks_or_none_are_refused() -> None:
    several = FakeClient(list=Page([task(), task(state="dead", id=OTHER)], None))
    result = run(several, "cancel", "0192")
    assert result.exit_code == 1
    assert f"several tasks begin so, give more digits:\n  {ID}  pending  echo\n  {OTHER}  dead  echo" in result.stderr
    assert [name for name, _args, _fields in several.asked] == ["list"], "nothing was cancelled"
    assert "no task whose id begins with 0192" in run(FakeClient(list=Page([], None)), "status", "0192").stderr


@pytest.mark.parametrize("text", [ID, ID.replace("-", ""), ID.upper()])
def test_whole_ids_are_left_to_the_client(text: str) -> None:
    client = FakeClient()
    run(client, "status", text)
    assert client.asked[0][:2] == ("get", (text,))
