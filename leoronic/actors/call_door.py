"""The actor `call_door`: it hands connections for calls to the processes that they are for.

Who calls the peer port with `for=call party=ID` wants a process of this node that takes part in
remote calls. Its socket gets the connection before anything is answered (`wire/calls.py`): that
process does TLS itself, and what is said never passes through the node.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

from leoronic.actors.peer_port import PeerPort
from leoronic.runtime.actor import Actor
from leoronic.wire.calls import CALL, FOLDER, HANDED, NO_PARTY, socket_path
from leoronic.wire.handing import hand_socket
from leoronic.wire.preface import Preface
from leoronic.wire.unix import connect_unix


class CallDoor(Actor):
    """`port` is where others call; `state_dir` has the folder with the sockets."""

    def __init__(self, port: PeerPort, state_dir: Path) -> None:
        self._port = port
        self._state_dir = state_dir

    async def started(self) -> None:
        """Clear away what processes that were killed have left; then take calls."""
        folder = self._state_dir / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in folder.iterdir():
            if _is_dead(path):
                path.unlink(missing_ok=True)
        self._port.serve((CALL,), self._take)

    async def stopping(self) -> None:
        """Take no more."""
        self._port.stop((CALL,))

    async def handle(self, message: Any) -> Any:
        """Nobody tells it anything."""
        return await super().handle(message)

    def _take(self, found: socket.socket, theirs: Preface) -> None:
        line = theirs.encode().rstrip()
        if theirs.party:
            path = socket_path(self._state_dir, theirs.party, HANDED)
            # The other end of a copy stays open if it could not be handed.
            if hand_socket(str(path), found.dup(), line):
                found.close()
                return
        with found, contextlib.suppress(OSError):
            standing = self._port.who_i_am()
            if standing is not None:
                found.send(standing.preface._replace(purpose=NO_PARTY).encode())


def _is_dead(path: Path) -> bool:
    """Whether it is a socket at which nobody listens."""
    try:
        connection = connect_unix(str(path))
    except OSError:
        return False
    if connection is None:
        return True
    connection.close()
    return False
