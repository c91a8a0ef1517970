"""Where calls run in this process: its main thread, other threads, or an event loop.

Each place takes jobs from the thread with the connections and tells `finish(job, outcome)` in its
own. A job that was claimed by somebody else meanwhile is passed over.
"""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any, Protocol

from leoronic.remote.executing import Emit, Work, cancelled, run_async, run_sync
from leoronic.remote.jobs import Job, Outcome
from leoronic.remote.threads import new_event_loop

# How long calls that run may still take when the process ends.
END_S = 2.0

Finish = Callable[[Job, Outcome], None]


class Place(Protocol):
    """Somewhere calls run."""

    def put(self, job: Job) -> None:
        """Run it in its turn. From any thread."""
        ...

    def run(self, create: Callable[[], Any]) -> int:
        """On the main thread: call `create`, then run calls until `stop`; the exit status.

        Raises what `create` raises.
        """
        ...

    def stop(self, status: int) -> None:
        """End `run` when what runs is over. From any thread."""
        ...

    def call(self, function: Callable[[], None]) -> None:
        """Call it where calls run, in its turn. From any thread."""
        ...


class MainThread:
    """Calls run one after the other on the main thread, so that they can be interrupted."""

    def __init__(self, work: Work, emit: Emit, finish: Finish) -> None:
        self._work = work
        self._emit = emit
        self._finish = finish
        self._jobs: queue.SimpleQueue[Job | int | Callable[[], None]] = queue.SimpleQueue()
        self._running: Job | None = None
        self.put = self._jobs.put
        self.stop = self._jobs.put
        self.call = self._jobs.put

    def run(self, create: Callable[[], Any]) -> int:
        """As `Place.run`."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        create()
        get = self._jobs.get
        while True:
            job = get()
            if isinstance(job, Job):
                if job.claim():
                    self._finish(job, self._execute(job))
            elif isinstance(job, int):
                return job
            else:
                job()
            # The last call's arguments are not kept until the next call.
            del job

    def _execute(self, job: Job) -> Outcome:
        try:
            job.cancel = _interrupt
            self._running = job
            # Whoever cancels says so first, and then looks for `cancel`.
            outcome = cancelled(job) if job.is_cancelled else run_sync(job, self._work, self._emit)
            self._running = None
        except KeyboardInterrupt:
            # It came just before the end, outside of the user's code.
            self._running = None
            outcome = cancelled(job)
        return outcome

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        """On the main thread, between two steps of the interpreter; perhaps too late."""
        if self._running is not None and self._running.is_cancelled:
            raise KeyboardInterrupt


def _interrupt() -> None:
    """Signal the main thread itself: so a call of the kernel that it waits in returns."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


class Threads:
    """Calls run at once, in so many threads for each concurrency group."""

    def __init__(
        self, work: Work, emit: Emit, finish: Finish, count: int, groups: dict[str, int]
    ) -> None:
        self._work = work
        self._emit = emit
        self._finish = finish
        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=name or "call")
            for name, size in {**groups, "": count}.items()
        }
        self._end: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.stop = self._end.put
        # What comes while the object is being made waits for it; None afterwards.
        self._early: list[tuple[str, Callable[[], None]]] | None = []
        self._making = threading.Lock()

    def put(self, job: Job) -> None:
        """As `Place.put`."""
        self._submit((job.flags or {}).get("group") or "", partial(self._execute, job))

    def call(self, function: Callable[[], None]) -> None:
        """As `Place.call`."""
        self._submit("", function)

    def _submit(self, group: str, function: Callable[[], None]) -> None:
        with self._making:
            if self._early is not None:
                self._early.append((group, function))
                return
        self._pools.get(group, self._pools[""]).submit(function)

    def _execute(self, job: Job) -> None:
        if job.claim():
            self._finish(job, run_sync(job, self._work, self._emit))

    def run(self, create: Callable[[], Any]) -> int:
        """As `Place.run`."""
        create()
        with self._making:
            early, self._early = self._early or [], None
            for group, function in early:
                self._pools.get(group, self._pools[""]).submit(function)
        status = self._end.get()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        return status


class EventLoop:
    """Calls run on an event loop, in the main thread; so many at once for each group."""

    def __init__(
        self, work: Work, emit: Emit, finish: Finish, count: int, groups: dict[str, int]
    ) -> None:
        self._work = work
        self._emit = emit
        self._finish = finish
        self._loop = new_event_loop()
        self._limits = {
            name: asyncio.Semaphore(size) for name, size in {**groups, "": count}.items()
        }
        self._put: deque[Job] = deque()
        self._awake = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[int] = self._loop.create_future()

    def put(self, job: Job) -> None:
        """As `Place.put`."""
        self._put.append(job)
        # Whoever sees True has appended before the loop looks for the last time.
        if not self._awake:
            self._awake = True
            self._loop.call_soon_threadsafe(self._begin)

    def call(self, function: Callable[[], None]) -> None:
        """As `Place.call`."""
        self._loop.call_soon_threadsafe(function)

    def stop(self, status: int) -> None:
        """As `Place.stop`."""
        self._loop.call_soon_threadsafe(self._end, status)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    def _begin(self) -> None:
        self._awake = False
        while self._put:
            job = self._put.popleft()
            task = self._loop.create_task(self._execute(job))
            job.cancel = self._canceller(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _canceller(self, task: asyncio.Task[None]) -> Callable[[], None]:
        return lambda: self._loop.call_soon_threadsafe(task.cancel)  # type: ignore[return-value]

    async def _execute(self, job: Job) -> None:
        group = (job.flags or {}).get("group") or ""
        async with self._limits.get(group, self._limits[""]):
            if job.claim():
                self._finish(job, await run_async(job, self._work, self._emit))

    def run(self, create: Callable[[], Any]) -> int:
        """As `Place.run`."""
        asyncio.set_event_loop(self._loop)
        try:
            return self._loop.run_until_complete(self._run(create))
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _run(self, create: Callable[[], Any]) -> int:
        made = create()
        if isinstance(made, Coroutine):
            await made
        status = await self._ended
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_S)
        return status
