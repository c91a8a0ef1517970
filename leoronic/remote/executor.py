"""`Executor`: `concurrent.futures`, on the cluster.

    with leoronic.Executor() as executor:
        print(sum(executor.map(work, range(1000), chunksize=10)))

Nothing runs in this process. As many calls as are wanted are handed over at a time (`pace.py`), the
others wait here and can be cancelled. A thread takes what comes back, so that callbacks of futures
may do what they like; it lives only while there is something under way, and a program does not end
before that.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from leoronic.errors import LeoronicError
from leoronic.remote.errors import TaskError, WorkerCrashedError
from leoronic.remote.futures import RemoteFuture
from leoronic.remote.pace import Pace
from leoronic.remote.prepared import Calls, InitializerFailed, chunked
from leoronic.remote.refs import ObjectRef

T = TypeVar("T")
# A thread without work stays for so long: starting one takes 0.1 ms.
LINGER_S = 0.05
# Nodes come and go.
SLOTS_FOR_S = 5.0


class CallLost(WorkerCrashedError, BrokenExecutor):
    """The process that ran this call ended, each time it was tried. The executor goes on."""


class RemoteTraceback(Exception):
    """Where it was raised; the cause of the exception that a future has."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}\n"""'


class _Work(NamedTuple):
    future: RemoteFuture[Any]
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Executor(concurrent.futures.Executor):
    """Runs calls in workers of the cluster.

    At most `max_workers` calls are under way at a time; without it as many as the cluster can run,
    and some ahead. `initializer(*initargs)` runs once in each worker, before any call of this
    executor; such workers serve no others. `requirements` are those of `remote`: `num_cpus` (1),
    `memory`, `resources`, `max_retries` (3: how often a call is tried again that lost its worker),
    `runtime_env`.

    Raises `NodeUnreachable` if there is no node, `ValueError` and `TypeError` for wrong arguments.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **requirements: Any,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._calls = self._make_calls(requirements, initializer, initargs)
        now = time.monotonic()
        # How many can run must be known only if it decides.
        self._asked_at = now
        self._has_limit = max_workers is not None
        slots = float(max_workers) if max_workers is not None else self._calls.slots()
        self._pace = Pace(max_workers, slots, now)
        # Re-entrant, as pickling an argument and a callback may run anybody's code.
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        self._waiting: deque[_Work] = deque()
        self._under_way = 0
        self._unsettled = 0
        self._ended: queue.SimpleQueue[tuple[RemoteFuture[Any], ObjectRef | Exception]] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._is_shut = False
        self._broken = ""

    def _make_calls(
        self,
        requirements: dict[str, Any],
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> Calls:
        return Calls(requirements, initializer, initargs)

    # ---- for the user ----

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have `fn(*args, **kwargs)` run. Its exception is that of the future.

        Raises `RuntimeError` after `shutdown`, `BrokenExecutor` once the initializer has failed.
        """
        return self._submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """`fn` of the items of `iterables`, which are read at once; results in their order.

        `chunksize` items travel as one call, and fail as one. Raises `TimeoutError` at the result
        that is not there `timeout` seconds after this call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be at least 1")
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        if chunksize == 1:
            return _results(deque(self._submit(fn, args, {}) for args in calls), deadline)
        run = self.chunk_of(fn)
        chunks = deque(
            self._submit(run, (chunk,), {})
            for chunk in iter(lambda: list(islice(calls, chunksize)), [])
        )
        return _flat(_results(chunks, deadline))

    @property
    def workers(self) -> float:
        """How many calls can run at a time, as far as is known."""
        return self._pace.slots

    @property
    def is_over(self) -> bool:
        """Whether it has lost its cluster, by `leoronic.shutdown()`."""
        return self._calls.is_over

    def chunk_of(self, fn: Callable[..., T]) -> Callable[[list[tuple[Any, ...]]], list[T]]:
        """For `submit`: `fn` for a list of argument tuples. Pickled once, as it is at first use."""
        found: Callable[[list[tuple[Any, ...]]], list[T]] = self._calls.prepare(chunked(fn))
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more. `wait` until all has ended; `cancel_futures` that have not been begun."""
        with self._lock:
            self._is_shut = True
            left = list(self._waiting) if cancel_futures else []
        for work in left:
            work.future.cancel()
        if left:
            self._begin()
        if wait:
            with self._settled:
                self._settled.wait_for(lambda: not self._unsettled)

    # ---- handing over ----

    def _submit(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        future: RemoteFuture[Any] = RemoteFuture()
        with self._lock:
            if self._broken:
                raise BrokenExecutor(self._broken)
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(_Work(future, function, args, kwargs))
            self._unsettled += 1
        self._begin()
        return future

    def _begin(self) -> None:
        """Hand over what there is room for, and forget what was cancelled meanwhile."""
        while (work := self._next()) is not None:
            future = work.future
            try:
                ref = self._calls.start(work.function, work.args, work.kwargs)
            except Exception as error:  # Its arguments cannot be pickled: that is its own affair.
                self._ended.put((future, error))
            else:
                ref.on_done(partial(self._put, future))

    def _put(self, future: RemoteFuture[Any], ref: ObjectRef) -> None:
        self._ended.put((future, ref))

    def _next(self) -> _Work | None:
        with self._lock:
            while self._waiting:
                is_full = self._under_way >= self._pace.room
                if is_full and not self._waiting[0].future.cancelled():
                    return None
                work = self._waiting.popleft()
                if work.future.set_running_or_notify_cancel():
                    self._under_way += 1
                    if self._thread is None:
                        self._thread = threading.Thread(target=self._run, name="leoronic executor")
                        self._thread.start()
                    return work
                self._one_settled()
            return None

    # ---- taking back: on the thread ----

    def _run(self) -> None:
        while True:
            try:
                ended = self._ended.get(timeout=None if self._under_way else LINGER_S)
            except queue.Empty:
                with self._lock:
                    if not self._under_way:
                        self._thread = None
                        return
            else:
                self._take(*ended)
                # What it holds may be large, and the next may be long in coming.
                del ended

    def _take(self, future: RemoteFuture[Any], ended: ObjectRef | Exception) -> None:
        now = time.monotonic()
        with self._lock:
            self._under_way -= 1
            self._pace.ended(now)
        if not self._has_limit and now - self._asked_at > SLOTS_FOR_S:
            self._asked_at = now
            self._count_slots()
        # The next first: while this one is looked at, workers have something to do.
        self._begin()
        try:
            value = _value(ended)
        except InitializerFailed as error:
            self._break(error)
            future.set_exception(_broken(error))
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)
        with self._lock:
            self._one_settled()

    def _count_slots(self) -> None:
        try:
            self._pace.slots = self._calls.slots()
        except LeoronicError:
            return  # No node answers just now: as many as before.

    def _break(self, error: InitializerFailed) -> None:
        """Workers cannot be made ready: nothing can run any more."""
        with self._lock:
            self._broken = str(_broken(error))
            left = list(self._waiting)
            self._waiting.clear()
        for work in left:
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(_broken(error))
            with self._lock:
                self._one_settled()

    def _one_settled(self) -> None:
        self._unsettled -= 1
        if not self._unsettled:
            self._settled.notify_all()


def _broken(error: InitializerFailed) -> BrokenExecutor:
    return BrokenExecutor(f"the initializer failed in a worker:\n{error}")


def _value(ended: ObjectRef | Exception) -> Any:
    """What came back. Raises the called code's own exception, as if it had been raised here."""
    if isinstance(ended, Exception):
        raise ended
    try:
        return ended.value()
    except TaskError as error:
        if error.cause is None:
            raise
        raise error.cause from RemoteTraceback(error.message)
    except WorkerCrashedError as error:
        raise CallLost(error.message) from None


def _results(futures: deque[Future[Any]], deadline: float | None) -> Iterator[Any]:
    """Their results in order; those that nobody waits for any more are cancelled."""

    def results() -> Iterator[Any]:
        try:
            while futures:
                left_s = None if deadline is None else deadline - time.monotonic()
                yield _first(futures, left_s)
        finally:
            for future in futures:
                future.cancel()

    return results()


def _first(futures: deque[Future[Any]], timeout_s: float | None) -> Any:
    # A function of its own, so that nothing holds the value while it is handed out.
    value = futures[0].result(timeout_s)
    futures.popleft()
    return value


def _flat(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
