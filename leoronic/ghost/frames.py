"""Both ends of a ghost's connection: frames inside TLS, and the lines in the clear before them."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from leoronic.errors import ProtocolError
from leoronic.wire.protocol import FrameProtocol

HANDSHAKE_S = 5.0
SHUTDOWN_S = 2.0
UNANSWERED_MS_MAX = 10_000
EARLY_BYTES_MAX = 512 * 1024


def tune_quiet(found: socket.socket) -> None:
    """Nothing waits for company. An idle connection is silent: who speaks notices that it is gone.

    Keep-alive probes, as nodes have them, would be all that an idle ghost sends.
    """
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS_MAX),
    ):
        found.setsockopt(level, option, value)


class TlsFrames(FrameProtocol):
    """Frames over a connection on which TLS began late: what comes before `begin` waits."""

    _early = b""
    _begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is established, as far as the loop tells at once."""
        self._begun = True
        super().connection_made(transport)

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """TLS is established; `start_tls` does not tell its protocol."""
        self.connection_made(transport)
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._begun:
            super().data_received(data)
        elif len(self._early) < EARLY_BYTES_MAX:
            self._early += data


class LinesProtocol(asyncio.Protocol):
    """Takes lines, `lengths` bytes at most each, then reads no further: what follows is TLS."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self._lengths = lengths
        self._data = b""
        self.transport: asyncio.Transport
        self.lines: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.lines.done():
            return
        self._data += data
        *lines, rest = self._data.split(b"\n")
        known = [*lines, rest][: len(self._lengths)]
        if any(len(line) > most for line, most in zip(known, self._lengths, strict=False)):
            self._fail(ProtocolError("what speaks there is no leoronic node"))
        elif len(lines) == len(self._lengths) and not rest:
            self.transport.pause_reading()
            self.lines.set_result(lines)
        elif len(lines) >= len(self._lengths):
            self._fail(ProtocolError("what speaks there is no leoronic node"))

    def eof_received(self) -> bool:
        """It ends, perhaps after its first line: that tells why."""
        if not self.lines.done():
            self.lines.set_result([line for line in self._data.split(b"\n") if line])
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._fail(exc or ConnectionResetError("it closed the connection without a word"))

    def _fail(self, error: Exception) -> None:
        if not self.lines.done():
            self.lines.set_exception(error)
            self.lines.exception()  # Nobody need be waiting for it.
