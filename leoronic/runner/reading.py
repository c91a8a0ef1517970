"""Reading output of attempts while they run, and after: `ReadOutput`, with patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from leoronic.core.run import AttemptKey, OutputPart, ReadOutput
from leoronic.errors import BadRequest, Refused
from leoronic.runtime.actor import NO_REPLY, ActorContext

READ_BYTES_MAX = 1024 * 1024
WAIT_S_MAX = 60.0
WAITING_MAX = 1024

Source = Callable[[AttemptKey, str], tuple[Callable[[int, int], bytes], int, bool] | None]
"""(attempt, stream name) -> (read(offset, limit), its size now, whether it is complete)."""


class Readers:
    """Those who wait for output that is not there yet. At most `WAITING_MAX`."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._waiting: dict[AttemptKey, list[tuple[ReadOutput, Any, asyncio.TimerHandle]]] = {}
        self._count = 0

    def read(self, message: ReadOutput, source: Source) -> Any:
        """The answer to a call, or `NO_REPLY` if it comes later. Raises `Refused`."""
        if message.stream not in ("stdout", "stderr"):
            raise BadRequest("stream is stdout or stderr")
        if message.offset < 0 or message.limit < 1:
            raise BadRequest("offset is at least 0 and limit at least 1")
        part = _part(message, source)
        request = self._context.request
        if part.data or part.at_end or message.wait_s <= 0 or request is None:
            return part
        if self._count >= WAITING_MAX:
            raise Refused(f"{WAITING_MAX} readers wait for output already")
        key = (message.task, message.attempt)
        timer = asyncio.get_running_loop().call_later(
            min(message.wait_s, WAIT_S_MAX), self._give_up, key, request, source
        )
        self._waiting.setdefault(key, []).append((message, request, timer))
        self._count += 1
        return NO_REPLY

    def wake(self, key: AttemptKey, source: Source) -> None:
        """There may be news of this attempt."""
        if key not in self._waiting:
            return
        still = []
        for message, request, timer in self._waiting.pop(key):
            part = _part(message, source)
            if part.data or part.at_end:
                timer.cancel()
                self._count -= 1
                self._context.reply(request, part)
            else:
                still.append((message, request, timer))
        if still:
            self._waiting[key] = still

    def _give_up(self, key: AttemptKey, request: Any, source: Source) -> None:
        waiting = self._waiting.pop(key, [])
        for message, other, _timer in waiting:
            if other is request:
                self._count -= 1
                self._context.reply(request, _part(message, source))
        still = [entry for entry in waiting if entry[1] is not request]
        if still:
            self._waiting[key] = still


def _part(message: ReadOutput, source: Source) -> OutputPart:
    found = source((message.task, message.attempt), message.stream)
    if found is None:
        return OutputPart(message.offset, b"", at_end=True, known=False)
    read, size, complete = found
    data = read(message.offset, min(message.limit, READ_BYTES_MAX))
    return OutputPart(message.offset, data, at_end=complete and message.offset + len(data) >= size)
