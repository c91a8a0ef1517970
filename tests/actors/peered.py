"""Nodes joined by pipes: what `peers` would carry goes through the codec to the other tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leoronic.actors.peers_messages import Describe, Described, PlaceFacts
from leoronic.core.outbound import Outbound
from leoronic.core.peer import RECEIVERS, LinkDown, PeerMessage, decode, encode
from leoronic.core.resources import Capacity
from leoronic.core.view import UP, About, Member, View
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.supervisor import Tree


class Pipes:
    """All nodes of a test by id. `lost` decides what does not arrive."""

    def __init__(self) -> None:
        self.trees: dict[str, Tree] = {}
        self.sent: list[Outbound] = []
        self.told: list[Any] = []
        self.places: list[PlaceFacts] = []
        self.lost: Callable[[str, PeerMessage], bool] = lambda node, message: False

    def peers(self) -> Actor:
        """The actor `peers` of a node."""
        return _Peers(self)

    def carry(self, outbound: Outbound) -> None:
        """To the actor that it is for."""
        self.sent.append(outbound)
        node, message = outbound
        if node in self.trees and not self.lost(node, message):
            arrived = decode(*encode(message))
            self.trees[node].find(RECEIVERS[type(arrived)]).cast_nowait(arrived)

    def break_link(self, here: str, there: str) -> None:
        """Each side is told that the connection is gone."""
        self.trees[here].find("questions").cast_nowait(LinkDown(there, "reset"))
        self.trees[there].find("questions").cast_nowait(LinkDown(here, "reset"))


class _Peers(Actor):
    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes

    async def handle(self, message: Any) -> Any:
        if self.context.request is not None:
            self._pipes.told.append(message)
            is_asked = isinstance(message, Describe)
            return Described(22580, [], [], self._pipes.places, 0) if is_asked else None
        assert isinstance(message, Outbound)
        self._pipes.carry(message)
        return NO_REPLY


def member(node: str, name: str = "", state: str = UP, **fields: Any) -> Member:
    """A node called as its id in upper case, if nothing else is said."""
    about = About(
        name or node.upper(),
        "1.2",
        1,
        addresses=[f"10.0.0.1:{22580 + len(node)}"],
        capacity=Capacity(2000, 5, 6),
        tags=fields.pop("tags", []),
        draining=fields.pop("draining", False),
    )
    return Member(node, about, state, fields.pop("ready", True), **fields)


def view(me: str, *members: Member) -> View:
    """A view of these nodes."""
    return View(me, {one.id: one for one in members})
