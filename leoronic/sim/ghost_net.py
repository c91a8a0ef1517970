"""The connections between simulated ghosts and the relays of nodes, and the relays' processes.

As in `network.py`: in order, late, through the real codec; what is under way when a connection
breaks is lost. A ghost that is *clogged* hears nothing and is not heard; what is said waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from leoronic.core.ghost_messages import (
    GhostMessage,
    decode_from_ghost,
    decode_to_ghost,
    encode,
)
from leoronic.core.ghost_notices import (
    Came,
    Dial,
    Dialled,
    EndRelay,
    HangUp,
    Heard,
    HungUp,
    RelayDown,
    RelayUp,
    Transmit,
)
from leoronic.sim.clock import Clock
from leoronic.sim.network import address_of

DELAY_S = 0.002
# How long it takes to call, or to hear that nobody listens.
DIAL_S_MAX = 0.05
NOTICE_S_MAX = 3.0

Frame = tuple[bytes, bytes]


class Machine(Protocol):
    """A node or a ghost, as its end of a connection sees it."""

    id: str

    @property
    def listening(self) -> bool:
        """Whether it answers."""

    def send(self, to: str, message: object) -> None:
        """Cast to one of its actors."""

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when its process goes on."""


class _Connection:
    def __init__(self, ghost: Machine, number: int, node: Machine, taken: int) -> None:
        self.ghost = ghost
        self.number = number  # the ghost's
        self.node = node
        self.taken = taken  # the relay's
        self.alive = True
        self.up: deque[Frame] = deque()
        self.down: deque[Frame] = deque()
        self.at = {True: 0.0, False: 0.0}
        self.moving: set[bool] = set()


