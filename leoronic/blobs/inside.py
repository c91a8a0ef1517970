"""Files inside a folder, reached without following a link on the way.

Whoever may write to the folder could otherwise have a node read or write any file it may.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from leoronic.errors import BadRequest, NotFound, Refused

STATE_FOLDER = ".leoronic"
"""In a node's folder: what it keeps for itself."""
RUN_FOLDERS = ("work", "scratch")
"""In the former: where tasks run that have a folder of their own."""
PATH_BYTES_MAX = 4096
NAME_BYTES_MAX = 255
DEPTH_MAX = 64

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def shown(path: str) -> str:
    """A path on one line, for a person, whatever is in it."""
    return path if path.isprintable() else ascii(path)


def name_problem(path: str) -> str:
    """What is wrong with the characters of a path; '' if nothing is."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if "\n" in path or "\0" in path:
        return "its name has a line break or a zero byte: rename it"
    if size > PATH_BYTES_MAX:
        return f"its path is longer than {PATH_BYTES_MAX} bytes"
    return ""


def parts_of(path: str) -> list[str]:
    """The names in a path that stays inside its folder. Raises `BadRequest`."""
    problem = name_problem(path)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not problem and path.startswith("/"):
        problem = "the path must be relative"
    elif not problem and ".." in parts:
        problem = "the path must not have .. in it"
    elif not problem and (not parts or path.endswith(("/", "/."))):
        problem = "the path must name a file"
    elif not problem and len(parts) > DEPTH_MAX:
        problem = f"the path is deeper than {DEPTH_MAX} folders"
    elif not problem and any(len(part.encode()) > NAME_BYTES_MAX for part in parts):
        problem = f"a name in it is longer than {NAME_BYTES_MAX} bytes"
    if problem:
        raise BadRequest(f"{shown(path)}: {problem}")
    return parts


def is_state(path: Path) -> bool:
    """Whether a file is among those that a node keeps for itself, its secrets among them.

    Links on the way are followed. The folders in which tasks run are not: what they make is theirs.
    """
    try:
        parts = Path(os.path.realpath(path.parent)).parts
    except (OSError, ValueError):
        return False  # It will not be opened either.
    below = [parts[at + 1 : at + 2] for at, part in enumerate(parts) if part == STATE_FOLDER]
    return any(not after or after[0] not in RUN_FOLDERS for after in below)


def kind_of(mode: int) -> str:
    """What a file of this mode is, if it is no regular one; '' if it is."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """The folder that all is inside of: links on its own path are followed. Raises `Refused`."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise not_entered(str(folder), error) from None
    try:
        yield fd
    finally:
        os.close(fd)


def step_into(folder_fd: int, name: str) -> int:
    """Open a folder in a folder, which is no link. Raises `OSError`."""
    return os.open(name, _FOLDER, dir_fd=folder_fd)


@contextlib.contextmanager
def parent_of(root_fd: int, parts: list[str]) -> Iterator[int]:
    """The folder that has the last of `parts`. Raises `NotFound`, `BadRequest`, `Refused`."""
    fd = os.dup(root_fd)
    try:
        for depth, name in enumerate(parts[:-1], 1):
            try:
                deeper = step_into(fd, name)
            except OSError as error:
                raise not_entered("/".join(parts[:depth]), error) from None
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def not_entered(path: str, error: OSError) -> Refused:
    """The error of a folder that could not be opened."""
    if error.errno == errno.ENOENT:
        return NotFound(f"there is no folder {shown(path)}")
    # A link to a folder is one or the other, by system.
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return BadRequest(f"{shown(path)} is no folder: files and links cannot be gone through")
    return Refused(f"{shown(path)}: {error.strerror}")
