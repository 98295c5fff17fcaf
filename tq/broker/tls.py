"""TLS between the nodes: each shows a certificate of the cluster's own signer, or there is no connection.

Names in certificates are not compared with addresses: whoever has a certificate of this signer is a node of this
cluster, and which one it says inside (``tq/raft/transport``), together with the secret.
"""

from __future__ import annotations

import ssl

from tq.config import TlsSection
from tq.errors import ConfigError


def contexts(tls: TlsSection) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For accepted and for dialed connections.

    Raises:
        ConfigError: a file cannot be read, or does not hold what it should.
    """
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls.ca_file)
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # SSLError is one
        files = f"{tls.ca_file}, {tls.cert_file}, {tls.key_file}"
        raise ConfigError(f"[tls] cannot be used: {error.strerror or error} (ca, cert, key: {files})") from error
    return server, client
