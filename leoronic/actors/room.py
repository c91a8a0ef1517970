"""How much of the disk new entries may take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from leoronic.core.entries import Entry, encode
from leoronic.runtime.log import Logger

# Submissions stop while there is still room for the outcomes of what runs.
RESERVE_BYTES = 16 * 1024 * 1024
RESERVE_BYTES_MIN = 256 * 1024
# With more than this, nobody counts what a submission takes.
PLENTY_BYTES = 1024 * 1024 * 1024
# A submission is written to the log, from there to the table of entries, and to that of tasks.
COPIES = 3


class Room:
    """The room for the database `path`: what it leaves is for the outcomes of what runs here."""

    def __init__(self, path: Path, log: Logger) -> None:
        self._folder = str(path.parent)
        self._wal = f"{path}-wal"
        self._log = log
        self._full = False
        self._bytes = 0

    def check(self) -> None:
        """Look at the disk.

        What is in the write-ahead log takes as much again when it is moved to the database.
        """
        usage = os.statvfs(self._folder)
        total = usage.f_blocks * usage.f_frsize
        reserve = max(min(RESERVE_BYTES, total // 20), RESERVE_BYTES_MIN)
        log = os.stat(self._wal).st_size  # noqa: PTH116 - at each commit, and a path is slow
        self._bytes = usage.f_bavail * usage.f_frsize - reserve - log
        self.note_full(self._bytes < 0)

    def takes(self, entries: Sequence[Entry]) -> bool:
        """Whether there is room for a submission; if so, it is spoken for."""
        if self._full or self._bytes > PLENTY_BYTES:
            return not self._full
        return self.has(sum(len(encode(entry)) for entry in entries))

    def has(self, size: int) -> bool:
        """Whether there is room for entries of `size` bytes; if so, it is spoken for."""
        if self._full or COPIES * size > self._bytes:
            return False
        self._bytes -= COPIES * size
        return True

    def note_full(self, full: bool) -> None:
        """Tell when there is no room, and when there is some again."""
        if full != self._full:
            self._full = full
            if full:
                self._log.error("disk full", path=self._folder)
            else:
                self._log.info("room on the disk again")
