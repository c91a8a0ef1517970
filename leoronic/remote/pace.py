"""How many calls an executor hands over before their turn: enough, and no more than that.

What has been handed over can no longer be cancelled. So of long calls there are two for each that
can run at a time, one that runs and one that follows; of short ones what ends within `AHEAD_S`.
"""

from __future__ import annotations

import math

AHEAD_S = 0.1
# Over so long it is counted what ends.
COUNTED_S = 0.02
ROOM_MAX = 20_000


class Pace:
    """`limit`: at most so many at once, come what may. `slots`: as many can run at a time."""

    def __init__(self, limit: int | None, slots: float, now: float) -> None:
        self._limit = limit
        self.slots = slots
        self._rate = 0.0
        self._count = 0
        self._since = now

    @property
    def room(self) -> int:
        """How many calls may be under way now."""
        if self._limit is not None:
            return self._limit
        return min(2 * max(1, math.ceil(self.slots)) + int(self._rate * AHEAD_S), ROOM_MAX)

    def ended(self, now: float) -> None:
        """A call has ended."""
        self._count += 1
        passed_s = now - self._since
        if passed_s >= COUNTED_S:
            self._rate = self._count / passed_s
            self._count = 0
            self._since = now
