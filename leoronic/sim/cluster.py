"""The machines of one seed, and the network between them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from leoronic.core.executor import RELAY_CPUS_MILLI
from leoronic.core.queue_messages import Accepted
from leoronic.core.resources import Capacity
from leoronic.sim.clock import Clock
from leoronic.sim.disk import Disk
from leoronic.sim.file_actor import FileMix
from leoronic.sim.file_disk import FileDisk
from leoronic.sim.ghost_net import GhostNet
from leoronic.sim.history import History
from leoronic.sim.invariants import Invariants
from leoronic.sim.network import Network
from leoronic.sim.node import SimNode
from leoronic.sim.retention import Retention
from leoronic.sim.story import Story
from leoronic.sim.switches import Switches
from leoronic.sim.trimming import believed

# Whoever could be heard for so long, directly or through another, must not be called dead.
HEARD_S = 15.0
# For each node; more is a loop.
EVENTS_MAX = 400_000
# From this size on less is done and less goes wrong: so much follows from each.
CROWD = 20
# When many join at once, each has much to say to each.
MAILBOX_MAX_PER_NODE = 50
# How long a core takes to stop, and the next to start; on a full disk it tries again.
ANEW_S = 2.0
# Of a node where tasks have files: these need some.
STORAGE = 1 << 30
ANEW_AGAIN_S = 10.0
LETTERS = "abcdefghijkmnpqrstuvwxyz"


class Cluster:
    """`nodes` by place; one whose disk is destroyed is replaced there by another."""

    def __init__(
        self, chance: Random, size: int, switches: Switches, retention: Retention | None = None
    ) -> None:
        self.clock = Clock(EVENTS_MAX * size)
        self.story = Story()
        self.history = History()
        self.chance = chance
        self.network = Network(self.clock, chance, marks=switches.fence)
        self.nodes: list[SimNode] = []
        self.gone: list[SimNode] = []
        self.watches: dict[str, Invariants] = {}  # by node id
        self.retention = retention
        self.mix: FileMix | None = None
        self.ghosts: GhostNet | None = None
        self._judge: Callable[[str, str], None] = lambda _judge, _ghost: None
        self.beginning_anew = 0  # how many nodes are about to
        self.history.forgotten.watches = self.watches
        self._switches = switches
        self._size = size
        self._turn_s = chance.choice((0.0001, 0.001, 0.02))
        # Clocks differ by minutes, and history is kept for days: in minutes they must be right.
        skewed = chance.random() < 0.5 and retention is None
        for number in range(size):
            node = self._make(f"node{number + 1}", self._capacity(size))
            if skewed:
                node.time.offset_s = chance.uniform(-100.0, 100.0)
            self.nodes.append(node)

    def give_files(self, mix: FileMix) -> None:
        """From the beginning on tasks have files here."""
        self.mix = mix
        for node in self.nodes:
            node.blobs, node.mix = FileDisk(), mix
            node.capacity = msgspec.structs.replace(node.capacity, storage=STORAGE)

    def give_ghosts(self, net: GhostNet, judge: Callable[[str, str], None]) -> None:
        """From the beginning on there are ghosts; `judge` is told who gives up which."""
        self.ghosts = net
        for node in self.nodes:
            node.ghosts = net
            # While it serves ghosts it offers what people reckon with.
            more = msgspec.structs.replace(
                node.capacity, cpus_milli=node.capacity.cpus_milli + RELAY_CPUS_MILLI
            )
            node.capacity = self.watch(node).capacity = more
        for watch in self.watches.values():
            watch.on_given_up = judge
        self._judge = judge

    def _capacity(self, size: int) -> Capacity:
        chance = self.chance
        cpus = chance.choice((1, 2, 2, 4, 16) if size == 1 else (1, 1, 2, 4))
        resources: tuple[tuple[str, float], ...] = (("gpu", chance.choice((1, 2))),)
        if size > 1 and self.nodes and chance.random() < 0.5:
            resources = ()
        return Capacity(cpus * 1000, 1000, 1000, resources)

    def _make(self, name: str, capacity: Capacity) -> SimNode:
        node_id = "".join(self.chance.choice(LETTERS) for _ in range(10))
        watch = Invariants(
            self.clock, self.story, capacity, self.history, name, heard=self.is_heard
        )
        node = SimNode(
            name,
            self.clock,
            self.chance,
            self.story,
            Disk(node_id, self._switches),
            self.network,
            capacity=capacity,
            observer=watch,
            retention=self.retention,
        )
        if self.mix is not None:
            node.blobs, node.mix = FileDisk(), self.mix
        node.ghosts = self.ghosts
        watch.on_given_up = self._judge
        node.on_rejoin = self._begin_anew_soon
        node.on_carried = self._note_carried
        node.turn_s = self._turn_s
        node.mailbox_max = max(node.mailbox_max, MAILBOX_MAX_PER_NODE * self._size)
        watch.node = node
        self.watches[node_id] = watch
        self.history.forgotten.joins(node_id)
        self.network.join(node)
        return node

    def replace(self, node: SimNode) -> SimNode:
        """The machine and its disk are gone for ever; one of the same name is made, not started."""
        node.lose_power()
        self.history.destroyed.add(node.id)
        return self._swap(node)

    def _swap(self, node: SimNode) -> SimNode:
        """Another, with an empty disk and a new id, takes its place."""
        node.gone = True
        self.network.remove(node.id)
        self.gone.append(node)
        fresh = self._make(node.name, node.capacity)
        self.nodes[self.nodes.index(node)] = fresh
        return fresh

    # ---- beginning anew: as `life.py` and `actors/carrying.py` do it ----

    def _begin_anew_soon(self, node: SimNode, reason: str) -> None:
        """The order is on its disk; the core stops in a moment."""
        if node.id not in self.history.forgotten.anew:
            self.story.tell(self.clock.now, "fault", f"{node.name} begins anew: {reason}")
            self.history.forgotten.begins_anew(node.id, believed(node), reason)
            self.beginning_anew += 1
            self._begin_anew_after(node, ANEW_S)

    def _begin_anew_after(self, node: SimNode, at_most_s: float) -> None:
        self.clock.after(self.chance.random() * at_most_s, lambda: self._begin_anew(node))

    def _begin_anew(self, node: SimNode) -> None:
        if node.gone:
            self.beginning_anew -= 1  # it burned meanwhile
        elif node.asleep or node.disk.full == 2:
            # Nothing is given up before the order to do so is safe.
            self._begin_anew_after(node, ANEW_AGAIN_S)
        else:
            node.kill_core()
            node.kill_runner()
            fresh = self._with_new_identity(node)
            self.clock.after(self.chance.random() * ANEW_S, lambda: self._start_anew(fresh))

    def _with_new_identity(self, node: SimNode) -> SimNode:
        assert self.retention is not None
        carried = node.disk.leave(node.time.wall() - self.retention.keep_s)
        fresh = self._swap(node)
        fresh.carried = node.carried | {one.spec.id: one for one in carried}
        fresh.time, fresh.files, fresh.remembered = node.time, node.files, node.remembered
        fresh.disk.full, fresh.disk.commit_s = node.disk.full, node.disk.commit_s
        fresh.turn_s, fresh.on_message = node.turn_s, node.on_message
        fresh.blobs = node.blobs
        return fresh

    def _start_anew(self, node: SimNode) -> None:
        self.beginning_anew -= 1
        if not node.up and not node.gone:
            node.start_core()

    def _note_carried(self, tasks: list[str], node: str, accepted: Accepted) -> None:
        for task in tasks:
            holders = self.history.forgotten.carried.setdefault(task, set())
            holders.update((node, *accepted.held_by))

    @property
    def moving(self) -> bool:
        """Whether some node is about to begin anew, or carries something."""
        return self.beginning_anew > 0 or any(node.carried for node in self.nodes)

    def watch(self, node: SimNode) -> Invariants:
        """What watches this node."""
        return self.watches[node.id]

    def is_heard(self, judge: str, node: str) -> str:
        """Who has long been able to tell `judge` that `node` is alive; '' if nobody.

        `node` itself, or another that hears both.
        """
        well = {n.id for n in self.nodes if n.well_for_s() > HEARD_S}
        if not {judge, node} <= well:
            return ""

        def talk(one: str, other: str) -> bool:
            return self.network.well_for_s(one, other) > HEARD_S

        if talk(judge, node):
            return node
        between = (n for n in sorted(well - {judge, node}) if talk(judge, n) and talk(n, node))
        return next(between, "")

    def close(self) -> None:
        """The end of this world."""
        for node in (*self.nodes, *self.gone):
            node.disk.close()