class GhostNet:
    """See the module. `nodes` gives those there are, `ghosts` are told of by `join`."""

    def __init__(self, clock: Clock, chance: Random, nodes: Callable[[], list[Machine]]) -> None:
        self.ghosts: dict[str, Machine] = {}
        self.clogged: set[str] = set()
        self.disturbed_at: dict[str, float] = {}
        self._clock = clock
        self._chance = chance
        self._nodes = nodes
        self._connections: list[_Connection] = []
        self._hosts: set[str] = set()  # nodes whose relay's process is there
        self._taken = 0

    def join(self, ghost: Machine) -> None:
        """There is this ghost."""
        self.ghosts[ghost.id] = ghost

    # ---- what the actors say ----

    def from_ghost(self, ghost: Machine, message: object) -> None:
        """To its `wire`."""
        match message:
            case Dial(number, address):
                delay_s = self._chance.random() * DIAL_S_MAX
                self._clock.after(delay_s, lambda: self._dial(ghost, number, address))
            case Transmit(number, said):
                for one in self._connections:
                    if one.ghost is ghost and one.number == number:
                        self._say(one, said, up=True)
            case HangUp(number):
                for one in [c for c in self._connections if (c.ghost, c.number) == (ghost, number)]:
                    self._close(one, ghost_s=None, node_s=0.01)
            case _:
                raise AssertionError(f"not for a wire: {message}")

    def from_node(self, node: Machine, message: object) -> None:
        """To its `relay_host`."""
        match message:
            case Transmit(taken, said):
                for one in self._connections:
                    if one.taken == taken:
                        self._say(one, said, up=False)
            case HangUp(taken):
                for one in [c for c in self._connections if c.taken == taken]:
                    self._flush(one)
                    self._close(one, ghost_s=0.01, node_s=None)
            case EndRelay():
                if not any(one.node is node for one in self._connections):
                    self._hosts.discard(node.id)
                    node.send("relay", RelayDown())
            case _:
                raise AssertionError(f"not for a relay: {message}")

    def _dial(self, ghost: Machine, number: int, address: str) -> None:
        if not ghost.listening or ghost.id in self.clogged:
            return
        node = next((one for one in self._nodes() if address_of(one.id) == address), None)
        if node is None or not node.listening:
            ghost.send("membership", HungUp(number, "nobody listens there"))
            return
        self._taken += 1
        if node.id not in self._hosts:
            self._hosts.add(node.id)
            node.send("relay", RelayUp())
        self._connections.append(_Connection(ghost, number, node, self._taken))
        node.send("relay", Came(self._taken, ghost.id))
        ghost.send("membership", Dialled(number, node.id))

    # ---- frames ----

    def _say(self, one: _Connection, message: GhostMessage, *, up: bool) -> None:
        (one.up if up else one.down).append(encode(message))
        self._move(one, up)

    def _move(self, one: _Connection, up: bool) -> None:
        frames = one.up if up else one.down
        if up in one.moving or not frames or one.ghost.id in self.clogged:
            return
        one.moving.add(up)
        one.at[up] = max(one.at[up], self._clock.now + self._chance.random() * DELAY_S)
        self._clock.at(one.at[up], lambda: self._arrive(one, up))

    def _arrive(self, one: _Connection, up: bool) -> None:
        one.moving.discard(up)
        if one.alive and one.ghost.id not in self.clogged:
            self._deliver(one, up)
            self._move(one, up)

    def _deliver(self, one: _Connection, up: bool) -> None:
        frames = one.up if up else one.down
        if not frames:
            return
        frame = frames.popleft()
        if up:
            heard = Heard(one.taken, decode_from_ghost(*frame))
            one.node.when_awake(lambda: one.node.send("relay", heard) if one.alive else None)
        else:
            told = Heard(one.number, decode_to_ghost(*frame))
            one.ghost.when_awake(lambda: one.ghost.send("membership", told) if one.alive else None)

    def _flush(self, one: _Connection) -> None:
        """What was said before it is hung up leaves first."""
        while one.down and one.ghost.id not in self.clogged:
            self._deliver(one, up=False)

    # ---- ends ----

    def _close(self, one: _Connection, ghost_s: float | None, node_s: float | None) -> None:
        """Each end hears of it within that time; None: it does not, or knows."""
        self._connections.remove(one)
        ghost, node = one.ghost, one.node

        def tell_ghost() -> None:
            one.alive = False
            ghost.when_awake(lambda: ghost.send("membership", HungUp(one.number, "it broke")))

        def tell_node() -> None:
            one.alive = False
            node.when_awake(lambda: node.send("relay", HungUp(one.taken, "it broke")))

        if ghost_s is None and node_s is None:
            one.alive = False
        if ghost_s is not None:
            self._clock.after(self._chance.random() * ghost_s, tell_ghost)
        if node_s is not None:
            self._clock.after(self._chance.random() * node_s, tell_node)

    def ghost_ended(self, ghost: Machine, *, told: bool) -> None:
        """Its process is gone; `told`: its machine is there to say so."""
        for one in [c for c in self._connections if c.ghost is ghost]:
            one.alive = False
            self._close(one, ghost_s=None, node_s=0.01 if told else None)

    def node_ended(self, node: Machine, *, told: bool) -> None:
        """Its core is gone, or begins anew, and its relay with it."""
        self._hosts.discard(node.id)
        for one in [c for c in self._connections if c.node is node]:
            one.alive = False
            self._close(one, ghost_s=0.01 if told else None, node_s=None)

    # ---- faults ----

    def kill_relay(self, node: Machine) -> None:
        """The relay's process is killed; its core hears of it."""
        if node.id in self._hosts:
            self.node_ended(node, told=True)
            node.send("relay", RelayDown())

    def cut(self, ghost: Machine) -> None:
        """Its connection breaks; each end notices within some time."""
        self.disturbed_at[ghost.id] = self._clock.now
        for one in [c for c in self._connections if c.ghost is ghost]:
            one.alive = False
            self._close(one, ghost_s=NOTICE_S_MAX, node_s=NOTICE_S_MAX)

    def clog(self, ghost: Machine) -> None:
        """Nothing passes to it or from it."""
        self.clogged.add(ghost.id)
        self.disturbed_at[ghost.id] = self._clock.now

    def unclog(self, ghost: Machine) -> None:
        """What waited goes on its way."""
        self.clogged.discard(ghost.id)
        self.disturbed_at[ghost.id] = self._clock.now
        for one in self._connections:
            if one.ghost is ghost:
                self._move(one, True)
                self._move(one, False)

    def heal(self) -> None:
        """All is as it should be."""
        for ghost in sorted(self.clogged):
            self.unclog(self.ghosts[ghost])
