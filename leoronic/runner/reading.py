"""Reading output of attempts while they run, and after: `ReadOutput`, with patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from leoronic.core.outcome import StreamRef
from leoronic.core.run import AttemptKey, Exited, OutputPart, ReadOutput
from leoronic.errors import BadRequest, Refused
from leoronic.runner.live import Live
from leoronic.runtime.actor import NO_REPLY, ActorContext

READ_BYTES_MAX = 1024 * 1024
WAIT_S_MAX = 60.0
WAITING_MAX = 1024


class Readers:
    """Those who wait for output that is not there yet. At most `WAITING_MAX`.

    What an attempt printed is read from `live` while it runs, then from where `exited` says that it
    was kept, with `read_kept(ref, offset, limit)`.
    """

    def __init__(
        self,
        context: ActorContext,
        live: Mapping[AttemptKey, Live],
        exited: Callable[[AttemptKey], Exited | None],
        read_kept: Callable[[StreamRef, int, int], bytes],
    ) -> None:
        self._context = context
        self._live = live
        self._exited = exited
        self._read_kept = read_kept
        self._waiting: dict[AttemptKey, list[tuple[ReadOutput, Any, asyncio.TimerHandle]]] = {}
        self._count = 0

    def read(self, message: ReadOutput) -> Any:
        """The answer to a call, or `NO_REPLY` if it comes later. Raises `Refused`."""
        if message.stream not in ("stdout", "stderr"):
            raise BadRequest("stream is stdout or stderr")
        if message.offset < 0 or message.limit < 1:
            raise BadRequest("offset is at least 0 and limit at least 1")
        part = self._part(message)
        request = self._context.request
        if part.data or part.at_end or message.wait_s <= 0 or request is None:
            return part
        if self._count >= WAITING_MAX:
            raise Refused(f"{WAITING_MAX} readers wait for output already")
        key = (message.task, message.attempt)
        timer = asyncio.get_running_loop().call_later(
            min(message.wait_s, WAIT_S_MAX), self._give_up, key, request
        )
        self._waiting.setdefault(key, []).append((message, request, timer))
        self._count += 1
        return NO_REPLY

    def wake(self, key: AttemptKey) -> None:
        """There may be news of this attempt."""
        if key not in self._waiting:
            return
        still = []
        for message, request, timer in self._waiting.pop(key):
            part = self._part(message)
            if part.data or part.at_end:
                timer.cancel()
                self._count -= 1
                self._context.reply(request, part)
            else:
                still.append((message, request, timer))
        if still:
            self._waiting[key] = still

    def _give_up(self, key: AttemptKey, request: Any) -> None:
        waiting = self._waiting.pop(key, [])
        for message, other, _timer in waiting:
            if other is request:
                self._count -= 1
                self._context.reply(request, self._part(message))
        still = [entry for entry in waiting if entry[1] is not request]
        if still:
            self._waiting[key] = still

    def _part(self, message: ReadOutput) -> OutputPart:
        key, offset = (message.task, message.attempt), message.offset
        limit = min(message.limit, READ_BYTES_MAX)
        if (live := self._live.get(key)) is not None:
            return OutputPart(offset, live.stream(message.stream).part(offset, limit), at_end=False)
        exited = self._exited(key)
        if exited is None:
            return OutputPart(offset, b"", at_end=True, known=False)
        ref: StreamRef = getattr(exited.outcome, message.stream)
        data = self._read_kept(ref, offset, limit)
        return OutputPart(offset, data, at_end=offset + len(data) >= ref.size)
