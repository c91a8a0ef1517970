"""A message on its way to another node, as the actor `peers` gets it."""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.peer import PeerMessage


class Outbound(NamedTuple):
    """Send `message` to node `node`; lost if there is no connection."""

    node: str
    message: PeerMessage
