"""Handing a socket to another process of this node: what SCM_RIGHTS is for."""

from __future__ import annotations

import os
import socket

from leoronic.wire.unix import connect_unix

HANDED_BYTES_MAX = 1024
HANDED_S_MAX = 0.5


def hand_socket(path: str, found: socket.socket, text: bytes) -> bool:
    """Hand `found` and `text` to who listens at `path`; `found` is closed here.

    False if nobody does, or is too slow. It does not wait.
    """
    assert 0 < len(text) <= HANDED_BYTES_MAX
    with found:
        try:
            connection = connect_unix(path)
        except OSError:
            return False
        if connection is None:
            return False
        with connection:
            try:
                return socket.send_fds(connection, [text], [found.fileno()]) == len(text)
            except OSError:
                return False


def receive_socket(connection: socket.socket, bytes_max: int) -> tuple[socket.socket, bytes] | None:
    """What was handed by `connection`; None if it was nothing. It waits a moment at most."""
    # Who hands it has connected, and sends it in the same breath.
    connection.settimeout(HANDED_S_MAX)
    try:
        text, descriptors, _, _ = socket.recv_fds(connection, bytes_max, 4, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None
    for extra in descriptors[1:]:
        os.close(extra)
    if not descriptors:
        return None
    return socket.socket(fileno=descriptors[0]), text
