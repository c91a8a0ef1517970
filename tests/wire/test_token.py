"""Tokens of ghosts: what they hold, and what they are refused for."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from leoronic.errors import BadRequest, ProtocolError
from leoronic.wire.cookie import fingerprint, new_cookie
from leoronic.wire.ghost_identity import (
    RelayIdentity,
    decode_authority,
    ghost_context,
    make_ghost_certificates,
    make_relay_identities,
    token_of,
)
from leoronic.wire.identity import certified_node, make_identities
from leoronic.wire.token import Token, decode_token, make_token, read_token, write_token

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"
TOKEN = make_token(COOKIE, b"a certificate")


def handshake(calling: ssl.SSLContext, called: ssl.SSLContext) -> tuple[str, str]:
    """The ids in the certificates that each side saw."""
    to_called, to_calling = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        calling.wrap_bio(to_calling, to_called, server_side=False),
        called.wrap_bio(to_called, to_calling, server_side=True),
    ]
    waiting = list(sides)
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert [] == waiting
    seen = [certified_node(side.getpeercert()) for side in sides]
    return seen[0], seen[1]


@pytest.fixture(scope="module")
def token() -> Token:
    return token_of(COOKIE)


@pytest.fixture(scope="module")
def relay() -> RelayIdentity:
    return make_relay_identities([COOKIE], "node")[0]


def test_a_token_as_text() -> None:
    """It is one word, and the cookie is not in it."""
    text = TOKEN.encode()
    assert TOKEN == decode_token(f" {text}\n")
    assert fingerprint(COOKIE) == TOKEN.cluster
    assert COOKIE not in text
    assert make_token(new_cookie(), b"a certificate").key != TOKEN.key


@pytest.mark.parametrize("text", ["", COOKIE, TOKEN.encode()[:-1], TOKEN.encode() + "0", "x" * 999])
def test_what_is_no_token(text: str) -> None:
    """It is refused, and told where to get one."""
    with pytest.raises(BadRequest, match="leoronic join --ghost"):
        decode_token(text)


def test_a_token_is_kept(tmp_path: Path) -> None:
    """In a file that nobody else may read."""
    path = tmp_path / "token"
    write_token(path, TOKEN)
    assert TOKEN == read_token(path)
    path.chmod(0o640)
    with pytest.raises(BadRequest, match="chmod 600"):
        read_token(path)


def test_a_ghost_and_a_node(token: Token, relay: RelayIdentity) -> None:
    """Each sees who the other is."""
    certificates = make_ghost_certificates(token, "ghost")
    authority = decode_authority(relay.line.rstrip(), token)
    calling = ghost_context(certificates, authority)
    assert ("node", "ghost") == handshake(calling, relay.called)


def test_a_ghost_is_no_node(token: Token, relay: RelayIdentity) -> None:
    """No node takes its certificate as a node's; and no ghost takes another ghost as its node."""
    certificates = make_ghost_certificates(token, "ghost")
    authority = decode_authority(relay.line.rstrip(), token)
    calling = ghost_context(certificates, authority)
    [node] = make_identities([COOKIE], "node")
    with pytest.raises(ssl.SSLError):
        handshake(calling, node.called)
    with pytest.raises(ssl.SSLError):
        handshake(node.calling, relay.called)
    with pytest.raises(ProtocolError, match="cannot prove"):
        decode_authority(make_relay_identities([new_cookie()], "node")[0].line.rstrip(), token)


@pytest.mark.parametrize("line", [b"", b"authority", b"authority !!", b"authority YWJj", b"\xff"])
def test_a_line_that_is_no_authority(line: bytes) -> None:
    """It is not believed."""
    with pytest.raises(ProtocolError, match="cannot prove"):
        decode_authority(line, TOKEN)
