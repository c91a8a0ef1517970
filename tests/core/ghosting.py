"""Around the machines of ghosts and relays: effects sorted by receiver, through the real codec."""

from __future__ import annotations

from typing import Any

from leoronic.core.effects import Effect, Fired, Machine, Send, SetTimer
from leoronic.core.ghost_messages import (
    GhostMessage,
    decode_from_ghost,
    decode_to_ghost,
    encode,
)
from leoronic.core.ghost_notices import (
    HangUp,
    Transmit,
)
from leoronic.core.resources import Capacity
from leoronic.core.view import UP, About, GhostMember, Member, View

GHOST = "g1"


def about(name: str, life: int = 1) -> About:
    """Of a node or ghost."""
    return About(
        name, "1", life, addresses=[f"10.0.0.{ord(name[0])}:1"], capacity=Capacity(4000, 1, 1)
    )


def view(me: str = "a", nodes: str = "ab", at: float = 0.0, **ghosts: str) -> View:
    """Nodes that are all there, and ghosts (id=clairvoyant)."""
    members = {node: Member(node, about(node), UP, ready=True) for node in nodes}
    found = {ghost: GhostMember(ghost, about(ghost), node) for ghost, node in ghosts.items()}
    return View(me, members, at, found)


class Driven:
    """A machine, and what it said since that was last asked for; `now` is its time."""

    def __init__(self, machine: Machine, now: float = 100.0) -> None:
        self.machine = machine
        self.now = now
        self.timers: dict[str, float] = {}
        self._said: list[Effect] = []

    def tell(self, *messages: object) -> None:
        """It gets these."""
        for message in messages:
            for effect in self.machine.handle(message, self.now):
                self._said.append(effect)
                if isinstance(effect, SetTimer):
                    self.timers[effect.name] = effect.at

    def fire(self, name: str) -> None:
        """That timer is due."""
        self.now = max(self.now, self.timers.pop(name))
        self.tell(Fired(name))

    def sent(self, to: str) -> list[Any]:
        """What it said to that actor, taken out."""
        found = [e.message for e in self._said if isinstance(e, Send) and e.to == to]
        self._said = [e for e in self._said if not (isinstance(e, Send) and e.to == to)]
        return found

    def transmitted(self, to: str, connection: int | None = None) -> list[GhostMessage]:
        """What it had transmitted by `wire` or `relay_host`, as it arrives."""
        decode = decode_from_ghost if to == "wire" else decode_to_ghost
        return [
            decode(*encode(one.message))
            for one in self.sent(to)
            if isinstance(one, Transmit) and connection in (None, one.connection)
        ]

    def hung_up(self, to: str) -> list[str]:
        """Why it ended connections."""
        return [one.reason for one in self.sent(to) if isinstance(one, HangUp)]

    def forget(self) -> None:
        """What it said so far is of no interest."""
        self._said.clear()
