"""Who a ghost is to nodes: its id, its token, and the certificate made of both."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from leoronic import __version__
from leoronic.durable import replace_file
from leoronic.wire.ghost_identity import make_ghost_certificates
from leoronic.wire.identity import Certificates
from leoronic.wire.preface import Preface
from leoronic.wire.token import GHOST, Token

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def ghost_id(path: Path) -> str:
    """The id that is noted in `path`; a fresh one if there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = path.read_text().strip()
        if found.isalnum() and found.islower() and len(found) <= 32:
            return found
    return "".join(_ALPHABET[byte & 31] for byte in os.urandom(10))


class GhostStanding:
    """The certificate is made once, as that takes 0.2 s, and kept in `path` (mode 0600)."""

    def __init__(self, token: Token, ghost: str, path: Path) -> None:
        self.token = token
        self.preface = Preface((token.cluster,), __version__, purpose=GHOST)
        self._ghost = ghost
        self._path = path
        self._made: Certificates | None = None

    @property
    def made(self) -> Certificates | None:
        """Those that there are already."""
        return self._made

    async def certificates(self) -> Certificates:
        """Raises `IdentityFailed`."""
        if self._made is None:
            self._made = self._kept()
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        return self._made

    def _kept(self) -> Certificates | None:
        try:
            kept: dict[str, Any] = json.loads(self._path.read_bytes())
            if kept["of"] == self._of():
                return Certificates(*kept["certificates"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # It is made anew.
        return None

    def _make(self) -> Certificates:
        made = make_ghost_certificates(self.token, self._ghost)
        # On a full disk it is made again at the next start.
        with contextlib.suppress(OSError):
            text = json.dumps({"of": self._of(), "certificates": made})
            replace_file(self._path, text.encode())
        return made

    def _of(self) -> str:
        """Which token and id it belongs to."""
        whole = f"{self.token.encode()} {self._ghost}"
        return hashlib.sha256(whole.encode()).hexdigest()
