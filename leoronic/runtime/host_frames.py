"""What a host process and its owner say to each other: one JSON frame each.

    to the host     {"call": N or null, "message": {...}}
    from the host   {"answer": N, "result": ...}
                    {"answer": N, "error": {"code", "message", "definite"}}
                    {"emit": {...}}

`N` is unique on its connection; a cast has none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

import msgspec

from leoronic.errors import LeoronicError, MailboxFull, Unavailable, from_code
from leoronic.runtime.ref import ActorRef
from leoronic.wire.codec import to_json
from leoronic.wire.protocol import FrameProtocol

M = TypeVar("M")

# Answers longer than this wait while the owner is slow to read; what is emitted may overtake them.
LARGE_BYTES = 64 * 1024
# So much of such answers may wait. Beyond it they are replaced by an error.
LARGE_WAITING_BYTES_MAX = 16 * 1024 * 1024


class ToHost(msgspec.Struct, Generic[M], frozen=True):
    """A message for the hosted actor; a call if it is numbered."""

    call: int | None
    message: M


class ErrorPart(msgspec.Struct, frozen=True):
    """An error as it crosses: see `leoronic.errors`."""

    code: str
    message: str
    definite: bool

    @classmethod
    def of(cls, error: LeoronicError) -> ErrorPart:
        """What to send of `error`."""
        return cls(error.code, error.message, error.definite)

    def to_error(self) -> LeoronicError:
        """What to raise at the other end."""
        return from_code(self.code, self.message)


class FromHost(msgspec.Struct, Generic[M], frozen=True, omit_defaults=True):
    """An answer (`answer` is set) or an emitted message (`emit` is set)."""

    answer: int | None = None
    result: M | None = None
    error: ErrorPart | None = None
    emit: M | None = None


class Inflow:
    """Hands what comes over a connection to an actor, and stops reading while it cannot.

    Up to `waiting_max` messages wait here before reading stops: what else comes over the same
    connection (answers) is not held up by a short jam.
    """

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._waiting: deque[Any] = deque()
        self._paused: FrameProtocol | None = None
        self._pump: asyncio.Task[None] | None = None

    def add(self, protocol: FrameProtocol, ref: ActorRef, item: Any) -> None:
        """Cast `item` to `ref`, now or when there is room. Order is kept."""
        if not self._waiting:
            try:
                ref.cast_nowait(item)
            except MailboxFull:
                pass
            else:
                return
        self._waiting.append(item)
        if len(self._waiting) > self._waiting_max and self._paused is None and protocol.transport:
            self._paused = protocol
            protocol.transport.pause_reading()
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(ref))

    def close(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    async def _run(self, ref: ActorRef) -> None:
        while self._waiting:
            await ref.cast(self._waiting[0])
            self._waiting.popleft()
        self._pump = None
        paused, self._paused = self._paused, None
        if paused is not None and paused.transport is not None and not paused.closed:
            paused.transport.resume_reading()


class Outflow:
    """Answers over one connection. Those that are large leave one by one, as they are read.

    So however many are asked for at once, they do not fill the connection's buffer, which would
    cost the owner the connection.
    """

    def __init__(self, protocol: FrameProtocol) -> None:
        self._protocol = protocol
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._pump: asyncio.Task[None] | None = None

    def answer(self, answer: FromHost[Any]) -> None:
        """Send it, now or when there is room; an error in its place if it cannot be sent."""
        data = to_json(answer)
        if len(data) <= LARGE_BYTES:
            self._protocol.send(data)
        elif self._waiting_bytes + len(data) > LARGE_WAITING_BYTES_MAX:
            error = Unavailable("too many large answers wait to be read")
            self._protocol.send(to_json(FromHost(answer=answer.answer, error=ErrorPart.of(error))))
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._pump is None:
                self._pump = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting and not self._protocol.closed:
            await self._protocol.drained()
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self._protocol.send(data)
        self._pump = None
