"""The relay process of a node: the connections of its ghosts.

The core takes what calls at the peer port, reads the first line, and passes the sockets of ghosts
on to this process (`wire/handing.py`), which does TLS with them. It decides nothing: what comes
goes to the core's relay machine (`core/relay.py`), and what that says goes out.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import ssl
from pathlib import Path
from typing import Any

from leoronic import __version__
from leoronic.errors import BadRequest, LeoronicError, ProtocolError
from leoronic.ghost.frames import HANDSHAKE_S, SHUTDOWN_S, TlsFrames, tune_quiet
from leoronic.ghost.ghost_line import GhostLine
from leoronic.ghost.relay_frames import (
    Connections,
    End,
    Ended,
    FromRelay,
    Opened,
    Pass,
    Passed,
    TakeConnections,
    Taken,
    ToRelay,
)
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.wire.cookie import read_cookies
from leoronic.wire.frames import Frame, FrameDecoder
from leoronic.wire.ghost_identity import RelayIdentity, make_relay_identities
from leoronic.wire.handing import HANDED_BYTES_MAX, receive_socket
from leoronic.wire.identity import certified_node
from leoronic.wire.preface import Agreed, Preface, agree, decode_preface
from leoronic.wire.protocol import FrameProtocol
from leoronic.wire.token import GHOST
from leoronic.wire.unix import listen_unix, peer_of

STRANGERS_MAX = 64
CONNECTIONS_MAX = 1024
UNSENT_BYTES_MAX = 32 * 1024 * 1024
TOLD_MAX = 1024
# What a ghost says at once: an executor's offer of 10,000 attempts, a part of some output.
FROM_GHOST_BYTES_MAX = 8 << 20
FROM_GHOST_BLOB_BYTES_MAX = 1 << 20

_ID = re.compile(r"[a-z0-9]{1,32}")


class RelayHostActor(Actor):
    """`node` is the node's id, `cookies` its cookie file, `handed` the socket for `receive_socket`.

    Takes the messages of `ToRelay`, emits those of `FromRelay`.
    """

    takes = ToRelay
    gives = FromRelay

    def __init__(self, node: str, cookies: Path, handed: Path) -> None:
        self._node = node
        self._cookies = cookies
        self._handed = handed
        self._numbers = itertools.count(1)
        self._open: dict[int, GhostLine] = {}
        self._strangers: dict[asyncio.Task[None], socket.socket] = {}
        self._identities: dict[str, RelayIdentity] = {}
        self._made_of: list[str] = []
        self._told: set[tuple[str, str]] = set()
        self._making = asyncio.Lock()

    async def started(self) -> None:
        """Take sockets. The certificates are made meanwhile."""
        self._handed.unlink(missing_ok=True)
        self._listener = listen_unix(str(self._handed))
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._take_all)
        self.context.spawn(self._try_identities(), "identities")

    async def stopping(self) -> None:
        """All ghosts look for another node."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()
        for known in self._open.values():
            known.frames.close()

    async def handle(self, message: Any) -> Any:
        """What the core says."""
        match message:
            case Pass(number, text, blob):
                known = self._open.get(number)
                if known is not None:
                    known.frames.send(text.encode(), blob)
            case End(number):
                known = self._open.pop(number, None)
                if known is not None:
                    known.frames.close()
            case Taken(number, frames):
                known = self._open.get(number)
                if known is not None:
                    known.taken(frames)
            case TakeConnections():
                for known in self._open.values():
                    known.taken_all()  # Whoever had them has begun anew.
                opened = [Opened(number, known.ghost) for number, known in self._open.items()]
                return Connections(opened)
            case _:
                return await super().handle(message)
        return NO_REPLY

    # ---- sockets that the core hands on ----

    def _take_all(self) -> None:
        while True:
            try:
                handing, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self.context.log.error("a ghost's connection was lost", reason=str(error))
                return
            with handing:
                if peer_of(handing)[1] == os.getuid():
                    self._take(handing)

    def _take(self, handing: socket.socket) -> None:
        taken = receive_socket(handing, HANDED_BYTES_MAX)
        if taken is None:
            return
        found, line = taken
        if len(self._strangers) >= STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            # Now, not once it has ended: else the next one would find the same oldest.
            del self._strangers[oldest]
            oldest.cancel()
        task = self.context.spawn(self._greet(found, line), "greet")
        self._strangers[task] = found
        task.add_done_callback(lambda done: self._strangers.pop(done, None))

    async def _greet(self, found: socket.socket, line: bytes) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._open_one(found, decode_preface(line))
        except (LeoronicError, OSError) as error:
            told = error.message if isinstance(error, LeoronicError) else str(error)
            self._tell_once(_host(found), told or "no answer in time")
            found.close()
        except asyncio.CancelledError:
            found.close()
            raise

    async def _open_one(self, found: socket.socket, theirs: Preface) -> None:
        loop = asyncio.get_running_loop()
        found.setblocking(False)
        tune_quiet(found)
        identities = await self._current_identities()
        ours = Preface(tuple(identities), __version__, purpose=GHOST)
        agreed = agree(ours, theirs)
        if not isinstance(agreed, Agreed):
            await loop.sock_sendall(found, ours.encode())
            raise ProtocolError(agreed.reason)
        identity = identities[agreed.cluster]
        await loop.sock_sendall(found, ours.encode() + identity.line)
        try:
            await loop.connect_accepted_socket(
                self._new_frames,
                found,
                ssl=identity.called,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except ssl.SSLError as error:
            raise ProtocolError(f"it cannot prove that it has a token: {error.reason}") from None

    def _new_frames(self) -> TlsFrames:
        number = next(self._numbers)
        return TlsFrames(
            lambda _, frame: self._came(number, frame),
            lambda _, error: self._lost(number, error),
            lambda frames: self._opened(number, frames),
            decoder=FrameDecoder(
                json_bytes_max=FROM_GHOST_BYTES_MAX, blob_bytes_max=FROM_GHOST_BLOB_BYTES_MAX
            ),
            send_bytes_max=UNSENT_BYTES_MAX,
        )

    def _opened(self, number: int, frames: FrameProtocol) -> None:
        """Both have proved who they are; the first frame may follow at once."""
        assert frames.transport is not None
        ghost = certified_node(frames.transport.get_extra_info("peercert"))
        if len(self._open) >= CONNECTIONS_MAX or not _ID.fullmatch(ghost):
            self.context.log.warning(
                "ghost not connected", reason="no room for it", peer=ghost[:32]
            )
            frames.abort()
            return
        self._open[number] = GhostLine(ghost, frames)
        self.context.emit(Opened(number, ghost))

    def _tell_once(self, who: str, reason: str) -> None:
        """It will call again, soon: people are told each reason once."""
        if (who, reason) in self._told:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told.add((who, reason))
        self.context.log.warning("ghost not connected", address=who, reason=reason)

    # ---- certificates ----

    async def _try_identities(self) -> None:
        try:
            await self._current_identities()
        except (LeoronicError, OSError) as error:
            self.context.log.error("ghosts cannot connect", reason=str(error))

    async def _current_identities(self) -> dict[str, RelayIdentity]:
        """By fingerprint, of the cookies as they are now. Raises `LeoronicError`, `OSError`."""
        async with self._making:
            cookies = self._read_cookies()
            if cookies != self._made_of:
                made = await asyncio.to_thread(make_relay_identities, cookies, self._node)
                self._identities = {identity.fingerprint: identity for identity in made}
                self._made_of = cookies
            return self._identities

    def _read_cookies(self) -> list[str]:
        try:
            return read_cookies(self._cookies)
        except FileNotFoundError:
            raise BadRequest(f"the cookie {self._cookies} is gone") from None

    # ---- what comes ----

    def _came(self, number: int, frame: Frame) -> None:
        known = self._open.get(number)
        if known is None:
            return
        try:
            text = frame.json.decode()
        except UnicodeDecodeError:
            raise ProtocolError("a frame that is no text") from None
        self.context.emit(Passed(number, text, frame.blob))
        known.came(len(frame.json) + len(frame.blob))

    def _lost(self, number: int, error: Exception | None) -> None:
        if self._open.pop(number, None) is not None:
            reason = error.message if isinstance(error, LeoronicError) else str(error or "")
            self.context.emit(Ended(number, reason or "it closed the connection"))


def _host(found: socket.socket) -> str:
    """Where the other end is, as far as can be told."""
    try:
        return str(found.getpeername()[0])
    except (OSError, IndexError, TypeError):
        return ""
