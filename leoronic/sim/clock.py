"""Virtual time: a heap of what happens next; and the two clocks of each machine.

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
    """`now`: the virtual seconds of the whole world, from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._number = 0
        self._heap: list[tuple[float, int, Handle]] = []

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


class MachineClock:
    """The clocks of one machine: `wall` may be set wrong, `steady` counts from its boot."""

    def __init__(self, clock: Clock, offset_s: float = 0.0, uptime_s: float = 100.0) -> None:
        self.clock = clock
        self.offset_s = offset_s
        self._booted_at = clock.now - uptime_s

    def wall(self) -> float:
        """Seconds since the epoch, as the (skewed) clock of the machine has it."""
        return EPOCH_S + self.clock.now + self.offset_s

    def steady(self) -> float:
        """Seconds since it booted; goes on while its processes stand still."""
        return self.clock.now - self._booted_at

    def boot(self) -> None:
        """It was without power: the steady clock begins anew."""
        self._booted_at = self.clock.now - 1.0
