"""How to talk to an actor: references, and the directory that finds them by name.

A reference names an actor, not one of its lives: it stays valid when the actor is restarted, and
then reaches the new incarnation. What was in the mailbox of the old one is lost, as in Erlang:
calls fail with `ActorGone`, casts are gone. A cast promises at most one delivery, in order of
sending (from one sender to one receiver); whoever needs more repeats it, or calls.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leoronic.errors import ActorGone, CallTimeout, Conflict, LeoronicError, MailboxFull, NotFound

if TYPE_CHECKING:
    from leoronic.runtime.cell import Cell

CALL_TIMEOUT_S = 5.0


class Call:
    """A message whose sender waits for an answer. Answering twice changes nothing.

    No ABC: `isinstance` is asked of every message, and would take four times as long.
    """

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message

    @property
    def done(self) -> bool:
        """Whether it was answered, or its sender no longer waits."""
        raise NotImplementedError

    def answer(self, result: Any) -> None:
        """Answer with `result`."""
        raise NotImplementedError

    def fail(self, error: LeoronicError) -> None:
        """Answer with an error, raised where the call was made."""
        raise NotImplementedError


class LocalCall(Call):
    """A call made in this process."""

    __slots__ = ("future",)

    def __init__(self, message: Any, future: asyncio.Future[Any]) -> None:
        self.message = message
        self.future = future

    @property
    def done(self) -> bool:
        """Whether it was answered, or its sender no longer waits."""
        return self.future.done()

    def answer(self, result: Any) -> None:
        """Wake the sender with `result`."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: LeoronicError) -> None:
        """Raise `error` at the sender."""
        if not self.future.done():
            self.future.set_exception(error)


class ActorRef(ABC):
    """A reference to one actor, in this process or another."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def call(self, message: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Send `message` and wait for its answer.

        Raises what the handler raised if that is a `LeoronicError`; `CallTimeout` (it may still
        be handled); `ActorGone`; `MailboxFull` if it could not be delivered within `timeout_s`.
        """

    @abstractmethod
    async def cast(self, message: Any) -> None:
        """Send `message`, waiting while the mailbox is full. Lost if the actor is gone."""

    @abstractmethod
    def cast_nowait(self, message: Any) -> None:
        """Send `message`. Raises `MailboxFull`. Lost if the actor is gone."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class LocalRef(ActorRef):
    """A reference to an actor in this process. `lost` counts casts that found nobody."""

    __slots__ = ("cell", "lost")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.cell: Cell | None = None
        self.lost = 0

    async def call(self, message: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """As `ActorRef.call`. An actor that calls itself would wait for ever: RuntimeError."""
        cell = self.cell
        if cell is None:
            raise ActorGone(f"{self.name} is not running")
        loop = asyncio.get_running_loop()
        if cell.task is asyncio.current_task(loop):
            raise RuntimeError(f"{self.name} calls itself: it would wait for its own answer")
        deadline = loop.time() + timeout_s
        call = LocalCall(message, loop.create_future())
        if cell.mailbox.full:
            await self._put(cell, call, deadline)
        else:
            cell.mailbox.put_nowait(call)
        timer = loop.call_at(deadline, self._expire, call, timeout_s)
        try:
            return await call.future
        finally:
            timer.cancel()
            cell.forget(call)

    async def cast(self, message: Any) -> None:
        """As `ActorRef.cast`."""
        cell = self.cell
        if cell is None:
            self.lost += 1
            return
        try:
            await cell.mailbox.put(message)
        except ActorGone:
            self.lost += 1

    def cast_nowait(self, message: Any) -> None:
        """As `ActorRef.cast_nowait`."""
        cell = self.cell
        if cell is None:
            self.lost += 1
            return
        cell.mailbox.put_nowait(message)

    def _expire(self, call: LocalCall, timeout_s: float) -> None:
        call.fail(CallTimeout(f"{self.name} did not answer within {timeout_s:g} s"))

    async def _put(self, cell: Cell, call: LocalCall, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await cell.mailbox.put(call)
        except TimeoutError:
            raise MailboxFull(f"{self.name} is not keeping up: nothing was delivered") from None


class Directory:
    """The actors of one process by name. Names are unique."""

    def __init__(self) -> None:
        self._refs: dict[str, ActorRef] = {}

    def add(self, ref: ActorRef) -> None:
        """Make `ref` known. Raises `Conflict` if the name is taken."""
        if ref.name in self._refs:
            raise Conflict(f"there is an actor named {ref.name} already")
        self._refs[ref.name] = ref

    def remove(self, name: str) -> None:
        """Forget a name; harmless if it is not there."""
        self._refs.pop(name, None)

    def get(self, name: str) -> ActorRef | None:
        """The actor of that name, if there is one."""
        return self._refs.get(name)

    def find(self, name: str) -> ActorRef:
        """The actor of that name. Raises `NotFound`."""
        ref = self._refs.get(name)
        if ref is None:
            raise NotFound(f"there is no actor named {name}")
        return ref

    def __iter__(self) -> Iterator[str]:
        return iter(self._refs)
