"""What nodes say to each other. Each message names its sender, and its type says who gets it.

    MACHINE         gets
    membership      Heartbeat, Probe, ProbeAnswer, Introduce, Ghosts, LinkUp, LinkDown
    replication     Push, Pull, Entries, Have, LinkUp, LinkDown
    scheduler       Offer, Freed, FilesPresent, Outstanding
    runner          Interest, Reserve, Assign, CheckFiles              (the executor)
    questions       Ask, Answered
    file_store      SeekBlobs, KeepBlobs, BlobsHere, AskChunks, ChunkPlan, CallBack
    relay           ToGhost, FromGhost

A machine addresses another node's by `Send("ACTOR@NODE", message)`: the actor `peers` carries it.
Lost if there is no connection: everything here is repeated by level. On one connection the order
is kept. Unknown fields are ignored and missing ones have defaults, so that versions can mix.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

import msgspec
from msgspec import Meta

from leoronic.core.blob import Digest
from leoronic.core.bounds import Attempt, NodeId, NodeName, Number, Retries, Seconds, Tag
from leoronic.core.resources import Capacity, Need
from leoronic.core.run import AttemptKey
from leoronic.core.view import TAGS_MAX, About

HELD_MAX = 10_000
"""Attempts that a node may say it has; it takes 3,000 at most."""
OUTSTANDING_MAX = 10_000
JOURNALS_MAX = 16


class PeerMessage(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    """`node` is the sender's id; a connection refuses messages that name another."""

    node: str


class WithBlob(PeerMessage, frozen=True):
    """`blob` travels as the frame's blob, not as JSON."""

    blob: bytes = b""


# ---- told by the connections to the machines of their own node (never sent) ----


class LinkUp(msgspec.Struct, frozen=True):
    """There is a connection to `node` now. `version` is the protocol's that both speak."""

    node: str
    about: About
    address: str
    version: int


class LinkDown(msgspec.Struct, frozen=True):
    """The connection to `node` is gone; that alone says little about the node."""

    node: str
    reason: str = ""


# ---- membership ----


class Heartbeat(PeerMessage, frozen=True):
    """Once a second. Times are milliseconds of the sender's own steady clock.

    `sent_ms`: now. `echo_ms`: the newest `sent_ms` heard from the receiver (in the receiver's
    clock, 0: none): with it the receiver knows how old what follows on this connection may be.
    `have`: what changed in the sender's version vector since its last heartbeat to the receiver.
    `about`: only when it changed.
    """

    sent_ms: Number
    echo_ms: Number = 0
    ready: bool = False
    leaving: bool = False
    have: dict[str, Number] = {}
    about: About | None = None


class Probe(PeerMessage, frozen=True):
    """Have you heard from `target` lately?"""

    target: str


class ProbeAnswer(PeerMessage, frozen=True):
    """`heard_s`: seconds since a sign of life from `target` itself; None: never heard.

    `ready` is what `target` said of itself.
    """

    target: str
    heard_s: Seconds | None = None
    ready: bool = False


