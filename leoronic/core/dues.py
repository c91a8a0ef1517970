"""What is due when: at most one time for each name."""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Dues:
    """Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def set(self, name: str, at: float) -> None:
        """`name` is due at `at`, and not when it was before."""
        if self._at.get(name) == at:
            return
        self._at[name] = at
        heappush(self._heap, (at, name))
        if len(self._heap) > 64 + 4 * len(self._at):
            self._heap = [(due, one) for one, due in self._at.items()]
            heapify(self._heap)

    def forget(self, name: str) -> None:
        """It is not due any more."""
        self._at.pop(name, None)

    def first(self) -> float | None:
        """When the next one is due; None: never."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def overdue(self, now: float) -> list[str]:
        """Names that are due by now, in order; they are not set any longer."""
        found = []
        while (first := self.first()) is not None and first <= now:
            name = heappop(self._heap)[1]
            del self._at[name]
            found.append(name)
        return found
