"""Who wants to hear of changes, and of which tasks. Slow listeners cost bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from leoronic.core.arrays import split_element
from leoronic.core.queue_messages import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGES_MAX = 10_000


class Subscription:
    """Changes that have not been looked at. `missed` is set when some were dropped."""

    def __init__(self, tasks: frozenset[str] | None) -> None:
        self._tasks = tasks
        self._changes: deque[Change] = deque(maxlen=CHANGES_MAX)
        self._news = asyncio.Event()
        self.missed = False

    def offer(self, changes: Iterable[Change]) -> None:
        """Keep those of the tasks it is about (an element counts for its array)."""
        for change in changes:
            if self._tasks is None or self._concerns(change.id, self._tasks):
                self.missed = self.missed or len(self._changes) == CHANGES_MAX
                self._changes.append(change)
                self._news.set()

    @staticmethod
    def _concerns(task: str, tasks: frozenset[str]) -> bool:
        if task in tasks:
            return True
        element = split_element(task)
        return element is not None and element[0] in tasks

    def wake(self) -> None:
        """Something may have changed unseen: look again."""
        self.missed = True
        self._news.set()

    async def news(self, timeout_s: float | None = None) -> list[Change]:
        """Wait for changes (or `timeout_s`), and take all there are; maybe none."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return []
        self._news.clear()
        changes = list(self._changes)
        self._changes.clear()
        return changes


class Watchers:
    """All subscriptions. `on_first` and `on_last` turn the queue's reports on and off."""

    def __init__(self, on_first: Callable[[], None], on_last: Callable[[], None]) -> None:
        self._on_first = on_first
        self._on_last = on_last
        self._subscriptions: dict[Subscription, None] = {}

    @contextmanager
    def subscribe(self, tasks: Iterable[str] | None = None) -> Iterator[Subscription]:
        """Hear of changes of `tasks` (None: all) until the block ends."""
        subscription = Subscription(None if tasks is None else frozenset(tasks))
        if not self._subscriptions:
            self._on_first()
        self._subscriptions[subscription] = None
        try:
            yield subscription
        finally:
            del self._subscriptions[subscription]
            if not self._subscriptions:
                self._on_last()

    def offer(self, changes: list[Change]) -> None:
        """The queue reports."""
        for subscription in self._subscriptions:
            subscription.offer(changes)

    def wake_all(self) -> bool:
        """The queue started anew: everybody looks again. False if nobody is there."""
        for subscription in self._subscriptions:
            subscription.wake()
        return bool(self._subscriptions)
