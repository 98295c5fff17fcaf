"""Configuration: a TOML file, under the environment, under flags; every key known, every value checked.

``load`` merges the three layers (file < ``TQ_SECTION__KEY`` < flag) into one plain tree, remembers where each
value came from, and structures it into frozen records. An unknown key is refused with the nearest known one;
all that is wrong is reported at once, with where it came from.

``[leases]`` and ``[retention]`` should be equal on all nodes: those of the leader count. The others are this node's own.
Adding a key: one attribute with its words below; ``tq config show`` follows, and so does docs/configuration.md:
``python -m tq.cli.reference docs/configuration.md``. The docstring of a section is what the page says of it.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs

from tq import limits
from tq.errors import ConfigError


def _key(default: Any, comment: str, more: str = "", **kwargs: Any) -> Any:
    """A key. comment: what it does, in a line; ``tq config show -v`` has it, too. more: what the page adds, in Markdown."""
    return attrs.field(default=default, metadata={"comment": comment, "more": more}, **kwargs)


class Between:
    """Validator: a whole number from ``low`` to ``high``."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
        if not self.low <= value <= self.high:
            raise ValueError(f"{attribute.name} = {value}: must be between {self.low:,} and {self.high:,}")


def is_name(_instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not value.strip() or len(value) > limits.NAME_CHARS_MAX:
        raise ValueError(f'{attribute.name} = "{value}": must have 1 to {limits.NAME_CHARS_MAX} characters')


def is_folder(_instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not value.strip():
        raise ValueError(f'{attribute.name} = "{value}": name a folder')


def is_host_port(_instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    parse_address(attribute.name, value)


def is_loopback(address: str) -> bool:
    """A name counts as one: what it stands for is seen when the socket is opened."""
    host, _port = parse_address("address", address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def is_address(_instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    parse_address(attribute.name, value)
    if not is_loopback(value):
        raise ValueError(
            f'{attribute.name} = "{value}": can be reached from other machines, and this broker has no '
            "authentication; listen on 127.0.0.1"
        )


def parse_address(field: str, value: str) -> tuple[str, int]:
    """``"127.0.0.1:7379"`` or ``"[::1]:7379"`` -> host and port. Raises ValueError naming the field."""
    host, _colon, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in host and bare is host) or not _is_port(port):
        raise ValueError(f'{field} = "{value}": write "host:port", for example "127.0.0.1:{limits.PORT_CLIENT}"')
    return bare, int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536


@attrs.frozen
class NodeSection:
    """This node alone."""

    id: str = _key(
        "n1",
        "Name of this node, unique in its cluster.",
        "Names the voter in the term files: do not change it on a data folder that is in use.",
        validator=is_name,
    )
    data_dir: str = _key(
        "tq-data",
        "Folder of the journal and the store; relative to the configuration file.",
        "Made if it is not there, readable by its owner only, locked while a broker runs on it.",
        validator=is_folder,
    )
    listen: str = _key(f"127.0.0.1:{limits.PORT_CLIENT}", "Address for clients and workers.", validator=is_address)
    peer_listen: str = _key(
        f"127.0.0.1:{limits.PORT_PEER}", "Address for the other nodes; used if there are any.", validator=is_host_port
    )
    metrics_listen: str = _key(
        f"127.0.0.1:{limits.PORT_METRICS}",
        "Address of /metrics, /health/live and /health/ready.",
        "See [Health and metrics](#health-and-metrics).",
        validator=is_address,
    )

    def __attrs_post_init__(self) -> None:
        if self.listen == self.metrics_listen:
            raise ValueError(f'metrics_listen = "{self.metrics_listen}": is the address of listen; take another port')


@attrs.frozen
class PeerEntry:
    """One node of the cluster, as all of them know it."""

    id: str = attrs.field(validator=is_name)
    peer: str = attrs.field(validator=is_host_port)
    client: str = attrs.field(validator=is_address)


CLUSTER_SIZES = (0, 1, 3, 5, 7)
PEERS_EXAMPLE = '{id = "n1", peer = "127.0.0.1:7380", client = "127.0.0.1:7379"}'


def are_peers(_instance: object, attribute: attrs.Attribute[Any], value: tuple[PeerEntry, ...]) -> None:
    """No two share a name or an address, and there is a majority that a minority cannot be mistaken for."""
    if len(value) not in CLUSTER_SIZES:
        raise ValueError(f"{attribute.name} = {len(value)} nodes: a cluster has 1, 3, 5 or 7")
    for what in ("id", "peer", "client"):
        told = [getattr(entry, what) for entry in value]
        twice = {one for one in told if told.count(one) > 1}
        if twice:
            raise ValueError(f'{attribute.name}: {what} = "{min(twice)}" stands there twice')


@attrs.frozen
class ClusterSection:
    """The group that it belongs to."""

    name: str = _key(
        "tq", "Name of the cluster, for people.", "Written into the log when the cluster is formed.", validator=is_name
    )
    peers: tuple[PeerEntry, ...] = _key(
        (),
        "All nodes of the cluster, this one too; none for a node alone.",
        f"Each is `{PEERS_EXAMPLE}`: where the others and where clients reach it. The list must be the same on all "
        "nodes, and does not change once the cluster was formed.",
        validator=are_peers,
    )
    secret_file: str = _key(
        "",
        "File with the secret by which the nodes know each other; relative to the configuration file.",
        "At least 16 bytes, the same on all nodes, readable by nobody else. Needed as soon as there are several nodes.",
    )
    profile: Literal["default", "fast"] = _key(
        "default",
        "Raft timing: default = 150 ms heartbeats, 600-1,200 ms elections; fast = 50, 200-400.",
        "Without other nodes it decides nothing a user can see.",
    )


@attrs.frozen
class LeasesSection:
    """When work is taken from a worker. What the leader has counts on all nodes of a cluster, so set it equal on all: a
    node that has others says so in its log. A change is made by restarting the nodes one after the other."""

    lease_ms: int = _key(
        limits.LEASE_MS_DEFAULT,
        "A task is given to another when its lease was not renewed for this long.",
        "Shorter: the tasks of a dead worker go on sooner. Longer: a worker may be out of touch for longer.",
        validator=Between(200, limits.DAY_MS),
    )
    heartbeat_ms: int = _key(
        limits.HEARTBEAT_MS_DEFAULT,
        "How often workers send a heartbeat.",
        "At most half of `lease_ms` and of `session_ms`. Workers learn it when they register.",
        validator=Between(50, limits.HOUR_MS),
    )
    session_ms: int = _key(
        limits.SESSION_MS_DEFAULT,
        "A worker that sent nothing for this long has lost its session.",
        "All its leases are lost with it.",
        validator=Between(200, limits.DAY_MS),
    )
    crashes_max: int = _key(
        limits.CRASHES_MAX_DEFAULT,
        "Crashes (lost leases) after which a task is dead, reason poison.",
        validator=Between(1, 1_000),
    )

    def __attrs_post_init__(self) -> None:
        if self.heartbeat_ms * 2 > min(self.lease_ms, self.session_ms):
            raise ValueError(
                f"heartbeat_ms = {self.heartbeat_ms}: must be at most half of lease_ms ({self.lease_ms}) "
                f"and of session_ms ({self.session_ms}), so that one lost heartbeat does no harm"
            )


@attrs.frozen
class RetentionSection:
    """What is kept of tasks that ended. As with `[leases]`, what the leader has counts. A change also holds for what ended
    before, but not for the ids that are already in memory only."""

    finished_keep_ms: int = _key(
        limits.FINISHED_KEEP_MS_DEFAULT,
        "Completed, cancelled and expired tasks are kept this long.",
        validator=Between(0, limits.DURATION_MS_MAX),
    )
    finished_keep_tasks: int = _key(
        limits.FINISHED_KEEP_TASKS_DEFAULT,
        "... and at most so many of them.",
        "The oldest go first. Each costs its payload and result on disk.",
        validator=Between(0, 100_000_000),
    )
    dead_keep_ms: int = _key(
        limits.DEAD_KEEP_MS_DEFAULT, "Dead tasks are kept this long.", validator=Between(0, limits.DURATION_MS_MAX)
    )
    tombstone_keep_ms: int = _key(
        limits.TOMBSTONE_KEEP_MS_DEFAULT,
        "The memory window: ids of purged tasks and of operations are remembered this long.",
        "A request repeated after that is a new one. Clients learn it from HELLO.",
        validator=Between(0, limits.DURATION_MS_MAX),
    )


@attrs.frozen
class StorageSection:
    """This node's disk."""

    sync: Literal["inline", "thread", "auto"] = _key(
        "auto",
        "Where the journal is synced: auto takes a thread when the disk is slow.",
        "`inline` syncs on the loop, `thread` always beside it; see [raft.md](raft.md#sync).",
    )
    checkpoint_ms: int = _key(
        limits.CHECKPOINT_MS_DEFAULT,
        "How often the store is made durable; the journal covers what is between.",
        "Longer: fewer writes, and a longer replay after a crash. Nothing that was acknowledged depends on it.",
        validator=Between(10, 10_000),
    )
    log_keep_bytes: int = _key(
        limits.RAFT_KEEP_BYTES,
        "In a cluster: so much log is kept for nodes that were down.",
        "One that was away for longer gets a snapshot, which costs a copy of the whole state; see [raft.md](raft.md#snapshots).",
        validator=Between(limits.MIB, 1 << 40),
    )

    @property
    def segment_bytes(self) -> int:
        """Of one file of the log. It is cut by whole files, so several make up what is kept."""
        return min(limits.JOURNAL_SEGMENT_BYTES, self.log_keep_bytes // 4)


@attrs.frozen
class LimitsSection:
    """Bounds that an operator may move. All others are fixed and stand in `tq/limits.py`; what a client can meet of them is
    in [protocol.md](protocol.md)."""

    disk_free_min_bytes: int = _key(
        limits.DISK_FREE_BYTES_MIN_DEFAULT,
        "Below this much free disk, submissions are refused and all else goes on.",
        "Looked at once a second. The answer is `DISK_FULL`.",
        validator=Between(0, 1 << 60),
    )
    connections_max: int = _key(
        limits.CONNECTIONS_MAX,
        "Connections of clients and workers at once.",
        "One more is refused with `BACKPRESSURE`. The process needs as many file descriptors (`ulimit -n`).",
        validator=Between(1, 1_000_000),
    )


@attrs.frozen
class TlsSection:
    """Encryption between the nodes. All three keys, or none. Without them nodes reach each other on loopback only; with them
    each node must show a certificate of the same signer, of which the cluster's nodes alone have some. TLS 1.3."""

    ca_file: str = _key("", "Certificates of who signs those of the nodes, PEM; relative to the configuration file.")
    cert_file: str = _key("", "Certificate of this node, PEM, with those between it and the signer.")
    key_file: str = _key("", "Private key of that certificate, PEM.", "Readable by nobody else.")

    def __attrs_post_init__(self) -> None:
        given = [field.name for field in attrs.fields(TlsSection) if getattr(self, field.name)]
        if len(given) not in (0, 3):
            raise ValueError(f"{' and '.join(given)} alone: TLS needs ca_file, cert_file and key_file")

    @property
    def is_on(self) -> bool:
        return bool(self.ca_file)


@attrs.frozen
class LogSection:
    """Logs go to standard error. In both forms a line has a time (UTC), a level, a short event that never changes, and named
    values. Tracebacks show no values of variables."""

    level: Literal["debug", "info", "warning", "error"] = _key("info", "The least severe message that is written.")
    format: Literal["text", "json"] = _key(
        "text",
        "For people or for machines.",
        "One JSON object a line, or text with colours on a terminal (not with `NO_COLOR` or `TERM=dumb`).",
    )


@attrs.frozen
class Config:
    """The whole configuration of one node."""

    node: NodeSection = attrs.field(factory=NodeSection)
    cluster: ClusterSection = attrs.field(factory=ClusterSection)
    leases: LeasesSection = attrs.field(factory=LeasesSection)
    retention: RetentionSection = attrs.field(factory=RetentionSection)
    storage: StorageSection = attrs.field(factory=StorageSection)
    limits: LimitsSection = attrs.field(factory=LimitsSection)
    tls: TlsSection = attrs.field(factory=TlsSection)
    log: LogSection = attrs.field(factory=LogSection)

    def __attrs_post_init__(self) -> None:
        peers = self.cluster.peers
        if not self.tls.is_on:
            for field, address in [
                ("node.peer_listen", self.node.peer_listen), *(("cluster.peers: peer", entry.peer) for entry in peers)
            ]:  # fmt: skip
                if not is_loopback(address):
                    raise ValueError(
                        f'{field} = "{address}": between machines the nodes need TLS; set the keys of [tls]'
                    )
        if peers and self.node.id not in {entry.id for entry in peers}:
            raise ValueError(f'node.id = "{self.node.id}": is not in cluster.peers; each node is listed there itself')
        if len(peers) > 1 and not self.cluster.secret_file:
            raise ValueError("cluster.secret_file: nodes of a cluster prove themselves by a secret; name its file")

    @property
    def client_address(self) -> str:
        """Where clients reach this node, as the others tell it."""
        return next((entry.client for entry in self.cluster.peers if entry.id == self.node.id), self.node.listen)


SECRET_BYTES_MIN = 16


def read_secret(file: str) -> bytes:
    """The secret of the cluster, without white space around it.

    Raises:
        ConfigError: no such file, too short, or readable by other users.
    """
    path = Path(file)
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f'cluster.secret_file = "{path}" cannot be read: {error.strerror}') from error
    if mode & 0o077:
        raise ConfigError(f'cluster.secret_file = "{path}" can be read by other users: chmod 600 "{path}"')
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigError(
            f'cluster.secret_file = "{path}" has {len(secret)} bytes: at least {SECRET_BYTES_MIN} random ones'
        )
    return secret


@attrs.frozen
class Loaded:
    """config, and where each of its values came from: ``{"node.listen": "file" | "TQ_NODE__LISTEN" | "flag" | "default"}``."""

    config: Config
    origins: dict[str, str]


SECTIONS: dict[str, type] = {
    "node": NodeSection,
    "cluster": ClusterSection,
    "leases": LeasesSection,
    "retention": RetentionSection,
    "storage": StorageSection,
    "limits": LimitsSection,
    "tls": TlsSection,
    "log": LogSection,
}


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Loaded:
    """Merge file, environment and flags.

    Args:
        path: the TOML file, or None for defaults.
        environ: usually ``os.environ``; only ``TQ_SECTION__KEY`` names are looked at.
        flags: ``{"node.listen": value}``; None values are passed over.

    A relative path of the file, or the default beside a file, is below the file's folder; one from the
    environment or a flag is below the current one, as the person who typed it means it.

    Raises:
        ConfigError: names every key that cannot be used.
    """
    tree: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    origins = {f"{name}.{field.name}": "default" for name, cls in SECTIONS.items() for field in attrs.fields(cls)}
    problems: list[str] = []
    if path is not None:
        _merge_file(path, tree, origins, problems)
    _merge_environment(environ, tree, origins, problems)
    for key, value in (flags or {}).items():
        if value is not None:
            section, _, name = key.partition(".")
            tree[section][name] = value
            origins[key] = "flag"
    sections = {name: _structure(name, cls, tree[name], origins, problems) for name, cls in SECTIONS.items()}
    config = None
    if not problems:
        try:
            config = Config(**sections)
        except ValueError as error:  # what the sections have to do with each other
            problems.append(str(error))
    if config is None:
        where = f" in {path}" if path else ""
        raise ConfigError(f"the configuration{where} cannot be used:\n  " + "\n  ".join(problems))
    if path is not None:
        config = _beside(path.parent, config, origins)
    return Loaded(config, origins)


PATHS = {"node.data_dir", "cluster.secret_file", "tls.ca_file", "tls.cert_file", "tls.key_file"}


def _beside(folder: Path, config: Config, origins: Mapping[str, str]) -> Config:
    """Relative paths of the file, or defaults beside a file, are below the file's folder."""
    for key in sorted(PATHS):
        section, _, name = key.partition(".")
        record = getattr(config, section)
        value = getattr(record, name)
        if value and origins[key] in ("file", "default"):
            record = attrs.evolve(record, **{name: str((folder / value).resolve())})
            config = attrs.evolve(config, **{section: record})
    return config


def _merge_file(path: Path, tree: dict[str, dict[str, Any]], origins: dict[str, str], problems: list[str]) -> None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}: write one, see docs/configuration.md") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    for section, values in document.items():
        if section not in SECTIONS:
            problems.append(f"[{section}] is not a section{_nearest(section, SECTIONS)}")
            continue
        if not isinstance(values, dict):
            problems.append(f"{section} must be a section: write [{section}], and its keys below")
            continue
        for name, value in values.items():
            tree[section][name] = value
            origins[f"{section}.{name}"] = "file"


def _merge_environment(
    environ: Mapping[str, str], tree: dict[str, dict[str, Any]], origins: dict[str, str], problems: list[str]
) -> None:
    for variable, text in environ.items():
        if not variable.startswith("TQ_") or "__" not in variable:
            continue
        section, _, name = variable[3:].lower().partition("__")
        if section not in SECTIONS:
            problems.append(f"environment {variable}: {section} is not a section{_nearest(section, SECTIONS)}")
        elif variable != variable.upper():
            problems.append(f"environment {variable}: write it in capitals, {variable.upper()}")
        else:
            tree[section][name] = _Text(text)
            origins[f"{section}.{name}"] = variable


WHOLE_NUMBER_DIGITS_MAX = 30
"""More are no number of ours, and int() refuses thousands with a message about itself."""


class _Text(str):
    """A value from the environment: the one layer in which "300" may stand for 300."""


def _structure(section: str, cls: type, values: dict[str, Any], origins: Mapping[str, str], problems: list[str]) -> Any:
    """The section's record; None where there are problems, and then they are told, each with where it came from."""
    told = len(problems)
    fields = {field.name: field for field in attrs.fields(attrs.resolve_types(cls))}
    usable: dict[str, Any] = {}
    for name, value in values.items():
        field = fields.get(name)
        try:
            if field is None:
                raise ValueError(f"{name} is not a key{_nearest(name, fields)}")
            usable[name] = _structured(name, value, field.type)
            if field.validator is not None:
                field.validator(None, field, usable[name])
        except ValueError as error:
            origin = origins[f"{section}.{name}"]
            source = "" if origin == "file" else f" ({origin})"
            problems.append(f"{section}.{error}{source}")
    if len(problems) > told:
        return None
    try:
        return cls(**usable)
    except ValueError as error:  # what its keys have to do with each other
        problems.append(f"{section}.{error}")
    return None


def _structured(name: str, value: Any, kind: Any) -> Any:
    try:
        return _CONVERTER.structure(value, kind)
    except ValueError as error:
        raise ValueError(f"{name} = {error}") from None


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def _whole_number(value: Any, _type: type) -> int:
    if isinstance(value, _Text):
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= WHOLE_NUMBER_DIGITS_MAX:
            return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)}: must be a whole number")
    return value


def _text(value: Any, _type: type) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)}: must be text, in quotes")
    return str(value)


