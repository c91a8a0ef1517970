"""TLS between parties of two nodes: both sides show a certificate made from the cookie.

Nothing of it is loaded before the first connection from or to another machine; that one waits
0.2 s for the certificate to be made.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from leoronic import __version__
from leoronic.errors import LeoronicError, ProtocolError
from leoronic.remote.channel import Channel
from leoronic.remote.gone import PartyGone
from leoronic.wire.calls import CALL, NO_PARTY
from leoronic.wire.cookie import read_cookies
from leoronic.wire.preface import LINE_BYTES_MAX, Agreed, Preface, agree, decode_preface

if TYPE_CHECKING:
    from leoronic.wire.identity import Identity

HANDSHAKE_S_MAX = 10.0
SHUTDOWN_S = 2.0


class Tls:
    """Who `node()` is to parties of other machines, by the cookies of the node in `state_dir`.

    All of it is for the loop's thread.
    """

    def __init__(self, state_dir: Path, node: Callable[[], str]) -> None:
        self._cookies = state_dir / "cookie"
        self._node = node
        self._identities: dict[str, Identity] = {}
        self._by_cookie: dict[str, Identity] = {}
        self._making = asyncio.Lock()

    async def call(
        self, found: socket.socket, party: str, new_channel: Callable[[], Channel]
    ) -> Channel:
        """Make a channel to `party` of `found`, which is connected to the peer port of its node.

        Raises `PartyGone`, `OSError`; `found` is closed then.
        """
        loop = asyncio.get_running_loop()
        try:
            identities = await self._current()
            ours = Preface(tuple(identities), __version__, purpose=CALL, party=party)
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                await loop.sock_sendall(found, ours.encode())
                theirs = decode_preface(await _read_line(found))
            agreed = agree(ours, theirs)
            if not isinstance(agreed, Agreed):
                raise PartyGone(agreed.reason)
            if theirs.purpose == NO_PARTY:
                raise PartyGone(f"{party} is not there", nobody_listens=True)
            if theirs.purpose != CALL:
                raise PartyGone(
                    f"its node runs leoronic {theirs.version} and takes no calls: update it"
                )
            _, channel = await loop.create_connection(
                new_channel,
                sock=found,
                ssl=identities[agreed.cluster].calling,
                server_hostname="",
                ssl_handshake_timeout=HANDSHAKE_S_MAX,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except LeoronicError as error:
            found.close()
            if isinstance(error, PartyGone):
                raise
            raise PartyGone(error.message) from error
        except BaseException:
            found.close()
            raise
        return channel

    async def called(
        self, found: socket.socket, line: bytes, new_channel: Callable[[], Channel]
    ) -> Channel:
        """The same for who called; its first `line` has come. Raises `PartyGone`, `OSError`."""
        loop = asyncio.get_running_loop()
        try:
            found.setblocking(False)
            identities = await self._current()
            theirs = decode_preface(line)
            ours = Preface(tuple(identities), __version__, purpose=CALL)
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                await loop.sock_sendall(found, ours.encode())
            agreed = agree(ours, theirs)
            if not isinstance(agreed, Agreed):
                raise PartyGone(agreed.reason)
            _, channel = await loop.connect_accepted_socket(
                new_channel,
                found,
                ssl=identities[agreed.cluster].called,
                ssl_handshake_timeout=HANDSHAKE_S_MAX,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except LeoronicError as error:
            found.close()
            if isinstance(error, PartyGone):
                raise
            raise PartyGone(error.message) from error
        except BaseException:
            found.close()
            raise
        return channel

    async def _current(self) -> dict[str, Identity]:
        """By fingerprint, that of the current cookie first. Raises `LeoronicError`."""
        async with self._making:
            try:
                cookies = read_cookies(self._cookies)
            except OSError as error:
                raise ProtocolError(f"the cookie cannot be read: {error.strerror}") from error
            missing = [cookie for cookie in cookies if cookie not in self._by_cookie]
            if missing:
                from leoronic.wire.identity import make_identities  # noqa: PLC0415 - see above

                made = await asyncio.to_thread(make_identities, missing, self._node())
                self._by_cookie.update(zip(missing, made, strict=True))
            self._by_cookie = {cookie: self._by_cookie[cookie] for cookie in cookies}
            return {one.fingerprint: one for one in self._by_cookie.values()}


async def _read_line(found: socket.socket) -> bytes:
    """The other side's line: it says nothing more before TLS."""
    data = b""
    while not data.endswith(b"\n"):
        if len(data) > LINE_BYTES_MAX:
            raise ProtocolError("what speaks there is no leoronic node")
        more = await asyncio.get_running_loop().sock_recv(found, LINE_BYTES_MAX)
        if not more:
            raise ConnectionResetError("it closed the connection without a word")
        data += more
    return data[:-1]
