"""Who ghosts are to nodes, and nodes to ghosts: two authorities, and TLS that checks both.

A ghost shows a certificate of the ghosts' authority, a node that of the nodes'. A ghost does not
have the latter's certificate: the node sends it in the clear, and the ghost believes it if its
digest is that of the token (`token.py`).
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from leoronic.errors import ProtocolError
from leoronic.wire.cookie import authority_seed, fingerprint, ghost_authority_seed, ghost_key
from leoronic.wire.identity import GHOSTS, NODES, Certificates, make_context, make_in_child
from leoronic.wire.token import Token, digest_of, make_token

AUTHORITY_LINE_BYTES_MAX = 2048
_MAGIC = b"authority "


class RelayIdentity(NamedTuple):
    """What a node needs to be called by the ghosts of one cookie.

    `line` has the certificate of its authority; it goes after the first line.
    """

    fingerprint: str
    called: ssl.SSLContext
    line: bytes


def make_relay_identities(cookies: Sequence[str], node: str) -> list[RelayIdentity]:
    """For each cookie, in that order. Takes 0.2 s: not for an event loop.

    Raises `IdentityFailed`.
    """
    wanted = [
        one
        for cookie in cookies
        for one in (
            (authority_seed(cookie), NODES),
            (ghost_authority_seed(ghost_key(cookie)), GHOSTS),
        )
    ]
    made = make_in_child(wanted, node)
    return [
        RelayIdentity(
            fingerprint(cookie),
            make_context(ssl.PROTOCOL_TLS_SERVER, nodes._replace(authority=ghosts.authority)),
            _MAGIC + base64.b64encode(ssl.PEM_cert_to_DER_cert(nodes.authority)) + b"\n",
        )
        for cookie, nodes, ghosts in zip(cookies, made[::2], made[1::2], strict=True)
    ]


def token_of(cookie: str) -> Token:
    """The token for the ghosts of the cluster with this cookie. As slow; raises the same."""
    [made] = make_in_child([(authority_seed(cookie), NODES)], "nobody")
    return make_token(cookie, ssl.PEM_cert_to_DER_cert(made.authority))


def make_ghost_certificates(token: Token, ghost: str) -> Certificates:
    """Those of a ghost that holds `token`. As slow; raises the same."""
    [made] = make_in_child([(ghost_authority_seed(token.key), GHOSTS)], ghost)
    return made


def decode_authority(line: bytes, token: Token) -> str:
    """The certificate (PEM) in a node's second line.

    Raises `ProtocolError` if it is not that of the token's cluster.
    """
    text = line.removeprefix(_MAGIC)
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        found = b""
    if text == line or digest_of(found) != token.authority:
        raise ProtocolError(
            "it cannot prove that it is a node of this ghost's cluster: `leoronic join --ghost` "
            "prints a new line for the ghost"
        )
    return ssl.DER_cert_to_PEM_cert(found)


def ghost_context(certificates: Certificates, authority: str) -> ssl.SSLContext:
    """For a call to a node of `authority` (PEM), by the ghost with these certificates."""
    return make_context(ssl.PROTOCOL_TLS_CLIENT, certificates._replace(authority=authority))
