"""Nodes that entries name before anybody has told who they are.

To a newcomer, the entries of others may come before the word of those who wrote them. So nobody
stands in for a node, or gives up what runs there, only because it was never told of it.
"""

from __future__ import annotations

from collections.abc import Callable

from leoronic.core.effects import Effect, SetTimer

TIMER = "unheard of"
# How long a node that nobody tells of is waited for. Counted in steps, as the time of day may be
# set.
UNHEARD_OF_S = 30.0
UNHEARD_OF_STEPS = 6


class Unheard:
    """See the module. Its timer is added to `effects`; `now` gives the time."""

    def __init__(self, effects: list[Effect], now: Callable[[], float]) -> None:
        self._effects = effects
        self._now = now
        self._steps: dict[str, int] = {}

    def is_awaited(self, node: str) -> bool:
        """Whether somebody may still tell of `node`, which is not known."""
        if node not in self._steps:
            self._steps[node] = 0
            self._wait()
        return self._steps[node] < UNHEARD_OF_STEPS

    def known(self, node: str) -> None:
        """Somebody has told of it."""
        self._steps.pop(node, None)

    def step(self) -> None:
        """The timer fired: nobody has told of these nodes for longer."""
        for node, steps in self._steps.items():
            self._steps[node] = steps + 1
        if any(steps < UNHEARD_OF_STEPS for steps in self._steps.values()):
            self._wait()

    def _wait(self) -> None:
        self._effects.append(SetTimer(TIMER, self._now() + UNHEARD_OF_S / UNHEARD_OF_STEPS))
