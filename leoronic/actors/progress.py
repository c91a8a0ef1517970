"""An answer that takes long, told as a stream: how far it is, then the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from leoronic.actors.file_calls import Advance
from leoronic.actors.output_reading import Item

TELL_EVERY_S = 0.1


async def with_progress(
    work: Callable[[Advance], Awaitable[Any]], done: str
) -> AsyncIterator[Item]:
    """Items {`done`: bytes done, "size": bytes in all} while `work` goes on, then its result.

    At most one item each `TELL_EVERY_S`. Raises what `work` raises; it ends with the iteration.
    """
    state: list[tuple[int, int]] = [(0, 0)]

    def advance(done_bytes: int, size: int) -> None:
        state[0] = (done_bytes, size)

    working = asyncio.ensure_future(work(advance))
    told = (0, 0)
    try:
        while not working.done():
            await asyncio.wait({working}, timeout=TELL_EVERY_S)
            if state[0] != told and not working.done():
                told = state[0]
                yield {done: told[0], "size": told[1]}, b""
        yield {"result": working.result()}, b""
    finally:
        working.cancel()
