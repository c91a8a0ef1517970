"""What a ghost runs, and what ended lately: its own word, whatever the journal of a node knows."""

from __future__ import annotations

from msgspec import structs

from leoronic.core.entries import Entry, Started
from leoronic.core.executor_messages import OpenAttempt
from leoronic.core.run import AttemptKey

ENDED_MAX = 1024
# Those of attempts that were given back or refused are not missed.
TICKETS_MAX = 8192


class GhostRuns:
    """See the module; `ghost` is its id."""

    def __init__(self, ghost: str) -> None:
        self.running: dict[AttemptKey, Started] = {}
        self.ended: dict[AttemptKey, Entry] = {}  # as a journal knows
        self._ghost = ghost
        self._tickets: dict[AttemptKey, str] = {}

    def note_tickets(self, tickets: dict[AttemptKey, str]) -> None:
        """These attempts are about to be assigned."""
        for key, ticket in tickets.items():
            self._tickets.pop(key, None)
            self._tickets[key] = ticket
        while len(self._tickets) > TICKETS_MAX:
            del self._tickets[next(iter(self._tickets))]

    def ticket(self, key: AttemptKey) -> str:
        """That of an attempt; '' if there is none."""
        return self._tickets.get(key, "")

    def drop(self, key: AttemptKey) -> None:
        """It does not run after all."""
        self.running.pop(key, None)
        self._tickets.pop(key, None)

    def end(self, key: AttemptKey, entry: Entry) -> None:
        """A journal knows how it ended."""
        self.drop(key)
        self.ended.pop(key, None)
        self.ended[key] = entry
        if len(self.ended) > ENDED_MAX:
            del self.ended[next(iter(self.ended))]

    def handed(self, keys: list[AttemptKey] | None = None) -> list[Entry]:
        """What runs (or just these of it), as another node is told."""
        some = self.running if keys is None else keys
        return [structs.replace(self.running[key], handed=True) for key in some]

    def restore(self, attempts: list[OpenAttempt], now: float) -> None:
        """These run, as the journal has it: nothing else is known."""
        self.running = {
            (one.task, one.attempt): Started(
                one.task,
                one.attempt,
                self._ghost,
                now,
                one.runner,
                retries_left=one.retries_left if one.attempt > 1 else None,
                hold_if_lost=one.hold_if_lost and one.attempt > 1,
            )
            for one in attempts
        }
