"""Generators: their items travel one by one, and wait if nobody takes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

from leoronic.remote import serial
from leoronic.remote.errors import TaskCancelledError
from leoronic.remote.jobs import Job, Outcome

Send = Callable[[Job, int, serial.Payload], None]


class Stream:
    """`send(job, index, payload)` sends an item, from any thread.

    With `backpressure` among the flags of a call, so many items at most are sent and not taken.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def sync(self, job: Job, items: Any) -> Outcome:
        """All items of a generator, in this thread. Raises what it raises."""
        taken = threading.Event()
        job.on_taken = taken.set
        sending = _Sending(job, self._send)
        for item in _iterable(job, items):
            sending.send(item)
            while sending.must_wait:
                taken.clear()
                if sending.must_wait:
                    taken.wait()
        return sending.end()

    async def apart(self, job: Job, items: Any) -> Outcome:
        """All items of a generator, asynchronous or not, on this event loop."""
        loop = asyncio.get_running_loop()
        taken = asyncio.Event()

        def on_taken() -> None:
            loop.call_soon_threadsafe(taken.set)

        job.on_taken = on_taken
        sending = _Sending(job, self._send)

        async def send(item: Any) -> None:
            sending.send(item)
            while sending.must_wait:
                taken.clear()
                if sending.must_wait:
                    await taken.wait()

        if isinstance(items, AsyncIterable):
            async for item in items:
                await send(item)
        else:
            for item in _iterable(job, items):
                await send(item)
                await asyncio.sleep(0)
        return sending.end()


class _Sending:
    def __init__(self, job: Job, send: Send) -> None:
        self._job = job
        self._send = send
        self._count = 0
        self._untaken_max = (job.flags or {}).get("backpressure") or 0
        self._found: list[Any] = []

    @property
    def must_wait(self) -> bool:
        if self._job.is_cancelled:
            raise TaskCancelledError(f"{self._job.label} was cancelled")
        return bool(self._untaken_max) and self._count - self._job.taken >= self._untaken_max

    def send(self, item: Any) -> None:
        what = f"item {self._count} of {self._job.label}"
        payload = serial.dump(item, self._found, what)
        self._send(self._job, self._count, payload)
        self._count += 1

    def end(self) -> Outcome:
        return True, (self._count,), self._found


def _iterable(job: Job, items: Any) -> Iterable[Any]:
    if not isinstance(items, Iterable):
        raise TypeError(f"{job.label} shall be a generator, but returned {type(items).__name__}")
    return items
