"""What replication knows of a connected node, and what it holds back for it or from it."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import NamedTuple

from leoronic.core.peer import Push
from leoronic.core.replication_messages import Body

PARKED_BYTES_MAX = 8 << 20
UNDER_WAY_BYTES_MAX = 4 << 20
ORIGINS_MAX = 8192
# Beside the text: what a Body and a Push cost.
OVERHEAD = 200
# One of its needs.
NEED_BYTES = 64


class Parked(NamedTuple):
    """A push that was not taken yet."""

    first: int
    bodies: list[Body]
    needs: dict[str, int]
    size: int
    since: float

    @property
    def last(self) -> int:
        """The number of its last entry."""
        return self.first + len(self.bodies) - 1


class Serving(NamedTuple):
    """A `Pull` of the peer that is being answered: the next page begins past `after`."""

    number: int
    have: dict[str, int]
    after: int


class Ask(Enum):
    """When to pull from a peer. At first it is `NOW` or `IF_MORE`; once it was done, `LATER`."""

    NOW = "now"
    """Whatever it says: its heartbeats may tell only what changes."""
    IF_MORE = "if more"
    """At once if it holds what we lack: it was out of reach, so that will not come by itself."""
    LATER = "later"
    """If it holds what we lack for long: it will come by itself, most likely."""


class ReplicaPeer:
    """One connection's worth of replication with one node."""

    def __init__(self, node: str) -> None:
        self.id = node
        self.heard = False  # it told its vector
        self.ask = Ask.IF_MORE
        self.unanswered = 0  # pulls, one after the other
        self.told: dict[str, int] = {}  # by its heartbeats; they must not go backwards
        self.acked: dict[str, int] = {}  # by `Have`; nor must these
        # Numbers that it holds and we do not: (number, since when that is known).
        self.more: dict[str, tuple[int, float]] = {}
        self.parked: deque[Parked] = deque()
        self.parked_bytes = 0
        self.serving: Serving | None = None
        self.reading_since = 0.0  # a page for it is asked of the journal; 0: none
        self.read_token = 0
        self.pushing = False  # it holds all of ours but what is under way
        self._under_way: deque[tuple[int, int]] = deque()  # (last number, bytes)
        self._under_way_bytes = 0

    def park(self, push: Parked) -> bool:
        """Keep a push for later; false if there is no room, then the peer must be asked again."""
        size = push.size + OVERHEAD * (len(push.bodies) + 1) + NEED_BYTES * len(push.needs)
        if self.parked_bytes + size > PARKED_BYTES_MAX and self.parked:
            return False
        self.parked.append(push._replace(size=size))
        self.parked_bytes += size
        return True

    def unpark(self) -> Parked:
        """Take the oldest push."""
        push = self.parked.popleft()
        self.parked_bytes -= push.size
        return push

    def forget_parked(self) -> None:
        """The peer must be asked for all of it again."""
        self.parked.clear()
        self.parked_bytes = 0

    def pushed(self, push: Push) -> None:
        """Note what is under way; past its bound the peer must ask by itself."""
        size = len(push.blob)
        self._under_way.append((push.first + push.count - 1, size))
        self._under_way_bytes += size
        if self._under_way_bytes > UNDER_WAY_BYTES_MAX:
            self.stop_pushing()

    def arrived(self, number: int) -> None:
        """The peer holds ours up to `number`."""
        while self._under_way and self._under_way[0][0] <= number:
            self._under_way_bytes -= self._under_way.popleft()[1]

    def stop_pushing(self) -> None:
        """From here on it will notice by our heartbeats what it lacks, and ask."""
        self.pushing = False
        self._under_way.clear()
        self._under_way_bytes = 0
