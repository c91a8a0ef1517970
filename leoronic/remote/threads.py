"""The thread with the event loop, and how work gets to it from other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
STOP_S_MAX = 10.0
FORKED = (
    "this process was forked from one that takes part in remote calls, and only that one can go on "
    "with them: use subprocess, or multiprocessing with `spawn`, and `leoronic.init()` there"
)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of the quicker kind, where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - 32-bit machines do not have it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class LoopThread:
    """A thread that runs an event loop from `start` to `stop`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._awake = False
        self._forked = False
        self.loop: asyncio.AbstractEventLoop = new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function(*args)` called on the loop's thread soon, in order. From any thread.

        Raises `RuntimeError` once the loop is closed, and in a child that was forked.
        """
        if self._forked:
            raise RuntimeError(FORKED)
        self._posted.append((function, args))
        # Whoever sees True has appended before the loop looks for the last time.
        if not self._awake:
            self._awake = True
            self.loop.call_soon_threadsafe(self._run_posted)

    def run(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop. From any other thread. Raises as `post`."""
        if self._forked:
            work.close()
            raise RuntimeError(FORKED)
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def forked(self) -> None:
        """This is a child: the thread is not in it."""
        self._forked = True

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Cancel what runs, end the loop and its thread. From any other thread."""
        if self._thread.ident is None:
            self.loop.close()
        elif self._thread.is_alive() and not self._forked:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(STOP_S_MAX)

    def _run_posted(self) -> None:
        while True:
            while self._posted:
                function, args = self._posted.popleft()
                try:
                    function(*args)
                except Exception as error:
                    # It must not take with it what others have posted.
                    self.loop.call_exception_handler(
                        {"message": f"while running {function!r}", "exception": error}
                    )
            self._awake = False
            if not self._posted or self._awake:
                return
            self._awake = True

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self._run_posted()
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left, timeout=STOP_S_MAX / 2))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
