"""What membership remembers of each other node."""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.view import LEFT, SUSPECT, UP, About

NOT_HEARD = "not heard yet"
STOPPED = "stopped in order"


class Acquaintance(NamedTuple):
    """A node remembered from an earlier life of this one. `addresses` are HOST:PORT.

    `left`: it had stopped in order.
    """

    id: str
    name: str
    addresses: list[str]
    left: bool = False


class Peer:
    """What is known of another node; times on this node's steady clock, None: never."""

    def __init__(self, node: str, about: About, since: float) -> None:
        self.id = node
        self.about = about
        self.address = ""
        self.state = SUSPECT
        self.reason = NOT_HEARD
        self.ready = False
        self.connected = False
        self.linked = False
        self.greeted = False  # it got our whole vector and our About on this connection
        self.welcomed = False  # replication knows its vector of this connection
        self.since = since  # nothing before this is held against it
        self.heard_at: float | None = None
        self.good_at: float | None = None  # heard while it hears us
        self.deaf_since: float | None = None
        self.vouched_at: float | None = None  # when another node heard it last
        self.vouched_by = ""
        self.sent_ms = 0  # its newest heartbeat, in its own clock
        self.down_since: float | None = None
        self.asked: list[str] = []
        self.answered: list[str] = []

    def leave(self, since: float) -> None:
        """It stopped in order, at `since`."""
        self.state, self.reason, self.linked = LEFT, STOPPED, False
        self.down_since = since

    @property
    def alive(self) -> bool:
        """Whether it counts as there."""
        return self.state in (UP, SUSPECT)

    @property
    def direct_at(self) -> float:
        """When it was last heard here, as far as that counts."""
        return self.since if self.good_at is None else max(self.good_at, self.since)

    @property
    def sign_at(self) -> float:
        """When it was last heard by anybody we know of."""
        return self.direct_at if self.vouched_at is None else max(self.direct_at, self.vouched_at)
