"""How far this node may trust its own judgement of others: a busy node is slow to hear them."""

from __future__ import annotations

SCORE_MAX = 7
LATE = 0.25
ON_TIME_TICKS = 5


class LocalHealth:
    """A score of this node's own lateness, from its regular timer; 0 is well.

    Each tick that comes late by more than a quarter of the period adds one; five in a row that
    are on time take one away.
    """

    def __init__(self, period_s: float) -> None:
        self._late_s = period_s * LATE
        self._on_time = 0
        self.score = 0

    @property
    def multiplier(self) -> int:
        """What timeouts are to be multiplied by: 1 to 8."""
        return 1 + self.score

    def tick(self, late_s: float) -> None:
        """The timer fired, `late_s` seconds after it was due."""
        if late_s > self._late_s:
            self.score = min(SCORE_MAX, self.score + 1)
            self._on_time = 0
            return
        self._on_time += 1
        if self._on_time >= ON_TIME_TICKS:
            self._on_time = 0
            self.score = max(0, self.score - 1)
