"""The inbox's files: listing, looking and moving. All of it blocks, and runs in a thread.

The folder is anybody's: nothing in it is opened before it is known to be a regular file inside the
node's folder, nothing is read without a bound, nothing is overwritten.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path

from leoronic.core.inbox import (
    FILE_BYTES_MAX,
    Looked,
    LookedAt,
    Move,
    Moved,
    Seen,
    Wanted,
    is_candidate,
    with_ids,
)
from leoronic.core.validate import parse_tasks
from leoronic.errors import BadRequest

READ_BYTES_PER_GO = 8 * 1024 * 1024
"""Once this much was read in one go, the rest is for the next."""
_NAME_BYTES_MAX = 255
_REPORT = ".error.txt"
_OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class InboxFiles:
    """The folder `inbox` below `root`, with `accepted` and `rejected` in it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "inbox"
        self._root = os.path.realpath(root)

    def prepare(self) -> None:
        """Make the folders that are missing. Raises `OSError`."""
        for name in ("accepted", "rejected"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def listing(self) -> list[tuple[str, Seen]]:
        """What waits in the inbox, oldest first. Raises `OSError` if there is no such folder."""
        found = []
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries if is_candidate(entry.name)]
        for name in names:
            seen = self._observe(name)
            if seen is not None:
                found.append((name, seen))
        found.sort(key=lambda one: (one[1].mtime_ns, one[0]))
        return found

    def look(self, wanted: list[Wanted]) -> LookedAt:
        """Look at files and read those that may be read, until it was enough for one go."""
        looked: list[Looked] = []
        bytes_read = 0
        for index, one in enumerate(wanted):
            found = self._look_at(one)
            looked.append(found)
            if found.seen is not None and (found.specs is not None or found.problems):
                bytes_read += found.seen.size
            if bytes_read >= READ_BYTES_PER_GO:
                return LookedAt(looked, [other.name for other in wanted[index + 1 :]])
        return LookedAt(looked, [])

    def move(self, moves: list[Move]) -> list[Moved]:
        """Move files out of the inbox, each if it still is what was looked at."""
        return [self._move(move) for move in moves]

    def _observe(self, name: str) -> Seen | None:
        path = self.folder / name
        try:
            here = os.lstat(path)
            if not stat.S_ISLNK(here.st_mode):
                return Seen(_kind(here), here.st_size, here.st_mtime_ns, here.st_ino)
            kind = "outside"
            try:
                target = os.path.realpath(path, strict=True)
            except OSError:
                kind, there = "dangling", here
            else:
                there = os.lstat(target) if self._is_inside(target) else here
                if there is not here:
                    kind = _kind(there)
            return Seen(kind, there.st_size, there.st_mtime_ns, here.st_ino)
        except FileNotFoundError:
            return None

    def _is_inside(self, target: str) -> bool:
        return os.path.commonpath([self._root, target]) == self._root

    def _look_at(self, wanted: Wanted) -> Looked:
        name = wanted.name
        seen = self._observe(name)
        if seen is None or seen.kind != "file":
            return Looked(name, seen)
        try:
            # Resolved anew: it may be another link by now, and that again before it is opened.
            path = os.path.realpath(self.folder / name)
            is_here = Path(path).parent == self.folder.resolve()
            if not is_here and not self._is_inside(path):
                return Looked(name, seen._replace(kind="outside"))
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return Looked(name, None)
        except OSError as error:
            if error.errno in _OUT_OF_SOMETHING:
                return Looked(name, seen, writer=True)  # The next listing tries again.
            reason = f"it cannot be read: {os.strerror(error.errno or 0).lower()}"
            return Looked(name, seen, writer=False, unreadable=reason)
        try:
            return self._look_into(fd, wanted, seen)
        finally:
            os.close(fd)

    def _look_into(self, fd: int, wanted: Wanted, seen: Seen) -> Looked:
        name = wanted.name
        before = os.fstat(fd)
        if _kind(before) != "file":
            return Looked(name, seen._replace(kind="other"))
        writer = _has_writer(fd)
        if writer or seen.size > FILE_BYTES_MAX or (writer is None and wanted.settled != seen):
            return Looked(name, seen, writer)
        try:
            content = _read(fd)
        except OSError as error:
            reason = f"it cannot be read: {os.strerror(error.errno or 0).lower()}"
            return Looked(name, seen, writer, unreadable=reason)
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) != (seen.size, seen.mtime_ns):
            return Looked(name, self._observe(name), writer=True)
        try:
            specs = parse_tasks(content)
        except BadRequest as error:
            return Looked(name, seen, writer, problems=tuple(error.problems))
        return Looked(name, seen, writer, specs=with_ids(specs, name, seen, content))

    def _move(self, move: Move) -> Moved:
        name = move.name
        now = self._observe(name)
        if now is None:
            return Moved(name, "gone")
        if now != move.seen:
            return Moved(name, "changed")
        try:
            (self.folder / move.folder).mkdir(exist_ok=True)
            to = self._free_place(self.folder / move.folder, name)
            report = to.with_name(to.name + _REPORT)
            # First: who finds the file there finds the reasons beside it.
            if move.report:
                _write_if_possible(report, move.report)
            try:
                (self.folder / name).rename(to)
            except OSError:
                if move.report:
                    report.unlink(missing_ok=True)
                raise
        except FileNotFoundError:
            return Moved(name, "gone")
        except OSError as error:
            reason = f"{error.strerror} ({move.report.strip() or 'its tasks were taken'})"
            return Moved(name, "failed", reason=reason)
        return Moved(name, "moved")

    def _free_place(self, folder: Path, name: str) -> Path:
        stem = name.removesuffix(".json")
        number = 1
        # Doubling, then halving: the same name dropped a thousand times costs twenty looks.
        while _taken(folder / _numbered(stem, number)):
            number *= 2
        low = number // 2
        while number - low > 1:
            middle = (low + number) // 2
            if _taken(folder / _numbered(stem, middle)):
                low = middle
            else:
                number = middle
        return folder / _numbered(stem, number)


def _kind(status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        return "file"
    return "directory" if stat.S_ISDIR(status.st_mode) else "other"


def _has_writer(fd: int) -> bool | None:
    """Whether the file is open for writing anywhere; None if the system cannot tell.

    The kernel grants a read lease only on a file without writers. It is given back at once.
    """
    try:
        # Whoever opens the file in this very moment breaks the lease, which by default kills the
        # holder with SIGIO. SIGURG is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _read(fd: int) -> bytes:
    parts: list[bytes] = []
    left = FILE_BYTES_MAX + 1
    while left > 0:
        part = os.read(fd, min(left, 1024 * 1024))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _write_if_possible(path: Path, text: str) -> None:
    # The reasons are in the log as well; a full disk must not keep a bad file in the inbox.
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o644)
    except OSError:
        return
    with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:
            return


def _numbered(stem: str, number: int) -> str:
    """`STEM.json`, `STEM.2.json`, ... cut so that the name of a report beside it fits, too."""
    ending = ".json" if number == 1 else f".{number}.json"
    room = _NAME_BYTES_MAX - len(ending) - len(_REPORT)
    return os.fsdecode(os.fsencode(stem)[:room]) + ending


def _taken(path: Path) -> bool:
    return os.path.lexists(path) or os.path.lexists(f"{path}{_REPORT}")
