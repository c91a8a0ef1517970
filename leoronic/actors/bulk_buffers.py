"""Memory for chunks on their way from a socket to the disk."""

from __future__ import annotations

import mmap
import threading

from leoronic.core.blob import CHUNK_BYTES


class Buffers:
    """At most `count_max` at once; one more is waited for, and so the other side waits as well.

    They begin at a page, as writing past the page cache needs it.
    """

    def __init__(self, count_max: int) -> None:
        self._room = threading.Semaphore(count_max)
        self._lock = threading.Lock()
        self._idle: list[mmap.mmap] = []

    def take(self, size: int, within_s: float) -> mmap.mmap:
        """One of at least `size` bytes. Raises `TimeoutError`."""
        if not self._room.acquire(timeout=within_s):
            raise TimeoutError(f"the disk has taken nothing for {within_s:g} s")
        with self._lock:
            if size <= CHUNK_BYTES and self._idle:
                return self._idle.pop()
        return mmap.mmap(-1, max(size, CHUNK_BYTES))

    def give(self, buffer: mmap.mmap) -> None:
        """It is needed no longer; nothing may have a view of it."""
        if len(buffer) == CHUNK_BYTES:
            with self._lock:
                self._idle.append(buffer)
        else:
            buffer.close()
        self._room.release()

    def trim(self) -> None:
        """Nothing is under way: the memory goes back to the machine."""
        with self._lock:
            idle, self._idle = self._idle, []
        for buffer in idle:
            buffer.close()
