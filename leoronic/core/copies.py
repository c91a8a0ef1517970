"""Who waits to hear that an entry of this node is held elsewhere too."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush


class Copies:
    """Waiting tokens, each for a number of this node's own journal, each with an end of waiting."""

    def __init__(self) -> None:
        self._by_number: list[tuple[int, int]] = []
        self._by_due: deque[tuple[float, int]] = deque()
        self._waiting: dict[int, int] = {}

    def wait(self, token: int, number: int, due: float) -> None:
        """`due` must not be less than that of any before."""
        self._waiting[token] = number
        heappush(self._by_number, (number, token))
        self._by_due.append((due, token))

    def held(self, number: int) -> list[tuple[int, int]]:
        """(token, number) of those that waited for `number` or less; they wait no longer."""
        found = []
        while self._by_number and self._by_number[0][0] <= number:
            wanted, token = heappop(self._by_number)
            if self._waiting.pop(token, None) is not None:
                found.append((token, wanted))
        return found

    def overdue(self, now: float) -> list[int]:
        """Tokens that waited long enough; they wait no longer."""
        found = []
        while self._by_due and (
            self._by_due[0][0] <= now or self._by_due[0][1] not in self._waiting
        ):
            token = self._by_due.popleft()[1]
            if self._waiting.pop(token, None) is not None:
                found.append(token)
        return found

    def due(self) -> float | None:
        """When `overdue` is to be asked next; None: nobody waits."""
        return self._by_due[0][0] if self._waiting else None
