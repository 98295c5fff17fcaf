"""The other nodes of the group: what comes from them goes to whoever it is for, and what is for them leaves.

Raft's messages go to the node; requests that were relayed, and status, to the broker. Until the group is formed there is
neither, and what comes is dropped: Raft bears that.
"""

from __future__ import annotations

from socket import socket
from typing import Any

import structlog
import trio

from tq.broker import tls
from tq.broker.broker import Broker
from tq.config import Config, parse_address
from tq.errors import ProtocolError
from tq.raft.identity import Identity
from tq.raft.node import Node
from tq.raft.transport.frames import CHANNEL_RAFT
from tq.raft.transport.link import Ident
from tq.raft.transport.shell import PeerTransport
from tq.world import Clock, Random

REFUSED_MAX = 32
"""Nodes that are remembered as refused: whoever has the secret may come with any name."""


class Peers:
    def __init__(self, config: Config, identity: Identity, secret: bytes, clock: Clock, random: Random) -> None:
        """Raises ConfigError: the files of [tls] cannot be used."""
        self._log = structlog.get_logger("tq.peers").bind(node=config.node.id)
        self._identity = identity
        self._node: Node | None = None
        self._broker: Broker | None = None
        self._progress = trio.Event()
        self._reachable: set[str] = set()
        self._refused: dict[str, str] = {}  # why, by node; those that were refused when they last came
        server_tls, client_tls = tls.contexts(config.tls) if config.tls.is_on else (None, None)
        self._transport = PeerTransport(
            me=identity.ident,
            peers={
                entry.id: parse_address("cluster.peers", entry.peer)
                for entry in config.cluster.peers
                if entry.id != config.node.id
            },
            secret=secret,
            judge=self._judge,
            on_message=self._on_message,
            on_read=self._on_read,
            on_change=self._on_change,
            on_gone=self._on_gone,
            clock=clock,
            random=random,
            server_tls=server_tls,
            client_tls=client_tls,
        )

    async def run(self, listener: socket) -> None:
        """Until cancelled."""
        await self._transport.run(listener)

    async def formed(self) -> None:
        """Until all nodes have found each other once. Later starts do not wait."""
        if not self._identity.is_formed:
            self._log.info("waits for the others to form the cluster", waits_for=self._identity.waits_for)
        while not self._identity.is_formed:
            await self._progress.wait()

    def attach(self, node: Node, broker: Broker) -> None:
        """From now on they get what is for them."""
        self._node = node
        self._broker = broker
        node.send = self._send_raft
        node.on_members = self._members_changed
        self._identity.refusal = node.refusal
        self._members_changed()
        broker.peer_statistics = self.statistics
        for peer in self._reachable:
            broker.on_peer(peer, True)

    def detach(self) -> None:
        self._node = None
        self._broker = None
        self._identity.refusal = None

    def send(self, peer: str, channel: int, message: bytes) -> bool:
        return self._transport.send(peer, channel, message)

    def statistics(self) -> dict[str, dict[str, Any]]:
        """By node: see ``PeerTransport.statistics``, and why it was refused here, if it was. Nodes that are not of this
        cluster stand there too, if they came."""
        found: dict[str, dict[str, Any]] = {id: {"refused": why} for id, why in self._refused.items()}
        for id, told in self._transport.statistics().items():
            found[id] = {**told, "refused": self._refused.get(id)}
        return found

    # ---- inside -----------------------------------------------------------------------------------

    def _judge(self, ident: Ident) -> str | None:
        before = self._identity.ident(), self._identity.is_formed
        refusal = self._identity.judge(ident)
        self._note(ident.node_id, refusal)
        if (self._identity.ident(), self._identity.is_formed) != before:
            self._log.info(
                "formed the cluster" if self._identity.is_formed else "promised to form the cluster",
                cluster=(self._identity.cluster_id or b"").hex(),
                waits_for=self._identity.waits_for,
            )
            self._transport.introduce_again()
            self._progress.set()
            self._progress = trio.Event()
        return refusal

    def _note(self, node_id: str, refusal: str | None) -> None:
        """A node that is refused comes again each second: that is logged when it begins, or the reason changes."""
        if refusal is None:
            self._refused.pop(node_id, None)
        elif self._refused.get(node_id) != refusal:
            self._log.warning("refused a node", peer=node_id, reason=refusal)
            if node_id in self._refused or len(self._refused) < REFUSED_MAX:
                self._refused[node_id] = refusal

    def _members_changed(self) -> None:
        """Other data directories may count than before."""
        self._transport.drop(lambda ident: self._identity.is_ruled_out(ident))

    def _on_message(self, ident: Ident, channel: int, message: bytes) -> None:
        if self._node is None or self._broker is None:
            return
        if channel == CHANNEL_RAFT:
            try:
                self._node.receive(ident.node_id, message, ident.incarnation)
            except ProtocolError:
                self._on_read()  # of what came before it
                raise
        else:
            self._broker.on_peer_message(ident.node_id, channel, message)

    def _on_read(self) -> None:
        """All that one read brought is with the node."""
        node = self._node
        if node is not None and node.run_now is not None and node.needs_turn:
            node.run_now()

    def _on_change(self, peer: str, is_reachable: bool) -> None:
        (self._reachable.add if is_reachable else self._reachable.discard)(peer)
        if self._broker is not None:
            self._broker.on_peer(peer, is_reachable)

    def _on_gone(self, peer: str) -> None:
        if self._node is not None:
            self._node.peer_gone(peer)
            if self._node.wake is not None:
                self._node.wake()

    def _send_raft(self, peer: str, message: bytes) -> None:
        self._transport.send(peer, CHANNEL_RAFT, message)
