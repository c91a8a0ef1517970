"""A node is away for longer than the others remember it, and what it missed is forgotten.

It is off, or goes on alone behind a network that leads nowhere.
"""

from __future__ import annotations

from random import Random

from leoronic.sim.cluster import Cluster
from leoronic.sim.faults import Faults
from leoronic.sim.node import SimNode

# It goes away in this time, so that it has something by then, and something is done without it.
AWAY_FROM_S = 15.0


class Away:
    """Sends one node of the cluster away, for a while."""

    def __init__(self, cluster: Cluster, chance: Random, faults: Faults) -> None:
        self._cluster = cluster
        self._clock = cluster.clock
        self._chance = chance
        self._faults = faults

    def begin(self) -> None:
        """Soon, so that it is back before all is healed."""
        self._clock.at(self._chance.random() * AWAY_FROM_S, self._go)

    def _go(self) -> None:
        assert self._cluster.retention is not None
        node = self._chance.choice(self._cluster.nodes)
        kind, leaves = self._chance.choice((("off", self._switch_off), ("alone", self._cut_off)))
        self._faults.counts[f"away {kind}"] += 1
        self._cluster.story.tell(self._clock.now, "fault", f"{node.name} is away, {kind}")
        leaves(node, self._cluster.retention.away_s)

    def _switch_off(self, node: SimNode, for_s: float) -> None:
        node.away = True
        node.lose_power()

        def back() -> None:
            node.away = False
            if not node.up and not node.gone:
                node.start_core()

        self._clock.after(for_s, back)

    def _cut_off(self, node: SimNode, for_s: float) -> None:
        others = [other.id for other in self._cluster.nodes if other is not node]
        self._clock.after(for_s, self._faults.on_network.part([node.id], others))
