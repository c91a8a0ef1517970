"""What the queue says at one turn."""

from __future__ import annotations

from leoronic.core.effects import Effect, Send
from leoronic.core.entries import Entry
from leoronic.core.queue_messages import Append


class Outbox:
    """Shared by the parts of the queue. `now`: the time of this turn, in seconds since the epoch.

    What is asked of the journal has a token, by which the answer is known; `token` is the last.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.token = 0
        self._effects: list[Effect] = []

    def take(self) -> list[Effect]:
        """All that was said since this was last asked."""
        effects, self._effects = self._effects, []
        return effects

    def add(self, *effects: Effect) -> None:
        """Have these done."""
        self._effects += effects

    def send(self, to: str, message: object) -> None:
        """Say something to an actor."""
        self._effects.append(Send(to, message))

    def next_token(self) -> int:
        """A token that nothing has yet."""
        self.token += 1
        return self.token

    def append(self, entries: list[Entry]) -> int:
        """Have the journal write these; the token of the answer."""
        token = self.next_token()
        self.send("journal", Append("queue", token, entries))
        return token
