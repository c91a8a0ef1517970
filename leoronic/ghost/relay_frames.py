"""What a node's core and its relay process say to each other, over the socket of the host process.

Messages of ghosts pass through the relay process as the text that they came as: it is the core that
decodes them, and that judges what a ghost may say.
"""

from __future__ import annotations

import msgspec


class _Said(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    pass


class Pass(_Said, frozen=True):
    """Send this frame by that connection; lost if it is gone."""

    connection: int
    text: str
    blob: bytes = b""


class End(_Said, frozen=True):
    """End it, once what was passed before has left. No `Ended` follows."""

    connection: int


class Taken(_Said, frozen=True):
    """So many of the frames that were passed are dealt with: as many more may come."""

    connection: int
    frames: int


class TakeConnections(_Said, frozen=True):
    """Asked: who is connected? Answer: `Connections`."""


class Opened(_Said, frozen=True):
    """A ghost called, whose certificate says that it is `ghost`."""

    connection: int
    ghost: str


class Passed(_Said, frozen=True):
    """A frame came by that connection."""

    connection: int
    text: str
    blob: bytes = b""


class Ended(_Said, frozen=True):
    """That connection is gone."""

    connection: int
    reason: str


class Connections(_Said, frozen=True):
    """All that are open."""

    opened: list[Opened]


ToRelay = Pass | End | Taken | TakeConnections
FromRelay = Opened | Passed | Ended | Connections
