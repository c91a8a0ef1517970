"""Tickets: by which any node knows that a ghost was told to make an attempt.

Whoever becomes a ghost's clairvoyant may not have heard yet what the one before wrote, and a ghost
could claim to run, or to have ended, whatever it likes. So its clairvoyant gives it a ticket with
each attempt that it is assigned. All nodes can check it, and none but nodes can make one: the keys
are derived from the cookies.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated

import msgspec

TICKET_BYTES = 16
Ticket = Annotated[str, msgspec.Meta(max_length=2 * TICKET_BYTES)]
"""Hexadecimal digits; '' is none."""


class Tickets:
    """With the first of `keys` they are made, with each they are checked; none without keys."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = tuple(keys)

    def make(self, ghost: str, task: str, attempt: int) -> str:
        """For that attempt of `task` on `ghost`."""
        return _make(self._keys[0], ghost, task, attempt) if self._keys else ""

    def is_good(self, ticket: str, ghost: str, task: str, attempt: int) -> bool:
        """Whether some node of this cluster made it for just that."""
        return bool(ticket) and any(
            hmac.compare_digest(ticket.encode(), _make(key, ghost, task, attempt).encode())
            for key in self._keys
        )


def _make(key: bytes, ghost: str, task: str, attempt: int) -> str:
    # No id has a line break in it, so no two attempts look the same.
    text = f"{ghost}\n{task}\n{attempt}"
    return blake2b(text.encode(), key=key, digest_size=TICKET_BYTES).hexdigest()
