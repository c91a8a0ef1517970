"""The futures of an executor, whose waiting a worker is told of.

A worker in which a call waits for others must let others run meanwhile, or all could wait for each
other. `get` says so by itself; this is for `result`, `concurrent.futures.wait` and the like.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, SupportsIndex, TypeVar

from leoronic.remote import context

T = TypeVar("T")


class _Depth(threading.local):
    """For how many things this thread waits."""

    count = 0


_depth = _Depth()


def _begins() -> None:
    _depth.count += 1
    if _depth.count == 1:
        _tell(True)


def _ends() -> None:
    # A generator of `as_completed` may be closed by another thread than that which used it.
    if _depth.count:
        _depth.count -= 1
        if not _depth.count:
            _tell(False)


def _tell(is_blocked: bool) -> None:
    found = context.current_or_none()
    if found is not None and found.blocked is not None:
        found.blocked(is_blocked)


@contextmanager
def waiting() -> Iterator[None]:
    """While it lasts this thread waits for a remote call."""
    _begins()
    try:
        yield
    finally:
        _ends()


class _Waiters(list[Any]):
    """Those who wait for a future: `wait` and `as_completed` enter themselves here."""

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        _begins()

    def remove(self, waiter: Any) -> None:
        super().remove(waiter)
        _ends()

    def pop(self, index: SupportsIndex = -1) -> Any:
        _ends()
        return super().pop(index)


class RemoteFuture(concurrent.futures.Future[T], Generic[T]):
    """A `concurrent.futures.Future` of a remote call."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: list[Any] = _Waiters()

    def result(self, timeout: float | None = None) -> T:
        """As in `concurrent.futures`."""
        if self.done():
            return super().result()
        with waiting():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As in `concurrent.futures`."""
        if self.done():
            return super().exception()
        with waiting():
            return super().exception(timeout)
