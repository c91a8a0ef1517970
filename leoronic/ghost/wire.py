"""The actor `wire` of a ghost: the connections that its link asks for.

The link (`core/ghost_link.py`) decides whom to call and when to give up; here is only done what it
says. As a connection of nodes does, each begins with a line from both sides, then comes TLS; the
node's second line has the certificate of its authority (`wire/ghost_identity.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
import time
from typing import Any

import msgspec
from msgspec import structs

from leoronic.core.addresses import parse_address
from leoronic.core.ghost_messages import (
    ANSWER_S,
    GhostAppend,
    decode_to_ghost,
    encode,
)
from leoronic.core.ghost_notices import (
    Dial,
    Dialled,
    HangUp,
    Heard,
    HungUp,
    Transmit,
)
from leoronic.errors import LeoronicError, ProtocolError
from leoronic.ghost.frames import HANDSHAKE_S, SHUTDOWN_S, LinesProtocol, TlsFrames, tune_quiet
from leoronic.ghost.standing import GhostStanding
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.host_frames import Inflow
from leoronic.wire.frames import Frame
from leoronic.wire.ghost_identity import AUTHORITY_LINE_BYTES_MAX, decode_authority, ghost_context
from leoronic.wire.identity import Certificates, certified_node
from leoronic.wire.preface import LINE_BYTES_MAX, Agreed, Preface, agree, decode_preface
from leoronic.wire.protocol import FrameProtocol

WAITING_MAX = 1024


class CallFailed(LeoronicError):
    """There is no connection; the message tells a person why."""


class _Connection:
    """One call, from `Dial` on. `frames` are there once it is open."""

    __slots__ = ("frames", "number", "task")

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.frames: TlsFrames | None = None


class WireActor(Actor):
    """Takes `Dial`, `Transmit` and `HangUp`; tells the actor `link` what comes of it."""

    def __init__(self, standing: GhostStanding, link: str = "membership") -> None:
        self._standing = standing
        self._link_name = link
        self._connections: dict[int, _Connection] = {}

    async def started(self) -> None:
        """Make the certificate, if there is none: it takes longer than a call may."""
        self._certificates: asyncio.Future[Certificates] = (
            asyncio.get_running_loop().create_future()
        )
        self.context.spawn(self._make_certificates(), "certificate")
        self._link = self.context.find(self._link_name)
        self._inflow = Inflow(WAITING_MAX)

    async def stopping(self) -> None:
        """Say what is still to be said."""
        for connection in list(self._connections.values()):
            self._hang_up(connection.number)
        self._inflow.close()

    async def handle(self, message: Any) -> Any:
        """What the link wants."""
        match message:
            case Dial(number, address):
                connection = self._connections[number] = _Connection(number)
                connection.task = self.context.spawn(self._call(connection, address), "call")
            case Transmit(number, said):
                known = self._connections.get(number)
                if known is not None and known.frames is not None:
                    if isinstance(said, GhostAppend):
                        said = structs.replace(said, at=time.time())
                    known.frames.send(*encode(said))
            case HangUp(number):
                self._hang_up(number)
            case _:
                return await super().handle(message)
        return NO_REPLY

    def _hang_up(self, number: int) -> None:
        connection = self._connections.pop(number, None)
        if connection is None:
            return
        if connection.task is not None:
            connection.task.cancel()
        if connection.frames is not None:
            connection.frames.close()

    def _tell(self, message: object) -> None:
        # Few of them, and none may be lost.
        self.context.spawn(self._link.cast(message), "tell")

    async def _make_certificates(self) -> None:
        self._certificates.set_result(await self._standing.certificates())

    # ---- calling ----

    async def _call(self, connection: _Connection, address: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                node = await self._open(connection, address)
        except (LeoronicError, OSError, UnicodeError) as error:
            self._gone(connection, _told(error))
            return
        connection.task = None
        if connection.frames is not None and self._is_open(connection):
            self._tell(Dialled(connection.number, node))

    def _is_open(self, connection: _Connection) -> bool:
        return self._connections.get(connection.number) is connection

    async def _open(self, connection: _Connection, address: str) -> str:
        """The id of the node that answers. Raises `LeoronicError`, `OSError`."""
        certificates = await asyncio.shield(self._certificates)
        loop = asyncio.get_running_loop()
        host, port = parse_address(address)
        raw, lines = await loop.create_connection(
            lambda: LinesProtocol((LINE_BYTES_MAX, AUTHORITY_LINE_BYTES_MAX)), host, port
        )
        try:
            tune_quiet(raw.get_extra_info("socket"))
            raw.write(self._standing.preface.encode())
            authority = self._judge(await lines.lines)
            frames = TlsFrames(self._frame_came(connection), self._lost(connection))
            secured = await loop.start_tls(
                raw,
                frames,
                ghost_context(certificates, authority),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
            if secured is None:
                raise ConnectionResetError("it closed the connection")
        except ssl.SSLError as error:
            raise CallFailed(f"it does not take this ghost's token: {error.reason}") from None
        except BaseException:
            raw.close()
            raise
        connection.frames = frames
        frames.begin(secured)
        return certified_node(secured.get_extra_info("peercert"))

    def _judge(self, lines: list[bytes]) -> str:
        """The certificate of the node's authority. Raises `CallFailed`, `ProtocolError`."""
        if not lines:
            raise ConnectionResetError("it closed the connection without a word")
        ours, theirs = self._standing.preface, decode_preface(lines[0])
        agreed = agree(ours, theirs)
        if not isinstance(agreed, Agreed):
            raise CallFailed(_for_ghost(agreed.reason, ours, theirs))
        if theirs.purpose != ours.purpose:
            raise CallFailed(f"it runs leoronic {theirs.version} and takes no ghosts now")
        if len(lines) < 2:
            raise ConnectionResetError("it closed the connection")
        return decode_authority(lines[1], self._standing.token)

    # ---- what comes ----

    def _frame_came(self, connection: _Connection) -> Any:
        def came(protocol: FrameProtocol, frame: Frame) -> None:
            if not self._is_open(connection):
                return
            try:
                message = decode_to_ghost(frame.json, frame.blob)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ProtocolError(f"not what is said to ghosts: {error}") from None
            self._inflow.add(protocol, self._link, Heard(connection.number, message))

        return came

    def _lost(self, connection: _Connection) -> Any:
        def lost(_protocol: FrameProtocol, error: Exception | None) -> None:
            reason = _told(error) if error is not None else "it closed the connection"
            self._gone(connection, reason)

        return lost

    def _gone(self, connection: _Connection, reason: str) -> None:
        if self._is_open(connection):
            del self._connections[connection.number]
            with contextlib.suppress(RuntimeError):
                self._tell(HungUp(connection.number, reason))


def _told(error: BaseException) -> str:
    if isinstance(error, LeoronicError):
        return error.message
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        # asyncio's own words repeat the address, as a tuple.
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or "it closed the connection"


def _for_ghost(reason: str, ours: Preface, theirs: Preface) -> str:
    """Why they do not fit, with what helps a ghost."""
    if set(ours.clusters) & set(theirs.clusters):
        return reason
    return (
        f"it belongs to another cluster ({' or '.join(theirs.clusters)}; this ghost's token is for "
        f"{ours.clusters[0]}): `leoronic join --ghost` there prints the line for it"
    )
