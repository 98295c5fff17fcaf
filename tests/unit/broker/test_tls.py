"""Nodes over TLS, on real sockets: each needs a certificate of the cluster's own signer."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tq.broker import tls
from tq.config import TlsSection
from tq.errors import ConfigError


class Signer:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.ca = trustme.CA()
        self.ca_file = str(folder / f"{name}-ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def node(self, id: str) -> TlsSection:
        leaf = self.ca.issue_cert(f"{id}.cluster")
        cert, key = (str(self.folder / f"{self.name}-{id}.{kind}") for kind in ("pem", "key"))
        leaf.private_key_pem.write_to_path(key)
        for number, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
        return TlsSection(self.ca_file, cert, key)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("others"), "others")


async def exchange(server: ssl.SSLContext, client: ssl.SSLContext | None) -> tuple[Any, Any]:
    """What each end received of the other, or the error that it met."""
    got: dict[str, Any] = {}
    ends = trio.testing.memory_stream_pair()

    async def talk(name: str, stream: trio.abc.Stream, says: bytes) -> None:
        try:
            await stream.send_all(says)
            got[name] = bytes(await stream.receive_some(100))
        except trio.BrokenResourceError as error:
            got[name] = error
        await stream.aclose()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            wrapped = trio.SSLStream(ends[0], server, server_side=True, https_compatible=True)
            nursery.start_soon(talk, "server", wrapped, b"from the server")
            dialed: trio.abc.Stream = ends[1]
            if client is not None:
                dialed = trio.SSLStream(ends[1], client, https_compatible=True)
            nursery.start_soon(talk, "client", dialed, b"from the client")
    return got["server"], got["client"]


async def test_two_nodes_of_one_signer_talk(ours: Signer) -> None:
    server, _ = tls.contexts(ours.node("n1"))
    _, client = tls.contexts(ours.node("n2"))
    assert await exchange(server, client) == (b"from the client", b"from the server")


async def test_a_certificate_of_another_signer_is_refused_by_both(ours: Signer, others: Signer) -> None:
    server, client = tls.contexts(ours.node("n1"))
    strange_server, strange_client = tls.contexts(others.node("n1"))
    heard, _ = await exchange(server, strange_client)
    assert isinstance(heard, trio.BrokenResourceError)
    _, heard = await exchange(strange_server, client)
    assert isinstance(heard, trio.BrokenResourceError)


async def test_who_shows_no_certificate_is_refused(ours: Signer) -> None:
    server, _ = tls.contexts(ours.node("n1"))
    bare = ssl.create_default_context(cafile=ours.ca_file)
    bare.check_hostname = False
    heard, _ = await exchange(server, bare)
    assert isinstance(heard, trio.BrokenResourceError)


async def test_who_speaks_in_the_clear_is_refused(ours: Signer) -> None:
    server, _ = tls.contexts(ours.node("n1"))
    heard, _ = await exchange(server, None)
    assert isinstance(heard, trio.BrokenResourceError)


def test_files_that_cannot_be_used_are_named(ours: Signer, tmp_path: Path) -> None:
    good = ours.node("n1")
    with pytest.raises(ConfigError, match=r"\[tls\].*nowhere"):
        tls.contexts(TlsSection(good.ca_file, str(tmp_path / "nowhere"), good.key_file))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"\[tls\].*nonsense"):
        tls.contexts(TlsSection(str(nonsense), good.cert_file, good.key_file))
    other = ours.node("n2")
    with pytest.raises(ConfigError, match=r"\[tls\]"):
        tls.contexts(TlsSection(good.ca_file, good.cert_file, other.key_file))
