"""The newest entries of this node's own journal, kept as they were pushed.

They close the gap between the last page that another node pulled and the next push to it.
"""

from __future__ import annotations

from collections import deque

from leoronic.core.peer import Push

RECENT_BYTES_MAX = 1 << 20


class Recent:
    """Pushes without a gap between them, the oldest dropped."""

    def __init__(self) -> None:
        self._pushes: deque[Push] = deque()
        self._bytes = 0

    def add(self, push: Push) -> None:
        """Keep the newest."""
        if self._pushes and self._pushes[-1].first + self._pushes[-1].count != push.first:
            self._pushes.clear()
            self._bytes = 0
        self._pushes.append(push)
        self._bytes += len(push.blob)
        while self._bytes > RECENT_BYTES_MAX and len(self._pushes) > 1:
            self._bytes -= len(self._pushes.popleft().blob)

    def forget(self, number: int) -> None:
        """Drop what is about entries up to `number`: who lacks these must ask for pages."""
        while self._pushes and self._pushes[0].first <= number:
            self._bytes -= len(self._pushes.popleft().blob)

    def past(self, number: int) -> list[Push] | None:
        """All pushes that bring something past `number`; None if older ones would be needed."""
        if not self._pushes or self._pushes[0].first > number + 1:
            return None
        return [push for push in self._pushes if push.first + push.count - 1 > number]
