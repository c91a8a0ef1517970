"""What the machines of ghosts and clairvoyants say to actors around them, and hear from these.

The machines do not see sockets: they send `Dial`, `Transmit` and `HangUp` to the actor `wire` (of a
ghost) or `relay_host` (of a node: a process of its own), and hear `Dialled`, `Came`, `Heard` and
`HungUp` from it. On one connection the order is kept. Both ends have seen by then that the other is
who it says (its certificate), and that they may speak.
"""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.ghost_messages import FROM_GHOST, GhostMessage
from leoronic.core.peer import GhostTold, PeerMessage
from leoronic.core.run import AttemptKey

# ---- connections: the machines and what holds the sockets (`connection` numbers are its own) ----


class Dial(NamedTuple):
    """To `wire`: call HOST:PORT. Answer: `Dialled`, or `HungUp` within `ANSWER_S`."""

    connection: int
    address: str


class Dialled(NamedTuple):
    """To GhostLink: messages can be sent. `node` is the id of the certificate there."""

    connection: int
    node: str


class Came(NamedTuple):
    """To the relay: a ghost called. `ghost` is the id of its certificate."""

    connection: int
    ghost: str


class Heard(NamedTuple):
    """From the other end: `FROM_GHOST` at a relay, `TO_GHOST` at a ghost.

    `at`: the time of day when it came; 0: nobody looked.
    """

    connection: int
    message: GhostMessage
    at: float = 0.0


class Transmit(NamedTuple):
    """Send that to the other end; lost if the connection is gone."""

    connection: int
    message: GhostMessage


class HangUp(NamedTuple):
    """End the connection, once what was sent before has left. No `HungUp` follows."""

    connection: int
    reason: str


class HungUp(NamedTuple):
    """The connection is gone, or could not be made."""

    connection: int
    reason: str


# ---- within a ghost ----


class Candidates(NamedTuple):
    """To GhostLink, from whoever looks for nodes: they listen at these HOST:PORT, all known.

    Told again whenever it changes. With the first one (not empty) the ghost chooses.
    """

    addresses: list[str]


class ToClairvoyant(NamedTuple):
    """To GhostLink, from GhostJournal: say this, if there is anybody to hear it."""

    message: FROM_GHOST


class Attached(NamedTuple):
    """To GhostJournal: there is a clairvoyant now; what it must know may be said.

    `lost_s`: for how long there was none. (Not the runtime's `effects.Attached`.)
    """

    node: str
    lost_s: float


class Working(NamedTuple):
    """To GhostLink, from GhostJournal: something runs, or is to be written down; or no longer."""

    on: bool


class TicketsCame(NamedTuple):
    """To GhostJournal, from GhostLink: these attempts are about to be assigned to this ghost."""

    tickets: dict[AttemptKey, str]


class NodesThere(NamedTuple):
    """To `file_store`, from GhostLink: where the nodes listen that count as there; all, by id."""

    places: dict[str, tuple[str, ...]]


class Unanswered(NamedTuple):
    """To GhostLink, from GhostJournal: what was asked for is not done, for too long."""

    reason: str


class LeaveNow(NamedTuple):
    """To GhostLink: the ghost stops; `Detach`, then `HangUp`."""

    reason: str


class AskLink(NamedTuple):
    """Asked of GhostLink: {"clairvoyant", "name", "address", "candidates", "reason"}."""


# ---- within the clairvoyant ----


class TicketKeys(NamedTuple):
    """To the relay: those of the cookies, the current one first."""

    keys: tuple[bytes, ...]


class RelayUp(NamedTuple):
    """To the relay: its host process is there (anew): no connection exists but those of `came`."""

    came: tuple[Came, ...] = ()


class RelayDown(NamedTuple):
    """To the relay: its host process is gone, and all connections with it."""


class EndRelay(NamedTuple):
    """From the relay to `relay_host`: no ghost has been here for a minute; end the host process."""


class GhostsHere(NamedTuple):
    """From the relay to membership: these ghosts are attached to this node; all, by level."""

    ghosts: tuple[GhostTold, ...]


class GhostIds(NamedTuple):
    """From the relay to `peers`: hand me, as `Outward`, what is for these; all, by level."""

    ghosts: frozenset[str]


class Outward(NamedTuple):
    """From `peers` to the relay: a machine of this node says this to a ghost."""

    ghost: str
    message: PeerMessage
