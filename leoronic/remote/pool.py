"""`multiprocessing.Pool`'s calls, on the cluster.

    leoronic.map(work, range(1000))
    leoronic.apply_async(render, (scene,), num_cpus=4, memory="2GiB").get(timeout=60)

Each call may say what it needs: `num_cpus`, `memory`, `resources`, `max_retries`, `runtime_env`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from itertools import islice
from types import TracebackType
from typing import Any

from leoronic.remote.executor import Executor
from leoronic.remote.pool_results import (
    AsTheyCome,
    AsyncResult,
    Begin,
    Callback,
    Ordered,
    Results,
    TimeoutError,
    gathered,
)

# `map` cuts its items into so many chunks for each that can run at a time.
CHUNKS_FOR_EACH = 4
# `imap` begins so many chunks ahead of what was taken from it.
AHEAD_MAX = 1000
EXECUTORS_MAX = 100

__all__ = [
    "AsyncResult", "Pool", "TimeoutError", "apply", "apply_async", "imap", "imap_unordered", "map",
    "map_async", "starmap", "starmap_async",
]  # fmt: skip


class Pool:
    """Calls in workers of the cluster: at most `processes` at a time, else as many as it can run.

    `initializer(*initargs)` runs once in each worker. `requirements` hold for all calls that do
    not say otherwise. Raises `ValueError` for calls after `close`.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **requirements: Any,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._processes = processes
        self._initializer = initializer
        self._initargs = initargs
        self._requirements = requirements
        self._executors: dict[str, Executor] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    # ---- calls ----

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        **requirements: Any,
    ) -> Any:
        """`func(*args, **kwds)`, elsewhere."""
        return self.apply_async(func, args, kwds, **requirements).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        **requirements: Any,
    ) -> AsyncResult:
        """The same, without waiting."""
        future = self._executor(requirements).submit(func, *args, **(kwds or {}))
        return AsyncResult(future, callback, error_callback)

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        **requirements: Any,
    ) -> list[Any]:
        """`func` of each item, in order. `chunksize` of them travel, and fail, as one call."""
        return list(self.map_async(func, iterable, chunksize, **requirements).get())

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        **requirements: Any,
    ) -> AsyncResult:
        """The same, without waiting."""
        items = [(item,) for item in iterable]
        return self._many(func, items, chunksize, callback, error_callback, requirements)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **requirements: Any,
    ) -> list[Any]:
        """As `map`; each item is a tuple of arguments."""
        return list(self.starmap_async(func, iterable, chunksize, **requirements).get())

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
        **requirements: Any,
    ) -> AsyncResult:
        """The same, without waiting."""
        items = [tuple(item) for item in iterable]
        return self._many(func, items, chunksize, callback, error_callback, requirements)

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        **requirements: Any,
    ) -> Results:
        """As `map`, one by one. `iterable` may be endless: it is read a little ahead."""
        return Ordered(self._chunks(func, iterable, chunksize, requirements), AHEAD_MAX)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        **requirements: Any,
    ) -> Results:
        """As `imap`, as they come."""
        return AsTheyCome(self._chunks(func, iterable, chunksize, requirements), AHEAD_MAX)

    # ---- the end ----

    def close(self) -> None:
        """Take no more calls."""
        self._is_closed = True
        for executor in self._executors.values():
            executor.shutdown(wait=False)

    def terminate(self) -> None:
        """Take no more, and cancel what has not been begun."""
        self._is_closed = True
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for all calls. Raises `ValueError` before `close` or `terminate`."""
        if not self._is_closed:
            raise ValueError("Pool is still running")
        for executor in self._executors.values():
            executor.shutdown(wait=True)

    def __enter__(self) -> Pool:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    # ---- within ----

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("Pool not running")

    def _executor(self, requirements: dict[str, Any]) -> Executor:
        self._check_open()
        wanted = {**self._requirements, **requirements}
        key = repr(sorted(wanted.items()))
        with self._lock:
            found = self._executors.get(key)
            if found is None or found.is_over:
                if len(self._executors) >= EXECUTORS_MAX:
                    # What it has taken on goes on without the pool.
                    del self._executors[next(iter(self._executors))]
                found = self._executors[key] = self._make_executor(wanted)
        return found

    def _make_executor(self, requirements: dict[str, Any]) -> Executor:
        return Executor(
            self._processes,
            initializer=self._initializer,
            initargs=self._initargs,
            **requirements,
        )

    def _many(
        self,
        func: Callable[..., Any],
        items: list[tuple[Any, ...]],
        chunksize: int | None,
        callback: Callback,
        error_callback: Callback,
        requirements: dict[str, Any],
    ) -> AsyncResult:
        executor = self._executor(requirements)
        if chunksize is None:
            chunksize = max(1, math.ceil(len(items) / (CHUNKS_FOR_EACH * executor.workers)))
        _check_chunksize(chunksize)
        run = executor.chunk_of(func)
        chunks = [
            executor.submit(run, items[start : start + chunksize])
            for start in range(0, len(items), chunksize)
        ]
        return AsyncResult(gathered(chunks), callback, error_callback)

    def _chunks(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        requirements: dict[str, Any],
    ) -> Begin:
        _check_chunksize(chunksize)
        executor = self._executor(requirements)
        run = executor.chunk_of(func)
        items = ((item,) for item in iterable)

        def begin() -> Future[list[Any]] | None:
            chunk = list(islice(items, chunksize))
            return executor.submit(run, chunk) if chunk else None

        return begin


def _check_chunksize(chunksize: int) -> None:
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")


_pool = Pool()
apply = _pool.apply
apply_async = _pool.apply_async
map = _pool.map
map_async = _pool.map_async
starmap = _pool.starmap
starmap_async = _pool.starmap_async
imap = _pool.imap
imap_unordered = _pool.imap_unordered
