"""A copy of a blob where a task finds it: never a link to it, for a task may write to its files."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from leoronic.blobs.disk import copy, disk_errors
from leoronic.blobs.inside import not_entered, opened_folder, parts_of, shown, step_into
from leoronic.blobs.making import MODE_BITS
from leoronic.blobs.store import BlobStore
from leoronic.errors import BadRequest, NotFound, Refused

# What is half copied is called so; who finds one after a crash may remove it.
HALF = ".leoronic-half-"
_HALF = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def place(
    store: BlobStore, digest: str, root: Path, path: str, mode: int, *, durable: bool = False
) -> None:
    """Put a copy of the blob at `root`/`path`, with these permission bits; replaces a file or link.

    `path` is relative; folders on it are made; no link on it is followed. Bits that lend the
    owner's rights are left out. `durable`: it is on the disk once this returns.

    Raises `NotFound`, `Corrupt` (as `BlobStore.read_chunk`), `BadRequest` (the path climbs out,
    ends in a folder or goes through a link), `DiskFull`, `Refused`; then nothing half-made is left.
    """
    parts = parts_of(path)
    store.verify(digest)
    store.use(digest)
    with (
        disk_errors(f"{shown(path)} ({store.size(digest)} bytes)", root),
        opened_folder(root) as root_fd,
        _made_parent(root_fd, parts) as folder_fds,
    ):
        folder_fd = folder_fds[-1]
        _check_free(folder_fd, parts[-1], path)
        half = HALF + secrets.token_hex(8)
        fd = os.open(half, _HALF, 0o600, dir_fd=folder_fd)
        try:
            _fill(store, digest, fd)
            os.fchmod(fd, mode & MODE_BITS)
            if durable:
                os.fsync(fd)
            os.rename(half, parts[-1], src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except BaseException:
            os.unlink(half, dir_fd=folder_fd)
            raise
        finally:
            os.close(fd)
        if durable:
            for made_fd in reversed(folder_fds):
                os.fsync(made_fd)


def _fill(store: BlobStore, digest: str, fd: int) -> None:
    size = store.size(digest)
    try:
        source = os.open(store.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"{digest} is not on this node") from None
    try:
        copied = copy(source, fd, size)
    finally:
        os.close(source)
    if copied != size or os.fstat(fd).st_size != size:
        raise Refused(f"{digest}: {copied} of its {size} bytes were copied: try again")


def _check_free(folder_fd: int, name: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            raise BadRequest(f"{shown(path)} is a folder: give the file another name")


@contextlib.contextmanager
def _made_parent(root_fd: int, parts: list[str]) -> Iterator[list[int]]:
    """The folders on the way to the last part, made if need be.

    If what follows fails, those that were made are removed.
    """
    fds = [os.dup(root_fd)]
    made: list[tuple[int, str]] = []
    try:
        for depth, name in enumerate(parts[:-1], 1):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=fds[-1])
                made.append((fds[-1], name))
            try:
                fds.append(step_into(fds[-1], name))
            except OSError as error:
                raise not_entered("/".join(parts[:depth]), error) from None
        yield fds
    except BaseException:
        for fd, name in reversed(made):
            # Somebody else may have put something there.
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=fd)
        raise
    finally:
        for fd in fds:
            os.close(fd)
