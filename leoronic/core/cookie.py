"""What can be a cookie, wherever it comes from; see `wire/cookie.py` for what it is."""

from __future__ import annotations

from leoronic.errors import BadRequest

# The fingerprint is public, so guesses can be tried at leisure: what can be guessed is refused.
COOKIE_LENGTH_MIN = 20
COOKIE_LENGTH_MAX = 1024
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Digits and letters that none can confuse."""


def check_cookie(cookie: str) -> str:
    """`cookie`, without white space around it. Raises `BadRequest` if it cannot be one."""
    cookie = cookie.strip()
    if not cookie or not cookie.isprintable() or len(cookie) > COOKIE_LENGTH_MAX:
        raise BadRequest("that is no cookie: `leoronic join` prints one")
    if len(cookie) < COOKIE_LENGTH_MIN:
        raise BadRequest(
            f"a cookie of {len(cookie)} characters can be guessed: take the one that "
            f"`leoronic join` prints, or at least {COOKIE_LENGTH_MIN} random characters"
        )
    return cookie
