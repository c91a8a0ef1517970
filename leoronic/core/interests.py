"""Whom a scheduler asks what is free, and when: while it has more than its own node can take.

An executor tells those who are interested of every change, but a message may be lost, so they ask
again now and then; the answer also settles what became of all that was assigned before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from leoronic.core.resources import Need

EVERY_S = 3.0
# While the answer is what all waits for.
URGENT_EVERY_S = 1.0
LOOK_S = 0.5
CALM_S = 5.0


class Interests:
    """See the module. Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self.on = False
        self._busy_at = 0.0
        self._asked: dict[str, tuple[float, Need | None]] = {}  # when, and what waited for it

    def take(self, now: float) -> bool:
        """There is something that others could take; whether that is new."""
        new = not self.on
        self.on, self._busy_at = True, now
        return new

    def is_calm(self, now: float) -> bool:
        """Whether there has been nothing for so long that nobody need be asked."""
        return now >= self._busy_at + CALM_S

    def lose(self) -> None:
        """Nothing is left to be placed."""
        self.on = False
        self._asked.clear()

    def forget(self, node: str) -> None:
        """It does not know (any more) that it was asked."""
        self._asked.pop(node, None)

    def forget_all(self) -> None:
        """All are to be asked anew."""
        self._asked.clear()

    def due(
        self,
        nodes: Iterable[str],
        urgent: list[str],
        waits_for: Callable[[str], Need | None],
        now: float,
    ) -> Iterator[tuple[str, Need | None]]:
        """Whom of `nodes` to ask now, and the need of what waits for room there, if anything."""
        for node in nodes:
            at, told = self._asked.get(node, (-EVERY_S, None))
            due = now >= at + (URGENT_EVERY_S if node in urgent else EVERY_S)
            need = waits_for(node)
            if need is None and told is not None:  # it need not keep room any longer
                due = due or now >= at + LOOK_S
            if due or (need is not None and told is None):
                self._asked[node] = (now, need)
                yield node, need
