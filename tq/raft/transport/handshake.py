"""Two nodes prove to each other that they know the secret of the cluster, before either reads a word of the other.

Theory. Three messages of fixed layout, so nothing is parsed that a stranger sent:

    dialer    magic, version, nonce                    38 bytes
    acceptor  magic, version, nonce, proof             70 bytes
    dialer    proof                                    32 bytes

A proof is HMAC-SHA256 with the secret over the side's name and both nonces. The nonces are new for each connection, so
a recorded handshake proves nothing; the side's name keeps a proof from being sent back to who made it. The acceptor
proves first: a dialer that reached a stranger gives nothing away.

What is shown: the peer knew the secret when the connection began. What is not: that nobody between the two changes the
bytes that follow. Between machines that is the work of TLS, below this.

Rejected: the node's id in the first message (a parser in front of the proof); a password hash (the secret is a file of
random bytes, not something a person chose).
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from typing import Final

from tq.errors import ProtocolError
from tq.world import Random

MAGIC: Final = b"tq/p"
VERSION: Final = 1
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
SECRET_BYTES_MIN: Final = 16

_HELLO: Final = struct.Struct(f">4sH{NONCE_BYTES}s")
_LABEL: Final = b"tq peer handshake 1 "


class Side(enum.Enum):
    DIALER = b"dialer"
    ACCEPTOR = b"acceptor"


class Handshake:
    """One side of it. Feed what arrives to ``receive``, send what ``data_to_send`` gives, until ``is_done``.

    ``rest`` is what came behind the peer's last byte.
    """

    def __init__(self, side: Side, secret: bytes, random: Random) -> None:
        assert len(secret) >= SECRET_BYTES_MIN, "the caller checks the secret when it reads the file"
        self.is_done = False
        self.rest = b""
        self._side = side
        self._secret = secret
        self._nonce = random.bytes(NONCE_BYTES)
        self._peer_nonce: bytes | None = None
        self._in = b""
        self._out = _HELLO.pack(MAGIC, VERSION, self._nonce) if side is Side.DIALER else b""

    def data_to_send(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> None:
        """Raises ProtocolError: the peer is a stranger, speaks another version, or has another secret."""
        assert not self.is_done
        self._in += data
        if self._peer_nonce is None and len(self._in) >= _HELLO.size:
            self._hello()
        if self._peer_nonce is not None and len(self._in) >= PROOF_BYTES:
            self._proof()
        elif self._in[: len(MAGIC)] != MAGIC[: len(self._in)] and self._peer_nonce is None:
            raise ProtocolError("a stranger: this port is for the nodes of a tq cluster")

    # ---- inside -----------------------------------------------------------------------------------

    def _hello(self) -> None:
        magic, version, nonce = _HELLO.unpack_from(self._in)
        if magic != MAGIC:
            raise ProtocolError("a stranger: this port is for the nodes of a tq cluster")
        if version != VERSION:
            raise ProtocolError(f"the peer speaks version {version} of the handshake, this node {VERSION}")
        if nonce == self._nonce:
            raise ProtocolError("the peer sent our own nonce back")
        self._in = self._in[_HELLO.size :]
        self._peer_nonce = nonce
        if self._side is Side.ACCEPTOR:
            self._out = _HELLO.pack(MAGIC, VERSION, self._nonce) + self._prove(Side.ACCEPTOR)

    def _proof(self) -> None:
        other = Side.ACCEPTOR if self._side is Side.DIALER else Side.DIALER
        if not hmac.compare_digest(self._in[:PROOF_BYTES], self._prove(other)):
            raise ProtocolError("the peer does not know the secret of this cluster")
        self.rest = self._in[PROOF_BYTES:]
        self._in = b""
        self.is_done = True
        if self._side is Side.DIALER:
            self._out = self._prove(Side.DIALER)

    def _prove(self, side: Side) -> bytes:
        assert self._peer_nonce is not None
        ours_first = self._side is Side.DIALER
        dialer, acceptor = (self._nonce, self._peer_nonce) if ours_first else (self._peer_nonce, self._nonce)
        return hmac.digest(self._secret, _LABEL + side.value + dialer + acceptor, hashlib.sha256)
