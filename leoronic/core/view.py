"""Who is there, as one node sees it: what membership tells all the other machines of a node."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import msgspec
from msgspec import Meta

from leoronic.core.bounds import NodeName, Number, Tag
from leoronic.core.resources import Capacity

ADDRESSES_MAX = 100
TAGS_MAX = 10_000

Addresses = Annotated[list[Annotated[str, Meta(max_length=300)]], Meta(max_length=ADDRESSES_MAX)]

UP, SUSPECT, DOWN, LEFT = "up", "suspect", "down", "left"


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node tells of itself; changes seldom. `revision` grows with each change.

    `addresses` are HOST:PORT where its peer port listens. `life` is new at each start of its core.
    `digests` are the algorithms of blobs' names that it can check (`core/blob.py`).
    """

    name: NodeName
    version: Annotated[str, Meta(max_length=100)]
    life: Number
    revision: Number = 0
    addresses: Addresses = []
    capacity: Capacity = Capacity(0, 0, 0)
    tags: Annotated[list[Tag], Meta(max_length=TAGS_MAX)] = []
    draining: bool = False
    digests: Annotated[list[Annotated[str, Meta(max_length=8)]], Meta(max_length=8)] = []


class Member(msgspec.Struct, frozen=True):
    """A node that is known. `state`: `up`, `suspect` (still counted as there), `down` or `left`.

    `ready`: it has caught up with the others and may own tasks. `heard_s`: seconds since a sign of
    life (0.0 for this node), when the view was made. `reason` says why it is not `up`, or why it
    cannot be reached from here: then not `linked`, and what is sent to it is lost.
    """

    id: str
    about: About
    state: str
    ready: bool
    address: str = ""
    heard_s: float = 0.0
    reason: str = ""
    linked: bool = True

    @property
    def alive(self) -> bool:
        """Whether it counts as there."""
        return self.state in (UP, SUSPECT)


class GhostMember(msgspec.Struct, frozen=True):
    """A ghost that is known. `clairvoyant` is the id of the node that has, or had, it.

    `state`: `up`, `suspect` (no node has it; it still counts as there for a while) or `down`.
    `reason` and `linked` as in `Member`. `lost_s`: for how long no node has had it.
    """

    id: str
    about: About
    clairvoyant: str
    state: str = UP
    reason: str = ""
    linked: bool = True
    lost_s: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it counts as there."""
        return self.state in (UP, SUSPECT)


class View(msgspec.Struct, frozen=True, dict=True):
    """From membership to the queue, scheduler, executor, replication and control: all, by level.

    `members` by id, this node (`me`) among them. `at`: when it was made, by the steady clock.
    `ghosts` by id: they run tasks as members do, and own none.
    """

    me: str
    members: dict[str, Member]
    at: float = 0.0
    ghosts: dict[str, GhostMember] = {}

    def find(self, node: str) -> Member | GhostMember | None:
        """The node or ghost of that id, if it is known."""
        return self.members.get(node) or self.ghosts.get(node)

    def everyone(self) -> list[Member | GhostMember]:
        """All that are known: nodes, then ghosts."""
        return [*self.members.values(), *self.ghosts.values()]

    def alive(self) -> list[str]:
        """Ids of those that count as there, sorted; this node among them."""
        return list(self._alive)

    def executors(self) -> list[str]:
        """Ids of all that count as there and run tasks, sorted: nodes and ghosts."""
        return list(self._executors)

    def owners(self) -> list[str]:
        """Ids of those that may own tasks, sorted: alive and caught up."""
        return list(self._owners)

    def peers(self) -> list[str]:
        """Ids of the others that count as there, sorted."""
        return [node for node in self._alive if node != self.me]

    # Asked for at every turn, and the same for as long as the view is.

    @cached_property
    def _alive(self) -> list[str]:
        return sorted(member.id for member in self.members.values() if member.alive)

    @cached_property
    def _executors(self) -> list[str]:
        if not self.ghosts:
            return self._alive
        return sorted([*self._alive, *(g.id for g in self.ghosts.values() if g.alive)])

    @cached_property
    def _owners(self) -> list[str]:
        return sorted(m.id for m in self.members.values() if m.alive and m.ready)


class Standing(msgspec.Struct, frozen=True):
    """From the executor to membership: what others should know of this node."""

    capacity: Capacity
    tags: list[str]
    draining: bool


class AskView(msgspec.Struct, frozen=True):
    """To membership, from a machine that has just started: send the `View` to `sender`."""

    sender: str
