"""Where a party can be called: a socket for this machine, one for what the node hands to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from leoronic.wire.calls import FOLDER, HANDED, LOCAL, socket_path
from leoronic.wire.handing import HANDED_BYTES_MAX, receive_socket
from leoronic.wire.unix import listen_unix, peer_of

BACKLOG = 512
ACCEPT_AGAIN_S = 0.1


class Listening:
    """The two sockets of `party`. `on_local` gets connections of this machine, on the loop.

    `on_handed(socket, line)` gets one of another machine, and the first line that came by it.
    """

    def __init__(
        self,
        state_dir: Path,
        party: str,
        on_local: Callable[[socket.socket], None],
        on_handed: Callable[[socket.socket, bytes], None],
    ) -> None:
        self._folder = state_dir / FOLDER
        self._paths = {kind: socket_path(state_dir, party, kind) for kind in (LOCAL, HANDED)}
        self._on_local = on_local
        self._on_handed = on_handed
        self._listeners: list[socket.socket] = []

    def begin(self) -> None:
        """Listen. Raises `OSError`."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for kind, take in ((LOCAL, self._on_local), (HANDED, self._take_handed)):
            # An earlier process of that id, if there was one, is gone.
            self._paths[kind].unlink(missing_ok=True)
            listener = listen_unix(str(self._paths[kind]), BACKLOG)
            self._listeners.append(listener)
            self._listen(listener, take)

    def forked(self) -> None:
        """This is a child: its copies are closed, and the parent listens on."""
        for listener in self._listeners:
            listener.close()

    def end(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for path in self._paths.values():
            with contextlib.suppress(OSError):
                path.unlink()
        self._listeners.clear()

    def _listen(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, take)

    def _accept(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                found, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # No descriptor is left, perhaps. Who calls waits, and asks no processor for it.
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(ACCEPT_AGAIN_S, self._listen, listener, take)
                return
            try:
                is_own = peer_of(found)[1] in (os.getuid(), 0)
            except OSError:
                is_own = False
            if not is_own:
                found.close()
                continue
            take(found)

    def _take_handed(self, handing: socket.socket) -> None:
        with handing:
            taken = receive_socket(handing, HANDED_BYTES_MAX)
        if taken is not None:
            self._on_handed(*taken)
