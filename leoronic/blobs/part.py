"""A blob under way: its chunks come in any order, from any thread, and each is checked first.

What has come is told by the bytes themselves: after a crash each chunk of the file is checked
again, and what is right is kept.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Protocol

from leoronic.blobs.disk import (
    disk_errors,
    is_hole,
    no_room,
    open_past_cache,
    read_at,
    reserve,
    write_at,
    write_back,
    write_past_cache,
)
from leoronic.blobs.folder import BlobFolder
from leoronic.blobs.hashing import Bytes, Corrupt, is_chunk
from leoronic.core.blob import ChunkList
from leoronic.errors import NotFound, Refused

# A larger blob goes past the page cache: that takes a fraction of the processor's time, and what
# others have there stays. A smaller one will be read in a moment: by its task, or another node.
PAST_CACHE_BYTES_MIN = 256 * 1024 * 1024 + 1

Ranges = tuple[tuple[int, int], ...]
"""Of chunks: (first, the one after the last), in order, not touching each other."""


class Home(Protocol):
    """Where a part goes when it is whole: the store, as a part sees it."""

    folder: BlobFolder

    def room_left(self) -> int:
        """How many bytes may still be written."""

    def ended(self, part: Part, mtime_ns: int | None) -> None:
        """The part is closed; with the file's time of change if it is a blob now."""


