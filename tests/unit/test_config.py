"""Layers, origins, refusals; and that the examples of docs/configuration.md can be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from tq import config as c
from tq.errors import ConfigError

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
KEYS = {
    f"{section}.{field.name}": field
    for section, cls in c.SECTIONS.items()
    for field in attrs.fields(attrs.resolve_types(cls))
}


def load(tmp_path: Path, text: str = "", flags: dict[str, Any] | None = None, **environ: str) -> c.Loaded:
    file = tmp_path / "n1.toml"
    file.write_text(text)
    return c.load(file, environ, flags)


def refusal(tmp_path: Path, text: str = "", **environ: str) -> list[str]:
    """What is said of a configuration that cannot be used, less the first line."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    first, *lines = caught.value.message.splitlines()
    assert first == f"the configuration in {tmp_path / 'n1.toml'} cannot be used:"
    return [line.removeprefix("  ") for line in lines]


# ---- layers ----------------------------------------------------------------------------------------


def test_defaults_can_be_used() -> None:
    loaded = c.load(None, {})
    assert loaded.config == c.Config()
    assert set(loaded.origins) == set(KEYS)
    assert set(loaded.origins.values()) == {"default"}


def test_file_below_environment_below_flag(tmp_path: Path) -> None:
    text = '[node]\nid = "file"\nlisten = "127.0.0.1:1"\n[log]\nlevel = "error"\n'
    flags = {"node.listen": "127.0.0.1:3", "log.format": None}
    loaded = load(tmp_path, text, flags, TQ_NODE__LISTEN="127.0.0.1:2", TQ_LOG__LEVEL="debug")
    assert (loaded.config.node.id, loaded.config.node.listen) == ("file", "127.0.0.1:3")
    assert (loaded.config.log.level, loaded.config.log.format) == ("debug", "text")
    origins = loaded.origins
    assert (origins["node.id"], origins["node.listen"], origins["log.level"], origins["log.format"]) == (
        "file", "flag", "TQ_LOG__LEVEL", "default"
    )  # fmt: skip


def test_only_the_environment_has_numbers_as_text(tmp_path: Path) -> None:
    assert load(tmp_path, TQ_LEASES__CRASHES_MAX="7").config.leases.crashes_max == 7
    assert refusal(tmp_path, '[leases]\ncrashes_max = "7"') == ['leases.crashes_max = "7": must be a whole number']


def test_other_variables_are_not_looked_at(tmp_path: Path) -> None:
    loaded = load(tmp_path, TQ_BROKERS="somewhere", PATH="/bin", NODE__ID="x", MYTQ_NODE__ID="x")
    assert loaded.config.node.id == "n1"


def test_values_are_plain(tmp_path: Path) -> None:
    node = load(tmp_path, TQ_NODE__ID="from-outside").config.node
    assert type(node.id) is str
    assert c.as_tree(c.Config())["leases"]["lease_ms"] == 30_000
    assert [f"{section}.{name}" for section, values in c.as_tree(c.Config()).items() for name in values] == list(KEYS)


# ---- the data directory ----------------------------------------------------------------------------


def test_data_dir_of_the_file_is_beside_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, '[node]\ndata_dir = "d"').config.node.data_dir == str(tmp_path / "d")
    assert load(tmp_path).config.node.data_dir == str(tmp_path / "tq-data")
    assert load(tmp_path, '[node]\ndata_dir = "/srv/tq"').config.node.data_dir == "/srv/tq"


def test_data_dir_typed_by_hand_is_below_the_current_folder(tmp_path: Path) -> None:
    assert load(tmp_path, flags={"node.data_dir": "d"}).config.node.data_dir == "d"
    assert load(tmp_path, TQ_NODE__DATA_DIR="d").config.node.data_dir == "d"
    assert c.load(None, {}).config.node.data_dir == "tq-data"


