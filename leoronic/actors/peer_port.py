"""What the actor that has the peer port shares with those that take other connections there.

A connection whose first line names a purpose is not for the messages of nodes: its socket is
handed, before anything is answered, to who has said that it takes those.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from leoronic.wire.preface import Preface

if TYPE_CHECKING:
    from leoronic.actors.standing import Standing

Take = Callable[[socket.socket, Preface], None]
"""Takes a socket over; its line has come, ours has not been sent. Called on the loop."""


class PeerPort:
    """One for each node. `standing`: who this node is to others; None until that is known."""

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self._takers: dict[str, Take] = {}

    def who_i_am(self) -> Standing | None:
        """For a connection that begins now."""
        return self.standing

    def serve(self, purposes: Iterable[str], take: Take) -> None:
        """From now on `take` gets the connections for `purposes`."""
        self._takers.update(dict.fromkeys(purposes, take))

    def stop(self, purposes: Iterable[str]) -> None:
        """Nobody takes connections for `purposes` any more."""
        for purpose in purposes:
            self._takers.pop(purpose, None)

    def taker(self, purpose: str) -> Take | None:
        """Who takes connections for `purpose`."""
        return self._takers.get(purpose)
