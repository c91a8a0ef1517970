"""Waiting for values: `get` and `wait`, in any thread of the user's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leoronic.remote.errors import GetTimeoutError
from leoronic.remote.refs import ObjectRef

Blocked = Callable[[bool], None]
"""Told True before a thread waits, False afterwards."""


def get_values(
    found: ObjectRef | Iterable[ObjectRef], timeout_s: float | None, blocked: Blocked | None
) -> Any:
    """The value of a reference, or a list of those of several, in their order.

    Raises what a call raised, or `GetTimeoutError`.
    """
    if isinstance(found, ObjectRef):
        if not found.done:
            _wait_all([found], timeout_s, blocked)
        return found.value()
    wanted = list(found)
    for ref in wanted:
        _check(ref)
    if not all(ref.done for ref in wanted):
        _wait_all(wanted, timeout_s, blocked)
    return [ref.value() for ref in wanted]


def wait_for(
    found: Sequence[ObjectRef], count: int, timeout_s: float | None, blocked: Blocked | None
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """(ready, not ready), each in the given order: at most `count` are in the first.

    Waits until so many are there, or until the time is over.
    """
    for ref in found:
        _check(ref)
    if len(set(found)) != len(found):
        raise ValueError("wait: a reference is there twice")
    if not 0 < count <= len(found):
        raise ValueError(f"wait: num_returns={count} of {len(found)} references")
    pending = [ref for ref in found if not ref.done]
    missing = count - (len(found) - len(pending))
    if missing > 0 and timeout_s != 0:
        _wait_some(pending, missing, timeout_s, blocked)
    elif missing > 0:
        for ref in pending:
            ref.want()
    ready: list[ObjectRef] = []
    rest: list[ObjectRef] = []
    for ref in found:
        (ready if ref.done and len(ready) < count else rest).append(ref)
    return ready, rest


def _check(ref: object) -> None:
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"expected ObjectRefs, got {type(ref).__name__}: {ref!r:.100}")


class _Counter:
    """Opens `lock` once it was called `left` times. Calls come from any thread."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._counting = threading.Lock()
        self.lock = threading.Lock()
        self.lock.acquire()

    def __call__(self, _: ObjectRef) -> None:
        with self._counting:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self.lock.release()


def _wait_all(
    wanted: Sequence[ObjectRef], timeout_s: float | None, blocked: Blocked | None
) -> None:
    for ref in wanted:
        if not ref.done:
            ref.want()
    # Values mostly come in order: who waits for the last one first is woken once, not for each.
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    if blocked is not None:
        blocked(True)
    try:
        for ref in reversed(wanted):
            if not ref.done and not _wait_one(ref, deadline):
                missing = sum(not one.done for one in wanted)
                raise GetTimeoutError(
                    f"get: {missing} of {len(wanted)} values are not there after {timeout_s:g} s"
                )
    finally:
        if blocked is not None:
            blocked(False)


def _wait_one(ref: ObjectRef, deadline: float | None) -> bool:
    """Whether it is there in time."""
    counter = _Counter(1)
    ref.on_done(counter)
    if _acquired(counter.lock, deadline):
        return True
    ref.ignore(counter)
    return ref.done


def _wait_some(
    pending: list[ObjectRef], count: int, timeout_s: float | None, blocked: Blocked | None
) -> None:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    counter = _Counter(count)
    if blocked is not None:
        blocked(True)
    try:
        for ref in pending:
            ref.on_done(counter)
        _acquired(counter.lock, deadline)
    finally:
        if blocked is not None:
            blocked(False)
        for ref in pending:
            ref.ignore(counter)


def _acquired(lock: threading.Lock, deadline: float | None) -> bool:
    if deadline is None:
        return lock.acquire()
    return lock.acquire(timeout=min(max(deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX))
