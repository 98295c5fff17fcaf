"""Which nodes a cluster has, and what each needs to run: a configuration of its own, and the secret of all.

Read from a file like ``three.toml``; written below its folder, where the nodes' data and logs are, too. Writing again
changes configurations only: data and secret stay.
"""

from __future__ import annotations

import os
import tomllib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tq.bench.processes import toml
from tq.config import load
from tq.errors import ConfigError

THREE = Path(__file__).with_name("three.toml")
SECRET = "secret"
NODE_KEYS = ("id", "listen", "peer_listen", "metrics_listen")
KEYS = ("folder", "settings", "nodes")

Settings = Mapping[str, Mapping[str, Any]]


@attrs.frozen
class NodeSpec:
    """One node; the addresses as in its ``[node]`` section."""

    id: str
    listen: str
    peer_listen: str
    metrics_listen: str


@attrs.frozen
class ClusterSpec:
    """folder: of all that the cluster has on this machine. settings: of every node, section by section."""

    folder: Path
    nodes: tuple[NodeSpec, ...]
    settings: Settings = attrs.field(factory=dict)

    @property
    def addresses(self) -> str:
        """Where clients find it, as ``--brokers`` takes it."""
        return ",".join(node.listen for node in self.nodes)

    def config(self, id: str) -> Path:
        return self.folder / f"{id}.toml"

    def log(self, id: str) -> Path:
        return self.folder / f"{id}.log"

    def data(self, id: str) -> Path:
        return self.folder / id

    def node(self, id: str) -> NodeSpec:
        """Raises ConfigError."""
        found = next((node for node in self.nodes if node.id == id), None)
        if found is None:
            raise ConfigError(f"there is no node {id}; there are {', '.join(node.id for node in self.nodes)}")
        return found


def read(path: Path) -> ClusterSpec:
    """Raises ConfigError: the file cannot be used. What a node's own configuration refuses, ``write`` tells."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    unknown = sorted(set(document) - set(KEYS))
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]} is not a key; known are {', '.join(KEYS)}")
    folder, settings, nodes = document.get("folder"), document.get("settings", {}), document.get("nodes")
    if not isinstance(folder, str) or not folder:
        raise ConfigError(f'{path}: folder: name one, as folder = "../data"')
    if not isinstance(settings, dict) or not all(isinstance(section, dict) for section in settings.values()):
        raise ConfigError(f"{path}: settings: write sections below it, as leases = {{ lease_ms = 30000 }}")
    if not isinstance(nodes, list) or not nodes:
        raise ConfigError(f"{path}: nodes: describe each in a [[nodes]] with {', '.join(NODE_KEYS)}")
    for node in nodes:
        if not isinstance(node, dict) or sorted(node) != sorted(NODE_KEYS):
            raise ConfigError(f"{path}: nodes: each has {', '.join(NODE_KEYS)}, and nothing else")
        if not all(isinstance(value, str) for value in node.values()):
            raise ConfigError(f"{path}: nodes: {', '.join(NODE_KEYS)} are texts, in quotes")
    return ClusterSpec((path.parent / folder).resolve(), tuple(NodeSpec(**node) for node in nodes), settings)


def write(spec: ClusterSpec, ways: Mapping[tuple[str, str], str] | None = None) -> None:
    """Make the folder, the secret if there is none, and each node's configuration.

    Args:
        ways: (from, to) -> the address at which ``from`` reaches ``to``, where it is not the one that ``to`` listens at.

    Raises:
        ConfigError: a node would refuse its configuration, or the folder cannot be written; says what is wrong with it.
    """
    try:
        spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = spec.folder / SECRET
        if not secret.exists():
            with open(secret, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(uuid.uuid4().hex + uuid.uuid4().hex + "\n")
        for node in spec.nodes:
            spec.config(node.id).write_text(_configuration(spec, node, ways or {}), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    for node in spec.nodes:
        load(spec.config(node.id), {})


def _configuration(spec: ClusterSpec, node: NodeSpec, ways: Mapping[tuple[str, str], str]) -> str:
    peers = [
        {"id": other.id, "peer": ways.get((node.id, other.id), other.peer_listen), "client": other.listen}
        for other in spec.nodes
    ]
    cluster = {"secret_file": SECRET, "peers": peers} if len(spec.nodes) > 1 else {}
    sections = {
        **spec.settings,
        "node": {**attrs.asdict(node), "data_dir": node.id, **spec.settings.get("node", {})},
        "cluster": {**cluster, **spec.settings.get("cluster", {})},
    }
    return f"# Made by cluster/spec.py, anew at each start of the cluster.\n{toml(sections)}"
