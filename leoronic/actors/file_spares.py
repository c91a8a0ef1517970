"""Folders of ended attempts that are as they were placed: the next that brings the same gets one.

Of short tasks that bring the same files, making and removing a folder with copies is most of the
work: a journaling file system takes several times as long for it as for renaming one. Nothing is
believed of a folder that a task has had: before it is used again all of its bytes are read.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from leoronic.core.blob import CHUNK_BYTES, ChunkList, FileRef, chunk_bytes_for
from leoronic.runner.removing import remove_tree

FOLDERS_MAX = 64
# Of one folder: more is cheaper to copy than to read again.
FILES_MAX = 8
FILE_BYTES_MAX = CHUNK_BYTES
BYTES_MAX = 64 * 1024 * 1024
_FOLDER_MODE = stat.S_IRWXU
# Those that a copy of a file is placed with.
_MODE_BITS = 0o777

_Kind = tuple[tuple[str, str, int], ...]


class Spares:
    """They are in `folder`, which is made when there is one. Threads may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._names = itertools.count()
        self._kept: OrderedDict[Path, tuple[_Kind, int]] = OrderedDict()
        self._bytes = 0

    def clear(self) -> None:
        """Remove all, and what an earlier life left."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
        remove_tree(self._folder)

    def keep(self, place: Path, files: Sequence[FileRef]) -> bool:
        """Take the folder at `place`, in which `files` were placed. False: it is not wanted."""
        size = sum(file.size for file in files)
        if not _suits(files) or not _is_plain(place, files):
            return False
        kept = self._folder / str(next(self._names))
        try:
            self._folder.mkdir(exist_ok=True, mode=0o700)
            place.rename(kept)
        except OSError:
            return False
        removed: list[Path] = []
        with self._lock:
            self._kept[kept] = (_kind(files), size)
            self._bytes += size
            while len(self._kept) > FOLDERS_MAX or self._bytes > BYTES_MAX:
                oldest, (_, its) = self._kept.popitem(last=False)
                self._bytes -= its
                removed.append(oldest)
        for oldest in removed:
            remove_tree(oldest)
        return True

    def take(self, place: Path, files: Sequence[FileRef]) -> bool:
        """Put a folder with copies of `files` at `place`, which is free. False: there is none."""
        kind = _kind(files)
        with self._lock:
            alike = (one for one, (its, _) in reversed(self._kept.items()) if its == kind)
            found = next(alike, None)
            if found is None:
                return False
            self._bytes -= self._kept.pop(found)[1]
        try:
            # Of one that somebody still writes to, or has written to, nothing is used.
            if _is_plain(found, files) and all(
                _is_whole(found / file.name, file) for file in files
            ):
                found.rename(place)
                return True
        except OSError:
            pass
        remove_tree(found)
        return False


def _kind(files: Sequence[FileRef]) -> _Kind:
    return tuple(sorted((file.name, file.digest, file.mode & _MODE_BITS) for file in files))


def _suits(files: Sequence[FileRef]) -> bool:
    return 0 < len(files) <= FILES_MAX and all(
        file.size <= FILE_BYTES_MAX and "/" not in file.name for file in files
    )


def _is_plain(folder: Path, files: Sequence[FileRef]) -> bool:
    """Whether there are files of these names, sizes and modes in it, known by no other name, and
    nothing else.
    """
    wanted = {file.name: file for file in files}
    with contextlib.suppress(OSError):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_mode & _FOLDER_MODE != _FOLDER_MODE:
            return False
        with os.scandir(folder) as found:
            for entry in found:
                file = wanted.pop(entry.name, None)
                if file is None:
                    return False
                its = entry.stat(follow_symlinks=False)
                if (its.st_mode, its.st_nlink, its.st_size, its.st_uid) != (
                    stat.S_IFREG | file.mode & _MODE_BITS,
                    1,
                    file.size,
                    os.geteuid(),
                ):
                    return False
        return not wanted
    return False


def _is_whole(path: Path, file: FileRef) -> bool:
    """Whether it has the bytes that it should, and nobody may write to it. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Refused by the kernel while anybody has it open, or mapped, for writing.
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        data = os.pread(fd, file.size + 1, 0)
    finally:
        os.close(fd)
    from leoronic.blobs.hashing import digest_bytes, name_of  # noqa: PLC0415 - as `file_disk` does

    algorithm = file.digest[:2]
    names = digest_bytes(algorithm, data) if data else b""
    return file.digest == name_of(
        ChunkList(algorithm, len(data), chunk_bytes_for(len(data)), names)
    )
