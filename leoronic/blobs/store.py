"""Which blobs are here, and their bytes, each chunk checked as it is read."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from leoronic.blobs.disk import disk_errors, is_damage, read_at, room_left
from leoronic.blobs.folder import BlobFolder, Stored
from leoronic.blobs.hashing import Corrupt, check_list, digest_bytes, digests, is_chunk
from leoronic.blobs.part import Part
from leoronic.core.blob import CHUNK_BYTES, ChunkList, is_digest
from leoronic.errors import BadRequest, NotFound, Refused

PARTS_MAX = 64
# Lists have 2 MiB at most, those of small blobs less than a hundred bytes.
LIST_BYTES_KEPT_MAX = 8 * 1024 * 1024
# So often at most is it written to the disk when a blob was used.
USE_KEPT_S = 60.0


class Held(NamedTuple):
    """A blob, or what there is of one. `used_at`: seconds since the epoch."""

    digest: str
    size: int
    used_at: float


@dataclasses.dataclass(slots=True, eq=False)
class _Entry:
    """A blob that is here. `checked_ns`: the time of change that its file had when all of it was
    checked; 0 if it was not in this life."""

    size: int
    used_at: float
    mtime_ns: int
    kept_at: float
    checked_ns: int = 0


class BlobStore:
    """The blobs in `folder`. May be used by several threads at once, but by one process only.

    `reserve_bytes` and `reserve_share`: the room that stays free on the disk, whichever is more.
    `now` gives seconds since the epoch. Every method may raise `Refused` if the disk fails.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reserve_bytes: int = 0,
        reserve_share: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.folder = BlobFolder(folder)
        self.now = now
        self._reserve = (reserve_bytes, reserve_share)
        self._lock = threading.Lock()
        self._index: dict[str, _Entry] = {}
        self._bytes = 0
        self._parts: dict[str, Part] = {}
        self._lists: OrderedDict[str, ChunkList] = OrderedDict()
        self._list_bytes = 0

    def open(self) -> None:
        """Make the folder, remove what an earlier life left half made, and learn what is here."""
        with disk_errors("the folder of the blobs", self.folder.path):
            self.folder.prepare()
            for stored in self.folder.blobs():
                self._add(stored)

    def has(self, digest: str) -> bool:
        """Whether all of it is here."""
        return digest in self._index

    def size(self, digest: str) -> int:
        """In bytes. Raises `NotFound`."""
        return self._entry(digest).size

    def held(self) -> list[Held]:
        """All blobs that are here, least recently used first."""
        with self._lock:
            found = [Held(name, entry.size, entry.used_at) for name, entry in self._index.items()]
        return sorted(found, key=lambda held: (held.used_at, held.digest))

    def bytes_held(self) -> int:
        """What all of them take."""
        return self._bytes

    def path(self, digest: str) -> Path:
        """The file of a blob, there or not. It is never to be written to, nor linked."""
        _check_digest(digest)
        return self.folder.blob(digest)

    def room_left(self) -> int:
        """How many bytes may be written until the disk has only the reserve left. May be < 0."""
        return room_left(self.folder.path, *self._reserve)

    def use(self, digest: str) -> None:
        """It was used just now: it is not removed in the next ten minutes. Raises `NotFound`."""
        entry = self._entry(digest)
        entry.used_at = now = self.now()
        if abs(now - entry.kept_at) >= USE_KEPT_S:
            entry.kept_at = now
            # That it was used is a hint only; whoever reads it will see that it is gone.
            with contextlib.suppress(OSError):
                self.folder.use(digest, now, entry.mtime_ns)

    def list_of(self, digest: str) -> ChunkList:
        """Its list. Raises `NotFound`, `Corrupt` (then the blob has been set aside)."""
        entry = self._entry(digest)
        with self._lock:
            if digest in self._lists:
                self._lists.move_to_end(digest)
                return self._lists[digest]
        try:
            chunks = self._read_list(digest, entry)
            if chunks.size != entry.size:
                raise Corrupt(f"{digest} has another size than its list")
        except Corrupt:
            self._damaged(digest, entry)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or is_damage(error):
                self._damaged(digest, entry)
            raise _not_read(digest, error) from None
        self._keep_list(digest, chunks)
        return chunks

    def _read_list(self, digest: str, entry: _Entry) -> ChunkList:
        if entry.size > CHUNK_BYTES:
            return self.folder.read_list(digest)
        data = self._read(digest, entry, 0, entry.size)
        name = digest_bytes(digest[:2], data) if data else b""
        chunks = ChunkList(digest[:2], entry.size, CHUNK_BYTES, name)
        check_list(digest, chunks)
        return chunks

    def _keep_list(self, digest: str, chunks: ChunkList) -> None:
        with self._lock:
            if digest not in self._lists:
                self._lists[digest] = chunks
                self._list_bytes += len(chunks.digests)
            while self._list_bytes > LIST_BYTES_KEPT_MAX:
                self._list_bytes -= len(self._lists.popitem(last=False)[1].digests)

    def _forget_list(self, digest: str) -> None:
        if (chunks := self._lists.pop(digest, None)) is not None:
            self._list_bytes -= len(chunks.digests)

    def read_chunk(self, digest: str, index: int) -> bytes:
        """Chunk `index`, from 0, checked.

        Raises `NotFound`, `BadRequest` (no such chunk), `Corrupt` (then the blob has been set
        aside: it counts as not here, and what is right of it is kept as a part).
        """
        entry = self._entry(digest)
        chunks = self.list_of(digest)
        if not 0 <= index < chunks.count:
            raise BadRequest(f"{digest} has {chunks.count} chunks, and none of number {index}")
        data = self._read(digest, entry, index * chunks.chunk_bytes, chunks.bytes_of(index))
        if not is_chunk(chunks, index, data):
            self._damaged(digest, entry)
        return data

    def _read(self, digest: str, entry: _Entry, offset: int, size: int) -> bytes:
        try:
            fd = os.open(self.folder.blob(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._forget(digest, entry)
            raise _not_here(digest) from None
        except OSError as error:
            raise _not_read(digest, error) from None
        try:
            return read_at(fd, size, offset)
        except OSError as error:
            if is_damage(error):
                self._damaged(digest, entry)
            raise _not_read(digest, error) from None
        finally:
            os.close(fd)

    def verify(self, digest: str) -> None:
        """Read all of it, unless that was done in this life and it has not changed since.

        Raises as `read_chunk`.
        """
        entry = self._entry(digest)
        try:
            stat = self.folder.blob(digest).lstat()
        except FileNotFoundError:
            self._forget(digest, entry)
            raise _not_here(digest) from None
        if stat.st_size != entry.size:
            self._damaged(digest, entry)
        if stat.st_mtime_ns == entry.checked_ns:
            return
        for index in range(self.list_of(digest).count):
            self.read_chunk(digest, index)
        entry.checked_ns = stat.st_mtime_ns

    def set_aside(self, digest: str) -> None:
        """It is damaged: it counts as not here, and what is right of it is kept as a part."""
        with contextlib.suppress(NotFound):
            self._set_aside(digest, self._entry(digest))

    def _set_aside(self, digest: str, entry: _Entry) -> None:
        with self._lock, disk_errors(digest, self.folder.path):
            # Whoever read a file may find it damaged when another, or none, is there already.
            if self._index.get(digest) is not entry:
                raise _not_here(digest)
            self._drop(digest)
            if digest in self._parts:
                # Made here while it was fetched: what has come of it is not to be replaced.
                self.folder.remove(digest)
            else:
                self.folder.set_aside(digest)

    def _damaged(self, digest: str, entry: _Entry) -> NoReturn:
        self._set_aside(digest, entry)
        raise Corrupt(f"{digest} was damaged on this disk; it counts as not here")

    def remove(self, digest: str, unused_since: float | None = None) -> bool:
        """Remove it, unless it was used after `unused_since` (seconds since the epoch).

        Whether it was removed.
        """
        with self._lock, disk_errors(f"removing {digest}", self.folder.path):
            entry = self._index.get(digest)
            if entry is None or (unused_since is not None and entry.used_at > unused_since):
                return False
            self._drop(digest)
            self.folder.remove(digest)
            return True

    def begin(self, digest: str, chunks: ChunkList) -> Part:
        """The blob under way, with what is there of it already; the same one if it has begun.

        Raises `Corrupt` (`chunks` is not its list), `Refused` (it is here already, it cannot be
        checked here, or too many are under way), `DiskFull`. What is there is read and checked:
        this may take seconds.
        """
        _check_digest(digest)
        check_list(digest, chunks)
        with self._lock:
            if digest in self._index:
                raise Refused(f"{digest} is here already")
            part = self._parts.get(digest)
            if part is None:
                if len(self._parts) >= PARTS_MAX:
                    raise Refused(f"{PARTS_MAX} blobs are under way: wait until one is here")
                part = self._parts[digest] = Part(self, digest, chunks)
        part.open()
        return part

    def resume(self, digest: str) -> Part | None:
        """As `begin`, with the list that was kept beside the part; None if there is none."""
        if (part := self.under_way(digest)) is not None:
            return part
        try:
            chunks = self.folder.read_part_list(digest)
        except (OSError, Corrupt):
            return None
        return self.begin(digest, chunks)

    def under_way(self, digest: str) -> Part | None:
        """The part that has begun and is neither finished nor closed."""
        return self._parts.get(digest)

    def ended(self, part: Part, mtime_ns: int | None) -> None:
        """For the part: it is closed, and with a time of change it is a blob now."""
        if mtime_ns is not None:
            self.add(part.digest, part.chunks, mtime_ns)
        with self._lock:
            self._parts.pop(part.digest, None)

    def add(self, digest: str, chunks: ChunkList, mtime_ns: int) -> None:
        """For those who have given a blob its name: it is here, and was checked."""
        self._keep_list(digest, chunks)
        self._add(Stored(digest, chunks.size, self.now(), mtime_ns), checked_ns=mtime_ns)

    def parts_left(self) -> list[Held]:
        """What is left of transfers that are not under way now, oldest first."""
        with disk_errors("parts of blobs", self.folder.path):
            left = [Held(*stored[:3]) for stored in self.folder.parts_left()]
        unused = [held for held in left if held.digest not in self._parts]
        return sorted(unused, key=lambda held: (held.used_at, held.digest))

    def remove_part(self, digest: str) -> None:
        """Remove what is left of a transfer, unless it is under way."""
        with self._lock, disk_errors(f"removing {digest}", self.folder.path):
            if digest not in self._parts:
                self.folder.remove_part(digest)

    def _entry(self, digest: str) -> _Entry:
        entry = self._index.get(digest)
        if entry is None:
            raise _not_here(digest)
        return entry

    def _add(self, stored: Stored, checked_ns: int = 0) -> None:
        with self._lock:
            if stored.digest in self._index:
                self._bytes -= self._index[stored.digest].size
            self._bytes += stored.size
            self._index[stored.digest] = _Entry(
                stored.size, stored.used_at, stored.mtime_ns, stored.used_at, checked_ns
            )

    def _forget(self, digest: str, entry: _Entry) -> None:
        """Somebody removed its file."""
        with self._lock:
            if self._index.get(digest) is entry:
                self._drop(digest)

    def _drop(self, digest: str) -> None:
        self._bytes -= self._index.pop(digest).size
        self._forget_list(digest)


def _not_here(digest: str) -> NotFound:
    return NotFound(f"{digest} is not on this node")


def _not_read(digest: str, error: OSError) -> Refused:
    return Refused(f"{digest} cannot be read: {error.strerror}")


def _check_digest(digest: str) -> None:
    if not is_digest(digest) or digest[:2] not in digests():
        raise Refused(f"{digest} is not the name of a blob that can be checked here")
