"""One table for both directions: each message, and its frame in hexadecimal. Every class occurs."""

from __future__ import annotations

from tq.protocol import messages as m
from tq.protocol.messages import Message

ID = bytes(range(16))
SESSION = b"\xaa" * 16
OP = b"\xbb" * 16
SPEC = bytes.fromhex("8350000102030405060708090a0b0c0d0e0f646563686f4568656c6c6f")
ERROR = ["INVALID", "id is 1: 16 bytes", False, None, None, "caller", {"field": "id"}]

# fmt: off
CASES: list[tuple[Message, str]] = [
    (
        m.SetQueue(19, OP, "mail", {"paused": True, "reason": "why"}, "ana"),
        "00000031 11 851350bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb646d61696ca266706175736564f566726561736f6e6377687963616e61",
    ),
    (
        m.SetQueue(19, OP, "mail", {"retry": [3, 5000, 2000, 60000, 200], "max_length": None}, "ana"),
        "0000003d 11 851350bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb646d61696ca265726574727985031913881907d019ea6018c86a6d61785f6c"
        "656e677468f663616e61",
    ),
    (
        m.SetQueueReply(19, 42, {"paused": {"by": "ana", "since_ms": 5, "reason": None}, "max_length": 7}),
        "00000033 91 8313182aa266706175736564a362627963616e616873696e63655f6d730566726561736f6ef66a6d61785f6c656e67746807",
    ),
    (
        m.Hello(0, 1, 1, "tq-python/0.1"),
        "00000015 01 860001016d74712d707974686f6e2f302e3180f6",
    ),
    (
        m.Hello(0, 1, 3, "x", ["events"], ["key", "secret"]),
        "0000001b 01 86000103617881666576656e747382636b657966736563726574",
    ),
    (
        m.HelloReply(0, 1, ["events"], {"frame_bytes_max": 16777216}, 86400000, ID, "n1", "127.0.0.1:7379", "tq/0.1", 1700000000000),
        "0000005a 81 8a000181666576656e7473a16f6672616d655f62797465735f6d61781a010000001a05265c00500001020304"
        "05060708090a0b0c0d0e0f626e316e3132372e302e302e313a373337396674712f302e311b0000018bcfe56800",
    ),
    (
        m.HelloReply(0, 1, [], {}, 0, ID, "n1", None, "", 0),
        "0000001e 81 8a000180a00050000102030405060708090a0b0c0d0e0f626e31f66000",
    ),
    (
        m.Ping(4294967295),
        "00000007 1f 811affffffff",
    ),
    (
        m.PingReply(7, 9223372036854775807),
        "0000000c 9f 82071b7fffffffffffffff",
    ),
    (
        m.SubmitTask(1, [SPEC], False),
        "00000024 02 830181581d8350000102030405060708090a0b0c0d0e0f646563686f4568656c6c6ff4",
    ),
    (
        m.SubmitTask(1, [SPEC, b""], True),
        "00000025 02 830182581d8350000102030405060708090a0b0c0d0e0f646563686f4568656c6c6f40f5",
    ),
    (
        m.SubmitReply(1, 42, [0, [1, 4, ID, None], [5, None, None, ERROR]]),
        "0000004f 82 8301182a830084010450000102030405060708090a0b0c0d0e0ff68405f6f68767494e56414c494471696420"
        "697320313a203136206279746573f4f6f66663616c6c6572a1656669656c64626964",
    ),
    (
        m.GetTask(2, ID, 7, 0, False),
        "00000017 09 850250000102030405060708090a0b0c0d0e0f0700f4",
    ),
    (
        m.GetTask(2, ID, 3, 42, True),
        "00000018 09 850250000102030405060708090a0b0c0d0e0f03182af5",
    ),
    (
        m.GetReply(2, 42, {"state": "completed", "attempt": 1, "progress": 0.5, "tags": ["a"], "result": b"r", "reason": None}),
        "0000004a 89 8302182aa665737461746569636f6d706c6574656467617474656d7074016870726f6772657373fb3fe00000"
        "00000000647461677381616166726573756c74417266726561736f6ef6",
    ),
    (
        m.ListTasks(3, {"state": "dead", "ended_before_ms": 5}, 1000, b"cursor", 42, True, True),
        "0000002e 0a 8703a265737461746564646561646f656e6465645f6265666f72655f6d73051903e846637572736f72182af5f5",
    ),
    (
        m.ListTasks(3, {"state": ["dead", "failed"]}),
        "0000001d 0a 8703a1657374617465826464656164666661696c65641864f600f4f4",
    ),
    (
        m.ListReply(3, 42, [{"state": "dead"}, {}], None),
        "00000014 8a 8403182a82a16573746174656464656164a0f6",
    ),
    (
        m.ListReply(3, 42, [], b"cursor"),
        "0000000d 8a 8403182a8046637572736f72",
    ),
    (
        m.Progress(9, SESSION, [[ID, 4096, 1, 2, "half"], [ID, 4097, 0.5, None, None]]),
        "00000051 08 830950aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa828550000102030405060708090a0b0c0d0e0f191000010264"
        "68616c668550000102030405060708090a0b0c0d0e0f191001fb3fe0000000000000f6f6",
    ),
    (
        m.ProgressReply(9),
        "00000003 88 8109",
    ),
    (
        m.Checkpoint(9, SESSION, [[ID, 4096, 1, b"half"], [ID, 4096, 2, None]]),
        "00000047 1b 830950aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa828450000102030405060708090a0b0c0d0e0f191000014468"
        "616c668450000102030405060708090a0b0c0d0e0f19100002f6",
    ),
    (
        m.CheckpointReply(9, 42, [0, 1, [2, 3], [2, None]]),
        "0000000e 9b 8309182a8400018202038202f6",
    ),
    (
        m.WaitTask(4, ID, 30000, 2, 0),
        "00000019 0b 850450000102030405060708090a0b0c0d0e0f1975300200",
    ),
    (
        m.WaitReply(4, 42, True, {"state": "completed"}),
        "00000017 8b 8404182af5a165737461746569636f6d706c65746564",
    ),
    (
        m.CancelTask(5, [ID, SESSION], 10000),
        "00000029 0c 83058250000102030405060708090a0b0c0d0e0f50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa192710",
    ),
    (
        m.CancelReply(5, 42, [[5, None], [None, ERROR]]),
        "0000003a 8c 8305182a828205f682f68767494e56414c494471696420697320313a203136206279746573f4f6f66663616c"
        "6c6572a1656669656c64626964",
    ),
    (
        m.RetryTasks(6, OP, [ID], None, None, 0),
        "00000029 0d 860650bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb8150000102030405060708090a0b0c0d0e0ff6f600",
    ),
    (
        m.RetryTasks(6, OP, None, {"state": "dead"}, 100, 60000),
        "00000026 0d 860650bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbf6a16573746174656464656164186419ea60",
    ),
    (
        m.RetryReply(6, 42, [[2, None]], None),
        "0000000a 8d 8406182a818202f6f6",
    ),
    (
        m.RetryReply(6, 42, None, [OP, 0, 100, 100, True]),
        "0000001e 8d 8406182af68550bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0018641864f5",
    ),
    (
        m.PurgeTasks(7, OP, None, {"queue": "mail"}, None),
        "00000022 0e 850750bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbf6a1657175657565646d61696cf6",
    ),
    (
        m.PurgeReply(7, 42, None, [OP, 1, 0, 0, False]),
        "0000001c 8e 8407182af68550bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb010000f4",
    ),
    (
        m.ExplainTask(8, ID, 0),
        "00000015 0f 830850000102030405060708090a0b0c0d0e0f00",
    ),
    (
        m.ExplainReply(8, 42, "no worker runs tasks of type echo", {"ahead": 0}),
        "00000030 8f 8408182a78216e6f20776f726b65722072756e73207461736b73206f662074797065206563686fa165616865"
        "616400",
    ),
    (
        m.RegisterWorker(9, SESSION, "host-1-a", ["echo"], ["default", "mail"], {"pid": 7, "version": "0.1", "load": 0.5}),
        "00000051 06 860950aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa68686f73742d312d6181646563686f826764656661756c7464"
        "6d61696ca363706964076776657273696f6e63302e31646c6f6164fb3fe0000000000000",
    ),
    (
        m.RegisterReply(9, 42, 30000, 15000, 30000),
        "0000000e 86 8509182a197530193a98197530",
    ),
    (
        m.DeregisterWorker(10, SESSION),
        "00000014 07 820a50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    (
        m.DeregisterReply(10, 43),
        "00000005 87 820a182b",
    ),
    (
        m.ClaimTask(11, SESSION, 1, [], 4, 30000),
        "0000001a 03 860b50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa018004197530",
    ),
    (
        m.ClaimTask(11, SESSION, 2, ["mail"], 1000, 0),
        "0000001f 03 860b50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0281646d61696c1903e800",
    ),
    (
        m.ClaimReply(11, 44, [[SPEC, 1, 0, 45056, 30000, None, None], [SPEC, 2, 1, 45057, 30000, 1000, 1700000000000]]),
        "00000064 83 830b182c8287581d8350000102030405060708090a0b0c0d0e0f646563686f4568656c6c6f010019b0001975"
        "30f6f687581d8350000102030405060708090a0b0c0d0e0f646563686f4568656c6c6f020119b0011975301903e81b000001"
        "8bcfe56800",
    ),
    (
        m.ClaimReply(3, 14, [[b"s", 1, 0, 14336, 30000, None, None, b"half"]]),
        "00000017 83 83030e818841730100193800197530f6f64468616c66",
    ),
    (
        m.ClaimReply(11, 44, []),
        "00000006 83 830b182c80",
    ),
    (
        m.TaskResult(12, SESSION, [[ID, 45056, 0, ["text/plain", b"done"]], [ID, 45057, 1, [["ValueError", "no", "trace"], True, None]]]),
        "0000006a 04 830c50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa828450000102030405060708090a0b0c0d0e0f19b00000826a"
        "746578742f706c61696e44646f6e658450000102030405060708090a0b0c0d0e0f19b0010183836a56616c75654572726f72"
        "626e6f657472616365f5f6",
    ),
    (
        m.TaskResult(12, SESSION, [[ID, 1, 1, [["E", "", ""], False, 5000]], [ID, 2, 2, None], [ID, 3, 3, 60000], [ID, 4, 4, None]]),
        "00000074 04 830c50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa848450000102030405060708090a0b0c0d0e0f010183836145"
        "6060f41913888450000102030405060708090a0b0c0d0e0f0202f68450000102030405060708090a0b0c0d0e0f030319ea60"
        "8450000102030405060708090a0b0c0d0e0f0404f6",
    ),
    (
        m.ResultReply(12, 45, [0, 1, [2, 4], [2, None]]),
        "0000000e 84 830c182d8400018202048202f6",
    ),
    (
        m.Heartbeat(13, SESSION, [[ID, 45056]], {"cpu_percent": 12.5, "rss_bytes": 60000000}),
        "0000004f 05 840d50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa818250000102030405060708090a0b0c0d0e0f19b000a26b63"
        "70755f70657263656e74fb4029000000000000697273735f62797465731a03938700",
    ),
    (
        m.HeartbeatReply(13, [[ID, 45056, 10000]], [[SESSION, 1]], True),
        "00000031 85 840d818350000102030405060708090a0b0c0d0e0f19b000192710818250aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaa01f5",
    ),
    (
        m.Queues(14, 0),
        "00000004 10 820e00",
    ),
    (
        m.QueuesReply(14, 45, [{"name": "mail", "pending": {"low": 0, "normal": 1, "high": 0}}]),
        "0000002d 90 830e182d81a2646e616d65646d61696c6770656e64696e67a3636c6f7700666e6f726d616c01646869676800",
    ),
    (
        m.Workers(15),
        "00000003 12 810f",
    ),
    (
        m.WorkersReply(15, 45, [{"name": "host-1-a", "types": ["echo"]}]),
        "00000021 92 830f182d81a2646e616d6568686f73742d312d6165747970657381646563686f",
    ),
    (
        m.Stats(16),
        "00000003 13 8110",
    ),
    (
        m.StatsReply(16, 45, {"tasks": 1}),
        "0000000d 93 8310182da1657461736b7301",
    ),
    (
        m.ClusterStatus(17),
        "00000003 14 8111",
    ),
    (
        m.ClusterStatusReply(17, {"nodes": [{"id": "n1"}]}),
        "00000012 94 8211a1656e6f64657381a1626964626e31",
    ),
    (
        m.ChangeCluster(20, "transfer", {"from": "n1", "to": None}),
        "00000019 15 8314687472616e73666572a26466726f6d626e3162746ff6",
    ),
    (
        m.ChangeClusterReply(20, {"leader": "n1", "to": "n2"}),
        "00000014 95 8214a2666c6561646572626e3162746f626e32",
    ),
    (
        m.Subscribe(18, None, None),
        "00000005 16 8312f6f6",
    ),
    (
        m.Subscribe(18, ID, [45, 3]),
        "00000018 16 831250000102030405060708090a0b0c0d0e0f82182d03",
    ),
    (
        m.SubscribeReply(18, 45, True),
        "00000006 96 8312182df5",
    ),
    (
        m.Unsubscribe(19, 18),
        "00000004 17 821312",
    ),
    (
        m.UnsubscribeReply(19),
        "00000003 97 8113",
    ),
    (
        m.GiveUp(21, 3),
        "00000005 1d 831503f6",
    ),
    (
        m.GiveUp(21, 3, [SESSION, 7]),
        "00000017 1d 8315038250aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa07",
    ),
    (
        m.GiveUpReply(21),
        "00000003 9d 8115",
    ),
    (
        m.GoAway("the broker is stopping", None),
        "0000001a 40 82767468652062726f6b65722069732073746f7070696e67f6",
    ),
    (
        m.GoAway("", "127.0.0.1:7389"),
        "00000012 40 82606e3132372e302e302e313a37333839",
    ),
    (
        m.CancelRunning(SESSION, [[ID, 45056, 10000]]),
        "0000002c 41 8250aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa818350000102030405060708090a0b0c0d0e0f19b000192710",
    ),
    (
        m.Event(18, [[45, 0, 4, ID, 1700000000000, "mail", "echo", 45056, None], [45, 1, 5, ID, 0, "q", "t", 0, ["a", {"b": 1}]]], False),
        "00000055 42 83128289182d000450000102030405060708090a0b0c0d0e0f1b0000018bcfe56800646d61696c646563686f"
        "19b000f689182d010550000102030405060708090a0b0c0d0e0f006171617400826161a1616201f4",
    ),
    (
        m.Event(18, [], True),
        "00000005 42 831280f5",
    ),
    (
        m.ErrorReply(1, ERROR),
        "00000032 ff 82018767494e56414c494471696420697320313a203136206279746573f4f6f66663616c6c6572a165666965"
        "6c64626964",
    ),
    (
        m.ErrorReply(None, ["PROTOCOL", "a frame has length 0", False, 500, "127.0.0.1:7389", "caller", {}]),
        "0000003d ff 82f6876850524f544f434f4c7461206672616d6520686173206c656e6774682030f41901f46e3132372e302e"
        "302e313a373338396663616c6c6572a0",
    ),
]
# fmt: on
