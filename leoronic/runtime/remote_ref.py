"""A reference to an actor in a host process: the same surface, over a socket."""

from __future__ import annotations

import asyncio
from typing import Any

from leoronic.errors import ActorGone, CallTimeout, MailboxFull, ProtocolError
from leoronic.runtime.host_frames import FromHost, ToHost
from leoronic.runtime.ref import CALL_TIMEOUT_S, ActorRef
from leoronic.wire.codec import to_json
from leoronic.wire.protocol import FrameProtocol

# Bytes that may wait to be written before senders wait.
SEND_BYTES_HIGH = 1024 * 1024
# Frames that may be sent before they are handed to the socket, where their bytes are counted.
UNFLUSHED_MAX = 256


class MessageTooLarge(ProtocolError):
    """It does not fit into a frame; nothing was sent."""

    definite = True


class RemoteRef(ActorRef):
    """A reference to an actor in a host process. At most `calls_max` calls wait for answers.

    Besides what an `ActorRef` raises: `MessageTooLarge`.
    """

    __slots__ = (
        "_answers",
        "_calls_max",
        "_protocol",
        "_unflushed",
        "answers_high",
        "lost",
        "sent",
    )

    def __init__(self, name: str, calls_max: int) -> None:
        super().__init__(name)
        self._protocol: FrameProtocol | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._calls_max = calls_max
        self._unflushed = 0
        self.answers_high = 0
        self.sent = 0
        self.lost = 0

    @property
    def waiting(self) -> int:
        """Calls that have no answer yet."""
        return len(self._answers)

    async def call(self, message: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """As `ActorRef.call`."""
        if self._protocol is None:
            raise ActorGone(f"{self.name} cannot be reached now")
        if len(self._answers) >= self._calls_max:
            raise MailboxFull(f"{self._calls_max} calls to {self.name} wait for answers already")
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        # Unique over all connections of this process, so a late answer finds nobody.
        number = self.sent
        self._send(number, message)
        self._answers[number] = answer
        self.answers_high = max(self.answers_high, len(self._answers))
        timer = loop.call_later(timeout_s, _expire, answer, self.name, timeout_s)
        try:
            return await answer
        finally:
            timer.cancel()
            self._answers.pop(number, None)

    async def cast(self, message: Any) -> None:
        """As `ActorRef.cast`; the mailbox is full when the socket takes no more."""
        protocol = self._protocol
        if protocol is None:
            self.lost += 1
            return
        self._send(None, message)
        if self._unflushed >= UNFLUSHED_MAX or self._is_slow(protocol):
            self._unflushed = 0
            await protocol.drained()

    def cast_nowait(self, message: Any) -> None:
        """As `ActorRef.cast_nowait`."""
        protocol = self._protocol
        if protocol is None:
            self.lost += 1
            return
        if self._is_slow(protocol):
            raise MailboxFull(f"{self.name} is not keeping up: {SEND_BYTES_HIGH} bytes wait for it")
        self._send(None, message)

    def attach(self, protocol: FrameProtocol) -> None:
        """Speak over this connection from now on."""
        self._protocol = protocol

    def detach(self) -> None:
        """There is no connection now: calls under way fail."""
        self._protocol = None
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(ActorGone(f"{self.name} ended before it answered"))

    def answered(self, frame: FromHost[Any]) -> None:
        """An answer came. Nobody may be waiting for it any more."""
        answer = self._answers.get(-1 if frame.answer is None else frame.answer)
        if answer is None or answer.done():
            return
        if frame.error is not None:
            answer.set_exception(frame.error.to_error())
        else:
            answer.set_result(frame.result)

    def _send(self, number: int | None, message: Any) -> None:
        assert self._protocol is not None
        data = to_json(ToHost(number, message))
        # Counted first: the number must not be given twice.
        self.sent += 1
        self._unflushed += 1
        try:
            self._protocol.send(data)
        except ProtocolError as error:
            what = type(message).__name__
            raise MessageTooLarge(f"{what} to {self.name} was not sent: {error.message}") from error

    def _is_slow(self, protocol: FrameProtocol) -> bool:
        transport = protocol.transport
        return transport is not None and transport.get_write_buffer_size() > SEND_BYTES_HIGH


def _expire(answer: asyncio.Future[Any], name: str, timeout_s: float) -> None:
    if not answer.done():
        answer.set_exception(CallTimeout(f"{name} did not answer within {timeout_s:g} s"))
