"""One seed: a node, its people and its faults; phase one, then phase two.

Phase one: faults strike, and every step is checked for safety. Phase two: all is healed, and within
bounded virtual time every task must be final and nothing may be left in any table.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from leoronic.core.resources import Capacity
from leoronic.sim.client import MEND_EVERY_S, Client
from leoronic.sim.clock import Clock
from leoronic.sim.disk import Disk
from leoronic.sim.faults import Faults
from leoronic.sim.invariants import Invariants
from leoronic.sim.node import NODE_ID, SimNode
from leoronic.sim.quiet import check_end, check_quiet, explain, is_quiet
from leoronic.sim.story import Story, Violation
from leoronic.sim.workload import Maker, Mix

# After healing everything must be over in this time, or in this many events.
DRAIN_S_MAX = 12 * 3600.0
EVENTS_MAX = 400_000
# Within this time after the last task, nothing may be under way any more.
REST_S = 60.0
QUIET_CHECKS_MAX = 12


@dataclass
class Result:
    """What a seed came to. `failure` is empty if nothing was violated."""

    seed: int
    events: int = 0
    tasks: int = 0
    virtual_s: float = 0.0
    digest: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    story: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Switches:
    """Ways to break the system under test, to prove that the checks see it."""

    fsync: bool = True


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, switches: Switches) -> None:
        chance = self.chance = Random(seed)
        self.clock = Clock()
        self.story = Story()
        cpus = chance.choice((1, 2, 2, 4, 16))
        capacity = Capacity(cpus * 1000, 1000, 1000, (("gpu", chance.choice((1, 2))),))
        self.disk = Disk(NODE_ID, fsync=switches.fsync)
        self.invariants = Invariants(self.clock, self.story, capacity)
        self.node = SimNode(
            self.clock,
            chance,
            self.story,
            self.disk,
            capacity=capacity,
            observer=self.invariants,
        )
        self.invariants.node = self.node
        self.node.turn_s = chance.choice((0.0001, 0.001, 0.02))
        maker = Maker(chance, Mix(chance), capacity, NODE_ID)
        self.client = Client(self.clock, chance, self.node, self.invariants, maker)
        self._length_s = math.exp(chance.uniform(math.log(5.0), math.log(3600.0)))
        self.faults = Faults(self.clock, chance, self.story, self.node, self._length_s)
        self._quiet_checks = 0

    def run(self) -> None:
        """Both phases. Raises `Violation`."""
        self.node.start_core()
        self.faults.begin()
        self._plan_work()
        while self.clock.now < self._length_s:
            self._step()
        self.faults.heal()
        self._rest()
        while self._unfinished():
            self._drain()
            self._rest()  # meanwhile somebody may try again
        check_quiet(self.node, self.clock.wall())
        self.client.check()
        check_end(self.node, self.invariants)

    def _step(self) -> None:
        if not self.clock.step():
            raise Violation("time goes on", "nothing will ever happen again")
        if self.clock.events > EVENTS_MAX:
            raise Violation("the node comes to rest", f"{EVENTS_MAX} events")

    # ---- phase one ----

    def _plan_work(self) -> None:
        chance, client = self.chance, self.client
        kinds = (
            (client.submit_some, chance.randint(3, 30)),
            (client.change_some, chance.choice((0, 5, 20))),
            (client.redo_some, chance.choice((0, 0, 4))),
            (client.tag_some, chance.choice((0, 4))),
            (client.drain, chance.choice((0, 0, 2))),
            (client.put_file, 3),
            (self._look, QUIET_CHECKS_MAX),
        )
        burst = chance.random() < 0.5
        for action, times in kinds:
            for _ in range(times):
                share = chance.random() ** 3 if burst else chance.random()
                self.clock.at(share * self._length_s, action)
        self.clock.at(self._length_s, lambda: None)

    def _look(self) -> None:
        """Compare memory and disk, when next there is a quiet moment soon."""

        def look(tries: int) -> None:
            if is_quiet(self.node):
                check_quiet(self.node, self.clock.wall())
            elif tries:
                self.clock.after(self.chance.random() * 0.05, lambda: look(tries - 1))

        look(5)

    # ---- phase two ----

    def _drain(self) -> None:
        deadline = self.clock.now + DRAIN_S_MAX
        round_number = 0
        while self._unfinished():
            if self.clock.now > deadline:
                self._tell_what_is_left()
            self.client.mend(round_number)
            round_number += 1
            # Ever longer rounds: what is slow needs time, not help.
            self._run_for(MEND_EVERY_S * min(1.2**round_number, 100.0))

    def _tell_what_is_left(self) -> None:
        live = [task.id for task in self.invariants.facts.lives()]
        raise Violation(
            "everything drains",
            f"{len(live)} tasks live {DRAIN_S_MAX / 3600:g} h after all was healed: "
            + explain(self.node, live[:3], self.clock.wall()),
            live[0] if live else "",
        )

    def _unfinished(self) -> bool:
        return self.node.busy or any(True for _ in self.invariants.facts.lives())

    def _rest(self) -> None:
        self._run_for(REST_S)
        while not is_quiet(self.node):
            self._step()

    def _run_for(self, for_s: float) -> None:
        until = self.clock.now + for_s
        self.clock.at(until, lambda: None)
        while self.clock.now < until:
            self._step()


def run_seed(seed: int, switches: Switches = Switches()) -> Result:
    """Run one seed. Any error of the machines is a failure, too."""
    world = World(seed, switches)
    result = Result(seed)
    try:
        world.run()
    except Violation as violation:
        result.failure = str(violation)
        result.story = world.story.about(violation.task)
    except Exception as error:  # a machine crashed: that is the finding
        trace = error.__traceback__
        where = ""
        while trace is not None:
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        result.failure = f"a machine crashed: {type(error).__name__}: {error} at {where}"
        result.story = world.story.about("")
    result.events = world.clock.events
    result.virtual_s = world.clock.now
    result.tasks = len(world.invariants.facts.tasks)
    result.digest = world.story.digest
    result.faults = world.faults.counts
    world.disk.close()
    return result
