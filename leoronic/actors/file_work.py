"""Work that blocks, done in few threads that end when there is none: a slow disk stalls no loop.

What has a key in common is done in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from leoronic.runtime.memory import trim

THREADS_MAX = 6
# Of these, so many at most make blobs of files that may be large.
LONG_MAX = 3
# A thread that has had nothing to do for so long ends.
LINGER_S = 1.0


@dataclass(slots=True, eq=False)
class _Job:
    """`waits_for`: how many before it, that have a key in common, are not done."""

    work: Callable[[], Any]
    done: Callable[[Any], None]
    crash: Callable[[BaseException], None]
    alone: tuple[Hashable, ...]
    shared: tuple[Hashable, ...]
    long: bool
    loop: asyncio.AbstractEventLoop
    waits_for: int = 0
    followers: list[_Job] = field(default_factory=list)
    dropped: bool = False


class _Key:
    """Who uses a key: the last that wants it alone, and those that share it since."""

    def __init__(self) -> None:
        self.last: _Job | None = None
        self.sharing: dict[_Job, None] = {}


class FileWork:
    """See the module. `do` and `drop` are for the loop, one at a time."""

    def __init__(self, threads_max: int = THREADS_MAX, long_max: int = LONG_MAX) -> None:
        self._threads_max = threads_max
        self._long_max = long_max
        self._all: dict[_Job, None] = {}
        self._keys: dict[Hashable, _Key] = {}
        self._ready: deque[_Job] = deque()
        self._ready_long: deque[_Job] = deque()
        self._running = 0
        self._running_long = 0
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0
        self._given: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    def do(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        crash: Callable[[BaseException], None],
        *,
        alone: Iterable[Hashable] = (),
        shared: Iterable[Hashable] = (),
        long: bool = False,
    ) -> None:
        """Do `work` in a thread; then `done` is called with its result on the loop, or `crash`.

        It is done after all earlier ones that have a key in common, unless both only share it.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, done, crash, tuple(alone), tuple(shared), long, loop)
        before: dict[_Job, None] = {}
        for name in job.alone:
            key = self._keys.setdefault(name, _Key())
            if key.last is not None:
                before[key.last] = None
            before |= key.sharing
            key.last, key.sharing = job, {}
        for name in job.shared:
            key = self._keys.setdefault(name, _Key())
            if key.last is not None:
                before[key.last] = None
            key.sharing[job] = None
        before.pop(job, None)
        self._all[job] = None
        job.waits_for = len(before)
        for other in before:
            other.followers.append(job)
        if not before:
            self._is_ready(job)
            self._start()

    def drop(self) -> None:
        """Nobody wants any of it any more: what has begun goes on, and tells nobody."""
        for job in self._all:
            job.dropped = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done."""
        return not self._all

    # ---- on the loop ----

    def _is_ready(self, job: _Job) -> None:
        (self._ready_long if job.long else self._ready).append(job)

    def _start(self) -> None:
        while self._running < self._threads_max:
            if self._ready:
                job = self._ready.popleft()
            elif self._ready_long and self._running_long < self._long_max:
                job = self._ready_long.popleft()
            else:
                return
            self._running += 1
            self._running_long += job.long
            self._give(job)

    def _give(self, job: _Job) -> None:
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._given.put(job)
                return
            self._threads += 1
        threading.Thread(target=self._run, args=(job,), name="files", daemon=True).start()

    def _ended(self, job: _Job, result: Any, error: BaseException | None) -> None:
        self._running -= 1
        self._running_long -= job.long
        del self._all[job]
        for name in (*job.alone, *job.shared):
            key = self._keys.get(name)
            if key is None:
                continue
            key.sharing.pop(job, None)
            if key.last is job:
                key.last = None
            if key.last is None and not key.sharing:
                del self._keys[name]
        for follower in job.followers:
            follower.waits_for -= 1
            if not follower.waits_for:
                self._is_ready(follower)
        self._start()
        if not job.dropped:
            if error is None:
                job.done(result)
            else:
                job.crash(error)

    # ---- in the threads ----

    def _run(self, job: _Job) -> None:
        while True:
            result, error = None, None
            if not job.dropped:
                try:
                    result = job.work()
                except BaseException as raised:  # it crashes the actor, on the loop
                    error = raised
            # The loop may have ended before this thread.
            with contextlib.suppress(RuntimeError):
                job.loop.call_soon_threadsafe(self._ended, job, result, error)
            del job, result, error
            found = self._wait()
            if found is None:
                return
            job = found

    def _wait(self) -> _Job | None:
        with self._lock:
            self._idle += 1
        try:
            return self._given.get(timeout=LINGER_S)
        except queue.Empty:
            with self._lock:
                if not self._given.empty():
                    return self._given.get()
                self._idle -= 1
                self._threads -= 1
                is_last = not self._threads
            if is_last:
                trim()
            return None
