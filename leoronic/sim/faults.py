"""Which faults a seed knows, and when they strike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from random import Random

from leoronic.core.executor_messages import Open
from leoronic.core.peer import Assign, Entries, Push
from leoronic.core.queue_messages import Loaded
from leoronic.core.run import ExitedMany, Inventory
from leoronic.core.view import View
from leoronic.sim.cluster import CROWD, Cluster
from leoronic.sim.network_faults import NetworkFaults
from leoronic.sim.node import SimNode
from leoronic.sim.node_faults import NodeFaults

# About the most faults in one seed; in a crowd each costs as much as many.
STRIKES_MAX = 100
CROWD_STRIKES_MAX = 4
# Of a crowd each notes for itself that somebody is down, and tells all others: little of that.
CROWD_KINDS = (
    "core killed",
    "runner killed",
    "actor crashed",
    "slow",
    "clock set",
    "disk full",
    "disk slow",
    "runner cut off",
    "frames late",
    "outcomes doubled",
    "connection cut",
    "clogged one way",
)
# After these something is owed: a commit, a start, a reconciliation.
MOMENTS = (ExitedMany, Assign, Inventory, Open, Loaded, Push, Entries, View)


class Faults:
    """Strikes a cluster at random for `length_s`, until healed. `counts`: how often, by kind.

    `peaceful`: this seed knows no fault at all, so nobody must ever be suspected.
    """

    def __init__(
        self, cluster: Cluster, chance: Random, length_s: float, only: tuple[str, ...] = ()
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.cluster = cluster
        self._clock = cluster.clock
        self._chance = chance
        self._healed = False
        self.on_node = NodeFaults(self._clock, chance, alone=len(cluster.nodes) == 1)
        self.on_network = NetworkFaults(self._clock, chance, cluster.network)
        kinds: dict[str, Callable[[], None]] = {}
        for name, strike in self.on_node.kinds.items():
            kinds[name] = self._on_some_node(strike)
        if len(cluster.nodes) > 1:
            kinds |= self.on_network.kinds
            kinds |= {
                "disk destroyed": self._destroy,
                "left": self._leave,
                "all down": self._all_down,
            }
        if cluster.retention is not None:
            del kinds["clock set"]
        if len(cluster.nodes) >= CROWD:
            kinds = {name: kinds[name] for name in CROWD_KINDS}
        # Some seeds know one kind of fault, some all, and a few none.
        share = chance.choice((0.0, 0.15, 0.4, 1.0))
        self._kinds = {name: strike for name, strike in kinds.items() if chance.random() < share}
        if only:
            self._kinds = {name: kinds[name] for name in only}
        self.peaceful = not self._kinds
        # At the moments that matter: while messages pass, not only while time does.
        per_message = chance.choice((0.0, 0.0, 0.003, 0.02)) if self._kinds else 0.0
        size = len(cluster.nodes)
        self._per_message = per_message / size if size < CROWD else 0.0
        strikes_max = STRIKES_MAX if size < CROWD else CROWD_STRIKES_MAX
        self._every_s = length_s / math.exp(chance.uniform(0.0, math.log(strikes_max)))

    def begin(self) -> None:
        """Strike now and then."""
        for node in self.cluster.nodes:
            node.on_message = self._maybe
        if self._kinds:
            self._next()

    def _maybe(self, message: object) -> None:
        """A message was handled: strike in the middle of what follows from it, maybe."""
        share = self._per_message
        if not share or self.counts.total() >= 2 * STRIKES_MAX:
            return
        if isinstance(message, MOMENTS):
            share *= 10
        if self._chance.random() < share:
            node = self.cluster.nodes[0]
            most_s = max(3 * node.turn_s, node.disk.commit_s)
            self._clock.after(self._chance.random() * most_s, self._strike_once)

    def heal(self) -> None:
        """No more faults; what is broken is mended."""
        self._healed = True
        self.cluster.story.tell(self._clock.now, "fault", "all is healed")
        self.on_network.heal()
        for node in self.cluster.nodes:
            node.on_message = None
            self.on_node.heal(node)

    def _next(self) -> None:
        self._clock.after(self._chance.expovariate(1 / self._every_s), self._strike)

    def _strike(self) -> None:
        if not self._healed:
            self._strike_once()
            self._next()

    def _strike_once(self) -> None:
        if not self._healed:
            name = self._chance.choice(list(self._kinds))
            self.counts[name] += 1
            self._tell(name)
            self._kinds[name]()

    def _tell(self, what: str) -> None:
        self.cluster.story.tell(self._clock.now, "fault", what)

    def _on_some_node(self, strike: Callable[[SimNode], None]) -> Callable[[], None]:
        def on_some_node() -> None:
            node = self._chance.choice(self.cluster.nodes)
            self._tell(f"... to {node.name}")
            strike(node)

        return on_some_node

    # ---- the whole cluster ----

    def _destroy(self) -> None:
        """A machine burns; another with an empty disk takes its place and its name."""
        node = self._chance.choice(self.cluster.nodes)
        self._tell(f"... of {node.name}")
        fresh = self.cluster.replace(node)
        fresh.on_message = self._maybe
        self.on_node.restart_later(fresh, 60.0)

    def _leave(self) -> None:
        """A node is stopped in order, and started again some time."""
        node = self._chance.choice(self.cluster.nodes)
        self._tell(f"... {node.name}")
        node.leave()
        self.on_node.restart_later(node, 60.0)

    def _all_down(self) -> None:
        for node in self.cluster.nodes:
            if self._chance.random() < 0.5:
                node.lose_power()
            else:
                node.kill_core()
            self.on_node.restart_later(node, 30.0)