# ---- refusals --------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = """
[nod]
id = "x"
[node]
lisen = "127.0.0.1:1"
metrics_listen = 9091
[leases]
lease_ms = 5
crashes_max = 0
"""
    assert refusal(tmp_path, text, TQ_LOG__LEVEL="warn", TQ_STORAGE__SYNK="auto", TQ_LOGS__LEVEL="info") == [
        "[nod] is not a section; did you mean node?",
        "environment TQ_LOGS__LEVEL: logs is not a section; did you mean log?",
        "node.lisen is not a key; did you mean listen?",
        "node.metrics_listen = 9091: must be text, in quotes",
        "leases.lease_ms = 5: must be between 200 and 86,400,000",
        "leases.crashes_max = 0: must be between 1 and 1,000",
        "storage.synk is not a key; did you mean sync? (TQ_STORAGE__SYNK)",
        'log.level = "warn": must be one of debug, info, warning, error (TQ_LOG__LEVEL)',
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node = 5", "node must be a section: write [node], and its keys below"),
        ("[[node]]\nid = 'a'", "node must be a section: write [node], and its keys below"),
        ("[leases]\nlease_ms = 30000.0", "leases.lease_ms = 30000.0: must be a whole number"),
        ("[leases]\nlease_ms = true", "leases.lease_ms = true: must be a whole number"),
        ("[leases]\nlease_ms = [1]", "leases.lease_ms = [1]: must be a whole number"),
        ("[node]\nid = ''", 'node.id = "": must have 1 to 128 characters'),
        ("[node]\nid = ' '", 'node.id = " ": must have 1 to 128 characters'),
        ("[node]\ndata_dir = ''", 'node.data_dir = "": name a folder'),
        ("[cluster]\nprofile = 'slow'", 'cluster.profile = "slow": must be one of default, fast'),
        ("[cluster]\nprofile = ['fast']", "cluster.profile = ['fast']: must be one of default, fast"),
        ("[cluster]\nnane = 'x'", "cluster.nane is not a key; did you mean name?"),
        ("[storage]\nx = 1", "storage.x is not a key; known are checkpoint_ms, log_keep_bytes, sync"),
        (
            "[node]\nlisten = '127.0.0.1:9091'",
            'node.metrics_listen = "127.0.0.1:9091": is the address of listen; take another port',
        ),
        (
            "[leases]\nlease_ms = 20000",
            "leases.heartbeat_ms = 15000: must be at most half of lease_ms (20000) and of session_ms (30000), "
            "so that one lost heartbeat does no harm",
        ),
    ],
)
def test_refused(tmp_path: Path, text: str, told: str) -> None:
    assert refusal(tmp_path, text) == [told]


@pytest.mark.parametrize(
    "value", ["7379", "127.0.0.1", "127.0.0.1:", ":7379", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:65536", "::1:7379",
              "127.0.0.1:\u00b2", "127.0.0.1:-1", "", "[]:1", "127.0.0.1:" + "9" * 5_000]
)  # fmt: skip
def test_addresses_that_are_none(tmp_path: Path, value: str) -> None:
    (told,) = refusal(tmp_path, f'[node]\nlisten = "{value}"')
    assert told.startswith("node.listen = ")
    assert told.endswith('write "host:port", for example "127.0.0.1:7379"')


@pytest.mark.parametrize("value", ["0.0.0.0:7379", "192.168.1.5:7379", "[::]:7379", "[fe80::1]:7379"])
def test_only_loopback_without_authentication(tmp_path: Path, value: str) -> None:
    (told,) = refusal(tmp_path, f'[node]\nlisten = "{value}"')
    assert "has no authentication; listen on 127.0.0.1" in told


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:7379", "::1", 7379), ("localhost:65535", "localhost", 65535)],
)
def test_addresses(tmp_path: Path, value: str, host: str, port: int) -> None:
    listen = load(tmp_path, f'[node]\nlisten = "{value}"').config.node.listen
    assert c.parse_address("node.listen", listen) == (host, port)


@pytest.mark.parametrize("text", ["\u00b2", "7.0", "0x10", "", " 7", "1_000", "9" * 5_000])
def test_text_that_is_no_number(tmp_path: Path, text: str) -> None:
    (told,) = refusal(tmp_path, TQ_LEASES__CRASHES_MAX=text)
    assert told.startswith("leases.crashes_max = ")
    assert told.endswith("must be a whole number (TQ_LEASES__CRASHES_MAX)")
    assert len(told) < 200


def test_a_variable_in_small_letters_would_be_overlooked_by_people(tmp_path: Path) -> None:
    assert refusal(tmp_path, TQ_node__id="x") == ["environment TQ_node__id: write it in capitals, TQ_NODE__ID"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file .*missing.toml: write one"):
        c.load(tmp_path / "missing.toml", {})
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        c.load(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b'[node]\nid = "\xe9"')
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        c.load(tmp_path / "latin.toml", {})
    with pytest.raises(ConfigError, match=r"cannot read .*\(at line 1, column 6\)"):
        load(tmp_path, "id = ]")


@pytest.mark.parametrize("key", [key for key, field in KEYS.items() if field.type is int])
def test_bounds_are_inclusive(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    field = KEYS[key]
    bounds = field.validator
    assert isinstance(bounds, c.Between)
    assert bounds.low <= field.default <= bounds.high
    for value in (bounds.low - 1, bounds.high + 1):
        assert any(
            f"{key} = {value}: must be between" in line for line in refusal(tmp_path, f"[{section}]\n{name} = {value}")
        )
    for value in (bounds.low, bounds.high):
        bounds(None, field, value)


# ---- nodes of a cluster ----------------------------------------------------------------------------


def entry(number: int, **more: object) -> str:
    fields = {"id": f"n{number}", "peer": f"127.0.0.1:{7380 + number}", "client": f"127.0.0.1:{7370 + number}", **more}
    return "{" + ", ".join(f"{key} = {value!r}" for key, value in fields.items()) + "}"


def cluster(*entries: str, secret: str = "secret_file = 'secret'\n", node: str = "") -> str:
    return f"[node]\n{node}\n[cluster]\n{secret}peers = [{', '.join(entries)}]\n"


def test_a_cluster_names_its_nodes_and_its_secret(tmp_path: Path) -> None:
    config = load(tmp_path, cluster(entry(1), entry(2), entry(3))).config
    assert [peer.id for peer in config.cluster.peers] == ["n1", "n2", "n3"]
    assert config.cluster.secret_file == str(tmp_path / "secret")
    assert config.client_address == "127.0.0.1:7371"
    assert c.Config().client_address == "127.0.0.1:7379"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (cluster(entry(1), entry(2)), "cluster.peers = 2 nodes: a cluster has 1, 3, 5 or 7"),
        (cluster(entry(1), entry(2), entry(2)), 'cluster.peers: id = "n2" stands there twice'),
        (
            cluster(entry(1), entry(2), entry(3, client="127.0.0.1:7371")),
            'cluster.peers: client = "127.0.0.1:7371" stands there twice',
        ),
        (
            cluster(entry(1), entry(2), entry(3), node="id = 'n9'"),
            'node.id = "n9": is not in cluster.peers; each node is listed there itself',
        ),
        (
            cluster(entry(1), entry(2), entry(3), secret=""),
            "cluster.secret_file: nodes of a cluster prove themselves by a secret; name its file",
        ),
    ],
)
def test_a_cluster_that_cannot_be(tmp_path: Path, text: str, says: str) -> None:
    assert refusal(tmp_path, text) == [says]


TLS = "[tls]\nca_file = 'ca.pem'\ncert_file = 'n1.pem'\nkey_file = '/keys/n1.key'\n"


def test_between_machines_the_nodes_need_tls(tmp_path: Path) -> None:
    text = cluster(entry(1), entry(2, peer="10.0.0.2:7380"), entry(3), node="peer_listen = '0.0.0.0:7380'")
    assert refusal(tmp_path, text) == [
        'node.peer_listen = "0.0.0.0:7380": between machines the nodes need TLS; set the keys of [tls]'
    ]
    text = cluster(entry(1), entry(2, peer="10.0.0.2:7380"), entry(3))
    assert refusal(tmp_path, text) == [
        'cluster.peers: peer = "10.0.0.2:7380": between machines the nodes need TLS; set the keys of [tls]'
    ]
    config = load(tmp_path, text + TLS).config
    assert config.tls.is_on
    assert (config.tls.ca_file, config.tls.key_file) == (str(tmp_path / "ca.pem"), "/keys/n1.key")


def test_clients_are_on_loopback_even_then(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, cluster(entry(1), entry(2, client="10.0.0.2:7379"), entry(3)) + TLS)
    assert "no authentication" in line


def test_tls_takes_three_files(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[tls]\nca_file = 'ca.pem'\nkey_file = 'k'") == [
        "tls.ca_file and key_file alone: TLS needs ca_file, cert_file and key_file"
    ]


@pytest.mark.parametrize(
    "peers", ["7", "['n1']", "[{id = 'n1'}]", "[{id = 1, peer = 'x', client = 'y'}]", f"[{entry(1, peer='nowhere')}]"]
)
def test_what_is_no_list_of_nodes(tmp_path: Path, peers: str) -> None:
    (line,) = refusal(tmp_path, f"[cluster]\npeers = {peers}")
    assert line.startswith("cluster.peer")


# ---- the page ------------------------------------------------------------------------------------


def test_the_example_of_the_page_can_be_used(tmp_path: Path) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        load(tmp_path, example)
