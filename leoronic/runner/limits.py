"""Which limits an attempt gets, and keeping them where the kernel has no groups for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Callable
from pathlib import Path

from leoronic.core.attempt_events import Event, Exceeded
from leoronic.core.limits import MEMORY_LIMIT_MIN, size_text
from leoronic.core.run import Run
from leoronic.runner import tree
from leoronic.runner.cgroup import Limits
from leoronic.runner.live import Live

WATCH_S = 0.5
# A process may have twice what its task may use and this much more, before the kernel refuses it
# more: the watcher names what happened, this only stops what is faster than the watcher.
DATA_SLACK_BYTES = 256 * 1024 * 1024
# The same for processes: threads of others may come while it runs.
PIDS_SLACK = 64

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def wanted(run: Run) -> Limits:
    """The limits that this attempt asks for. One core is the rule, and costs nothing to allow."""
    return Limits(
        memory=max(run.memory, MEMORY_LIMIT_MIN) if run.memory > 0 else None,
        cpus=run.cpus if run.cpus not in (0.0, 1.0) else None,
        pids=run.pids,
    )


def limit_process(pid: int, run: Run) -> None:
    """Bound each single process of the tree that this one will grow into."""
    limits = wanted(run)
    if limits.memory is not None:
        _set_limit(pid, resource.RLIMIT_DATA, 2 * limits.memory + DATA_SLACK_BYTES)
    if limits.pids is not None:
        # Counted by user, not by tree: what the user has now comes on top. Root is not bound by it,
        # but root has writable groups almost everywhere.
        own = os.getuid()
        others = sum(1 for other in tree.processes() if _owner(other) == own)
        _set_limit(pid, resource.RLIMIT_NPROC, others + limits.pids + PIDS_SLACK)


def _set_limit(pid: int, which: int, most: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, which, (most, most))


def _owner(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return -1


class Watcher:
    """Looks at attempts whose limits the kernel does not enforce, each half second, if any."""

    def __init__(self, feed: Callable[[Event], None], members: Callable[[Live], set[int]]) -> None:
        self._feed = feed
        self._members = members
        self._watched: set[Live] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, live: Live) -> None:
        """Watch this attempt until it is discarded."""
        self._watched.add(live)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_S, self._look)

    def discard(self, live: Live) -> None:
        """It ended."""
        self._watched.discard(live)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._watched:
            return
        self._timer = asyncio.get_running_loop().call_later(WATCH_S, self._look)
        for live in sorted(self._watched, key=lambda live: live.key):
            what = _exceeded(live.run, self._members(live))
            if what:
                self._watched.discard(live)
                self._feed(Exceeded(live.key, what))


def _exceeded(run: Run, members: set[int]) -> str:
    limits = wanted(run)
    if limits.memory is not None and sum(map(_resident_bytes, members)) > limits.memory:
        return f"memory {size_text(limits.memory)}"
    if limits.pids is not None and len(members) > limits.pids:
        return f"more than {limits.pids} processes"
    return ""


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
