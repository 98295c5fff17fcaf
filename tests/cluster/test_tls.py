"""Three real brokers over TLS, and one that has another signer's certificate."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.cluster.processes import Ground, eventually
from tq import Client

SETTINGS = {"cluster": {"profile": "fast"}, "limits": {"disk_free_min_bytes": 0}}


def issue(ca: trustme.CA, folder: Path, name: str) -> dict[str, str]:
    """The [tls] section of a node."""
    files = {kind: folder / f"{name}-{kind}.pem" for kind in ("ca", "cert", "key")}
    ca.cert_pem.write_to_path(str(files["ca"]))
    leaf = ca.issue_cert(f"{name}.cluster")
    leaf.cert_chain_pems[0].write_to_path(str(files["cert"]))
    leaf.private_key_pem.write_to_path(str(files["key"]))
    return {f"{kind}_file": str(file) for kind, file in files.items()}


def test_nodes_talk_over_tls_and_take_no_stranger(ground: Ground) -> None:
    ours, strange = trustme.CA(), trustme.CA()
    nodes = ground.brokers(3, SETTINGS)
    for node, ca in zip(nodes, (ours, ours, strange), strict=True):
        config = ground.folder / f"{node.name}.toml"
        keys = issue(ca, ground.folder, node.name)
        lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        config.write_text(config.read_text() + f"[tls]\n{lines}")
        node.start()
    eventually("the third is a stranger", lambda: "certificate" in nodes[0].log.read_text().lower(), nodes[0])
    assert not any(node.ready() for node in nodes)
    config = ground.folder / "n3.toml"
    nodes[2].kill()
    issue(ours, ground.folder, "n3")
    nodes[2].start()
    for node in nodes:
        node.wait_ready()
    with Client(nodes[2].address) as client:
        assert client.submit("echo", b"over TLS").outcome == "created"
        eventually("all see each other", lambda: client.cluster_status()["may_lose"] == 1, nodes[2])
