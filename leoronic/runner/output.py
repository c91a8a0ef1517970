"""Where the output of ended attempts is kept.

    output/pack-N                 many small streams, one record after the other
    output/TASK.ATTEMPT.stdout    one large stream

A record of a pack describes itself, so that a pack can be read, checked and cleaned up without the
journal:

    "LEOR" | length u32 | crc32 u32 | name length u16 | name (TASK.ATTEMPT.stdout) | bytes

A stream of at most `INLINE_BYTES_MAX` bytes travels in the outcome. If it has a file, as its
attempt ran for long, that stays until the outcome is safe: should the attempt get lost, the file is
all there is of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from leoronic.core.outcome import INLINE_BYTES_MAX, StreamRef
from leoronic.core.run import AttemptKey
from leoronic.durable import sync_folder
from leoronic.runner.stream import Stream

RECORD = struct.Struct(">4sIIH")
MAGIC = b"LEOR"
RETRY_S = 1.0

# A disk that fails is treated as one that is full: it may be mended, and the bytes are still here.
# So is a limit of open files: some will be closed.
_REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
)
_PACK = re.compile(r"pack-([0-9]+)")

OnKept = Callable[[StreamRef, StreamRef], None]


class OutputStore:
    """Files of one output folder, written by this process alone.

    `on_room` is called for each stream that was waiting for the disk and may be read again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Any,
        memory_bytes_max: int,
        pack_bytes_max: int,
        on_room: Callable[[Stream], None],
    ) -> None:
        self.memory_bytes_max = memory_bytes_max
        self._folder = folder
        self._log = log
        self._pack_bytes_max = pack_bytes_max
        self._on_room = on_room
        self._pack = -1
        self._pack_number = 0
        self._pack_size = 0
        self._full = False
        self._waiting: list[Stream] = []
        self._copies: dict[AttemptKey, list[str]] = {}
        """Files of streams that are in their attempt's outcome too."""
        self._unkept: list[tuple[Stream, Stream, OnKept]] = []
        self._retry: asyncio.TimerHandle | None = None
        self._dirty: set[int] = set()
        self._new_names = False
        self._unsynced: list[tuple[Callable[[bool], None], list[int]]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")

    def open(self) -> None:
        """Make the folder and choose the next pack: an old one may end in half a record."""
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(m[1]) for p in self._folder.iterdir() if (m := _PACK.fullmatch(p.name))]
        self._pack_number = max(numbers, default=0)
        # The thread starts now: later the tasks may have filled the group that we share.
        self._thread.submit(int)

    async def close(self) -> None:
        """Finish what is being synced and close the files. What waits for room stays unkept."""
        if self._retry is not None:
            self._retry.cancel()
        while self._syncing is not None:
            await self._syncing
        self._thread.shutdown()
        if self._pack >= 0:
            os.close(self._pack)
            self._pack = -1

    # --- used by streams ---

    def open_file(self, name: str) -> int:
        """A new file for one stream."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            fd = os.open(self._folder / name, flags, 0o600)
        except FileNotFoundError:
            # Somebody removed old output, folder and all.
            self._folder.mkdir(exist_ok=True)
            fd = os.open(self._folder / name, flags, 0o600)
        self._new_names = True
        return fd

    def widen(self, fd: int, size: int) -> None:
        """Give a busy pipe more room. Refused to users who have many: it only costs speed."""
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY, errno.EBADF):
                raise

    def is_full(self, error: OSError) -> bool:
        """Whether this says that nothing can be written now."""
        return error.errno in _REFUSALS

    def wait_for_room(self, stream: Stream, error: OSError) -> None:
        """Try this stream again each second."""
        if stream not in self._waiting:
            self._waiting.append(stream)
        self._tell_full(error)

    # --- the end of an attempt ---

    def keep(self, stdout: Stream, stderr: Stream, kept: OnKept) -> None:
        """Make both streams durable, then call `kept` with where they are.

        At once where nothing needs a file; otherwise after the next sync of the disk.
        """
        try:
            refs = self._place(stdout), self._place(stderr)
        except OSError as error:
            if not self.is_full(error):
                raise
            self._unkept.append((stdout, stderr, kept))
            self._tell_full(error)
            return
        own = [stream.file for stream in (stdout, stderr) if stream.file >= 0]
        if not refs[0].file and not refs[1].file:
            for fd in own:
                os.close(fd)
            stdout.file = stderr.file = -1
            kept(*refs)
            return
        self._dirty.update(own)

        def synced(intact: bool) -> None:
            stdout.file = stderr.file = -1
            if intact:
                kept(*refs)
            else:
                kept(*(_lost(ref) for ref in refs))

        self._unsynced.append((synced, own))
        self._start_sync()

    def forget(self, key: AttemptKey) -> None:
        """The attempt's outcome is safe: remove what it carries from the folder."""
        for name in self._copies.pop(key, ()):
            # What stays is removed when it is old, like all output.
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def _place(self, stream: Stream) -> StreamRef:
        """Write a stream where it belongs. Repeated after a full disk, it is placed only once."""
        if stream.placed is None:
            if stream.size <= INLINE_BYTES_MAX:
                stream.placed = StreamRef(stream.size, stream.whole())
                if stream.file >= 0:
                    self._copies.setdefault(stream.key, []).append(stream.name)
            elif stream.file >= 0:
                if not stream.flush():
                    raise OSError(errno.ENOSPC, "no room")
                # Its age counts from the end of the task, not from the last byte.
                stream.touch()
                stream.placed = StreamRef(stream.size, file=stream.name)
            else:
                stream.placed = self._append(stream.name, stream.content())
        return stream.placed

    def _append(self, name: str, data: bytes) -> StreamRef:
        if self._pack < 0 or self._pack_size >= self._pack_bytes_max:
            self._next_pack()
        label = os.fsencode(name)
        header = RECORD.pack(MAGIC, len(data), zlib.crc32(data), len(label)) + label
        record = memoryview(header + data)
        done = 0
        while done < len(record):
            # The size moves on only once a record is whole: a full disk leaves no half record
            # behind, as the next try writes over it.
            done += os.pwrite(self._pack, record[done:], self._pack_size + done)
        offset = self._pack_size + len(header)
        self._pack_size += len(record)
        self._dirty.add(self._pack)
        return StreamRef(len(data), file=f"pack-{self._pack_number}", offset=offset)

    def _next_pack(self) -> None:
        number = self._pack_number + 1
        fd = self.open_file(f"pack-{number}")
        if self._pack >= 0:
            # Closed by the sync that also serves what was just written to it.
            old = self._pack
            self._dirty.add(old)
            self._unsynced.append((lambda intact: None, [old]))
        self._pack, self._pack_number, self._pack_size = fd, number, 0

    # --- reading ---

    def read(self, ref: StreamRef, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes of a kept stream from `offset` on. Empty if its file is gone."""
        if not ref.file:
            return ref.inline[offset : offset + limit]
        try:
            fd = os.open(self._folder / ref.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(fd, max(0, min(limit, ref.size - offset)), ref.offset + offset)
        finally:
            os.close(fd)

    # --- the disk: one sync serves everything that waited for it ---

    def _start_sync(self) -> None:
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().create_task(self._sync(), name="sync")

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsynced:
            served, self._unsynced = self._unsynced, []
            dirty, self._dirty = sorted(self._dirty), set()
            folder, self._new_names = self._folder if self._new_names else None, False
            error = await loop.run_in_executor(self._thread, _sync_files, dirty, folder)
            if error is not None:
                self._log.error("output_lost", error=str(error), streams=len(served))
            for synced, own in served:
                for fd in own:
                    os.close(fd)
                synced(error is None)
        self._syncing = None

    def _tell_full(self, error: OSError) -> None:
        if not self._full:
            self._full = True
            folder = str(self._folder)
            self._log.warning("disk_full", folder=folder, error=str(error), retry_s=RETRY_S)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        waiting, self._waiting = self._waiting, []
        unkept, self._unkept = self._unkept, []
        for stream in waiting:
            if stream.flush():
                self._on_room(stream)
        for stdout, stderr, kept in unkept:
            self.keep(stdout, stderr, kept)
        if not self._waiting and not self._unkept:
            self._full = False
            self._log.info("disk_has_room", folder=str(self._folder))


def _lost(ref: StreamRef) -> StreamRef:
    """After a failed sync nobody knows what reached the disk: count all of it as lost."""
    if not ref.file:
        return ref
    return StreamRef(ref.size, file=ref.file, offset=ref.offset, lost=ref.size)


def _sync_files(fds: list[int], folder: Path | None) -> OSError | None:
    """Runs in a thread: fdatasync each file, and the folder if names were added to it."""
    try:
        for fd in fds:
            os.fdatasync(fd)
        if folder is not None:
            sync_folder(folder)
    except OSError as error:
        return error
    return None


def read_pack(path: Path) -> Iterator[tuple[str, int, int]]:
    """The intact records of a pack: (name, offset of the bytes, length). Stops at the first bad."""
    with path.open("rb") as file:
        while len(head := file.read(RECORD.size)) == RECORD.size:
            magic, length, crc, name_length = RECORD.unpack(head)
            name = file.read(name_length)
            offset = file.tell()
            data = file.read(length)
            if magic != MAGIC or len(data) != length or zlib.crc32(data) != crc:
                return
            yield os.fsdecode(name), offset, length
