"""The disk below: its room, reading and writing at an offset, and its errors as sentences."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from leoronic.blobs.hashing import Bytes
from leoronic.errors import DiskFull, LeoronicError, Refused

PIECE_BYTES = 4 * 1024 * 1024
# _IOW(0x94, 9, int) of linux/fs.h: the same number on all machines that Python 3.11 runs on but
# mips, powerpc and sparc, where it is refused and the bytes are copied.
_FICLONE = 0x40049409
# A multiple of the block of any disk.
_BLOCK_BYTES = 4096
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# What a failing disk, or a file system that keeps checksums, answers.
_DAMAGE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)


def room_left(folder: Path, reserve_bytes: int, reserve_share: float) -> int:
    """How many bytes may be written into `folder` until its disk has only the reserve left."""
    disk = os.statvfs(folder)
    reserve = max(reserve_bytes, int(disk.f_blocks * disk.f_frsize * reserve_share))
    return disk.f_bavail * disk.f_frsize - reserve


def no_room(what: str, folder: Path | str) -> DiskFull:
    """The error of a full disk."""
    return DiskFull(f"no room for {what}: make room on the disk of {folder}")


@contextlib.contextmanager
def disk_errors(what: str, folder: Path | str) -> Iterator[None]:
    """What goes wrong with the disk is raised as `DiskFull` or `Refused`."""
    try:
        yield
    except OSError as error:
        raise told(error, what, folder) from error


def told(error: OSError, what: str, folder: Path | str) -> LeoronicError:
    """An error of the disk for a person, who wanted to have `what` in `folder`."""
    if error.errno in _NO_ROOM:
        return no_room(what, folder)
    if error.errno == errno.EFBIG:
        return Refused(f"{what} is larger than a file may be on the disk of {folder}")
    return Refused(f"{what}: {error.strerror or error} (in {folder})")


def is_damage(error: OSError) -> bool:
    """Whether bytes that were written cannot be had back."""
    return error.errno in _DAMAGE


def reserve(fd: int, size: int) -> None:
    """Make the file `size` bytes long, with room on the disk for all of it. Raises `OSError`."""
    os.ftruncate(fd, size)
    if not size:
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        # Not every file system can: there, a write may find that there is no room.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def read_at(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset`; fewer only at the end of the file. Raises `OSError`."""
    data = os.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    pieces = [data]
    got = len(data)
    while got < size and (data := os.pread(fd, size - got, offset + got)):
        pieces.append(data)
        got += len(data)
    return b"".join(pieces)


def write_at(fd: int, data: Bytes, offset: int) -> None:
    """Write all of `data` at `offset`. Raises `OSError`."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def write_back(fd: int, offset: int, size: int) -> None:
    """Have the disk begin to write what is dirty there, so that a later fsync has less to do."""
    # On Linux this starts writing, and waits for nothing.
    os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)


def open_past_cache(file: Path) -> int:
    """A descriptor for `write_past_cache`; -1 where the file system has none. Raises `OSError`."""
    try:
        return os.open(file, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return -1


def write_past_cache(fd: int, data: Bytes, offset: int) -> bool:
    """Write all of `data` without a copy of it in the page cache. Raises `OSError`.

    False, with nothing certain to be written, if it does not begin and end where the disk's blocks
    do, in memory as in the file, or if `fd` is -1.
    """
    if fd < 0 or offset % _BLOCK_BYTES or len(data) % _BLOCK_BYTES:
        return False
    try:
        return os.pwrite(fd, data, offset) == len(data)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False


def clone(source: int, target: int) -> bool:
    """Have `target` share all bytes of `source`, each to change apart. False: it cannot be here."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        return False
    return True


def copy(source: int, target: int, size: int) -> int:
    """Copy the first `size` bytes in the cheapest way there is. How many there were.

    Raises `OSError`.
    """
    if clone(source, target):
        return os.fstat(target).st_size
    done = 0
    while done < size:
        try:
            copied = os.copy_file_range(
                source, target, min(size - done, 64 * PIECE_BYTES), done, done
            )
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            break
        if not copied:
            break
        done += copied
    # What some file systems say they have copied nothing of is there all the same.
    while done < size and (data := os.pread(source, min(PIECE_BYTES, size - done), done)):
        write_at(target, data, done)
        done += len(data)
    return done


def is_hole(fd: int, offset: int, size: int) -> bool:
    """Whether nothing was ever written there, as far as the file system knows."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + size
    except OSError as error:
        return error.errno == errno.ENXIO
