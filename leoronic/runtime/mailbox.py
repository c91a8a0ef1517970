"""A bounded queue with one reader, made for draining many messages per wake-up.

`asyncio.Queue` would do, at three times the cost a message: it makes a future for each `get`, and
cannot say whether taking one more would wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from leoronic.errors import ActorGone, MailboxFull


class Mailbox:
    """Messages for one incarnation of one actor, in the order they came. At most `messages_max`.

    Statistics: `len(mailbox)`, `high_water` (the longest it ever was), `taken` (messages handed to
    the reader).
    """

    __slots__ = (
        "_name",
        "_reader",
        "_senders",
        "closed",
        "high_water",
        "items",
        "messages_max",
        "taken",
    )

    def __init__(self, name: str, messages_max: int) -> None:
        self._name = name
        self._reader: asyncio.Future[None] | None = None
        self._senders: deque[asyncio.Future[None]] = deque()
        self.items: deque[Any] = deque()
        self.messages_max = messages_max
        self.high_water = 0
        self.taken = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self.items)

    @property
    def full(self) -> bool:
        """Whether `put` would wait now."""
        return len(self.items) >= self.messages_max

    def put_nowait(self, item: Any) -> None:
        """Add `item`. Raises `MailboxFull`, or `ActorGone` once closed."""
        if len(self.items) >= self.messages_max:
            raise MailboxFull(
                f"{self._name} is not keeping up: {self.messages_max} messages wait for it"
            )
        self.put_always(item)

    def put_always(self, item: Any) -> None:
        """Add `item` even if full: for what the runtime itself sends, a few at most."""
        if self.closed:
            raise ActorGone(f"{self._name} has stopped")
        items = self.items
        items.append(item)
        if len(items) > self.high_water:  # noqa: PLR1730 - max() would double the cost of a put
            self.high_water = len(items)
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(None)

    async def put(self, item: Any) -> None:
        """Add `item`, waiting while full. Raises `ActorGone` once closed."""
        while len(self.items) >= self.messages_max and not self.closed:
            sender = asyncio.get_running_loop().create_future()
            self._senders.append(sender)
            try:
                await sender
            except asyncio.CancelledError:
                if sender in self._senders:
                    self._senders.remove(sender)
                else:
                    # Our turn came as we gave up: it is the next one's.
                    self._wake_sender()
                raise
        self.put_always(item)

    async def wait(self) -> None:
        """Wait until there is something to take. Only the reader may."""
        while not self.items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    def take(self) -> Any:
        """The oldest message. Raises IndexError if there is none."""
        item = self.items.popleft()
        self.taken += 1
        if self._senders:
            self._wake_sender()
        return item

    def close(self) -> list[Any]:
        """Refuse all further messages; returns what nobody has taken."""
        self.closed = True
        left = list(self.items)
        self.items.clear()
        while self._senders:
            self._wake_sender()
        return left

    def _wake_sender(self) -> None:
        while self._senders:
            sender = self._senders.popleft()
            if not sender.done():
                sender.set_result(None)
                return