class Part:
    """Made by `BlobStore.begin` and `BlobStore.resume`. Several threads may write to it at once."""

    def __init__(self, home: Home, digest: str, chunks: ChunkList) -> None:
        self.digest = digest
        self.chunks = chunks
        self._home = home
        self._file = home.folder.part(digest)
        self._fd = -1
        self._past_cache_fd = -1
        self._here = bytearray(chunks.count)
        self._left = chunks.count
        self._users = 0
        self._ended = False
        self._is_blob = False
        self._changed = threading.Condition()
        # One at a time opens, finishes or closes it.
        self._turn = threading.Lock()

    def open(self) -> None:
        """For the store: open the file, and check what is there of it. May take seconds.

        Raises `DiskFull`, `Refused`; then it is closed, and what had come is kept.
        """
        with self._turn:
            if self._fd >= 0:
                return
            if self._ended:
                raise Refused(f"{self._what()} was given up in this moment: ask again")
            try:
                with disk_errors(self._what(), self._home.folder.path):
                    self._open()
            except BaseException:
                if self._left == self.chunks.count:
                    self._home.folder.remove_part(self.digest)
                self._end(None)
                raise

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._file, flags, 0o600)
        there = os.fstat(self._fd)
        if there.st_size:
            self._restore()
        if self.chunks.size - there.st_blocks * 512 > self._home.room_left():
            raise no_room(self._what(), self._home.folder.path)
        reserve(self._fd, self.chunks.size)
        if self.chunks.size >= PAST_CACHE_BYTES_MIN:
            self._past_cache_fd = open_past_cache(self._file)
        self._home.folder.keep_part_list(self.digest, self.chunks)

    def _restore(self) -> None:
        offset = 0
        for index in range(self.chunks.count):
            size = self.chunks.bytes_of(index)
            if not is_hole(self._fd, offset, size):
                # What the disk cannot give back is fetched again.
                with contextlib.suppress(OSError):
                    self._note(index, is_chunk(self.chunks, index, read_at(self._fd, size, offset)))
            offset += size

    def write_chunk(self, index: int, data: Bytes) -> bool:
        """Check and keep a chunk. False if it is here already, or the part is closed.

        Raises `Corrupt` (these bytes are not that chunk), `DiskFull`, `Refused`.
        """
        if not is_chunk(self.chunks, index, data):
            raise Corrupt(f"what came is not chunk {index} of {self.digest}: ask another node")
        with self._using() as fd, disk_errors(self._what(), self._home.folder.path):
            if fd is None or self._here[index]:
                return False
            offset = index * self.chunks.chunk_bytes
            if not write_past_cache(self._past_cache_fd, data, offset):
                write_at(fd, data, offset)
                write_back(fd, offset, len(data))
            return self._note(index, True)

    def read_chunk(self, index: int) -> bytes:
        """A chunk that has come, checked again, so that it may be handed on already.

        Raises `NotFound`, `Corrupt` (then it counts as missing again).
        """
        with self._using() as fd, disk_errors(self._what(), self._home.folder.path):
            if fd is None or not self.has(index):
                raise NotFound(f"chunk {index} of {self.digest} is not here yet")
            size, offset = self.chunks.bytes_of(index), index * self.chunks.chunk_bytes
            data = read_at(fd, size, offset)
            if not is_chunk(self.chunks, index, data):
                self._note(index, False)
                raise Corrupt(f"chunk {index} of {self.digest} is damaged on this disk")
            return data

    def _note(self, index: int, here: bool) -> bool:
        """Whether that is new."""
        with self._changed:
            if self._here[index] == here:
                return False
            self._here[index] = here
            self._left += -1 if here else 1
            return True

    @contextlib.contextmanager
    def _using(self) -> Iterator[int | None]:
        # A file is not closed under a thread that writes to it: its number may be another's then.
        with self._changed:
            fd = None if self._ended else self._fd
            self._users += 1
        try:
            yield fd
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def has(self, index: int) -> bool:
        """Whether chunk `index`, from 0, has come."""
        return 0 <= index < len(self._here) and bool(self._here[index])

    def here(self) -> Ranges:
        """The chunks that have come."""
        return self._ranges(1)

    def missing(self) -> Ranges:
        """The chunks that have not."""
        return self._ranges(0)

    def _ranges(self, wanted: int) -> Ranges:
        with self._changed:
            marks = bytes(self._here)
        found = []
        first = marks.find(wanted)
        while first >= 0:
            after = marks.find(1 - wanted, first)
            after = len(marks) if after < 0 else after
            found.append((first, after))
            first = marks.find(wanted, after)
        return tuple(found)

    def bytes_here(self) -> int:
        """How many bytes have come."""
        whole = (self.chunks.count - self._left) * self.chunks.chunk_bytes
        last = self.chunks.count - 1
        return whole - (self.chunks.chunk_bytes - self.chunks.bytes_of(last)) * self.has(last)

    def is_complete(self) -> bool:
        """Whether no chunk is missing, so that `finish` may be called."""
        return self._left == 0

    def finish(self) -> None:
        """All chunks are here: once this returns, the blob is on the disk and the store has it.

        Raises `Refused` (chunks are missing, or the disk failed), `DiskFull`.
        """
        with self._turn:
            if self._ended and self._is_blob:
                return
            if self._ended or not self.is_complete():
                raise Refused(f"{self._what()} is not whole: {self._left} chunks are missing")
            self._stop()
            try:
                with disk_errors(self._what(), self._home.folder.path):
                    folder = self._home.folder
                    mtime_ns = folder.take(self._fd, self._file, self.digest, self.chunks)
            except BaseException:
                # After a failed sync nobody knows what is on the disk: all of it is fetched again.
                self._home.folder.remove_part(self.digest)
                self._end(None)
                raise
            self._is_blob = True
            self._end(mtime_ns)

    def close(self) -> None:
        """Stop for now; what has come is kept for `resume` or `begin`. Waits for what writes."""
        with self._turn:
            if not self._ended:
                self._stop()
                self._end(None)

    def drop(self) -> None:
        """Stop, and remove what has come."""
        with self._turn:
            if not self._ended:
                self._stop()
                self._home.folder.remove_part(self.digest)
                self._end(None)

    def _stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: self._users == 0)

    def _end(self, mtime_ns: int | None) -> None:
        self._ended = True
        for fd in (self._fd, self._past_cache_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._past_cache_fd = -1
        self._home.ended(self, mtime_ns)

    def _what(self) -> str:
        return f"{self.digest} ({self.chunks.size} bytes)"
