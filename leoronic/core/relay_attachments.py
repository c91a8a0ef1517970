"""Which ghosts are attached to this node, by which connection, and whether they are there still."""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.ghost_messages import (
    ANSWER_S,
    GONE_S,
    Attach,
    GhostAppend,
)
from leoronic.core.ghost_notices import (
    GhostsHere,
)
from leoronic.core.peer import JOURNALS_MAX, GhostTold
from leoronic.core.run import AttemptKey
from leoronic.core.view import About

ATTACHED_MAX = 1024
ASSIGNED_MAX = 20_000
# Who has so much under way does not wait for answers: an executor asks one question of a kind.
QUESTIONS_MAX = 64
# Twice what a runner holds, each attempt with a start and an end.
ENTRIES_UNDER_WAY_MAX = 20_000
WAITING_MAX = 256
# A person adds or removes that many tags at once, and then one a second.
TAG_ENTRIES_MAX = 200
REMEMBERED_MAX = 4096


class Attachment:
    """A ghost that is attached. Times are those of the relay's clock, in seconds."""

    def __init__(self, connection: int, message: Attach, now: float) -> None:
        self.ghost = message.ghost
        self.connection = connection
        self.about: About = message.about
        self.number = message.number
        self.journals = dict(message.journals)
        self.busy = True
        self.heard_at = now
        self.asked_at: float | None = None  # since when nothing was heard that was told something
        self.elsewhere_at: float | None = None  # since when another node is said to have it
        self.heard_time = 0.0  # by the clock of day
        self.clock_told = False  # people know that its clock is off
        self.looked = False  # whether the journal has told what runs on it
        self.waiting: list[GhostAppend] = []  # what is to be judged by that
        self.questions = 0  # that the journal has not answered
        self.entries = 0  # that it has not written
        self.warned = False  # people know that it does what it may not
        self._attempts: dict[AttemptKey, None] = {}  # of which it may write
        self._tasks: dict[str, None] = {}  # that it may read

    def assign(self, keys: Iterable[AttemptKey]) -> None:
        """It was told to make these attempts, or makes them."""
        for key in keys:
            self._attempts[key] = self._tasks[key[0]] = None
        while len(self._attempts) > ASSIGNED_MAX:
            del self._attempts[next(iter(self._attempts))]
        while len(self._tasks) > ASSIGNED_MAX:
            del self._tasks[next(iter(self._tasks))]

    def may_read(self, task: str) -> bool:
        """Whether that task was assigned to it, as far as this node knows."""
        return task in self._tasks

    def may_write(self, key: AttemptKey) -> bool:
        """The same of that attempt."""
        return key in self._attempts

    def told(self) -> GhostTold:
        """As membership is told of it."""
        return GhostTold(self.ghost, self.about, self.number)

    def stands_on(self, journal: str, entry: int) -> None:
        """What it says from now on stands on entry `entry` of `journal`."""
        if len(self.journals) >= JOURNALS_MAX and journal not in self.journals:
            del self.journals[next(iter(self.journals))]
        self.journals[journal] = max(entry, self.journals.get(journal, 0))

    def silence(self, now: float) -> str:
        """Why it counts as gone; '' if it does not."""
        silent_s = now - self.heard_at
        if self.asked_at is not None and now - self.asked_at > ANSWER_S and silent_s > ANSWER_S:
            return f"no answer for {now - self.asked_at:.1f} s"
        if silent_s > (ANSWER_S if self.busy else GONE_S):
            return f"silent for {silent_s:.1f} s"
        return ""


class Attachments:
    """By ghost; `came` are connections of ghosts that have not attached, and since when."""

    def __init__(self) -> None:
        self.by_ghost: dict[str, Attachment] = {}
        self.came: dict[int, tuple[str, float]] = {}
        self._by_connection: dict[int, Attachment] = {}
        self._tags_from: dict[str, float] = {}  # of ghosts that have gone, too

    def may_tag(self, ghost: str, count: int, now: float) -> bool:
        """Whether it may write so many changes of its tags: each is kept by all nodes for long."""
        empty = now - TAG_ENTRIES_MAX
        since = max(self._tags_from.pop(ghost, empty), empty) + count
        self._tags_from[ghost] = since
        if len(self._tags_from) > REMEMBERED_MAX:
            del self._tags_from[next(iter(self._tags_from))]
        return since <= now

    def __bool__(self) -> bool:
        """Whether there is any connection."""
        return bool(self.came or self.by_ghost)

    def of(self, connection: int) -> Attachment | None:
        """The ghost that is attached by it."""
        return self._by_connection.get(connection)

    def attach(self, connection: int, message: Attach, now: float) -> Attachment:
        """From now on that ghost is attached by that connection."""
        self.came.pop(connection, None)
        attached = Attachment(connection, message, now)
        self.by_ghost[attached.ghost] = self._by_connection[connection] = attached
        return attached

    def drop(self, connection: int) -> Attachment | None:
        """That connection is no more; whose attachment it was, if any."""
        self.came.pop(connection, None)
        attached = self._by_connection.pop(connection, None)
        if attached is not None:
            del self.by_ghost[attached.ghost]
        return attached

    def clear(self) -> None:
        """All connections are gone."""
        self.by_ghost.clear()
        self.came.clear()
        self._by_connection.clear()

    def stood_still(self, now: float) -> None:
        """This process did: nobody's silence counts so far."""
        for attached in self.by_ghost.values():
            attached.heard_at = now
            attached.asked_at = None
        self.came = {connection: (ghost, now) for connection, (ghost, _) in self.came.items()}

    def overdue(self, now: float) -> list[tuple[int, str]]:
        """Connections that count as gone, and why."""
        found = [
            (connection, "it did not say what it wants")
            for connection, (_, since) in self.came.items()
            if now - since > ANSWER_S
        ]
        judged = [(one.connection, one.silence(now)) for one in self.by_ghost.values()]
        return found + [(connection, why) for connection, why in judged if why]

    def here(self) -> GhostsHere:
        """All, as membership is told."""
        return GhostsHere(tuple(one.told() for _, one in sorted(self.by_ghost.items())))
