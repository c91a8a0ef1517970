"""A blob from a file, or from bytes. Memory does not grow with the file."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from leoronic.blobs.disk import clone, disk_errors, no_room, read_at, reserve, write_at, write_back
from leoronic.blobs.hashing import Corrupt, digest_bytes, name_of
from leoronic.blobs.inside import (
    STATE_FOLDER,
    is_state,
    kind_of,
    name_problem,
    opened_folder,
    parent_of,
    parts_of,
    shown,
)
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import CHUNK_BYTES, BlobRef, ChunkList, chunk_bytes_for
from leoronic.errors import BadRequest, LeoronicError, NotFound, Refused

Progress = Callable[[int], None]
"""Called with the number of bytes done so far; what it raises ends the making."""

# Not those that lend the rights of the file's owner: its copies are another's.
MODE_BITS = 0o777
# Opening a pipe does not wait for who writes to it.
_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Made(NamedTuple):
    """`mode`: the permission bits of the file, without those that lend its owner's rights."""

    blob: BlobRef
    mode: int


def make_from_file(
    store: BlobStore,
    algorithm: str,
    folder: Path,
    path: str,
    *,
    inside: bool,
    progress: Progress | None = None,
) -> Made:
    """Keep the file at `path`, from `folder`, as a blob.

    `inside`: it must be in the folder, and no link is followed on the way; else `path` may be
    absolute or climb, and only the file itself must be no link.

    Raises `NotFound`, `BadRequest` (a path that climbs out; no regular file), `Refused` (changed
    while it was read, not to be read), `DiskFull`. Then nothing of it is left.
    """
    with _source(folder, path, inside) as fd:
        before = os.fstat(fd)
        blob = _make(store, algorithm, _Source(fd, shown(path), before), progress)
        return Made(blob, before.st_mode & MODE_BITS)


def make_from_bytes(store: BlobStore, algorithm: str, data: bytes) -> BlobRef:
    """Keep bytes as a blob: for small ones. Raises `DiskFull`, `Refused`."""
    size = chunk_bytes_for(len(data))
    pieces = [data[offset : offset + size] for offset in range(0, len(data), size)]
    names = b"".join(digest_bytes(algorithm, piece) for piece in pieces)
    chunks = ChunkList(algorithm, len(data), size, names)
    if (known := _known(store, chunks)) is not None:
        return known
    with _new_file(store, len(data), f"{len(data)} bytes") as new:
        write_at(new.fd, data, 0)
        return new.keep(chunks)


class _Source(NamedTuple):
    """A file that is read. `name` is for a person."""

    fd: int
    name: str
    before: os.stat_result

    def check_unchanged(self) -> None:
        """Raises `Refused` if somebody wrote to it since it was opened."""
        after, before = os.fstat(self.fd), self.before
        then = (before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        if (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != then:
            raise self.changed()

    def changed(self) -> Refused:
        """The error."""
        return Refused(f"{self.name} changed while it was read: try again once it is complete")


class _New(NamedTuple):
    """The file of a blob that is being made."""

    store: BlobStore
    fd: int
    file: Path

    def keep(self, chunks: ChunkList) -> BlobRef:
        """It is whole: keep it, unless it is here already."""
        if (known := _known(self.store, chunks)) is not None:
            return known
        digest = name_of(chunks)
        mtime_ns = self.store.folder.take(self.fd, self.file, digest, chunks)
        self.store.add(digest, chunks, mtime_ns)
        return BlobRef(digest, chunks.size)


def _known(store: BlobStore, chunks: ChunkList) -> BlobRef | None:
    """It, if a good copy is here already."""
    digest = name_of(chunks)
    with contextlib.suppress(NotFound, Corrupt):
        store.use(digest)
        store.verify(digest)
        return BlobRef(digest, chunks.size)
    return None


@contextlib.contextmanager
def _new_file(store: BlobStore, size: int, what: str) -> Iterator[_New]:
    """A file that is gone after it, unless it was kept."""
    file = store.folder.new()
    with disk_errors(what, store.folder.path):
        if size > store.room_left():
            raise no_room(what, store.folder.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(file, flags, 0o600)
        try:
            yield _New(store, fd, file)
        finally:
            os.close(fd)
            file.unlink(missing_ok=True)


def _make(store: BlobStore, algorithm: str, source: _Source, progress: Progress | None) -> BlobRef:
    size = source.before.st_size
    chunk_bytes = chunk_bytes_for(size)
    if size <= CHUNK_BYTES:
        data = _read(source, size, 0)
        source.check_unchanged()
        blob = make_from_bytes(store, algorithm, data)
        if progress is not None:
            progress(size)
        return blob
    with _new_file(store, size, f"{source.name} ({size} bytes)") as new:
        # A clone costs nothing, and nobody else can change it.
        cloned = clone(source.fd, new.fd)
        read_from = source._replace(fd=new.fd) if cloned else source
        if not cloned:
            reserve(new.fd, size)
        names = bytearray()
        for offset in range(0, size, chunk_bytes):
            data = _read(read_from, min(chunk_bytes, size - offset), offset)
            names += digest_bytes(algorithm, data)
            if not cloned:
                write_at(new.fd, data, offset)
                write_back(new.fd, offset, len(data))
            if progress is not None:
                progress(offset + len(data))
        source.check_unchanged()
        return new.keep(ChunkList(algorithm, size, chunk_bytes, bytes(names)))


def _read(source: _Source, size: int, offset: int) -> bytes:
    try:
        data = read_at(source.fd, size, offset)
    except OSError as error:
        raise Refused(f"{source.name} cannot be read: {error.strerror}") from None
    if len(data) < size:
        raise source.changed()
    return data


@contextlib.contextmanager
def _source(folder: Path, path: str, inside: bool) -> Iterator[int]:
    if inside:
        parts = parts_of(path)
        with opened_folder(folder) as root_fd, parent_of(root_fd, parts) as folder_fd:
            fd = _open_regular(parts[-1], shown(path), folder_fd)
    else:
        if problem := name_problem(path) or _folder_problem(folder):
            raise BadRequest(f"{shown(path)}: {problem}")
        if is_state(folder / path):
            raise BadRequest(
                f"{shown(path)} is what a node keeps for itself in {STATE_FOLDER}, with its "
                "secrets: it is not handed out"
            )
        fd = _open_regular(str(folder / path), shown(path), None)
    try:
        yield fd
    finally:
        os.close(fd)


def _folder_problem(folder: Path) -> str:
    return "its folder has a zero byte in its name" if "\0" in str(folder) else ""


def _open_regular(name: str, told: str, folder_fd: int | None) -> int:
    try:
        # First: to open some devices does something.
        _check_regular(os.stat(name, dir_fd=folder_fd, follow_symlinks=False), told)
        fd = os.open(name, _SOURCE, dir_fd=folder_fd)
    except OSError as error:
        raise _not_opened(told, error) from None
    try:
        _check_regular(os.fstat(fd), told)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_regular(stat: os.stat_result, told: str) -> None:
    if kind := kind_of(stat.st_mode):
        mend = {
            "a symbolic link": "name the file that it leads to",
            "a folder": "name the files in it, or pack it first",
        }.get(kind, "only regular files can be kept")
        raise BadRequest(f"{told} is {kind}: {mend}")


def _not_opened(told: str, error: OSError) -> LeoronicError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"there is no file {told}")
    return Refused(f"{told} cannot be read: {error.strerror}")
