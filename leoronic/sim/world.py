"""One seed: a cluster, its people and its faults; phase one, then phase two.

Phase one: faults strike, and every step is checked for safety. Phase two: all is healed, and within
bounded virtual time every task must be final, all nodes must hold the same, and nothing may be left
in any table in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from leoronic.sim.agreement import all_agree, check_agreement
from leoronic.sim.away import AWAY_FROM_S, Away
from leoronic.sim.bounded import everything_is_forgotten
from leoronic.sim.client import Client
from leoronic.sim.cluster import CROWD, Cluster
from leoronic.sim.faults import Faults
from leoronic.sim.file_actor import FileMix, files_left
from leoronic.sim.ghosts import Ghosts
from leoronic.sim.invariants import Invariants
from leoronic.sim.node import SimNode
from leoronic.sim.quiet import (
    check_quiet,
    explain,
    is_quiet,
    leaks,
    nothing_leaks,
    the_entries_alone_give_the_same,
    waits_for_a_time,
)
from leoronic.sim.retention import short_retention
from leoronic.sim.split import Split
from leoronic.sim.story import Story, Violation
from leoronic.sim.switches import INTACT, Switches
from leoronic.sim.workload import Maker, Mix

# After healing everything must be over in this time.
DRAIN_S_MAX = 12 * 3600.0
CLUSTER_DRAIN_S_MAX = 3 * 3600.0
# After healing, and after the last task, all come to rest and hold the same within this time.
REST_S_MAX = 75.0
# After the last task, every table is empty within this time: somebody's clock may be slow.
FORGET_S_MAX = 150.0
# A ghost may run what only a node knew that has burned.
GHOSTS_FORGET_S_MAX = 1000.0
# How often the world is looked at, to see whether it rests.
LOOK_S = 0.25
# What rested for so long at the end rests: nothing may come after it.
CALM_S = 3.0
# How often people look after what cannot go on, at first; sooner if nothing moves for `STILL_S`.
MEND_EVERY_S = 20.0
CLUSTER_MEND_EVERY_S = 6.0
# As long as a scheduler waits for anything; what retries wait for is seen.
STILL_S = 5.0
QUIET_CHECKS_MAX = 8
# On so many nodes all entries are read again at the end; the tables of all are equal.
REPLAYS_MAX = 3
# How many nodes, and how many seeds of a hundred have so many.
SIZES = {1: 25, 2: 10, 3: 28, 4: 17, 5: 10, 6: 4, 7: 3, 9: 3}
# The share of seeds in which outcomes depend on the node.
FICKLE_SHARE = 0.05
# The share of seeds in which history is kept for seconds; what goes on there takes its time.
SHORT_SHARE = 0.06
SHORT_NODES_MAX = 5
# The share of seeds in which tasks have files.
FILES_SHARE = 0.15
# The share of seeds without files that have ghosts.
GHOSTS_SHARE = 0.2
# After the last task, there are two copies of what is kept within this time.
COPIES_S_MAX = 400.0
# What a node does, all the others do with it: large clusters have less to do, at most so much.
SUBMISSIONS_MAX = 72


@dataclass
class Result:
    """What a seed came to. `failure` is empty if nothing was violated."""

    seed: int
    nodes: int = 0
    events: int = 0
    tasks: int = 0
    virtual_s: float = 0.0
    digest: int = 0
    suspicions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    task: str = ""
    story: Story | None = None

    def told(self, task: str | None = None, node: str = "") -> list[str]:
        """The story of the task that failed (or of `task`), on node name `node` or all."""
        if self.story is None:
            return []
        return self.story.about(self.task if task is None else task, node)


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, switches: Switches) -> None:
        chance = self.chance = Random(seed)
        [size] = chance.choices(list(SIZES), list(SIZES.values()))
        size = switches.nodes or size
        short = switches.retention or (size <= SHORT_NODES_MAX and chance.random() < SHORT_SHARE)
        retention = short_retention(chance) if short else None
        self.cluster = Cluster(chance, size, switches, retention)
        self.clock = self.cluster.clock
        self.story = self.cluster.story
        split = size > 1 and retention is None and chance.random() < 0.1
        mix = Mix(chance, size)
        if split:
            mix.make_simple()
        elif size > 1 and (chance.random() < FICKLE_SHARE or switches.fickle):
            mix.make_fickle()
        if retention is not None:
            mix.own_id = 0.0  # one that was forgotten is free again
        capacities = {node.name: node.capacity for node in self.cluster.nodes}
        maker = Maker(chance, mix, capacities)
        # Decided apart: what a seed without files does is the same as ever.
        apart = Random(-1 - seed)
        with_files = apart.random() < FILES_SHARE and not switches.ghosts
        if size < CROWD and (with_files or switches.files):
            maker.files = FileMix(apart)
            self.cluster.give_files(maker.files)
        self.ghosts: Ghosts | None = None
        if switches.ghosts or (
            self.cluster.mix is None
            and retention is None
            and size < CROWD
            and not split
            and apart.random() < GHOSTS_SHARE
        ):
            self.ghosts = Ghosts(self.cluster, apart, switches.ghost_faults)
        self.client = Client(self.cluster, chance, maker)
        longest_s = 3600.0 if size == 1 else 180.0 / math.sqrt(size)
        self._length_s = math.exp(chance.uniform(math.log(5.0), math.log(longest_s)))
        if size >= CROWD:
            self._length_s = 10.0
        self.faults = Faults(self.cluster, chance, self._length_s, switches.faults)
        self.away: Away | None = None
        if retention is not None and size > 1:
            self._length_s += AWAY_FROM_S + retention.away_s
            self.away = Away(self.cluster, chance, self.faults)
        self.split: Split | None = None
        if split:
            self._length_s += 90.0
            self.split = Split(self.cluster, chance, self.client, self.faults)
        self._mend_s = MEND_EVERY_S if size == 1 else CLUSTER_MEND_EVERY_S
        self._drain_s_max = DRAIN_S_MAX if size == 1 else CLUSTER_DRAIN_S_MAX

    def run(self) -> None:
        """Both phases. Raises `Violation`."""
        self._start_nodes()
        if self.split is None:
            self.faults.begin()
        else:
            self.split.begin(self._length_s)
        if self.away is not None:
            self.away.begin()
        if self.ghosts is not None:
            self.ghosts.begin(self._length_s, peaceful=self.faults.peaceful)
        self._plan_work()
        self.clock.run(self._length_s)
        self.faults.heal()
        if self.ghosts is not None:
            self.ghosts.heal()
        if self.cluster.mix is not None:
            self.cluster.mix.flaws = 0.0
        self._settle(CALM_S)
        while self._unfinished():
            self._drain()
            self._settle(0.0)
            if not self._unfinished():
                self._settle(CALM_S)
        self._check()

    def _start_nodes(self) -> None:
        """Most at once, some later."""
        for node in self.cluster.nodes:
            late_s = 0.0
            if node is not self.cluster.nodes[0]:
                late_s = self.chance.choice((0.0, 0.0, 0.0, 1.0)) * self.chance.random()
                late_s *= self._length_s / 2
            self.clock.at(late_s, self._starter(node))

    def _starter(self, node: SimNode) -> Callable[[], None]:
        def start() -> None:
            if not node.up and not node.gone:
                node.start_core()

        return start

    # ---- phase one ----

    def _plan_work(self) -> None:
        chance, client = self.chance, self.client
        submissions_max = max(4, min(30, SUBMISSIONS_MAX // len(self.cluster.nodes)))
        kinds = (
            (
                client.submit_some,
                chance.randint(3, submissions_max),
            ),
            (client.change_some, chance.choice((0, 5, 20))),
            (client.redo_some, chance.choice((0, 0, 4))),
            (client.tag_some, chance.choice((0, 4))),
            (client.drain, chance.choice((0, 0, 2)) if self.split is None else 0),
            (client.put_file, 3),
            (self._look, QUIET_CHECKS_MAX),
        )
        burst = chance.random() < 0.5
        for action, times in kinds:
            for _ in range(times):
                share = chance.random() ** 3 if burst else chance.random()
                self.clock.at(share * self._length_s, action)

    def _look(self) -> None:
        """Compare memory and disk of some node, when next there is a quiet moment soon."""
        node = self.chance.choice(self.cluster.nodes)

        def look(tries: int) -> None:
            if is_quiet(node):
                check_quiet(node)
            elif tries:
                self.clock.after(self.chance.random() * 0.05, lambda: look(tries - 1))

        look(5)

    # ---- phase two ----

    def _drain(self) -> None:
        deadline = self.clock.now + self._drain_s_max
        round_number = 0
        while self._unfinished():
            if self.clock.now > deadline:
                self._tell_what_is_left()
            self.client.mend(round_number)
            round_number += 1
            # Ever longer rounds: what is slow needs time, not help.
            self._run_while_it_moves(self._mend_s * min(1.2**round_number, 100.0))

    def _run_while_it_moves(self, at_most_s: float) -> None:
        """For that long, or until nothing has moved for `STILL_S`: then only people can help."""
        until = self.clock.now + at_most_s
        moved_at, before = self.clock.now, -1
        while self.clock.now < until and self.clock.now - moved_at < STILL_S:
            self.clock.run(min(until, self.clock.now + LOOK_S))
            entries = sum(len(watch.facts.log) for watch in self._watches())
            if entries != before or self._moves():
                moved_at, before = self.clock.now, entries

    def _moves(self) -> bool:
        """Whether something runs, is under way, or has a time of its own to go on."""
        return (
            self.client.trying > 0
            or any(watch.running for watch in self._watches())
            or (self.ghosts is not None and self.ghosts.running > 0)
            or any(not is_quiet(node) or waits_for_a_time(node) for node in self.cluster.nodes)
        )

    def _watches(self) -> list[Invariants]:
        return [self.cluster.watch(node) for node in self.cluster.nodes]

    def _tell_what_is_left(self) -> None:
        node = self.cluster.nodes[0]
        live = [task.id for task in self.cluster.watch(node).facts.lives()]
        told = [f"{n.name} {n.id}: {explain(n, live[:3])}" for n in self.cluster.nodes]
        raise Violation(
            "everything drains",
            f"{len(live)} tasks live {self._drain_s_max / 3600:g} h after all was healed: "
            + " | ".join(told),
            live[0] if live else "",
        )

    def _unfinished(self) -> bool:
        if self.cluster.moving or any(node.busy for node in self.cluster.nodes):
            return True
        return any(True for watch in self._watches() for _ in watch.facts.lives())

    def _settle(self, calm_s: float) -> None:
        """Until nothing has been under way for `calm_s`, and all hold the same."""
        until = self.clock.now + REST_S_MAX
        calm_at = self.clock.now
        while self.clock.now - calm_at <= calm_s:
            self.clock.run(self.clock.now + LOOK_S)
            if not self._is_settled():
                calm_at = self.clock.now
            if self.clock.now > until:
                if self._unfinished():
                    break  # while tasks wait for room, somebody asks for it now and then
                check_agreement(self.cluster)
                for node in self.cluster.nodes:
                    if not is_quiet(node):
                        raise Violation("every node comes to rest", f"{node.name} does not")
                break

    def _is_settled(self) -> bool:
        if self.client.trying or self.cluster.moving:
            return False
        if not all(is_quiet(node) for node in self.cluster.nodes):
            return False
        return all_agree(self.cluster)

    def _leaks(self) -> bool:
        if self.ghosts is not None and self.ghosts.leaks():
            return True
        return any(leaks(node, self.cluster.watch(node)) for node in self.cluster.nodes)

    def _check(self) -> None:
        for node in self.cluster.nodes:
            check_quiet(node)
        check_agreement(self.cluster)
        self.client.check()
        until = self.clock.now + (FORGET_S_MAX if self.ghosts is None else GHOSTS_FORGET_S_MAX)
        while self._leaks():
            if self.clock.now > until:
                break
            self.clock.run(self.clock.now + CALM_S)
        nodes = self.cluster.nodes
        for node in self.chance.sample(nodes, min(len(nodes), REPLAYS_MAX)):
            the_entries_alone_give_the_same(node, self.cluster.watch(node))
        self._check_files()
        for node in nodes:
            nothing_leaks(node, self.cluster.watch(node))
        if self.ghosts is not None and self.ghosts.leaks():
            raise Violation("nothing leaks", f"on ghosts: {self.ghosts.leaks()}")
        if self.cluster.retention is not None:
            everything_is_forgotten(self.cluster, self.cluster.retention)
        peaceful = self.split is None and self.away is None and self.faults.peaceful
        if peaceful and self.cluster.history.suspicions:
            raise Violation("nobody is suspected in peace", f"{self.cluster.history.suspected}")

    def _check_files(self) -> None:
        """Two copies of all that is kept and was not lost for good; nothing under way."""
        until = self.clock.now + COPIES_S_MAX
        while (left := files_left(self.cluster.nodes)) and self.clock.now < until:
            self.clock.run(self.clock.now + CALM_S)
        if left:
            raise Violation("files come to rest, two copies of each", "; ".join(left))


def run_seed(seed: int, switches: Switches = INTACT) -> Result:
    """Run one seed. Any error of the machines is a failure, too."""
    world = World(seed, switches)
    result = Result(seed, len(world.cluster.nodes))
    try:
        world.run()
    except Violation as violation:
        result.failure = str(violation)
        result.task = violation.task
        result.story = world.story
    except Exception as error:  # a machine crashed: that is the finding
        trace = error.__traceback__
        where = ""
        while trace is not None:
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        result.failure = f"a machine crashed: {type(error).__name__}: {error} at {where}"
        result.story = world.story
    result.events = world.clock.events
    result.virtual_s = world.clock.now
    result.tasks = len(world.cluster.history.tasks)
    result.suspicions = world.cluster.history.suspicions
    result.digest = world.story.digest
    result.faults = world.faults.counts
    world.cluster.close()
    return result
