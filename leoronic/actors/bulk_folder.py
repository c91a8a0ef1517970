"""A node's working directory as others may read it: everything but the node's own state.

No link is followed on the way to a file, and none that is asked for is read: whoever may write to
the directory could otherwise hand out any file that the node may read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from leoronic.blobs.disk import disk_errors, read_at
from leoronic.blobs.inside import (
    DEPTH_MAX,
    STATE_FOLDER,
    kind_of,
    name_problem,
    opened_folder,
    parent_of,
    parts_of,
    shown,
    step_into,
)
from leoronic.errors import BadRequest, LeoronicError, NotFound, Refused
from leoronic.wire.bulk import PAGE_ENTRIES_MAX, PAGE_TEXT_MAX, PATH_LENGTH_MAX, Entry

# The names of one folder are in memory while it is listed.
NAMES_MAX = 1_000_000


class FilePart(NamedTuple):
    """Bytes of a file; `size` and `mtime_ns` as they were when it was read."""

    data: bytes
    size: int
    mtime_ns: int


def read_part(root: Path, path: str, offset: int, limit: int) -> FilePart:
    """At most `limit` bytes from `offset` of the file `path` in the directory `root`.

    Raises `BadRequest`, `NotFound`, `Refused`.
    """
    parts = parts_of(path)
    if STATE_FOLDER in parts:
        raise BadRequest(f"{shown(path)}: what the node keeps for itself is not handed out")
    with opened_folder(root) as root_fd, parent_of(root_fd, parts) as folder_fd:
        try:
            # O_NONBLOCK: whoever opens a pipe waits for the other end of it.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(parts[-1], flags, dir_fd=folder_fd)
        except FileNotFoundError:
            raise NotFound(f"there is no file {shown(path)}") from None
        except OSError as error:
            raise Refused(f"{shown(path)}: {error.strerror}") from None
        try:
            status = os.fstat(fd)
            if kind := kind_of(status.st_mode):
                raise BadRequest(f"{shown(path)} is {kind}")
            with disk_errors(shown(path), root):
                return FilePart(read_at(fd, limit, offset), status.st_size, status.st_mtime_ns)
        finally:
            os.close(fd)


class FolderWalk:
    """Everything in the directory `root`, page by page; what changes meanwhile may be missed.

    In order of names, a folder before what is in it. It remembers where it is, so that the next
    page costs no more than the first.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._after: str | None = None
        # Folders on the way, and what is left of each, the next name last.
        self._left: list[tuple[list[str], list[str]]] = []

    def page(self, after: str, count: int = PAGE_ENTRIES_MAX) -> tuple[list[Entry], bool]:
        """At most `count` entries behind the path `after` ('': the first), and whether more follow.

        Raises `Refused`, `BadRequest`.
        """
        entries: list[Entry] = []
        text = 0
        with opened_folder(self._root) as root_fd:
            if after != self._after or not after:
                self._seek(root_fd, after)
            while self._left and len(entries) < count and text < PAGE_TEXT_MAX:
                parts, names = self._left[-1]
                if not names:
                    self._left.pop()
                    continue
                with self._opened(root_fd, parts) as folder_fd:
                    while names and len(entries) < count and text < PAGE_TEXT_MAX:
                        name = names.pop()
                        entry = _entry(folder_fd, parts, name)
                        if entry is None:
                            continue
                        if entry.kind == "folder" and not entry.problem:
                            entry = self._enter(folder_fd, parts, name, entry)
                        entries.append(entry)
                        text += len(entry.path) + len(entry.target)
                        if self._left[-1][1] is not names:
                            break
        self._after = entries[-1].path if entries else None
        return entries, any(names for _, names in self._left)

    @contextlib.contextmanager
    def _opened(self, root_fd: int, parts: list[str]) -> Iterator[int | None]:
        """None if it is no folder any more."""
        try:
            opened = contextlib.ExitStack()
            folder_fd = opened.enter_context(parent_of(root_fd, [*parts, "."]))
        except LeoronicError:
            yield None
            return
        with opened:
            yield folder_fd

    def _enter(self, folder_fd: int | None, parts: list[str], name: str, entry: Entry) -> Entry:
        assert folder_fd is not None
        if len(parts) + 1 >= DEPTH_MAX:
            problem = f"it is deeper than {DEPTH_MAX} folders"
            return Entry(entry.path, "folder", mode=entry.mode, problem=problem)
        try:
            fd = step_into(folder_fd, name)
            try:
                names = _names(fd)
            finally:
                os.close(fd)
        except (OSError, Refused) as error:
            problem = getattr(error, "strerror", None) or str(error)
            return Entry(entry.path, "folder", mode=entry.mode, problem=problem)
        self._left.append(([*parts, name], names))
        return entry

    def _seek(self, root_fd: int, after: str) -> None:
        names = _names(root_fd)
        self._left = [([], names)]
        for name in parts_of(after) if after else []:
            parts, names = self._left[-1]
            behind = [other for other in names if _key(other) > name]
            self._left[-1] = (parts, behind)
            with self._opened(root_fd, [*parts, name]) as folder_fd:
                if name not in names or folder_fd is None:
                    return
                self._left.append(([*parts, name], _names(folder_fd)))


def _key(name: str) -> str:
    """By what is said of a name, so that a page may begin behind any."""
    return name if not name_problem(name) else shown(name)


def _names(folder_fd: int) -> list[str]:
    """The last first. Raises `OSError`, `Refused`."""
    with os.scandir(folder_fd) as found:
        # Another node may have its folder in this one's.
        names = [e.name for e in islice(found, NAMES_MAX + 1) if e.name != STATE_FOLDER]
    if len(names) > NAMES_MAX:
        raise Refused(f"it has more than {NAMES_MAX} files")
    return sorted(names, key=_key, reverse=True)


def _entry(folder_fd: int | None, parts: list[str], name: str) -> Entry | None:
    """None if it is gone."""
    if folder_fd is None:
        return None
    path = "/".join([*parts, name])
    problem = name_problem(path)
    if problem:
        where = "/".join([*parts, _key(name)])
        return Entry(where[:PATH_LENGTH_MAX], "other", problem=problem)
    try:
        status = os.lstat(name, dir_fd=folder_fd)
        mode, mtime_ns = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if stat.S_ISREG(status.st_mode):
            return Entry(path, "file", status.st_size, mode, mtime_ns)
        if stat.S_ISDIR(status.st_mode):
            return Entry(path, "folder", 0, mode, mtime_ns)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=folder_fd)
            if problem := name_problem(target):
                return Entry(path, "other", problem=f"where the link leads: {problem}")
            return Entry(path, "link", 0, mode, mtime_ns, target)
    except OSError:
        return None
    return Entry(path, "other", problem=f"it is {kind_of(status.st_mode)}")
