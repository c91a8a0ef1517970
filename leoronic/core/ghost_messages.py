"""What a ghost and its clairvoyant say to each other, and to the machines around them.

A ghost is a leaf: it has one connection, to its clairvoyant, and all it says goes that way.

    GHOST                                                   CLAIRVOYANT
    executor -> "journal"    GhostJournal --+           +-- RelayMachine ("relay") -> journal
    executor -> "membership" GhostLink -----+- wire ----+                          -> membership
    anybody  -> "ACTOR@NODE" GhostLink -----+           +-- "relay@NODE" of other nodes

On the wire are the `GhostMessage`s; how they get there is in `ghost_notices.py`.

Nothing here can be had by a ghost but what its own attempts need: it may say `FROM_GHOST` and is
told `TO_GHOST`. It may write of those attempts only that it was assigned: see `ghost_tickets.py`.
Times in `*_ms` are milliseconds of the sender's steady clock, as in `Heartbeat`.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from leoronic.core.bounds import Attempt, NodeId, NodeName, Number, Time
from leoronic.core.entries import Finished, Lost, Started, Tagged, Untagged
from leoronic.core.executor_messages import Open
from leoronic.core.ghost_tickets import Ticket
from leoronic.core.peer import JOURNALS_MAX
from leoronic.core.spec import TaskSpec
from leoronic.core.view import About, Addresses

ENTRIES_MAX = 10_000
NODES_MAX = 4096
REASON_MAX = 500

PING_IDLE_S = 30.0
"""How often a ghost that does nothing says that it is there: under 20 bytes a second."""
PING_BUSY_S = 1.0
ANSWER_S = 5.0
"""Who has no answer for so long has lost contact."""
GONE_S = 2 * PING_IDLE_S + ANSWER_S
"""An idle ghost that is silent for so long is gone."""
GHOST_GRACE_S = 15.0
"""For so long a ghost counts as there that nobody has, so that it may find another clairvoyant."""

Reason = Annotated[str, msgspec.Meta(max_length=REASON_MAX)]
Journals = Annotated[dict[NodeId, Number], msgspec.Meta(max_length=JOURNALS_MAX)]
GhostEntry = Started | Finished | Lost | Tagged | Untagged
"""What an executor writes."""


class GhostMessage(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    """Between a ghost and its clairvoyant."""


# ---- from the ghost ----


class Attach(GhostMessage, frozen=True):
    """The first on a connection: be my clairvoyant. Answer: `Welcome` or `NotWelcome`.

    `ghost` must be the id of the certificate. `about` has capacity, tags and draining; `number`
    grows with each attachment of this ghost, over all its lives: of two nodes that say they have
    it, the one with the higher number does. `journals`: see `Offer.journals`. What it runs, and
    what ended, follows as `GhostAppend`s right after `Welcome`.
    """

    ghost: NodeId
    about: About
    number: Number
    sent_ms: Number
    journals: Journals = {}


class GhostPing(GhostMessage, frozen=True):
    """I am there. Answer: `GhostPong`. `busy`: the next comes within `PING_BUSY_S` or so."""

    sent_ms: Number
    busy: bool = False


class GhostAbout(GhostMessage, frozen=True):
    """What the ghost tells of itself changed."""

    about: About


class GhostAppend(GhostMessage, frozen=True):
    """Write these entries for the ghost. Answer: `GhostAppended` or `GhostAppendFailed`.

    `number` grows; entries that were not answered by one clairvoyant are given to the next.
    `tickets`: for each entry that of its attempt, '' if there is none. `at`: the time of day there
    when this left (0: not told), as a small machine's clock may be anywhere.
    """

    number: Number
    entries: Annotated[list[GhostEntry], msgspec.Meta(max_length=ENTRIES_MAX)]
    want_specs: bool = False
    tickets: Annotated[list[Ticket], msgspec.Meta(max_length=ENTRIES_MAX)] = []
    at: Time = 0.0


class GhostLoadOpen(GhostMessage, frozen=True):
    """The ghost has begun anew: which attempts on it have no end? Answer: `GhostOpen`."""

    life: Number


class GhostFetchSpecs(GhostMessage, frozen=True):
    """The specs of tasks that the ghost has. Answer: `GhostSpecs`."""

    tasks: Annotated[list[str], msgspec.Meta(max_length=ENTRIES_MAX)]


class Up(GhostMessage, frozen=True):
    """An envelope: `message` (a `PeerMessage`, JSON; its blob beside it) is for node `node`."""

    node: NodeId
    message: msgspec.Raw = msgspec.Raw(b"null")
    blob: bytes = b""


class Detach(GhostMessage, frozen=True):
    """The ghost stops in order, or goes to another clairvoyant."""

    reason: Reason = ""


# ---- from the clairvoyant ----


class NodeTold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node of the cluster that counts as there. `addresses`: where its peer port listens."""

    id: NodeId
    name: NodeName
    addresses: Addresses = []