def _choice(value: Any, kind: Any) -> Any:
    choices = kind.__args__
    if value not in choices:
        raise ValueError(f"{_shown(value)}: must be one of {', '.join(choices)}")
    return str(value)


def _peers(value: Any, _type: type) -> tuple[PeerEntry, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{_shown(value)}: must be a list of nodes, as [{PEERS_EXAMPLE}, ...]")
    found = []
    keys = [field.name for field in attrs.fields(PeerEntry)]
    for entry in value:
        if sorted(entry) != sorted(keys) or not all(isinstance(text, str) for text in entry.values()):
            raise ValueError(f"{_shown(entry)}: a node has {', '.join(keys)}, all text, as {PEERS_EXAMPLE}")
        found.append(PeerEntry(**entry))
    return tuple(found)


def _shown(value: Any) -> str:
    """As TOML has it, near enough, and not longer than a line."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook(int, _whole_number)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook_func(lambda kind: kind == tuple[PeerEntry, ...], _peers)
    converter.register_structure_hook_func(lambda kind: getattr(kind, "__origin__", None) is Literal, _choice)
    return converter


_CONVERTER = _converter()


def as_tree(config: Config) -> dict[str, dict[str, Any]]:
    """Plain values, section by section, as ``tq config show`` prints them."""
    return {name: attrs.asdict(getattr(config, name)) for name in SECTIONS}


def comment(section: str, name: str) -> str:
    """What a key does, in a line."""
    return str(getattr(attrs.fields(SECTIONS[section]), name).metadata["comment"])
