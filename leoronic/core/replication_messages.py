"""What replication, the journal and the queue of one node say to each other.

A *version vector* is {origin: number}: all its entries up to that number are held, or forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from leoronic.errors import LeoronicError


class Body(NamedTuple):
    """An entry as it travels: place and JSON text."""

    origin: str
    number: int
    text: bytes


class LoadVector(msgspec.Struct, frozen=True):
    """Asked of the journal by replication that starts. Answer: `VectorLoaded`."""

    sender: str
    life: int = 0


class VectorLoaded(msgspec.Struct, frozen=True):
    """`have` is this disk's version vector; `floor` {origin: highest number forgotten}."""

    node: str
    have: dict[str, int]
    floor: dict[str, int]
    life: int = 0


class Written(msgspec.Struct, frozen=True):
    """From the journal after each commit: what this node itself wrote, as text, in order."""

    bodies: list[Body]


class Take(msgspec.Struct, frozen=True):
    """Write entries of other nodes, in this order. Answer: `Taken` or `TakeFailed`.

    A number that follows a gap is taken only if the gap is at most `floor[origin]`; one that is
    held already is skipped. `have`: with these all of it is held, gaps included. `patient`: it may
    wait a little for company.
    """

    token: int
    bodies: list[Body]
    floor: dict[str, int] = {}
    have: dict[str, int] = {}
    patient: bool = False


class Taken(msgspec.Struct, frozen=True):
    """On disk. `have`: what changed in the version vector. `refused`: why some were not taken."""

    token: int
    have: dict[str, int]
    refused: str = ""


class TakeFailed(msgspec.Struct, frozen=True):
    """Nothing of it is on disk."""

    token: int
    error: LeoronicError


class ReadPage(msgspec.Struct, frozen=True):
    """Entries past local place `after` that a holder of `have` lacks, at most about `bytes_max`.

    Answer: `PageRead`, in local order, which keeps cause before effect.
    """

    token: int
    have: dict[str, int]
    after: int
    bytes_max: int


class PageRead(msgspec.Struct, frozen=True):
    """`after` is where the next page begins; `last`: with this all of `have` was read."""

    token: int
    bodies: list[Body]
    after: int
    last: bool
    have: dict[str, int]
    floor: dict[str, int]


class AwaitCopies(msgspec.Struct, frozen=True):
    """Tell `sender` (`Copied`) once another node holds our entry `number`.

    At once if there is nobody to hold it, and in any case within a bounded time. Of two senders no
    two tokens are the same.
    """

    token: int
    number: int
    sender: str = "queue"


class Copied(msgspec.Struct, frozen=True):
    """`nodes` (ids, this one not among them) hold the entry durably."""

    token: int
    nodes: list[str]


class Ready(msgspec.Struct, frozen=True):
    """To membership: this node has caught up with the others and may own tasks.

    `since`: when it began to, by the steady clock.
    """

    have: dict[str, int]
    since: float = 0.0


class CatchUp(msgspec.Struct, frozen=True):
    """From membership: this node stood still for so long that others may have gone on without it.

    `Ready` is to be told again, once it has caught up again.
    """


class Vector(msgspec.Struct, frozen=True):
    """To membership: what changed in the version vector, for the next heartbeats."""

    have: dict[str, int]


class PeerVector(msgspec.Struct, frozen=True):
    """From membership to replication: `node` told in a heartbeat that it holds `have` (changes)."""

    node: str
    have: dict[str, int]


class AskStable(msgspec.Struct, frozen=True):
    """Asked (a call): what may be forgotten. Answer: a version vector that all members hold.

    None while somebody is catching up.
    """


class Misbehaved(msgspec.Struct, frozen=True):
    """To `peers`: close the connection to `node`, it sent what it must not: `reason`."""

    node: str
    reason: str


class Rejoin(msgspec.Struct, frozen=True):
    """To `peers`: what is on this disk must not be mixed with what the others hold now.

    It was away for longer than they remember, or it lost what it had told them. It is to be set
    aside (kept, its name told), and the node starts anew, with an empty disk.
    """

    reason: str
