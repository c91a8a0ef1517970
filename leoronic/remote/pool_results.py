"""What the calls of a pool give back, as `multiprocessing` has it."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from typing import Any

from leoronic.remote.futures import RemoteFuture, waiting

Callback = Callable[[Any], object] | None
Begin = Callable[[], Future[list[Any]] | None]
"""Starts the next chunk; None if there is none."""


class TimeoutError(multiprocessing.TimeoutError, futures.TimeoutError):
    """It is not there yet. Also the built-in one."""


class AsyncResult:
    """What one call will return. Callbacks are called on a thread of the executor's."""

    def __init__(self, future: Future[Any], callback: Callback, error_callback: Callback) -> None:
        self._future = future

        def tell(done: Future[Any]) -> None:
            error = futures.CancelledError() if done.cancelled() else done.exception()
            if error is None and callback is not None:
                callback(done.result())
            elif error is not None and error_callback is not None:
                error_callback(error)

        if callback is not None or error_callback is not None:
            future.add_done_callback(tell)

    def get(self, timeout: float | None = None) -> Any:
        """Its value, or what it raised. Raises `multiprocessing.TimeoutError`."""
        self.wait(timeout)
        if not self._future.done():
            raise TimeoutError(f"not there after {timeout:g} s")
        return self._future.result()

    def wait(self, timeout: float | None = None) -> None:
        """Until it is over, for at most `timeout` seconds."""
        futures.wait([self._future], timeout)

    def ready(self) -> bool:
        """Whether it is over."""
        return self._future.done()

    def successful(self) -> bool:
        """Whether it raised nothing. Raises `ValueError` if it is not over."""
        if not self._future.done():
            raise ValueError(f"{self!r} not ready")
        return not self._future.cancelled() and self._future.exception() is None


def gathered(chunks: list[Future[list[Any]]]) -> Future[list[Any]]:
    """All items of all chunks, once all are over; of several exceptions the first in order."""
    whole: RemoteFuture[list[Any]] = RemoteFuture()
    whole.set_running_or_notify_cancel()
    left = len(chunks)
    counting = threading.Lock()

    def done(_: Future[list[Any]]) -> None:
        nonlocal left
        with counting:
            left -= 1
            if left:
                return
        try:
            whole.set_result([item for chunk in chunks for item in chunk.result()])
        except BaseException as error:
            whole.set_exception(error)

    if not chunks:
        whole.set_result([])
    for chunk in chunks:
        chunk.add_done_callback(done)
    return whole


class Results(ABC, Iterator[Any]):
    """Results one by one. What raised is raised in its place, and the next may be asked for."""

    def __init__(self, begin: Begin, ahead: int) -> None:
        self._begin = begin
        self._items: deque[Any] = deque()
        for _ in range(ahead):
            if not self._begin_one():
                break

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next. Raises `StopIteration`, `multiprocessing.TimeoutError`."""
        if not self._items:
            self._items.extend(self._next_chunk(timeout))
            self._begin_one()
        return self._items.popleft()

    def _begin_one(self) -> bool:
        future = self._begin()
        if future is not None:
            self._begun(future)
        return future is not None

    @abstractmethod
    def _begun(self, future: Future[list[Any]]) -> None: ...

    @abstractmethod
    def _next_chunk(self, timeout: float | None) -> list[Any]: ...


class Ordered(Results):
    """In the order of the items."""

    def __init__(self, begin: Begin, ahead: int) -> None:
        self._futures: deque[Future[list[Any]]] = deque()
        super().__init__(begin, ahead)

    def _begun(self, future: Future[list[Any]]) -> None:
        self._futures.append(future)

    def _next_chunk(self, timeout: float | None) -> list[Any]:
        if not self._futures:
            raise StopIteration
        done, _ = futures.wait([self._futures[0]], timeout)
        if not done:
            raise TimeoutError(f"not there after {timeout:g} s")
        future = self._futures.popleft()
        if future.exception() is not None:
            self._begin_one()
        return future.result()


class AsTheyCome(Results):
    """In the order in which they are there."""

    def __init__(self, begin: Begin, ahead: int) -> None:
        self._ended: queue.SimpleQueue[Future[list[Any]]] = queue.SimpleQueue()
        self._under_way = 0
        super().__init__(begin, ahead)

    def _begun(self, future: Future[list[Any]]) -> None:
        self._under_way += 1
        future.add_done_callback(self._ended.put)

    def _next_chunk(self, timeout: float | None) -> list[Any]:
        if not self._under_way:
            raise StopIteration
        try:
            with waiting():
                future = self._ended.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"not there after {timeout:g} s") from None
        self._under_way -= 1
        if future.exception() is not None:
            self._begin_one()
        return future.result()
