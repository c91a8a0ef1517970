"""Virtual time: a heap of what happens next, and a wall clock that may be set wrong.

Nothing here waits. Equal times keep the order in which they were asked for, so a run depends on its
seed alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

EPOCH_S = 1_700_000_000.0


class Handle:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """It will not happen."""
        self.action = None


class Clock:
    """`now`: steady virtual seconds from 0. `wall()`: what the machines are told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.offset_s = 0.0
        self.events = 0
        self._number = 0
        self._heap: list[tuple[float, int, Handle]] = []

    def wall(self) -> float:
        """Seconds since the epoch, as the (skewed) clock of the machine has it."""
        return EPOCH_S + self.now + self.offset_s

    def after(self, delay_s: float, action: Callable[[], None]) -> Handle:
        """Do `action` in `delay_s` virtual seconds."""
        return self.at(self.now + delay_s, action)

    def at(self, at: float, action: Callable[[], None]) -> Handle:
        """Do `action` at the virtual time `at`."""
        handle = Handle(action)
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, handle))
        return handle

    def step(self) -> bool:
        """Do the next thing; false if there is nothing left to do."""
        while self._heap:
            at, _, handle = heapq.heappop(self._heap)
            action = handle.action
            if action is not None:
                self.now = max(self.now, at)
                self.events += 1
                action()
                return True
        return False
