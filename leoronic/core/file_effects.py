"""What the file store has done for it: by its disk (`blobs`), and by its connections (`bulk`).

Each request may be repeated after a restart and is answered by level. What concerns one digest, or
one attempt, is done in the order in which it was asked for.
"""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.blob import BlobRef, ChunkList, FileRef
from leoronic.core.run import AttemptKey

DISK = "blobs"
BULK = "bulk"

# ---- to the disk, and its answers ----


class ListBlobs(NamedTuple):
    """What is here? Answer: `HereNow`, with `whole`."""


class HereNow(NamedTuple):
    """`here` came to be on this disk, `gone` is no longer. `whole`: that is all that it holds."""

    here: tuple[BlobRef, ...] = ()
    gone: tuple[str, ...] = ()
    whole: bool = False


class FoundCorrupt(NamedTuple):
    """The blob turned out to be damaged and was set aside: it is not here any more."""

    digest: str


class BeginPart(NamedTuple):
    """Make room for a blob with this list, if the list has this name. What an earlier try left is
    checked chunk by chunk, and kept. Answer: `PartBegun` or `PartFailed`.
    """

    digest: str
    list: ChunkList


class PartBegun(NamedTuple):
    """The part can take chunks. `have`: bit i is set if chunk i is there, and right."""

    digest: str
    have: int = 0


class FinishPart(NamedTuple):
    """All chunks are there: make it a blob, durably. Answer: `PartFinished` or `PartFailed`."""

    digest: str


class PartFinished(NamedTuple):
    """The blob is on this disk, of `size` bytes."""

    digest: str
    size: int


class PartFailed(NamedTuple):
    """It cannot be begun or finished, for `reason`. `wrong_list`: the list has another name."""

    digest: str
    reason: str
    wrong_list: bool = False


class ReadList(NamedTuple):
    """The list of a blob that is here. Answer: `ListRead`."""

    digest: str


class ListRead(NamedTuple):
    """`list`: None if the blob is not here, or damaged."""

    digest: str
    list: ChunkList | None


class Place(NamedTuple):
    """Copy each of `files` (blobs that are here) to `folder`/`name` with its mode. `folder` is
    relative to the node's root, and made anew. Answer: `Placed` or `PlaceFailed`.
    """

    key: AttemptKey
    folder: str
    files: tuple[FileRef, ...]


class Placed(NamedTuple):
    """All files of the attempt are in its folder."""

    key: AttemptKey


class PlaceFailed(NamedTuple):
    """Nothing of them is left in the folder. `missing`: blobs that were not here, or damaged."""

    key: AttemptKey
    reason: str
    missing: tuple[str, ...] = ()


class GlobOutputs(NamedTuple):
    """Make blobs of what matches `globs` in `folder` (absolute) and was changed at `since` (seconds
    since the epoch) or later; what was placed for the attempt does not count until it is changed.
    Answer: `OutputsMade`.
    """

    key: AttemptKey
    folder: str
    globs: tuple[str, ...]
    since: float = 0.0


class OutputsMade(NamedTuple):
    """The blobs of `outputs` are on this disk; `problems` name what could not be kept, and why."""

    key: AttemptKey
    outputs: tuple[FileRef, ...]
    problems: tuple[str, ...] = ()


class DropFolders(NamedTuple):
    """Remove the folders of these attempts, if they are there."""

    keys: tuple[AttemptKey, ...]


class DropOtherFolders(NamedTuple):
    """Remove the folders of all other attempts: they are left over from an earlier life."""

    keys: tuple[AttemptKey, ...]


class FindUnneeded(NamedTuple):
    """What should go, so that blobs take no more room than they may? Answer: `UnneededTold`.

    Not what the journal needs, nor what is young, nor what is in `held`.
    """

    held: frozenset[str]


class UnneededTold(NamedTuple):
    """These should go, the least used first."""

    digests: tuple[str, ...]


class RoomWanted(NamedTuple):
    """There is no room on the disk for so many bytes: what may go should, now."""

    size: int


class RemoveBlobs(NamedTuple):
    """Remove these, but for what the journal has come to need since: that is told by `HereNow`."""

    digests: tuple[str, ...]


# ---- to the bulk connections, and their answers ----


class PullChunk(NamedTuple):
    """Fetch a chunk from `node`, check it, and write it into the part of its blob.

    Answer: `ChunkCame` or `ChunkMissed`, within a time that the connections bound themselves.
    """

    digest: str
    index: int  # type: ignore[assignment]
    node: str


class ChunkCame(NamedTuple):
    """The chunk is in the part, and right."""

    digest: str
    index: int  # type: ignore[assignment]


class ChunkMissed(NamedTuple):
    """`node` did not deliver it, for `reason`. `corrupt`: what came was not it."""

    digest: str
    index: int  # type: ignore[assignment]
    node: str
    reason: str
    corrupt: bool = False


# ---- to the journal, and its answers ----


class LookNeeded(NamedTuple):
    """Which blobs do live or retained tasks refer to? At most `limit` of them, in order, the first
    after `after` ('' for the first of all). Answer to `sender`: `NeededTold`.
    """

    sender: str
    after: str
    limit: int


class NeededTold(NamedTuple):
    """`last`: there are none after these."""

    after: str
    digests: tuple[str, ...]
    last: bool


class NewNeeds(NamedTuple):
    """From the journal: entries that were just committed refer to these blobs."""

    digests: tuple[str, ...]


# ---- calls, from the doors ----


class FetchBlobs(NamedTuple):
    """Answered once each of them is here or is given up: why those cannot be had, by digest."""

    digests: tuple[str, ...]


class WhoHas(NamedTuple):
    """Answered, within some seconds, with those that nobody has who can be reached."""

    digests: tuple[str, ...]


class NotAwaited(NamedTuple):
    """Nobody waits any more for the answer to this request: nothing need be fetched for it."""

    request: object


class FetchState(NamedTuple):
    """How far are these? Answered with a `dict[str, Progress]`: those here or under way."""

    digests: tuple[str, ...]


class Progress(NamedTuple):
    """`size` is 0 until it is known."""

    done_bytes: int
    size: int


class Pin(NamedTuple):
    """Do not remove these for so many seconds, whoever needs them. Answered with None."""

    digests: tuple[str, ...]
    for_s: float
