"""Certificates from a cookie: real TLS, in memory."""

from __future__ import annotations

import ssl
import sys

import pytest

from leoronic.wire import identity
from leoronic.wire.cookie import authority_seed, fingerprint, new_cookie
from leoronic.wire.identity import (
    Identity,
    IdentityFailed,
    certified_node,
    make_certificates,
    make_identities,
)

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"


def handshake(calling: ssl.SSLContext, called: ssl.SSLContext) -> tuple[str, str]:
    """The node ids in the certificates that each side saw; and TLS 1.3 it was."""
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
    assert ["TLSv1.3", "TLSv1.3"] == [side.version() for side in sides]
    seen = [certified_node(side.getpeercert()) for side in sides]
    return seen[0], seen[1]


@pytest.fixture(scope="module")
def one() -> Identity:
    return make_identities([COOKIE], "one")[0]


def test_two_holders_of_a_cookie(one: Identity) -> None:
    """Each sees who the other is; a node's two cookies are told apart by their fingerprints."""
    other = new_cookie()
    first, second = make_identities([other, COOKIE], "two")
    assert [fingerprint(other), fingerprint(COOKIE)] == [first.fingerprint, second.fingerprint]
    assert ("two", "one") == handshake(one.calling, second.called)
    assert ("one", "two") == handshake(second.calling, one.called)
    with pytest.raises(ssl.SSLError):
        handshake(one.calling, first.called)
    with pytest.raises(ssl.SSLError):
        handshake(first.calling, one.called)


def test_somebody_without_a_certificate(one: Identity) -> None:
    """The called side asks for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        handshake(context, one.called)


def test_older_tls(one: Identity) -> None:
    """Is not spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(context, one.called)


def test_the_authority_is_the_same_everywhere() -> None:
    """Byte for byte; each node's own certificate is another each time."""
    seed = authority_seed(COOKIE)
    first, second = make_certificates(seed, "one"), make_certificates(seed, "one")
    assert first.authority == second.authority
    assert first.node != second.node
    assert first.key != second.key


def test_what_makes_them_is_not_loaded_here() -> None:
    """It is much memory for a node that is idle."""
    import subprocess

    code = (
        "import sys; from leoronic.wire.identity import make_identities; "
        f"make_identities(['{COOKIE}'], 'one'); assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told, and no secret with it."""
    monkeypatch.setattr(identity.sys, "executable", "/nowhere")
    with pytest.raises(IdentityFailed, match="No such file"):
        make_identities([COOKIE], "one")
