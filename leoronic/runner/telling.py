"""What the executor is told: notices in good time, outcomes in batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from leoronic.core.run import AttemptKey, Exited, ExitedMany, Spawned
from leoronic.errors import MailboxFull

EMIT_RETRY_S = 0.05
# Outcomes in one message: with all their output inline they are about 1.5 MiB.
EXITS_MAX = 256
# While so many attempts stand behind others (for each that runs, or in all), nobody waits for news:
# outcomes are told of a few at a time, which saves the core a message, a commit and a wake-up for
# most of them.
QUEUED_BEHIND_MIN = 3
QUEUED_MIN = 6
TOGETHER = 12
HELD_S = 0.005

Guard = Callable[[Callable[..., None]], Callable[..., None]]
"""Makes a callback of the loop crash its actor if it raises."""


class Teller:
    """Emits `Spawned` of what has run for `announce_after_s`, and `ExitedMany`.

    `queued` tells how many attempts stand behind others now, `running` behind how many.
    """

    def __init__(
        self,
        emit: Callable[[Spawned | ExitedMany], None],
        guarded: Guard,
        announce_after_s: float,
        queued: Callable[[], int],
        running: Callable[[], int],
    ) -> None:
        self._queued = queued
        self._running = running
        self._telling: asyncio.Handle | None = None
        self._holding = False
        self._emit = emit
        self._announce_after_s = announce_after_s
        self._announcements: dict[AttemptKey, Spawned] = {}
        self._exits: list[Exited] = []
        self._tell_starts = guarded(self._flush_announcements)
        self._tell_exits = guarded(self.flush)

    def started(self, spawned: Spawned) -> None:
        """Told of later, so that a short attempt is told of once, by its outcome."""
        if not self._announcements:
            asyncio.get_running_loop().call_later(self._announce_after_s, self._tell_starts)
        self._announcements[spawned.task, spawned.attempt] = spawned

    def ended(self, exited: Exited) -> None:
        """Told of with all others that end in this turn of the loop, or soon, if nobody waits."""
        self._announcements.pop(exited.key, None)
        self._exits.append(exited)
        enough = min(QUEUED_BEHIND_MIN * max(self._running(), 1), QUEUED_MIN)
        hold = self._queued() >= enough and len(self._exits) < TOGETHER
        if self._telling is None or (self._holding and not hold):
            self._schedule(HELD_S if hold else 0.0)

    def _schedule(self, delay_s: float) -> None:
        if self._telling is not None:
            self._telling.cancel()
        loop = asyncio.get_running_loop()
        self._holding = delay_s > 0
        self._telling = (
            loop.call_later(delay_s, self._tell_exits)
            if delay_s
            else loop.call_soon(self._tell_exits)
        )

    def forget_starts(self) -> None:
        """An inventory tells of them all."""
        self._announcements.clear()

    def flush(self) -> None:
        """Tell of every outcome now; later again if the receiver does not keep up."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        while self._exits:
            try:
                self._emit(ExitedMany(self._exits[:EXITS_MAX]))
            except MailboxFull:
                self._schedule(EMIT_RETRY_S)
                return
            del self._exits[:EXITS_MAX]

    def _flush_announcements(self) -> None:
        announcements, self._announcements = self._announcements, {}
        for spawned in announcements.values():
            # A notice that is lost is made up for by the outcome, or by the next inventory.
            with contextlib.suppress(MailboxFull):
                self._emit(spawned)