class Introduced(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that the sender knows; `down_s`: for how long it has counted as down, or as `left`."""

    id: NodeId
    about: About
    down_s: Seconds = 0.0
    left: bool = False


class Introduce(PeerMessage, frozen=True):
    """Nodes that the receiver may not have met: all on connecting, later those that are new.

    So everybody knows of everybody, even where two cannot reach each other.
    """

    members: list[Introduced]


# ---- replication ----


class Push(WithBlob, frozen=True):
    """New entries of the sender's own journal, `first` and on, one JSON line each in `blob`.

    To be taken only by who holds the entry before and all of `needs` {origin: number} (what else
    the sender came to hold since it wrote that), so that cause stays before effect; who lacks
    some of it asks the sender with `Pull`.
    """

    first: Number = 0
    count: Number = 0
    needs: dict[str, Number] = {}


class Pull(PeerMessage, frozen=True):
    """The sender holds `have`: send it what it lacks, of any origin. Answer: pages of `Entries`.

    `number` comes back with them; a new `Pull` ends the one before.
    """

    have: dict[str, Number] = {}
    number: Number = 0


class Entries(WithBlob, frozen=True):
    """One page of the answer to `Pull` number `pull`, in an order that keeps cause before effect.

    `places` are (origin, first number, count) in turn, `blob` their JSON lines. A number that is
    left out and is at most `floor[origin]` was forgotten (its task ended long ago). After the page
    with `last` the receiver holds all of `have`. The next page follows once `Have` told that this
    one is on disk.
    """

    places: list[tuple[str, Number, Number]] = []
    floor: dict[str, Number] = {}
    last: bool = False
    have: dict[str, Number] = {}
    pull: Number = 0


class Have(PeerMessage, frozen=True):
    """On the sender's disk: what of its version vector the receiver helped to change.

    `pull`: so is the last page of that `Pull`; the next may follow.
    """

    have: dict[str, Number]
    pull: Number = 0


# ---- placing ----


class Held(msgspec.Struct, frozen=True):
    """An attempt that occupies a node; `owner` assigned it."""

    task: str
    attempt: Attempt
    need: Need
    owner: str = ""


class AssignClass(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a task class what its executor must know. `number` is the owner's name for it."""

    number: Number
    need: Need
    pinned: bool = False


class AssignItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt to make. `hold_if_lost`: should it be lost, its task is held."""

    task: str
    attempt: Attempt
    retries_left: Retries = 0
    class_number: Number = 0
    hold_if_lost: bool = False


class Assign(PeerMessage, frozen=True):
    """From an owner's scheduler: run these. Each is taken, or given back with `Freed`.

    Those in `ahead` take over from running attempts of the same class as these end, so that short
    tasks need not wait for a round trip; they occupy nothing until then. (If all of these ended
    meanwhile they start at once, if there is room.) `classes` describes all classes named. `stale`
    is set by the connection on arrival: it was under way for so long that its owner may have given
    up on this node, so nothing of it must start. `number` grows with each `Assign` and `Interest`
    from one scheduler to one executor (0: not numbered).
    """

    items: list[AssignItem] = []
    ahead: list[AssignItem] = []
    classes: list[AssignClass] = []
    stale: bool = False
    number: Number = 0


class Offer(PeerMessage, frozen=True):
    """From an executor: its standing, all of it, by level. To its own scheduler and the interested.

    `fresh`: the first since it started. `name` is the node's. `queued` are attempts that it has and
    that occupy nothing: they stand behind others, or their end is on its way to the disk. `seen` is
    the highest number of the receiver's: what was assigned with it or before, and is neither held
    nor queued, ended or never arrived. `number` is that of an entry of the sender's own: how all
    ended that it ever ran, and does not name here, is in its entries up to that. A ghost's are in
    the journals of those who were its clairvoyants: `journals` has such a number for each.
    """

    name: NodeName
    capacity: Capacity
    tags: Annotated[frozenset[Tag], Meta(max_length=TAGS_MAX)]
    draining: bool
    held: Annotated[list[Held], Meta(max_length=HELD_MAX)]
    fresh: bool = False
    queued: Annotated[list[AttemptKey], Meta(max_length=HELD_MAX)] = []
    seen: Number = 0
    number: Number = 0
    journals: Annotated[dict[NodeId, Number], Meta(max_length=JOURNALS_MAX)] = {}


class Freed(PeerMessage, frozen=True):
    """From an executor: these attempts no longer occupy it; each names its successor, or None.

    `taken`: attempts that occupy it now and that the receiver did not assign so: others', or those
    in `ahead` that started at once. `wants`: how many more tasks of a class (of the receiver's) it
    would queue up behind those that run, `seen` being the highest number of the receiver's that
    this takes into account. `declined`: what the receiver assigned and is given back, none of it
    begun; its classes are not welcome again before `retry_s` seconds.
    """

    attempts: list[tuple[AttemptKey, AttemptKey | None]] = []
    taken: Annotated[list[Held], Meta(max_length=HELD_MAX)] = []
    wants: Annotated[dict[Number, Number], Meta(max_length=HELD_MAX)] = {}
    declined: list[AttemptKey] = []
    retry_s: Seconds = 0.0
    seen: Number = 0


class Interest(PeerMessage, frozen=True):
    """From a scheduler to an executor: it has tasks to place (or not): tell it what gets free.

    The answer to `on` is an `Offer`; from then on `Freed` and `Offer` follow as things change, till
    it is `off` or was not repeated for long. `need` is that of a task which waits for room on this
    very node; None if none does. `number`: see `Assign`.
    """

    on: bool
    need: Need | None = None
    number: Number = 0


class Reserve(PeerMessage, frozen=True):
    """From a scheduler: a big task waits for the executor to get free enough; for `for_s` seconds.

    Meanwhile the executor takes from others only what leaves room for it. `need` None: no longer.
    """

    class_number: Number
    need: Need | None = None
    for_s: Seconds = 0.0


class CheckFiles(PeerMessage, frozen=True):
    """To an executor: which of these paths exist? Answer: `FilesPresent`."""

    paths: list[str]


class FilesPresent(PeerMessage, frozen=True):
    """From an executor: those of the paths asked for that exist there."""

    present: frozenset[str]


class Outstanding(PeerMessage, frozen=True):
    """To a scheduler whose node came back: attempts assigned meanwhile of tasks now its own.

    (task, attempt, node it was assigned to): they may start there any moment.
    """

    attempts: Annotated[list[tuple[str, Attempt, str]], Meta(max_length=OUTSTANDING_MAX)]


# ---- questions of people ----


class Ask(WithBlob, frozen=True):
    """A command of `core/commands.py` (as JSON) for the receiver alone; `request` numbers it.

    `cancel`: the answer to `request` is not wanted any more.
    """

    request: Number = 0
    command: msgspec.Raw = msgspec.Raw(b"null")
    cancel: bool = False


class Answered(WithBlob, frozen=True):
    """A part of an answer, as JSON: {"result": ...} or {"error": {...}}."""

    request: Number = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


# ---- files ----

DIGESTS_MAX = 256
CHUNKS_MAX = 65_536
"""The most chunks of a blob: see `blob.chunk_bytes_for`."""
PULLS_MAX = 64
SOURCES_MAX = 64
REASON_MAX = 500

Digests = Annotated[list[Digest], msgspec.Meta(max_length=DIGESTS_MAX)]
ChunkIndex = Annotated[int, msgspec.Meta(ge=0, lt=CHUNKS_MAX)]
Sources = Annotated[list[NodeId], msgspec.Meta(max_length=SOURCES_MAX)]


class SeekBlobs(PeerMessage, frozen=True):
    """Which of these do you hold? Answer: `BlobsHere`. `want`: fetch what you lack (of a ghost)."""

    digests: Digests
    want: bool = False


class KeepBlobs(PeerMessage, frozen=True):
    """The sender holds these, and maybe nobody else does: fetch them. Answer: `BlobsHere`."""

    digests: Digests


class BlobsHere(PeerMessage, frozen=True):
    """Of those asked for: what the sender holds, what it is about to, and what it has not.

    Those that are `coming` are told again once they are `here`, or `missing` for `reason`; `lost`:
    as no node has them.
    """

    here: Digests = []
    coming: Digests = []
    missing: Digests = []
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MAX)] = ""
    lost: bool = False


class AskChunks(WithBlob, frozen=True, kw_only=True):
    """To the tracker of a blob: whom shall I ask for what? Answer: `ChunkPlan`.

    `blob`: a bit for each chunk that the sender has, the lowest of the first byte for chunk 0;
    `pulling` those under way to it. `holders` have the blob whole, as far as it knows; from those
    in `avoid` it got nothing.
    """

    digest: Digest
    pulling: Annotated[list[ChunkIndex], msgspec.Meta(max_length=PULLS_MAX)] = []
    holders: Sources = []
    avoid: Sources = []
    list_wanted: bool = False


class ChunkPlan(WithBlob, frozen=True, kw_only=True):
    """From the tracker: fetch each of `chunks` from the node named with it.

    `known`: the sender has the blob. The list (`algorithm`, `size`, `chunk_bytes`, and the digests
    in `blob`) is there if it was asked for. With no chunk: ask again in `retry_s`.
    """

    digest: Digest
    known: bool = True
    chunks: Annotated[list[tuple[ChunkIndex, NodeId]], msgspec.Meta(max_length=PULLS_MAX)] = []
    retry_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    algorithm: Annotated[str, msgspec.Meta(max_length=8)] = ""
    size: Number = 0
    chunk_bytes: Number = 0


class CallBack(PeerMessage, frozen=True):
    """Open a connection for files to the sender, which wants some and cannot call."""


# ---- ghosts ----

GHOSTS_MAX = 4096


class GhostTold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ghost that is attached to the sender. `number` is that of the attachment: see `Attach`."""

    id: NodeId
    about: About
    number: Number


class Ghosts(PeerMessage, frozen=True):
    """The sender is the clairvoyant of these; `gone` are no longer attached to it.

    `whole`: of no others; told on connecting. Else what changed since. `ask`: tell all of yours.
    """

    ghosts: Annotated[list[GhostTold], Meta(max_length=GHOSTS_MAX)] = []
    gone: Annotated[list[NodeId], Meta(max_length=GHOSTS_MAX)] = []
    whole: bool = False
    ask: bool = False


class ToGhost(WithBlob, frozen=True, kw_only=True):
    """To the clairvoyant of `ghost`: hand it `message` (one of these here, its blob in `blob`).

    `stale` is set by the connection on arrival, as for `Assign`.
    """

    ghost: NodeId
    message: msgspec.Raw = msgspec.Raw(b"null")
    stale: bool = False


class FromGhost(WithBlob, frozen=True, kw_only=True):
    """From the clairvoyant of `ghost`: it says `message` to the receiver (its blob in `blob`)."""

    ghost: NodeId
    message: msgspec.Raw = msgspec.Raw(b"null")


MESSAGES: TypeAlias = (
    Heartbeat
    | Probe
    | ProbeAnswer
    | Introduce
    | Push
    | Pull
    | Entries
    | Have
    | Assign
    | Offer
    | Freed
    | Interest
    | Reserve
    | CheckFiles
    | FilesPresent
    | Outstanding
    | Ask
    | Answered
    | SeekBlobs
    | KeepBlobs
    | BlobsHere
    | AskChunks
    | ChunkPlan
    | CallBack
    | Ghosts
    | ToGhost
    | FromGhost
)
"""Everything that may come from another node."""

RECEIVERS: dict[type, str] = {
    Heartbeat: "membership",
    Probe: "membership",
    ProbeAnswer: "membership",
    Introduce: "membership",
    Push: "replication",
    Pull: "replication",
    Entries: "replication",
    Have: "replication",
    Offer: "scheduler",
    Freed: "scheduler",
    FilesPresent: "scheduler",
    Outstanding: "scheduler",
    Interest: "runner",
    Reserve: "runner",
    Assign: "runner",
    CheckFiles: "runner",
    Ask: "questions",
    Answered: "questions",
    SeekBlobs: "file_store",
    KeepBlobs: "file_store",
    BlobsHere: "file_store",
    AskChunks: "file_store",
    ChunkPlan: "file_store",
    CallBack: "file_store",
    Ghosts: "membership",
    ToGhost: "relay",
    FromGhost: "relay",
}
"""The actor that gets a message of this type."""
assert RECEIVERS.keys() == {*get_args(MESSAGES)}, "each message has one receiver, and no other"

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[MESSAGES] = msgspec.json.Decoder(MESSAGES)


def encode(message: PeerMessage) -> tuple[bytes, bytes]:
    """(JSON, blob) of a message."""
    if isinstance(message, WithBlob) and message.blob:
        blob = message.blob
        return _encoder.encode(msgspec.structs.replace(message, blob=b"")), blob
    return _encoder.encode(message), b""


def decode(text: bytes, blob: bytes = b"") -> PeerMessage:
    """The message in a frame. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    message = _decoder.decode(text)
    if blob and isinstance(message, WithBlob):
        return msgspec.structs.replace(message, blob=blob)
    return message
