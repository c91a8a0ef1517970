"""What membership, discovery and the connections of one node say to each other; see `view.py`."""

from __future__ import annotations

import msgspec


class Found(msgspec.Struct, frozen=True):
    """From discovery to `peers`: perhaps a node listens there (HOST:PORT). `source` says who says.

    A hint, told again and again: `peers` decides whom to connect to, and when.
    """

    addresses: list[str]
    source: str


class Addresses(msgspec.Struct, frozen=True):
    """From discovery to membership: where this node's peer port can be reached, as HOST:PORT."""

    addresses: list[str]


class Remember(msgspec.Struct, frozen=True):
    """To discovery, whenever it changes: {id: [HOST:PORT]} of all other nodes that are known.

    To be kept on disk: who is remembered is waited for when this node starts again. Without
    addresses: to be forgotten. `names` {id: name} are those that are known; `left` have stopped in
    order.
    """

    members: dict[str, list[str]]
    names: dict[str, str] = {}
    left: list[str] = []


class Leave(msgspec.Struct, frozen=True):
    """To membership: this node stops in order; tell everybody."""
