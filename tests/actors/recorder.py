"""Stand-ins for the actors around the one that is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from leoronic.errors import LeoronicError
from leoronic.runtime.actor import Actor


class Recorder(Actor):
    """Keeps what it is sent; answers calls with what `answer` returns, or raises it."""

    def __init__(self, answer: Callable[[Any], Any] = lambda message: None) -> None:
        self.messages: list[Any] = []
        self.answer = answer
        self._news = asyncio.Event()

    async def handle(self, message: Any) -> Any:
        self.messages.append(message)
        self._news.set()
        found = self.answer(message)
        if isinstance(found, LeoronicError):
            raise found
        return found

    async def until(self, condition: Callable[[list[Any]], bool]) -> list[Any]:
        """Wait until `condition` of the messages holds; hand them out, and begin anew."""
        while not condition(self.messages):
            self._news.clear()
            await self._news.wait()
        messages, self.messages = self.messages, []
        return messages

    async def first(self, count: int) -> list[Any]:
        """Wait for `count` messages: these, and no others, have come."""
        messages = await self.until(lambda messages: len(messages) >= count)
        assert len(messages) == count, messages
        return messages

    async def first_of(self, count: int) -> list[Any]:
        """As `first`, but there may be more."""
        return await self.until(lambda messages: len(messages) >= count)
