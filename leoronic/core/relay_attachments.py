"""Which ghosts are attached to this node, by which connection, and whether they are there still."""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.ghost_messages import ANSWER_S, GONE_S, Attach, GhostsHere
from leoronic.core.peer import JOURNALS_MAX, GhostTold
from leoronic.core.view import About

ATTACHED_MAX = 1024
ASSIGNED_MAX = 20_000


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
        self._assigned: dict[str, None] = {}  # what it may read

    def assign(self, tasks: Iterable[str]) -> None:
        """It was told to run these, or runs them: it may read what they are."""
        self._assigned.update(dict.fromkeys(tasks))
        while len(self._assigned) > ASSIGNED_MAX:
            del self._assigned[next(iter(self._assigned))]

    def may_read(self, task: str) -> bool:
        """Whether that task was assigned to it, as far as this node knows."""
        return task in self._assigned

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