class Welcome(GhostMessage, frozen=True):
    """From now on I am your clairvoyant. `echo_ms` is the `sent_ms` of the `Attach`."""

    node: NodeId
    about: About
    echo_ms: Number
    at_ms: Number
    nodes: Annotated[list[NodeTold], msgspec.Meta(max_length=NODES_MAX)] = []


class NotWelcome(GhostMessage, frozen=True):
    """Go to another one, for `reason`. The connection ends."""

    reason: Reason


class Nodes(GhostMessage, frozen=True):
    """The nodes that count as there changed: all of them, the clairvoyant among them."""

    nodes: Annotated[list[NodeTold], msgspec.Meta(max_length=NODES_MAX)]


class GhostPong(GhostMessage, frozen=True):
    """Answers a `GhostPing`: `echo_ms` is its `sent_ms`, `at_ms` the clairvoyant's clock."""

    echo_ms: Number
    at_ms: Number


class GhostAppended(GhostMessage, frozen=True):
    """As `Appended`, but `entry` is a number in the clairvoyant's journal, not in the ghost's.

    An end is on the disk of another node, too, if there is one that can be reached; one of a task
    that is `unknown` there is not written at all, nor is what the ghost may not write. Specs of the
    tasks in `left` did not fit in: they are to be asked for (`GhostFetchSpecs`).
    """

    number: Number
    refused: frozenset[tuple[str, Attempt]] = frozenset()
    unknown: frozenset[tuple[str, Attempt]] = frozenset()
    specs: dict[str, TaskSpec] = {}
    entry: Number = 0
    left: Annotated[list[str], msgspec.Meta(max_length=ENTRIES_MAX)] = []


class GhostAppendFailed(GhostMessage, frozen=True):
    """Nothing of it is on disk."""

    number: Number
    reason: Reason


class GhostOpen(GhostMessage, frozen=True):
    """Answers `GhostLoadOpen`."""

    open: Open


class GhostSpecs(GhostMessage, frozen=True):
    """Answers `GhostFetchSpecs`. Those in `left` did not fit in: they are to be asked for again.

    Any other that is not there is forgotten.
    """

    specs: dict[str, TaskSpec] = {}
    left: Annotated[list[str], msgspec.Meta(max_length=ENTRIES_MAX)] = []


class Down(GhostMessage, frozen=True):
    """An envelope: `message` (a `PeerMessage`, JSON; its blob beside it) is for this ghost.

    `at_ms`: when the clairvoyant sent it. `stale`: it was under way to it for too long. `tickets`:
    of an `Assign` those of its `items`, then of those `ahead`.
    """

    message: msgspec.Raw = msgspec.Raw(b"null")
    at_ms: Number = 0
    stale: bool = False
    blob: bytes = b""
    tickets: Annotated[list[Ticket], msgspec.Meta(max_length=ENTRIES_MAX)] = []


class GhostStop(GhostMessage, frozen=True):
    """End that attempt if it runs: see `StopAttempt`."""

    task: str
    attempt: Attempt
    reason: Reason


FROM_GHOST: TypeAlias = (
    Attach | GhostPing | GhostAbout | GhostAppend | GhostLoadOpen | GhostFetchSpecs | Up | Detach
)
TO_GHOST: TypeAlias = (
    Welcome
    | NotWelcome
    | Nodes
    | GhostPong
    | GhostAppended
    | GhostAppendFailed
    | GhostOpen
    | GhostSpecs
    | Down
    | GhostStop
)

_encoder = msgspec.json.Encoder()
_from_ghost: msgspec.json.Decoder[FROM_GHOST] = msgspec.json.Decoder(FROM_GHOST)
_to_ghost: msgspec.json.Decoder[TO_GHOST] = msgspec.json.Decoder(TO_GHOST)


def encode(message: GhostMessage) -> tuple[bytes, bytes]:
    """(JSON, blob) of a message."""
    if isinstance(message, Up | Down) and message.blob:
        return _encoder.encode(msgspec.structs.replace(message, blob=b"")), message.blob
    return _encoder.encode(message), b""


def decode_from_ghost(text: bytes, blob: bytes = b"") -> FROM_GHOST:
    """What a ghost says. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    message = _from_ghost.decode(text)
    return msgspec.structs.replace(message, blob=blob) if isinstance(message, Up) else message


def decode_to_ghost(text: bytes, blob: bytes = b"") -> TO_GHOST:
    """What a ghost is told. Raises as `decode_from_ghost`."""
    message = _to_ghost.decode(text)
    return msgspec.structs.replace(message, blob=blob) if isinstance(message, Down) else message
