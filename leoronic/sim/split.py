"""A seed of its own kind: nothing goes wrong but one long partition, and both sides go on."""

from __future__ import annotations

from functools import partial
from random import Random

from leoronic.core.spec import TaskSpec
from leoronic.sim.client import PROBE_PRIORITY, Client
from leoronic.sim.cluster import Cluster
from leoronic.sim.faults import Faults
from leoronic.sim.node import SimNode
from leoronic.sim.plan import Plan
from leoronic.sim.story import Violation

# Both sides have given each other up, and owners have changed.
NOTICE_S = 15.0
# What is submitted then, small and urgent, has ended.
DONE_S = 60.0


class Split:
    """Parts the cluster in two for a while; whoever submits on either side gets it done there."""

    def __init__(self, cluster: Cluster, chance: Random, client: Client, faults: Faults) -> None:
        self._cluster = cluster
        self._clock = cluster.clock
        self._chance = chance
        self._client = client
        self._faults = faults

    def begin(self, length_s: float) -> None:
        """Part them so that `DONE_S` are left before `length_s`."""
        self._clock.at(length_s - NOTICE_S - DONE_S - 5.0, self._part)

    def _part(self) -> None:
        one, other = self._faults.on_network.groups()
        self._faults.counts["long partition"] += 1
        self._cluster.story.tell(self._clock.now, "fault", f"{one} | {other}")
        self._faults.on_network.part(one, other)
        for group in (one, other):
            self._clock.after(NOTICE_S, partial(self._submit, group))

    def _submit(self, group: list[str]) -> None:
        nodes = [node for node in self._cluster.nodes if node.id in group and node.up]
        if not nodes:
            return
        node = self._chance.choice(nodes)
        plan = Plan(0, 0.1, word="probe")
        name = f"probe{node.id}"
        spec = TaskSpec(plan.command, cpus=0.5, id=name, priority=PROBE_PRIORITY)
        self._client.submit([spec], 9, node)
        self._clock.after(DONE_S, lambda: self._check(node, name))

    def _check(self, node: SimNode, task: str) -> None:
        known = self._cluster.watch(node).facts.tasks.get(task)
        if known is None or known.final != "succeeded":
            raise Violation(
                "each side of a split goes on",
                f"{task} was submitted at {node.name} {DONE_S:g} s ago: "
                f"{'unknown' if known is None else known.final or 'not ended'}",
                task,
            )
