"""The token: what a ghost is given instead of the cookie.

It is derived one way, so the cookie cannot be computed from it, nor can the key of the nodes'
certificate authority. It holds

- `cluster`: the fingerprint of the cookie that it was made of, which is public;
- `key`: that of the ghosts' own certificate authority. Nodes take its certificates for `for=ghost`
  only, so a token can neither act as a node nor read the queue;
- `authority`: the digest of the certificate of the nodes' authority. With it a ghost knows a node
  from somebody else who has such a token.

As text: `ghost-CLUSTER-KEY-AUTHORITY`, digits and letters that none can confuse.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from leoronic.core.cookie import ALPHABET
from leoronic.durable import replace_file
from leoronic.errors import BadRequest
from leoronic.wire.cookie import fingerprint, ghost_key, read_secret

GHOST = "ghost"
"""What the first line of a ghost's connection says that it is for."""

KEY_BYTES = 20
TOKEN_LENGTH_MAX = 200

_PART = rf"[{ALPHABET}]{{{KEY_BYTES * 8 // 5}}}"
_TEXT = re.compile(rf"ghost-([0-9a-f]{{8}})-({_PART})-({_PART})")


class Token(NamedTuple):
    """See the module; `key` and `authority` have `KEY_BYTES` bytes each."""

    cluster: str
    key: bytes
    authority: bytes

    def encode(self) -> str:
        """As text, on one line."""
        return f"{GHOST}-{self.cluster}-{_letters(self.key)}-{_letters(self.authority)}"


def make_token(cookie: str, authority: bytes) -> Token:
    """That of the cluster with this cookie; `authority` is the certificate of its nodes, DER."""
    return Token(fingerprint(cookie), ghost_key(cookie), digest_of(authority))


def digest_of(authority: bytes) -> bytes:
    """What a token says of a certificate (DER)."""
    return hashlib.sha256(authority).digest()[:KEY_BYTES]


def decode_token(text: str) -> Token:
    """Raises `BadRequest`."""
    found = _TEXT.fullmatch(text.strip()) if len(text) <= TOKEN_LENGTH_MAX else None
    if found is None:
        raise BadRequest("that is no token of a ghost: `leoronic join --ghost` prints one")
    return Token(found[1], _bytes(found[2]), _bytes(found[3]))


def read_token(path: Path) -> Token:
    """The token in the file at `path`.

    Raises `FileNotFoundError`, and `BadRequest` if others may read it, or it holds none.
    """
    try:
        return decode_token(read_secret(path, "token", TOKEN_LENGTH_MAX))
    except BadRequest as error:
        raise BadRequest(f"{path}: {error.message}") from None


def write_token(path: Path, token: Token) -> None:
    """Replace the file. Raises `OSError`."""
    replace_file(path, f"{token.encode()}\n".encode())


def _letters(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    places = len(data) * 8 // 5
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(places)))


def _bytes(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number << 5 | ALPHABET.index(letter)
    return number.to_bytes(len(text) * 5 // 8, "big")
