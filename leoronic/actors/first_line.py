"""The socket of a connection, and the one line that comes before TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from leoronic.core.addresses import Address
from leoronic.errors import LeoronicError, ProtocolError
from leoronic.wire.preface import LINE_BYTES_MAX, Preface

# The kernel ends a connection whose other end answers nothing for so long.
UNANSWERED_MS_MAX = 10_000


class OtherPurpose(LeoronicError):
    """Who called does not want to exchange messages, says its line: `preface`."""

    def __init__(self, preface: Preface) -> None:
        super().__init__(f"it calls for {preface.purpose}")
        self.preface = preface


class LineProtocol(asyncio.Protocol):
    """Takes one line, then reads no further: what follows it is for TLS."""

    def __init__(self, on_made: Callable[[LineProtocol], None] | None = None) -> None:
        self._on_made = on_made
        self._data = b""
        self.transport: asyncio.Transport
        self.line: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self.transport = cast(asyncio.Transport, transport)
        tune(self.transport)
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.line.done():
            return
        self._data += data
        line, end, rest = self._data.partition(b"\n")
        if end and not rest:
            self.transport.pause_reading()
            self.line.set_result(line)
        elif end or len(self._data) > LINE_BYTES_MAX:
            self._fail(ProtocolError("what speaks there is no leoronic node"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._fail(exc or ConnectionResetError("it closed the connection without a word"))

    def _fail(self, error: Exception) -> None:
        if not self.line.done():
            self.line.set_exception(error)
            self.line.exception()  # Nobody need be waiting for it.


def tune(transport: asyncio.BaseTransport) -> None:
    """As `tune_socket`."""
    found = transport.get_extra_info("socket")
    if found is not None:
        tune_socket(found)


def tune_socket(found: socket.socket) -> None:
    """Nothing waits for company, and an end that is gone is noticed."""
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS_MAX),
    ):
        found.setsockopt(level, option, value)


def second_socket(transport: asyncio.BaseTransport) -> socket.socket:
    """The same connection once more: it stays open when the transport is closed."""
    found = transport.get_extra_info("socket")
    return socket.fromfd(found.fileno(), found.family, found.type)


def own_host(transport: asyncio.BaseTransport) -> str:
    """The address of this machine at this end of the connection; empty once that is closed."""
    host, *_ = transport.get_extra_info("sockname") or ("",)
    return str(host).removeprefix("::ffff:")


def remote_address(transport: asyncio.BaseTransport) -> Address:
    """Where the other end is; an IPv4 address as such, whatever kind of socket it is."""
    host, port, *_ = transport.get_extra_info("peername") or ("", 0)
    return Address(host.removeprefix("::ffff:"), port)
