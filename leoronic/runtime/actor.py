"""What an actor is: a class with `handle`, and the context in which the runtime runs it.

    class Counter(Actor):
        def __init__(self) -> None:
            self.count = 0

        async def handle(self, message: Any) -> Any:
            match message:
                case Add(amount):
                    self.count += amount
                case Total():
                    return self.count

An actor handles one message at a time, so its state needs no lock. Raising a `LeoronicError` while
handling a call answers that call; anything else that escapes ends this incarnation, and its
supervisor decides what happens next. Never catch an error only to log it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from leoronic.runtime.log import Logger
from leoronic.runtime.ref import ActorRef, Call, Directory

if TYPE_CHECKING:
    from leoronic.errors import LeoronicError
    from leoronic.runtime.cell import Cell


class _NoReply:
    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()
"""Returned by `handle` when the answer comes later, by `context.reply`."""


class Actor:
    """Base class. Subclass it, keep state in attributes, and answer in `handle`."""

    takes: ClassVar[Any] = None
    """For an actor in a host process: the union of the message types it takes."""
    gives: ClassVar[Any] = None
    """For an actor in a host process: the union of the types it answers and emits."""

    context: ActorContext
    """Set by the runtime before `started`."""

    async def started(self) -> None:
        """Initialise. The supervisor starts the next child only once this has returned."""

    async def handle(self, message: Any) -> Any:
        """Take one message. What it returns answers a call, and is ignored for a cast."""
        raise NotImplementedError(f"{type(self).__name__} takes no messages, got {message!r}")

    async def stopping(self) -> None:
        """Clean up in an ordered stop, after all that was in the mailbox. Not run on a crash."""


class ActorContext:
    """What one incarnation of an actor may ask of the runtime."""

    __slots__ = ("_cell", "_directory", "_owner", "log", "name", "ref", "request")

    def __init__(
        self,
        *,
        name: str,
        ref: ActorRef,
        directory: Directory,
        owner: ActorRef | None,
        log: Logger,
        cell: Cell,
    ) -> None:
        self.name = name
        self.ref = ref
        self.log = log
        self.request: Call | None = None
        """The call that is being handled; None for a cast. Keep it to reply later."""
        self._directory = directory
        self._owner = owner
        self._cell = cell

    def find(self, name: str) -> ActorRef:
        """Another actor by name. Raises `NotFound`. The reference may be kept."""
        return self._directory.find(name)

    def get(self, name: str) -> ActorRef | None:
        """Another actor by name, or None."""
        return self._directory.get(name)

    def emit(self, message: Any) -> None:
        """Cast to the owner named in the child spec; dropped if there is none, or nobody listens.

        Raises `MailboxFull` if the owner is in this process and does not keep up.
        """
        if self._owner is not None:
            self._owner.cast_nowait(message)

    def reply(self, request: Call, result: Any) -> None:
        """Answer a call whose `handle` returned `NO_REPLY`."""
        request.answer(result)
        self._cell.forget(request)

    def fail(self, request: Call, error: LeoronicError) -> None:
        """Answer a call whose `handle` returned `NO_REPLY` with an error."""
        request.fail(error)
        self._cell.forget(request)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside `handle`, as part of this actor.

        If it raises, the actor has crashed; when the actor ends, it is cancelled.
        """
        return self._cell.spawn(work, name)

    def send_now(self, message: Any) -> None:
        """Cast `message` to this actor, even if its mailbox is full: for its own few notices."""
        self._cell.deliver(message)

    def send_after(self, delay_s: float, message: Any) -> asyncio.TimerHandle:
        """`send_now(message)` in `delay_s` seconds; cancelled when the actor ends."""
        return self._cell.call_after(delay_s, partial(self._cell.deliver, message))

    def call_after(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `callback` in `delay_s` seconds; cancelled when the actor ends.

        If it raises, the actor has crashed.
        """
        return self._cell.call_after(delay_s, callback)

    def stop(self) -> None:
        """End this actor normally, after what is in its mailbox now."""
        self._cell.request_stop()

    def crash(self, error: BaseException) -> None:
        """End this actor as if `handle` had raised: for callbacks, where raising goes nowhere."""
        self._cell.crash(error)
