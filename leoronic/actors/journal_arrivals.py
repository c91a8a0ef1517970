"""What the journal is to write: in order of arrival, but for what had better wait a little."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from leoronic.core.entries import Started
from leoronic.core.queue_messages import Append
from leoronic.core.replication_messages import Take
from leoronic.runtime.actor import ActorContext

# A start whose task is not here yet: the task is on its way, or nobody has it.
UNKNOWN_S = 1.0
KEPT_BACK_MAX = 1024
# So soon after a commit there is another, most likely: for it waits, so long, what is patient.
BUSY_S = 0.01
PATIENCE_S = 0.004


class Overdue(NamedTuple):
    """To the actor: an append was kept back long enough."""

    append: Append


class Hurry:
    """To the actor: what was patient has waited long enough."""


class Arrivals:
    """For the actor of `context`. `knows` tells whether a task is on this disk."""

    def __init__(self, context: ActorContext, knows: Callable[[str], bool]) -> None:
        self._context = context
        self._knows = knows
        self._waiting: deque[Append | Take] = deque()
        self._kept_back: list[Append] = []
        self._late: dict[int, bool] = {}  # of appends kept back, by id(): whether long enough
        self._committed_at = 0.0  # by the loop's clock
        self._patient_until = 0.0

    def __len__(self) -> int:
        """How many wait, without those that are kept back."""
        return len(self._waiting)

    @property
    def are_due(self) -> bool:
        """Whether anything waits, and that no longer with patience."""
        if len(self._waiting) != 1:
            return bool(self._waiting)
        [message] = self._waiting
        patient = isinstance(message, Take) and message.patient
        return not patient or asyncio.get_running_loop().time() >= self._patient_until

    def add(self, message: Append | Take) -> None:
        """One more."""
        self._waiting.append(message)
        if isinstance(message, Take) and message.patient:
            now = asyncio.get_running_loop().time()
            if now < self._committed_at + BUSY_S:
                self._patient_until = now + PATIENCE_S
                self._context.send_after(PATIENCE_S, Hurry())

    def hurry(self) -> None:
        """Nothing waits with patience any longer."""
        self._patient_until = 0.0

    def note_commit(self) -> None:
        """A commit has ended just now."""
        self._committed_at = asyncio.get_running_loop().time()

    def next(self) -> Append | Take | None:
        """The next that is to be written, taken out. What lacks its task is kept back."""
        while self._waiting:
            message = self._waiting.popleft()
            if isinstance(message, Take) or not self._keep_back(message):
                return message
        return None

    def _keep_back(self, append: Append) -> bool:
        """Whether it has to wait for a task that is not here yet."""
        late = self._late.get(id(append))
        known = late or all(
            self._knows(entry.task) for entry in append.entries if isinstance(entry, Started)
        )
        if known or (late is None and len(self._late) >= KEPT_BACK_MAX):
            self._late.pop(id(append), None)
            return False
        if late is None:
            self._late[id(append)] = False
            self._context.send_after(UNKNOWN_S, Overdue(append))
        self._kept_back.append(append)
        return True

    def overdue(self, append: Append) -> None:
        """It is written the next time, whether its task is here or not."""
        if id(append) in self._late:
            self._late[id(append)] = True
            self.let_in()

    def let_in(self) -> None:
        """Try again what was kept back; it goes first, as it came first."""
        self._waiting.extendleft(reversed(self._kept_back))
        self._kept_back = []

    def drop(self, sender: str) -> None:
        """What an earlier life of the sender wanted is void: it was told so."""
        appends = [a for a in (*self._waiting, *self._kept_back) if isinstance(a, Append)]
        for append in [a for a in appends if a.sender == sender]:
            self._late.pop(id(append), None)
        self._waiting = deque(a for a in self._waiting if isinstance(a, Take) or a.sender != sender)
        self._kept_back = [a for a in self._kept_back if a.sender != sender]
