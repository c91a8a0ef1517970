"""One stream of one attempt: read from its pipe, kept in memory while young, in a file when not.

Whole and in order whatever happens to the disk: what cannot be written stays in memory, and beyond
`INLINE_BYTES_MAX` the pipe is not read meanwhile, so that the task pauses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from leoronic.core.outcome import INLINE_BYTES_MAX, StreamRef

if TYPE_CHECKING:
    from leoronic.core.run import AttemptKey
    from leoronic.runner.output import OutputStore

READ_BYTES = 256 * 1024
# Reads in one turn of the loop: a task that prints without end must not keep the others waiting.
READS_MAX = 4
# What `fcntl` calls F_SETPIPE_SZ for a stream that turned out to be large: fewer, larger reads.
PIPE_BYTES = 1024 * 1024


class Stream:
    """`fd` is the read end of the pipe, not blocking; whoever watches it closes it at the end."""

    __slots__ = (
        "_chunks",
        "_held",
        "_store",
        "at_end",
        "blocked",
        "fd",
        "file",
        "key",
        "name",
        "placed",
        "size",
        "watched",
        "young",
    )

    def __init__(self, store: OutputStore, key: AttemptKey, name: str, fd: int) -> None:
        self._store = store
        self._chunks: list[bytes] = []
        self._held = 0
        self.fd = fd
        self.young = True
        """In memory while it is not large. Later output goes to the file as it comes: see `age`."""
        self.watched = False
        """Whether the loop watches `fd`: kept by whoever does that."""
        self.at_end = False
        self.key = key
        self.name = f"{key[0]}.{key[1]}.{name}"
        """The file that it gets once it is large or not young, below the output folder."""
        self.size = 0
        self.file = -1
        self.placed: StreamRef | None = None
        """Where it was put at the end."""
        self.blocked = False
        """The disk is full: nothing is read until `flush` succeeds."""

    @property
    def ended(self) -> bool:
        """Read to the end, and either small enough for the outcome or all in its file."""
        return self.at_end and not self.blocked

    @property
    def written(self) -> int:
        """Bytes that are in the file."""
        return self.size - self._held

    def content(self) -> bytes:
        """What is in memory."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def age(self) -> None:
        """Put what there is into the file, and from now on whatever comes."""
        if self.young:
            self.young = False
            if not self.blocked:
                self.flush()

    def touch(self) -> None:
        """Make its file young, if it has one: old output is removed."""
        if self.file >= 0:
            os.utime(self.file)

    def read(self) -> bool:
        """Read what is there, within a turn's bounds. Whether there was anything, or the end."""
        got = False
        for _ in range(READS_MAX):
            if self.at_end or self.blocked:
                break
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                break
            got = True
            if not data:
                self.at_end = True
                break
            self._take(data)
        return got

    def read_rest(self) -> None:
        """Read what is left in the pipe into memory, whatever the disk says: a pipe is bounded."""
        while not self.at_end:
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._chunks.append(data)
            self._held += len(data)
            self.size += len(data)

    def close(self) -> None:
        """The end: nobody will write any more, or nobody is listened to any more."""
        self.at_end = True
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _take(self, data: bytes) -> None:
        most = self._store.memory_bytes_max
        if self.size <= most < self.size + len(data):
            self._store.widen(self.fd, PIPE_BYTES)
        self._chunks.append(data)
        self._held += len(data)
        self.size += len(data)
        if not self.young or self.size > most:
            self.flush()

    def flush(self) -> bool:
        """Write what is in memory to the file. False if the disk has no room: try again later."""
        if not self._held or self.placed is not None:
            self.blocked = False
            return True
        try:
            if self.file < 0:
                self.file = self._store.open_file(self.name)
            self._write(self.content())
        except OSError as error:
            if not self._store.is_full(error):
                raise
            # What the outcome can carry needs no disk: no task has to pause for it.
            self.blocked = self.size > INLINE_BYTES_MAX
            self._store.wait_for_room(self, error)
            return False
        self.blocked = False
        return True

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while self._held:
            # At an explicit place, so that a write that was cut short is simply continued.
            done = os.pwrite(self.file, view[len(view) - self._held :], self.written)
            self._held -= done
            if self._held:
                self._chunks = [bytes(view[len(view) - self._held :])]
        self._chunks.clear()

    def part(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on, from the file or from memory."""
        written = self.written
        if offset < written:
            return os.pread(self.file, min(limit, written - offset), offset)
        start = offset - written
        return self.content()[start : start + limit]

    def whole(self) -> bytes:
        """All of it, from the file and from memory."""
        if self.file < 0:
            return self.content()
        return os.pread(self.file, self.written, 0) + self.content()
