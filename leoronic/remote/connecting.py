"""A TCP connection to the first of several addresses that answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from leoronic.core.addresses import parse_address

CONNECT_S_MAX = 5.0
# An address that is silent for so long is not waited for alone.
NEXT_S = 0.25
OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # An end that is gone without a word is noticed within 20 s, or 10 s if something is to be sent.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
)


class NoneAnswers(OSError):
    """Nobody could be reached at any of the addresses; the text tells of each."""


async def connect_any(addresses: Sequence[str]) -> tuple[str, socket.socket]:
    """Connect to one of `addresses` (HOST:PORT, the best first); which it was, and its socket.

    Raises `NoneAnswers`.
    """
    waiting = list(addresses)
    trying: dict[asyncio.Task[socket.socket], str] = {}
    missed = []
    try:
        while waiting or trying:
            if waiting:
                address = waiting.pop(0)
                trying[asyncio.create_task(_connect(address))] = address
            done, _ = await asyncio.wait(
                trying,
                timeout=NEXT_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                address = trying.pop(task)
                try:
                    found = task.result()
                except (OSError, ValueError) as error:
                    missed.append(f"{address}: {_why(error)}")
                else:
                    return address, found
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)
    raise NoneAnswers("; ".join(missed) or "its addresses are not known")


async def _connect(text: str) -> socket.socket:
    """A connection to HOST:PORT. Raises `OSError`, `ValueError`."""
    address = parse_address(text)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_S_MAX):
        infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = infos[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setblocking(False)
            await loop.sock_connect(found, place)
            for level, option, value in OPTIONS:
                found.setsockopt(level, option, value)
        except BaseException:
            found.close()
            raise
    return found


def _close(task: asyncio.Task[socket.socket]) -> None:
    """It came too late: another one was quicker."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S_MAX:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
