"""Virtual time: a heap of what happens next; and the two clocks of each machine.

Nothing here waits. Equal times keep the order in which they were asked for, so a run depends on its
seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from leoronic.sim.story import Violation

EPOCH_S = 1_700_000_000.0


class Handle:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def __call__(self) -> None:
        """Its time has come."""
        if self._action is not None:
            self._action()

    def cancel(self) -> None:
        """It will not happen."""
        self._action = None


class Clock:
    """`now`: the virtual seconds of the whole world, from 0. Nothing goes on for ever: see `run`.

    These few lines are what a seed does most often: they are written to be quick.
    """

    def __init__(self, events_max: int = 1_000_000) -> None:
        self.now = 0.0
        self.events = 0
        self.events_max = events_max
        self._number = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do `action` in `delay_s` virtual seconds."""
        self._number = number = self._number + 1
        heappush(self._heap, (self.now + delay_s, number, action))

    def at(self, at: float, action: Callable[[], None]) -> None:
        """Do `action` at the virtual time `at`."""
        self._number = number = self._number + 1
        heappush(self._heap, (at, number, action))

    def timer(self, delay_s: float, action: Callable[[], None]) -> Handle:
        """As `after`, but it can be cancelled."""
        handle = Handle(action)
        self.after(delay_s, handle)
        return handle

    def run(self, until: float) -> None:
        """Do all that happens before the virtual time `until`; then that is `now`.

        Raises `Violation` when more happens than `events_max`.
        """
        heap, events_max = self._heap, self.events_max
        while heap and heap[0][0] < until:
            at, _, action = heappop(heap)
            self.now = max(self.now, at)
            self.events += 1
            if self.events > events_max:
                raise Violation("the cluster comes to rest", f"{events_max} events")
            action()
        self.now = max(self.now, until)


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
