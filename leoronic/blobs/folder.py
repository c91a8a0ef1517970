"""The folder of the blobs: what each file in it is called, and what a power cut leaves of it.

blobs/ab/b3-ab...         a blob, mode 0444; its time of access is when it was last used
blobs/ab/b3-ab....list    its list, if it has more than one chunk
blobs/parts/b3-ab...      one under way, or one that was found damaged; .list if that is known
blobs/parts/new-...       one being made; removed at the next start

A blob has its name only once all of it is on the disk, and its list before it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from leoronic.blobs.hashing import digests, list_file, read_list
from leoronic.core.blob import CHUNK_BYTES, ChunkList, is_digest
from leoronic.durable import sync_folder

LIST = ".list"
NEW = "new-"
# A list of 65,536 chunks, and its head.
LIST_BYTES_MAX = 65_536 * 32 + 100


class Stored(NamedTuple):
    """A file that was found. Times in seconds since the epoch, or nanoseconds."""

    digest: str
    size: int
    used_at: float
    mtime_ns: int


def file_name(digest: str) -> str:
    """What its file is called."""
    return digest.replace(":", "-")


def digest_named(name: str) -> str | None:
    """Which blob has a file of this name; None if none has, or it cannot be checked here."""
    digest = name.replace("-", ":", 1)
    return digest if is_digest(digest) and digest[:2] in digests() else None


class BlobFolder:
    """Names and moves files; knows nothing of what is going on. All of it raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = path / "parts"
        self._numbers = itertools.count()

    def blob(self, digest: str) -> Path:
        """The file of a blob, there or not."""
        return self.path / digest[3:5] / file_name(digest)

    def part(self, digest: str) -> Path:
        """The file of a blob under way, there or not."""
        return self.parts / file_name(digest)

    def new(self) -> Path:
        """For a blob whose name is not known yet."""
        return self.parts / f"{NEW}{next(self._numbers)}"

    def prepare(self) -> None:
        """Make it, and remove what an earlier life left half made."""
        self.parts.mkdir(parents=True, exist_ok=True, mode=0o700)
        for entry in os.scandir(self.parts):
            if entry.name.startswith(NEW) or entry.name.endswith(".new"):
                Path(entry.path).unlink(missing_ok=True)

    def blobs(self) -> Iterator[Stored]:
        """What is here. A list without its blob is removed, a blob without its list set aside."""
        for folder in os.scandir(self.path):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                yield from self._blobs_in(Path(folder.path))

    def _blobs_in(self, folder: Path) -> Iterator[Stored]:
        found = {entry.name: entry for entry in os.scandir(folder)}
        for name, entry in found.items():
            alone = name.endswith(LIST) and name.removesuffix(LIST) not in found
            if alone or name.endswith(".new"):
                Path(entry.path).unlink(missing_ok=True)
            if digest_named(name) is None or not entry.is_file(follow_symlinks=False):
                continue
            stored = _stored(name, entry.stat(follow_symlinks=False))
            if stored.size > CHUNK_BYTES and name + LIST not in found:
                self.set_aside(stored.digest)
            else:
                yield stored

    def parts_left(self) -> Iterator[Stored]:
        """What is there of blobs under way, or damaged."""
        for entry in os.scandir(self.parts):
            if digest_named(entry.name) is not None:
                with contextlib.suppress(FileNotFoundError):
                    yield _stored(entry.name, entry.stat(follow_symlinks=False))

    def take(self, fd: int, file: Path, digest: str, chunks: ChunkList) -> int:
        """Give a whole file, open as `fd`, its name. Once this returns it is on the disk.

        Its time of change, in nanoseconds.
        """
        target = self.blob(digest)
        if not target.parent.is_dir():
            target.parent.mkdir(exist_ok=True, mode=0o700)
            sync_folder(self.path)
        os.fchmod(fd, 0o444)
        os.fsync(fd)
        if chunks.count > 1:
            self._keep_list(target, chunks)
        file.rename(target)
        sync_folder(target.parent)
        _list_of(file).unlink(missing_ok=True)
        return os.fstat(fd).st_mtime_ns

    def _keep_list(self, blob: Path, chunks: ChunkList) -> None:
        """By way of a file of its own: two threads may make the same blob at once."""
        new = self.new()
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(list_file(chunks))
                file.flush()
                os.fsync(file.fileno())
            new.rename(_list_of(blob))
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(blob.parent)

    def read_list(self, digest: str) -> ChunkList:
        """The list of a blob of several chunks. Raises `Corrupt`."""
        return _read_list(digest, self.blob(digest))

    def read_part_list(self, digest: str) -> ChunkList:
        """The list that was kept beside a part. Raises `Corrupt`."""
        return _read_list(digest, self.part(digest))

    def keep_part_list(self, digest: str, chunks: ChunkList) -> None:
        """Keep it beside the part, so that after a restart nobody need be asked for it."""
        if chunks.count > 1:
            _list_of(self.part(digest)).write_bytes(list_file(chunks))

    def use(self, digest: str, used_at: float, mtime_ns: int) -> None:
        """Keep when it was used."""
        os.utime(self.blob(digest), ns=(int(used_at * 1e9), mtime_ns))

    def set_aside(self, digest: str) -> None:
        """Make it a part: what is right of it need not be fetched again."""
        blob, part = self.blob(digest), self.part(digest)
        with contextlib.suppress(FileNotFoundError):
            blob.rename(part)
            part.chmod(0o600)
        with contextlib.suppress(FileNotFoundError):
            _list_of(blob).rename(_list_of(part))

    def remove(self, digest: str) -> None:
        """Remove a blob. A list that is left by a power cut goes at the next start."""
        _remove(self.blob(digest))

    def remove_part(self, digest: str) -> None:
        """Remove what is left of a transfer."""
        _remove(self.part(digest))


def _list_of(file: Path) -> Path:
    return file.with_name(file.name + LIST)


def _read_list(digest: str, file: Path) -> ChunkList:
    with _list_of(file).open("rb") as opened:
        return read_list(digest, opened.read(LIST_BYTES_MAX + 1))


def _remove(file: Path) -> None:
    # The blob first: without it a list is nothing, and without its list a blob is damaged.
    file.unlink(missing_ok=True)
    _list_of(file).unlink(missing_ok=True)


def _stored(name: str, stat: os.stat_result) -> Stored:
    digest = name.replace("-", ":", 1)
    return Stored(digest, stat.st_size, max(stat.st_atime, stat.st_mtime), stat.st_mtime_ns)
