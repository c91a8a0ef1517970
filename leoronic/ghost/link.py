"""The actors `membership` and `peers` of a ghost: both are its link to the clairvoyant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leoronic.actors.steady import steady_s
from leoronic.core import ghost_link
from leoronic.core.effects import Asked, Reply, Send
from leoronic.core.ghost_messages import (
    Nodes,
    Welcome,
)
from leoronic.core.ghost_notices import (
    AskLink,
    Heard,
)
from leoronic.core.view import About
from leoronic.ghost.looking import LostAll, NodesAt
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.machine import MachineActor


class LinkActor(MachineActor):
    """Hosts `GhostLink`; `about` is asked at each start. `wanted`: see `GhostChoice`.

    The actor `looking` is told where nodes are, and whether this ghost has lost contact.
    """

    def __init__(self, ghost: str, about: Callable[[], About], wanted: str) -> None:
        super().__init__(lambda: ghost_link.GhostLink(ghost, about(), wanted), clock=steady_s)
        self._clairvoyant = ""

    async def started(self) -> None:
        """Nobody is called before somebody was found."""
        await super().started()
        await self.feed(ghost_link.Start())

    async def feed(self, message: Any) -> None:
        """As `MachineActor.feed`."""
        await super().feed(message)
        assert isinstance(self.machine, ghost_link.GhostLink)
        clairvoyant = self.machine.clairvoyant
        if bool(clairvoyant) != bool(self._clairvoyant):
            self.perform([Send("looking", LostAll(not clairvoyant))])
        self._clairvoyant = clairvoyant
        if isinstance(message, Heard) and isinstance(message.message, Welcome | Nodes):
            self._tell_places()

    def _tell_places(self) -> None:
        for effect in self.machine.handle(Asked(None, AskLink()), steady_s()):
            assert isinstance(effect, Reply)
            told: Any = effect.result
            self.perform([Send("looking", NodesAt(tuple(told["candidates"])))])


class LinkDoor(Actor):
    """What machines send to others comes here, as a node's `peers` takes it."""

    async def started(self) -> None:
        """Find the link."""
        self._link = self.context.find("membership")

    async def handle(self, message: Any) -> Any:
        """Hand it on."""
        await self._link.cast(message)
        return NO_REPLY
