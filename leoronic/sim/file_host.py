"""What disk and connections do for a file store, simulated: each thing in its time, with flaws.

`core/file_effects.py` says what is asked of them. Used by stores that stand alone (`file_node.py`),
and fit for whole nodes: it knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import Protocol

from leoronic.core.blob import BlobRef, FileRef
from leoronic.core.file_effects import (
    BeginPart,
    ChunkCame,
    ChunkMissed,
    DropFolders,
    DropOtherFolders,
    FindUnneeded,
    FinishPart,
    GlobOutputs,
    HereNow,
    ListBlobs,
    ListRead,
    OutputsMade,
    PartBegun,
    PartFailed,
    PartFinished,
    Place,
    Placed,
    PlaceFailed,
    PullChunk,
    ReadList,
    RemoveBlobs,
    UnneededTold,
)
from leoronic.core.run import AttemptKey
from leoronic.sim.file_disk import FileDisk

DISK_S = 0.02
CHUNK_S = 0.05
STALLED_S = 20.0


class Source(Protocol):
    """A node from which chunks come."""

    disk: FileDisk
    served: dict[str, int]
    """Of each blob, how many chunks it has sent."""

    def find_corrupt(self, digest: str) -> None:
        """A blob of its disk was read, and is damaged."""


class Around(Protocol):
    """What the disk and the connections of a node need of it, in this life of its process."""

    disk: FileDisk

    @property
    def chance(self) -> Random:
        """What decides all that is random."""

    @property
    def flaws(self) -> float:
        """How often a chunk is spoilt or lost on its way, and a disk write fails: from 0 to 1."""

    @property
    def needed(self) -> Collection[str]:
        """The blobs that its journal refers to."""

    def feed(self, message: object) -> None:
        """Tell its file store."""

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do `action` in so many seconds, unless its process ends before."""

    def source(self, node: str) -> Source | None:
        """That node; None: it cannot be reached."""

    def leaves(self, key: AttemptKey) -> tuple[bytes, ...]:
        """The content of the files that an attempt has left."""


class FileHost:
    """See the module. One life of a process; what it has on disk is `around.disk`."""

    def __init__(self, around: Around, now: Callable[[], float]) -> None:
        self._around = around
        self._disk = around.disk
        self._chance = around.chance
        self._now = now
        self._free_at = 0.0

    # ---- the disk ----

    def do(self, message: object) -> None:
        """Have the disk do it: one thing after the other, each in its time."""
        now = self._now()
        self._free_at = max(self._free_at, now) + self._some(DISK_S)
        self._around.later(self._free_at - now, lambda: self._disk_does(message))

    def _disk_does(self, message: object) -> None:  # noqa: PLR0912
        disk, flawed = self._disk, self._chance.random() < self._around.flaws
        match message:
            case ListBlobs():
                self._around.feed(HereNow(disk.refs(), whole=True))
            case BeginPart(digest, found):
                have = disk.begin(digest, found)
                if have is None:
                    self._around.feed(PartFailed(digest, "another blob's list", wrong_list=True))
                elif flawed:
                    self._around.feed(PartFailed(digest, "no room"))
                else:
                    self._around.feed(PartBegun(digest, have))
            case FinishPart(digest):
                if flawed and disk.parts[digest].chunks:
                    disk.parts[digest].chunks[0] = b"spoilt"
                size = disk.finish(digest)
                if size is None:
                    self._around.feed(PartFailed(digest, "a chunk is damaged"))
                else:
                    self._around.feed(PartFinished(digest, size))
            case ReadList(digest):
                self._around.feed(ListRead(digest, disk.lists.get(digest)))
            case Place():
                self._place(message)
            case GlobOutputs(key):
                self._make_outputs(key)
            case DropFolders(keys):
                for key in keys:
                    disk.folders.pop(key, None)
            case DropOtherFolders(keys):
                disk.folders = {key: files for key, files in disk.folders.items() if key in keys}
            case FindUnneeded(held):
                unneeded = [d for d in disk.blobs if d not in held and d not in self._around.needed]
                some = self._chance.sample(unneeded, len(unneeded) // 2)
                self._around.later(
                    self._some(DISK_S), lambda: self._around.feed(UnneededTold(tuple(some)))
                )
            case RemoveBlobs(digests):
                self._remove(digests)
            case other:
                raise AssertionError(f"no disk does {other!r}")

    def _place(self, message: Place) -> None:
        missing = tuple(
            dict.fromkeys(f.digest for f in message.files if not self._disk.is_right(f.digest))
        )
        if missing:
            for digest in missing:
                self._disk.set_aside(digest)
            self._around.feed(PlaceFailed(message.key, "a blob is not here", missing))
            return
        placed = {file.name: self._disk.blobs[file.digest] for file in message.files}
        self._disk.folders[message.key] = placed
        self._around.feed(Placed(message.key))

    def _make_outputs(self, key: AttemptKey) -> None:
        refs = []
        for number, content in enumerate(self._around.leaves(key)):
            digest = self._disk.make(content)
            refs.append(FileRef(f"out{number}", digest=digest, size=len(content)))
        self._around.feed(OutputsMade(key, tuple(refs)))

    def _remove(self, digests: tuple[str, ...]) -> None:
        kept = []
        for digest in digests:
            if digest in self._around.needed:
                kept.append(BlobRef(digest, self._disk.lists[digest].size))
            elif digest in self._disk.blobs:
                self._disk.set_aside(digest)
        if kept:
            self._around.feed(HereNow(tuple(kept)))

    # ---- bulk connections ----

    def pull(self, wanted: PullChunk) -> None:
        """Fetch a chunk."""
        stalls = self._chance.random() < self._around.flaws / 4
        delay_s = STALLED_S if stalls else self._some(CHUNK_S)
        self._around.later(delay_s, lambda: self._arrive(*wanted))

    def _arrive(self, digest: str, index: int, node: str) -> None:
        """The chunk arrives; whoever sends it may have died meanwhile."""
        other = self._around.source(node)
        if other is None:
            self._around.feed(ChunkMissed(digest, index, node, "it cannot be reached"))
            return
        data = other.disk.chunk(digest, index)
        if data is None:
            self._around.feed(ChunkMissed(digest, index, node, "it does not have it"))
            return
        if not other.disk.is_chunk(digest, index, data):
            if digest in other.disk.blobs:
                other.find_corrupt(digest)
            self._around.feed(ChunkMissed(digest, index, node, "it is damaged there"))
            return
        other.served[digest] = other.served.get(digest, 0) + 1
        chance = self._chance.random()
        if chance < self._around.flaws:
            data = b"?" + data[1:] if chance < self._around.flaws / 2 else b""
        if not self._disk.is_chunk(digest, index, data):
            self._around.feed(
                ChunkMissed(digest, index, node, "it came damaged", corrupt=bool(data))
            )
            return
        part = self._disk.parts.get(digest)
        if part is not None:  # else it was given up, or came twice
            part.chunks[index] = data
            self._around.feed(ChunkCame(digest, index))

    def _some(self, at_most_s: float) -> float:
        return self._chance.random() * at_most_s
