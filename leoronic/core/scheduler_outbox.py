"""What a scheduler says at one turn, and when it wants to be woken."""

from __future__ import annotations

from leoronic.core.effects import Effect, Send, SetTimer
from leoronic.core.queue_messages import Declined


class Outbox:
    """Shared by the parts of one scheduler, of the node `me`.

    `now` is the time of this turn, in seconds of a steady clock. `number` is the last that was
    used: what is said to executors is numbered, so that their answers tell what they stand on.
    """

    def __init__(self, me: str, number: int) -> None:
        self.me = me
        self.number = number
        self.now = 0.0
        self._effects: list[Effect] = []
        self._timers: dict[str, float] = {}

    def take(self) -> list[Effect]:
        """All that was said since this was last asked."""
        effects, self._effects = self._effects, []
        return effects

    def add(self, effect: Effect) -> None:
        """Have this done."""
        self._effects.append(effect)

    def send(self, to: str, message: object) -> None:
        """Say something to an actor."""
        self._effects.append(Send(to, message))

    def tell(self, node: str, message: object) -> None:
        """Say something to a node's executor."""
        self.send("runner" if node == self.me else f"runner@{node}", message)

    def decline(self, tasks: list[str]) -> None:
        """Give these back to the queue."""
        if tasks:
            self.send("queue", Declined(tasks))

    def next_number(self) -> int:
        """A number that no message has yet."""
        self.number += 1
        return self.number

    def arm(self, timer: str, at: float | None) -> None:
        """Have the timer fire at `at` or before; None: no need."""
        if at is not None and self._timers.get(timer, at + 1.0) > at:
            self._timers[timer] = at
            self._effects.append(SetTimer(timer, at))

    def is_armed(self, timer: str) -> bool:
        """Whether the timer is going to fire."""
        return timer in self._timers

    def fired(self, timer: str) -> None:
        """The timer is not set any more."""
        self._timers.pop(timer, None)
