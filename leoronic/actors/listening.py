"""The socket that the peer port listens on."""

from __future__ import annotations

import asyncio
import errno
import socket

from leoronic.core.addresses import Address, is_wildcard
from leoronic.errors import BadRequest

BACKLOG = 256
# An earlier life of the same actor closes its socket within moments.
PORT_FREE_S_MAX = 1.0
ASK_AGAIN_S = 0.05


async def listen_when_free(host: str, port: int) -> socket.socket:
    """As `listen_tcp`, but a port that is in use is waited for, for a moment."""
    tries = round(PORT_FREE_S_MAX / ASK_AGAIN_S) if port else 0
    for _ in range(tries):
        try:
            return listen_tcp(host, port)
        except BadRequest as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
            await asyncio.sleep(ASK_AGAIN_S)
    return listen_tcp(host, port)


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket. `host` `::` is all addresses, of IPv4 too; port 0 any free port.

    Raises `BadRequest` that says how to choose another address.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        if host == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return listen_tcp("0.0.0.0", port)  # IPv6 is switched off on this machine.
        raise BadRequest(_explain(host, port, error)) from error


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            both = host == "::"
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _explain(host: str, port: int, error: OSError) -> str:
    place = f"port {port}" if is_wildcard(host) else str(Address(host, port))
    if error.errno == errno.EADDRINUSE:
        return (
            f"{place} is in use, perhaps by another node on this machine: choose another port "
            f"with --listen :{port + 1 if port < 65535 else port - 1}"
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return (
            f"this machine has no address {host}: name one that it has with --listen ADDR:PORT, "
            f"or listen on all with --listen :{port}"
        )
    return f"cannot listen on {place}: {error.strerror}; choose another with --listen ADDR:PORT"
