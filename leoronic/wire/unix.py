"""Unix stream sockets by path: guarded by file permissions, whatever the length of the path."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

# sun_path holds 108 bytes with its final NUL.
ADDRESS_BYTES_MAX = 107
_CREDENTIALS = struct.Struct("3i")


def listen_unix(path: str, backlog: int = 128) -> socket.socket:
    """A listening socket at `path`, mode 0600. Raises OSError (EADDRINUSE if the file exists)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            umask = os.umask(0o177)
            try:
                listener.bind(address)
            finally:
                os.umask(umask)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def connect_unix(path: str) -> socket.socket | None:
    """A connection to whoever listens at `path`, or None if nobody does. It does not wait.

    Raises OSError for other trouble, among it BlockingIOError when too many wait already.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with _address(path) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return pid, uid


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield path
        return
    # The kernel resolves the folder through our descriptor, so only the name counts.
    folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)
