"""Notices that something in one folder changed, by watchfiles.

watchfiles looks at the kernel's queue every `STEP_MS`; at 100 ms that costs 0.1 % of a core while
idle (at 5 ms: 0.9 %). It goes deaf, silently, when its folder is deleted or replaced: `armed` finds
that out by the folder's inode, and whoever lists the folder now and then arms it again.

Its synchronous form runs in a thread of our own: the asynchronous one does the same, and loads
most of anyio for it (0.8 MiB).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError

STEP_MS = 100


class FolderWatch:
    """Calls `on_change` after files were created in, moved into, or written in one folder.

    Make it inside a running loop, and close it.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._folder: Path | None = None
        self._inode = (0, 0)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def armed(self) -> bool:
        """Whether the folder that was to be watched is still the one being watched."""
        if self._folder is None or self._thread is None or not self._thread.is_alive():
            return False
        try:
            return self._inode == _inode(self._folder)
        except OSError:
            return False

    def arm(self, folder: Path) -> None:
        """Watch `folder` from now on, and nothing else. Raises `OSError`."""
        self.close()
        self._inode = _inode(folder)
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(folder, self._stop), name="inbox", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop watching. The thread ends within a step; nothing is told any more."""
        self._stop.set()
        self._folder = None
        self._thread = None

    def _watch(self, folder: Path, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._tell_changes(folder, stop)
            except WatchfilesRustInternalError:
                # A name that is not UTF-8 ends the watch: something came, and it goes on.
                self._tell(stop)
            except FileNotFoundError:
                return  # Vanished meanwhile: the next listing arms it again.

    def _tell_changes(self, folder: Path, stop: threading.Event) -> None:
        for _ in watch(
            folder,
            watch_filter=None,
            debounce=STEP_MS,
            step=STEP_MS,
            stop_event=stop,
            rust_timeout=1000,
            yield_on_timeout=False,
            raise_interrupt=False,
            recursive=False,
        ):
            self._tell(stop)

    def _tell(self, stop: threading.Event) -> None:
        # The loop may be gone: the process is ending.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: None if stop.is_set() else self._on_change())


def _inode(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
