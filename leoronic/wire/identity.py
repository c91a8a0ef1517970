"""Who a node is to others: certificates made from a cookie, and TLS contexts that check them.

Every holder of a cookie makes the same certificate authority, and signs a certificate for itself:
its common name is the node's id. So whoever shows a certificate of that authority holds the cookie.

What makes certificates costs 11 MiB of memory once imported, and a node needs it for a moment: this
module, run as a program, makes them in a process that then ends. Nothing secret is ever in a file
or among the arguments of a process.
"""

from __future__ import annotations

import datetime
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from leoronic.errors import LeoronicError
from leoronic.wire.cookie import authority_seed, fingerprint

MAKE_S_MAX = 60.0
NODES, GHOSTS = "leoronic cluster", "leoronic ghosts"
"""What the authorities call themselves."""
# An old machine whose clock battery is empty believes that it is 1970 (or 2000) until it has found
# a time server, and it must be let in: so certificates are valid always. What ends their validity
# is another cookie.
_BEGIN = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


class Certificates(NamedTuple):
    """PEM texts: of the cluster's authority, of one node, and the key of that node's."""

    authority: str
    node: str
    key: str


class Identity(NamedTuple):
    """What a node needs to talk to those that hold one cookie."""

    fingerprint: str
    calling: ssl.SSLContext
    called: ssl.SSLContext


class IdentityFailed(LeoronicError):
    """The certificates could not be made."""

    code = "identity_failed"


def make_identities(cookies: Sequence[str], node: str) -> list[Identity]:
    """An identity of `node` for each cookie, in that order. Takes 0.2 s: not for an event loop.

    Raises `IdentityFailed`.
    """
    made = make_in_child([(authority_seed(cookie), NODES) for cookie in cookies], node)
    return [
        Identity(
            fingerprint(cookie),
            make_context(ssl.PROTOCOL_TLS_CLIENT, found),
            make_context(ssl.PROTOCOL_TLS_SERVER, found),
        )
        for cookie, found in zip(cookies, made, strict=True)
    ]


def make_in_child(authorities: Sequence[tuple[bytes, str]], node: str) -> list[Certificates]:
    """As `make_certificates` for each (seed, name) of `authorities`, in a process that then ends.

    Takes 0.2 s: not for an event loop. Raises `IdentityFailed`.
    """
    request = {"authorities": [(seed.hex(), name) for seed, name in authorities], "node": node}
    package = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=MAKE_S_MAX,
            check=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(package), *filter(None, sys.path)]),
            },
        )
        return [Certificates(*texts) for texts in json.loads(done.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error).encode()
        line = told.decode(errors="replace").strip().rpartition("\n")[2]
        raise IdentityFailed(f"this node's certificate cannot be made: {line}") from error


def make_context(protocol: int, certificates: Certificates) -> ssl.SSLContext:
    """To be `certificates.node`, among those whom `certificates.authority` has signed."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Machines have many addresses and change them: the node's id is checked instead.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates.authority)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Connections last for days: nothing is gained by resuming one.
        context.num_tickets = 0
    # OpenSSL reads keys from a file only; this one is in memory and has no name.
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w") as file:
        file.write(certificates.key + certificates.node)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def certified_node(certificate: dict[str, Any] | None) -> str:
    """The node id in a peer's certificate, as `ssl` shows it; empty if there is none."""
    for name in (certificate or {}).get("subject", ()):
        for key, value in name:
            if key == "commonName":
                return str(value)
    return ""


def make_certificates(seed: bytes, node: str, authority_name: str = NODES) -> Certificates:
    """Certificates of the authority with private key `seed`, and of `node` with a fresh key.

    The authority's is the same, byte for byte, wherever it is made. Imports what costs much memory.
    """
    from cryptography import x509  # noqa: PLC0415 - see the module's docstring
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def builder(subject: str, public: Ed25519PublicKey, *, serial: int) -> x509.CertificateBuilder:
        is_authority = subject == authority_name
        usage = dict.fromkeys(
            (
                "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
            ),
            False,
        )  # fmt: skip
        usage["key_cert_sign" if is_authority else "digital_signature"] = True
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(authority_name))
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(_BEGIN)
            .not_valid_after(_END)
            .add_extension(
                x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None),
                critical=True,
            )
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
                critical=False,
            )
        )

    def pem(certificate: x509.Certificate) -> str:
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    authority = Ed25519PrivateKey.from_private_bytes(seed)
    own = Ed25519PrivateKey.generate()
    key = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    roots = builder(authority_name, authority.public_key(), serial=1).sign(authority, None)
    nodes = builder(node, own.public_key(), serial=x509.random_serial_number())
    return Certificates(pem(roots), pem(nodes.sign(authority, None)), key.decode())


def _main() -> None:
    request = json.load(sys.stdin)
    made = [
        make_certificates(bytes.fromhex(seed), request["node"], name)
        for seed, name in request["authorities"]
    ]
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    _main()
