"""Writes what comes from nodes into a folder: beside, then renamed, and never outside of it.

A file that has not come whole is called `.leoronic-part-...` beside its place; when it is wanted
again it goes on from there. No link is followed, whatever a node calls its files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from leoronic.blobs.disk import disk_errors, no_room, write_at
from leoronic.blobs.inside import kind_of, opened_folder, parent_of, parts_of, shown
from leoronic.errors import BadRequest, NotFound, Refused

PART = ".leoronic-part-"
MODE_BITS = 0o777
_PART_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Part:
    """A file that comes: `size` bytes of it are there.

    `stamp` says which content it is: a part is only gone on with under the same one.
    """

    def __init__(self, folder_fd: int, name: str, part: str, path: str) -> None:
        self._folder_fd = folder_fd
        self._name = name
        self._part = part
        self._path = path
        try:
            self._fd = os.open(part, _PART_FLAGS, 0o600, dir_fd=folder_fd)
        except BaseException:
            os.close(folder_fd)
            raise
        self.size = os.fstat(self._fd).st_size

    @property
    def fd(self) -> int:
        """To read what is there."""
        return self._fd

    def write(self, data: bytes, offset: int) -> None:
        """Add what follows. Raises `DiskFull`, `Refused`; then nothing of it is left."""
        assert offset == self.size, f"{offset} after {self.size} bytes"
        try:
            with disk_errors(shown(self._path), shown(self._path)):
                write_at(self._fd, data, offset)
        except Refused:
            self.discard()
            raise
        self.size += len(data)

    def begin_anew(self) -> None:
        """Forget what is there."""
        os.ftruncate(self._fd, 0)
        self.size = 0

    def finish(self, mode: int, mtime_ns: int | None = None) -> None:
        """It is whole: put it in its place. Raises `DiskFull`, `Refused`; then it is gone."""
        try:
            with disk_errors(shown(self._path), shown(self._path)):
                if mtime_ns is not None:
                    os.utime(self._fd, ns=(mtime_ns, mtime_ns))
                os.fchmod(self._fd, mode & MODE_BITS)
                os.rename(
                    self._part, self._name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd
                )
        except Refused:
            self.discard()
            raise
        self.close()

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part, dir_fd=self._folder_fd)
        self.close()

    def close(self) -> None:
        """Leave it as it is, to go on later. May be done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._folder_fd)
            self._fd = -1


class Saving:
    """The folder at `path`; it is made, if need be. Raises `Refused`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(str(path), path.parent):
            path.mkdir(parents=True, exist_ok=True)
        # Parts in the folder that was used last: its files come one after the other.
        self._listed: tuple[list[str], set[str]] | None = None

    def folder(self, path: str) -> None:
        """Make the folder `path`, and those above it. Raises `BadRequest`, `Refused`."""
        with self._parent([*parts_of(path), "."], path):
            pass

    def found(self, path: str) -> os.stat_result | None:
        """What is at `path`; None if nothing is. Raises `BadRequest`, `Refused`."""
        parts = parts_of(path)
        try:
            with opened_folder(self.path) as root_fd, parent_of(root_fd, parts) as folder_fd:
                return os.stat(parts[-1], dir_fd=folder_fd, follow_symlinks=False)
        except (NotFound, FileNotFoundError):
            return None
        except OSError as error:
            raise Refused(f"{shown(path)}: {error.strerror}") from None

    def open(self, path: str) -> int:
        """Open the regular file at `path` to read it. Raises `Refused`, `BadRequest`."""
        parts = parts_of(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with (
            opened_folder(self.path) as root_fd,
            parent_of(root_fd, parts) as folder_fd,
            disk_errors(shown(path), self.path),
        ):
            return os.open(parts[-1], flags, dir_fd=folder_fd)

    def link(self, path: str, target: str) -> bool:
        """Have a symbolic link at `path`, in place of a file or another link. False: it is there.

        Raises `BadRequest`, `DiskFull`, `Refused`.
        """
        parts = parts_of(path)
        with self._parent(parts, path) as folder_fd:
            with contextlib.suppress(FileNotFoundError):
                mode = os.stat(parts[-1], dir_fd=folder_fd, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    raise BadRequest(f"{shown(path)} is a folder in {self.path}: move it away")
                if stat.S_ISLNK(mode) and os.readlink(parts[-1], dir_fd=folder_fd) == target:
                    return False
            new = f"{PART}{_short(parts[-1])}-link"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder_fd)
            os.symlink(target, new, dir_fd=folder_fd)
            os.rename(new, parts[-1], src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            return True

    def part(self, path: str, stamp: str, size: int) -> Part:
        """Where the file `path` of `size` bytes comes; what came of it under `stamp` is there.

        What came of it under another is removed. Raises `BadRequest` for a path that leads out of
        the folder, goes through a link, or is a folder's; `DiskFull`; `Refused`.
        """
        parts = parts_of(path)
        if parts[-1].startswith(PART):
            raise BadRequest(f"{shown(path)}: files of that name are only for this command's use")
        beginning = f"{PART}{_short(parts[-1])}-"
        name = f"{beginning}{_short(stamp)}"
        with self._parent(parts, path) as folder_fd:
            with contextlib.suppress(FileNotFoundError):
                mode = os.stat(parts[-1], dir_fd=folder_fd, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    raise BadRequest(f"{shown(path)} is a folder in {self.path}: move it away")
            for other in self._parts_in(parts[:-1], folder_fd):
                if other.startswith(beginning) and other != name:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(other, dir_fd=folder_fd)
            part = Part(os.dup(folder_fd), parts[-1], name, path)
        self._check(part, path, size)
        return part

    def _check(self, part: Part, path: str, size: int) -> None:
        if kind := kind_of(os.fstat(part.fd).st_mode):
            part.close()
            raise Refused(f"{shown(path)}: there is {kind} in its way: remove it")
        if part.size > size:
            part.begin_anew()
        disk = os.fstatvfs(part.fd)
        if size - part.size > disk.f_bavail * disk.f_frsize:
            part.discard()
            raise no_room(f"{shown(path)} ({size} bytes)", self.path)

    def _parts_in(self, parts: list[str], folder_fd: int) -> set[str]:
        if self._listed is None or self._listed[0] != parts:
            self._listed = (
                parts,
                {name for name in os.listdir(folder_fd) if name.startswith(PART)},
            )
        return self._listed[1]

    @contextlib.contextmanager
    def _parent(self, parts: list[str], path: str) -> Iterator[int]:
        """The folder that has the last of `parts`; those on the way are made."""
        with opened_folder(self.path) as root_fd:
            for depth in range(1, len(parts)):
                with parent_of(root_fd, parts[:depth]) as above_fd:
                    try:
                        os.mkdir(parts[depth - 1], dir_fd=above_fd)
                    except OSError as error:
                        if error.errno != errno.EEXIST:
                            raise Refused(f"{shown(path)}: {error.strerror}") from None
            with (
                parent_of(root_fd, parts) as folder_fd,
                disk_errors(shown(path), self.path),
            ):
                yield folder_fd


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
