"""The cookie: the one secret that makes nodes a cluster, and what is derived from it.

The file (mode 0600) has a line for each cookie. The first is the current one; further ones are
accepted as well, so that a cluster can change its cookie without stopping. From a cookie everybody
who holds it derives the same key of the certificate authority (`identity.py`), and a fingerprint,
which is public: it says which cluster, and nothing else about the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from leoronic.core.cookie import ALPHABET, COOKIE_LENGTH_MAX, check_cookie
from leoronic.durable import replace_file
from leoronic.errors import BadRequest

COOKIE_LENGTH = 32
COOKIES_MAX = 4
FINGERPRINT_LENGTH = 8

_SALT = b"leoronic cookie 1"


def new_cookie() -> str:
    """A fresh cookie: 160 random bits as letters and digits that none can confuse."""
    return "".join(ALPHABET[byte & 31] for byte in os.urandom(COOKIE_LENGTH))


def read_cookies(path: Path) -> list[str]:
    """The cookies in the file at `path`, the current one first.

    Raises `BadRequest` that says how to mend it, if others may read it, or it holds no cookie;
    `FileNotFoundError`.
    """
    content = read_secret(path, "cookie", COOKIES_MAX * (COOKIE_LENGTH_MAX + 2) + 1)
    try:
        lines = [line.strip() for line in content.splitlines()]
        cookies = [check_cookie(line) for line in lines if line]
    except BadRequest as error:
        raise BadRequest(f"{path}: {error.message}") from None
    if not cookies or len(cookies) > COOKIES_MAX:
        raise BadRequest(
            f"{path} has {len(cookies)} cookies, one in a line; 1 to {COOKIES_MAX} are right"
        )
    return list(dict.fromkeys(cookies))


def read_secret(path: Path, what: str, length_max: int) -> str:
    """The text of a file that nobody else may read, at most `length_max` bytes of it.

    Raises `BadRequest` that says how to mend it; `FileNotFoundError`.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(length_max)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadRequest(f"the {what} in {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise BadRequest(
            f"others may read the {what} in {path} (mode {mode:04o}): run `chmod 600 {path}`, and "
            "if others have used this machine, `leoronic cookie rotate` once the node runs"
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is no {what} file: it is not text") from None


def write_cookies(path: Path, cookies: list[str]) -> None:
    """Replace the file at once, so that a power cut leaves the old one or the new one.

    Raises `OSError`, and `BadRequest` for what cannot be a cookie.
    """
    assert 1 <= len(cookies) <= COOKIES_MAX
    text = "".join(check_cookie(cookie) + "\n" for cookie in cookies)
    replace_file(path, text.encode())


def keep_cookie(path: Path, given: str | None = None) -> list[str]:
    """The cookies of the file at `path`, at a start: made if there is none yet.

    A cookie that the start was `given` becomes the current and only one, unless it is among those
    in the file already. Raises `BadRequest` and `OSError`.
    """
    try:
        cookies = read_cookies(path)
    except FileNotFoundError:
        cookies = []
    if given is not None:
        given = check_cookie(given)
    if cookies and (given is None or given in cookies):
        return cookies
    cookies = [given or new_cookie()]
    write_cookies(path, cookies)
    return cookies


def authority_seed(cookie: str) -> bytes:
    """32 bytes: the private Ed25519 key of the cluster's certificate authority."""
    return _derive(cookie.encode(), "certificate authority", 32)


def ghost_key(cookie: str) -> bytes:
    """The key of the cluster's ghosts; see `token.py`."""
    return _derive(cookie.encode(), "ghosts", 20)


def ticket_key(cookie: str) -> bytes:
    """32 bytes: the key of what only nodes can tell ghosts (`core/ghost_tickets.py`)."""
    return _derive(cookie.encode(), "tickets", 32)


def ghost_authority_seed(key: bytes) -> bytes:
    """32 bytes: the private Ed25519 key of the ghosts' certificate authority."""
    return _derive(key, "ghosts' certificate authority", 32)


def fingerprint(cookie: str) -> str:
    """8 hex digits that may be shown to anybody: which cluster this is the cookie of."""
    return _derive(cookie.encode(), "fingerprint", FINGERPRINT_LENGTH // 2).hex()


def _derive(secret: bytes, purpose: str, length: int) -> bytes:
    """HKDF-SHA256, for at most 32 bytes: one key cannot be computed from another."""
    assert length <= 32
    extracted = hmac.digest(_SALT, secret, hashlib.sha256)
    return hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)[:length]
