"""The ghosts of a simulated cluster: how many, what befalls them, and what must hold of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from leoronic.core.resources import Capacity
from leoronic.sim.cluster import Cluster
from leoronic.sim.ghost import SimGhost
from leoronic.sim.ghost_net import GhostNet
from leoronic.sim.ghost_watch import GhostWatch
from leoronic.sim.network import address_of
from leoronic.sim.story import Violation

if TYPE_CHECKING:
    from leoronic.sim.node import SimNode

GHOSTS_MAX = 3
# Whoever is well for so long, and all others with it, must not be given up: it is time enough to
# notice that contact is lost, and to find another node.
WELL_S = 15.0
STRIKES_MAX = 25
CAPACITIES = (1, 1, 2, 4)


class Ghosts:
    """See the module. `apart` decides, so that the rest of a seed is as it would be without.

    `only`: no other faults befall them.
    """

    def __init__(self, cluster: Cluster, apart: Random, only: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._chance = apart
        self._healed = False
        self._only = only
        self.net = GhostNet(cluster.clock, apart, lambda: list(cluster.nodes))
        self.all: list[SimGhost] = []
        self.watches: dict[str, GhostWatch] = {}
        cluster.give_ghosts(self.net, self.is_given_up)
        for number in range(apart.randint(1, GHOSTS_MAX)):
            self._make(f"ghost{number + 1}")

    def _make(self, name: str) -> None:
        cluster, chance = self._cluster, self._chance
        id = f"g{chance.getrandbits(40):010x}"
        capacity = Capacity(chance.choice(CAPACITIES) * 1000, 1000, 1000)
        watch = GhostWatch(cluster.clock, cluster.story, cluster.history, name, id, capacity)
        cluster.history.ghosts.add(id)
        self.watches[id] = watch
        self.all.append(
            SimGhost(
                name,
                id,
                cluster.clock,
                chance,
                cluster.story,
                self.net,
                capacity=capacity,
                observer=watch,
                addresses=lambda: [address_of(node.id) for node in cluster.nodes],
            )
        )

    # ---- what befalls them ----

    def begin(self, length_s: float, *, peaceful: bool) -> None:
        """They start, and faults strike for so long."""
        clock, chance = self._cluster.clock, self._chance
        for ghost in self.all:
            clock.at(chance.random() * 3.0, ghost.start_core)
        strikes = 0 if peaceful and not self._only else chance.randint(0, STRIKES_MAX)
        for _ in range(strikes):
            clock.at(chance.random() * length_s, self._strike)

    def _strike(self) -> None:
        if self._healed:
            return
        ghost = self._chance.choice(self.all)
        kinds: dict[str, Callable[[], None]] = {
            "core killed": lambda: self._end(ghost, ghost.kill_core),
            "runner killed": ghost.kill_runner,
            "power lost": lambda: self._end(ghost, ghost.lose_power),
            "paused": lambda: ghost.pause(40.0 * self._chance.random() ** 3),
            "connection cut": lambda: self.net.cut(ghost),
            "clogged": lambda: self._clog(ghost),
            "relay killed": self._kill_relay,
            "clairvoyant killed": lambda: self._kill_clairvoyant(ghost),
        }
        name = self._chance.choice(self._only or list(kinds))
        self._cluster.story.tell(self._cluster.clock.now, "fault", f"{name} ({ghost.name})")
        kinds[name]()

    def _later(self, most_s: float, action: Callable[[], None]) -> None:
        delay_s = most_s * self._chance.random() ** 3
        self._cluster.clock.after(delay_s, lambda: None if self._healed else action())

    def _end(self, ghost: SimGhost, end: Callable[[], None]) -> None:
        end()
        self._later(60.0, ghost.start_core)

    def _clog(self, ghost: SimGhost) -> None:
        self.net.clog(ghost)
        self._later(60.0, lambda: self.net.unclog(ghost))

    def _kill_relay(self) -> None:
        self.net.kill_relay(self._chance.choice(self._cluster.nodes))

    def _kill_clairvoyant(self, ghost: SimGhost) -> None:
        for node in self._cluster.nodes:
            if node.id == ghost.clairvoyant and node.up:
                if self._chance.random() < 0.5:
                    node.lose_power()
                else:
                    node.kill_core()
                self._later(60.0, self._starter(node))

    @staticmethod
    def _starter(node: SimNode) -> Callable[[], None]:
        def start() -> None:
            if not node.up and not node.gone and not node.away:
                node.start_core()

        return start

    def heal(self) -> None:
        """No more faults; those that are down start."""
        self._healed = True
        self.net.heal()
        for ghost in self.all:
            ghost.start_core()

    # ---- what must hold ----

    def is_given_up(self, judge: str, id: str) -> None:
        """Membership of node `judge` gives up a ghost: it must have had reason to.

        If all is well but that its clairvoyant died, it has long found another.
        """
        ghost = next((one for one in self.all if one.id == id), None)
        if ghost is None or ghost.well_for_s() < WELL_S or not self.watches[id].running:
            return  # one that does nothing looks seldom whether its clairvoyant is there
        cluster = self._cluster
        up = [node for node in cluster.nodes if node.up]
        well = [node for node in up if node.well_for_s() >= WELL_S]
        joined = all(
            one is other or cluster.network.well_for_s(one.id, other.id) >= WELL_S
            for one in up
            for other in up
        )
        if well == up and joined and any(node.id == judge for node in up):
            raise Violation(
                "a ghost that can go to another node is not given up",
                f"{judge} gives up {ghost.name}, attached to {ghost.clairvoyant or 'nobody'}",
            )

    @property
    def running(self) -> int:
        """How many processes exist on them."""
        return sum(watch.running for watch in self.watches.values())

    def leaks(self) -> dict[str, int]:
        """The sizes of what should be empty and is not, once every task is final."""
        sizes = {f"{id}.processes": watch.running for id, watch in self.watches.items()}
        for ghost in self.all:
            executor = ghost.executor
            if executor is None:
                sizes[f"{ghost.name}.down"] = 1
                continue
            sizes[f"{ghost.name}.attempts"] = len(executor._has.attempts)
            sizes[f"{ghost.name}.held"] = len(executor._has.ledger.held)
            sizes[f"{ghost.name}.appends"] = len(executor._appends)
            sizes[f"{ghost.name}.runner"] = 0 if ghost.runner is None else len(ghost.runner.machine)
        return {name: size for name, size in sizes.items() if size}
