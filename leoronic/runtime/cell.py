"""One incarnation of an actor: its mailbox, its task, and whatever it has under way.

A cell runs once. Its supervisor makes a new one to restart the actor, and points the actor's
reference at it. All that an incarnation owns (messages, calls not yet answered, background work,
timers) ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from leoronic.errors import ActorGone, LeoronicError
from leoronic.runtime.actor import NO_REPLY, Actor, ActorContext
from leoronic.runtime.log import get_logger
from leoronic.runtime.mailbox import Mailbox
from leoronic.runtime.ref import ActorRef, Call, Directory, LocalRef

# Messages handled before the loop may run somebody else: enough to make waking up cheap, few
# enough that a busy actor delays the others by well under a millisecond.
DRAIN_MAX = 128
# A timer that was due so long ago has been called, however late the loop is.
LATE_S = 60.0

_STOP = object()

OnExit = Callable[["Cell", BaseException | None], None]


class Cell:
    """Runs `actor` until it stops or crashes, then calls `on_exit` with the error, if any.

    A crash during `start` is raised there instead, and `on_exit` is not called.
    """

    def __init__(
        self,
        actor: Actor,
        ref: LocalRef,
        directory: Directory,
        *,
        mailbox_max: int,
        owner: ActorRef | None = None,
        on_exit: OnExit | None = None,
    ) -> None:
        self._actor = actor
        self._ref = ref
        self._on_exit = on_exit
        self._error: BaseException | None = None
        self._ready: asyncio.Future[None] | None = None
        self._started = False
        self._current: Call | None = None
        self._deferred: set[Call] = set()
        self._background: set[asyncio.Task[None]] = set()
        # With the times when they are due: uvloop's without a delay can't tell.
        self._timers: dict[asyncio.TimerHandle, float] = {}
        self._timers_sweep_at = 64
        self.mailbox = Mailbox(ref.name, mailbox_max)
        self.task: asyncio.Task[None] | None = None
        self.context = ActorContext(
            name=ref.name,
            ref=ref,
            directory=directory,
            owner=owner,
            log=get_logger(actor=ref.name),
            cell=self,
        )

    async def start(self, start_s: float) -> None:
        """Run `started()` and return once it has. Raises what it raised, or TimeoutError."""
        self._actor.context = self.context
        self._ref.cell = self
        self._ready = ready = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(ready), name=self._ref.name)
        self.task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(start_s):
                await ready
        except BaseException as error:
            self.task.cancel()
            await asyncio.wait([self.task])
            if isinstance(error, TimeoutError) and ready.cancelled():
                raise TimeoutError(f"not started within {start_s:g} s") from None
            raise

    async def stop(self, shutdown_s: float) -> BaseException | None:
        """Let it handle what it has, then `stopping()`; cut off after `shutdown_s` seconds.

        None if it ended in order, else what went wrong.
        """
        task = self.task
        assert task is not None
        self.request_stop()
        _done, late = await asyncio.wait([task], timeout=shutdown_s)
        if late:
            task.cancel()
            await asyncio.wait([task])
            return TimeoutError(f"cut off after {shutdown_s:g} s")
        return self._error

    def request_stop(self) -> None:
        """Ask it to end after what is in its mailbox now."""
        if not self.mailbox.closed:
            self.mailbox.put_always(_STOP)

    def crash(self, error: BaseException) -> None:
        """End it as if its handler had raised `error`."""
        if self._error is None:
            self._error = error
        if self.task is not None:
            self.task.cancel()

    def forget(self, call: Call) -> None:
        """This call was answered, or its sender gave up."""
        self._deferred.discard(call)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` until it ends or this incarnation does."""
        task = asyncio.create_task(work, name=f"{self._ref.name}/{name}")
        self._background.add(task)
        task.add_done_callback(self._background_ended)
        return task

    def deliver(self, message: Any) -> None:
        """Put `message` into the mailbox, even if it is full, unless this has ended."""
        if not self.mailbox.closed:
            self.mailbox.put_always(message)

    def call_after(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `callback` in `delay_s` seconds, unless this has ended by then."""
        loop = asyncio.get_running_loop()
        if len(self._timers) >= self._timers_sweep_at:
            over_at = loop.time() - LATE_S
            self._timers = {
                timer: at
                for timer, at in self._timers.items()
                if at > over_at and not timer.cancelled()
            }
            self._timers_sweep_at = max(64, 2 * len(self._timers))
        timer = loop.call_later(delay_s, self._guarded, callback)
        self._timers[timer] = loop.time() + delay_s
        return timer

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self.crash(error)

    async def _run(self, ready: asyncio.Future[None]) -> None:
        await self._actor.started()
        self._started = True
        if not ready.done():
            ready.set_result(None)
        await self._serve()
        await self._actor.stopping()

    async def _serve(self) -> None:
        mailbox = self.mailbox
        items = mailbox.items
        take = mailbox.take
        handle = self._actor.handle
        while True:
            if not items:
                await mailbox.wait()
            budget = DRAIN_MAX
            while items and budget:
                budget -= 1
                item = take()
                if isinstance(item, Call):
                    await self._serve_call(item)
                elif item is _STOP:
                    return
                else:
                    await handle(item)
            if items:
                await asyncio.sleep(0)

    async def _serve_call(self, call: Call) -> None:
        if call.done:
            # Its sender has given up: work for nobody is what keeps a busy actor busy.
            return
        context = self.context
        self._current = context.request = call
        try:
            result = await self._actor.handle(call.message)
        except LeoronicError as error:
            call.fail(error)
        else:
            if result is not NO_REPLY:
                call.answer(result)
            elif not call.done:
                self._deferred.add(call)
        # Only when nothing else was raised: then `_ended` still has to fail the call.
        self._current = context.request = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = _error_of(task)
        if self._error is None:
            self._error = error
        if self._ref.cell is self:
            self._ref.cell = None
        unanswered = [item for item in self.mailbox.close() if isinstance(item, Call)]
        unanswered += self._deferred
        if self._current is not None:
            unanswered.append(self._current)
        self._deferred.clear()
        for call in unanswered:
            call.fail(ActorGone(f"{self._ref.name} ended before it answered"))
        for timer in self._timers:
            timer.cancel()
        for background in self._background:
            background.cancel()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(_presentable(self._error))
        if self._started and self._on_exit is not None:
            self._on_exit(self, self._error)

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.mailbox.closed:
            self.crash(error)


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    if task.cancelled():
        return asyncio.CancelledError("cut off")
    return task.exception()


def _presentable(error: BaseException | None) -> BaseException:
    # Whoever waits must not take the actor's cancellation for its own.
    if error is None or isinstance(error, asyncio.CancelledError):
        return RuntimeError("cut off while starting")
    return error
