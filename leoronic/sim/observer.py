"""What a simulated node tells those who watch it."""

from __future__ import annotations

from leoronic.core.effects import Effect
from leoronic.core.entries import Numbered
from leoronic.core.run import AttemptKey, Run


class Observer:
    """What sees everything of one node; the invariants override it."""

    def committed(self, entries: list[Numbered], skipped: dict[str, int]) -> None:
        """These entries are on disk now, in this order.

        `skipped`: up to where all is held or forgotten now, if something was forgotten anywhere.
        """

    def forgets(
        self, before: float, members: list[str], tasks: set[str], places: set[tuple[str, int]]
    ) -> None:
        """What ended `before` was forgotten: these tasks, and entries (origin, number).

        `members` are the nodes that were asked what they hold.
        """

    def loads_live(self, life: int) -> None:
        """The journal tells the queue of this life all that is on disk now."""

    def handled(self, who: str, message: object, effects: list[Effect]) -> None:
        """A machine took a message: the queue, the scheduler or membership."""

    def process_starts(self, run: Run) -> None:
        """A process for this attempt exists from now on."""

    def process_ends(self, key: AttemptKey) -> None:
        """Nothing of this attempt runs any more."""

    def actor_starts(self, who: str) -> None:
        """A new life of an actor begins."""

    def runner_starts(self) -> None:
        """A new life of the runner process begins."""

    def leaves(self) -> None:
        """The node is about to tell the others that it stops."""
