"""Faults: what a seed may do to a node, and how often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from random import Random

from leoronic.core.executor_messages import Open
from leoronic.core.queue_messages import Loaded
from leoronic.core.run import ExitedMany, Inventory
from leoronic.core.scheduler_messages import Assign
from leoronic.sim.clock import Clock
from leoronic.sim.node import ACTORS, SimNode
from leoronic.sim.story import Story

SKEW_S_MAX = 3600.0
# About the most faults in one seed.
STRIKES_MAX = 100
# After these something is owed: a commit, a start, a reconciliation.
MOMENTS = (ExitedMany, Assign, Inventory, Open, Loaded)


class Faults:
    """Strikes a node at random for `length_s`, until healed. `counts`: how often, by kind."""

    def __init__(
        self, clock: Clock, chance: Random, story: Story, node: SimNode, length_s: float
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._chance = chance
        self._story = story
        self._node = node
        self._healed = False
        kinds: dict[str, Callable[[], None]] = {
            "core killed": self._kill_core,
            "runner killed": self._kill_runner,
            "both killed": self._kill_both,
            "power lost": self._lose_power,
            "actor crashed": self._crash_actor,
            "paused": self._pause,
            "clock set": self._set_clock,
            "disk full": self._fill_disk,
            "disk slow": self._slow_disk,
            "connection lost": node.cut,
            "frames late": self._delay_frames,
            "outcomes doubled": self._double,
        }
        # Some seeds know one kind of fault, some all, and a few none.
        share = chance.choice((0.0, 0.15, 0.4, 1.0))
        self._kinds = {name: strike for name, strike in kinds.items() if chance.random() < share}
        # At the moments that matter: while messages pass, not only while time does.
        self._per_message = chance.choice((0.0, 0.0, 0.003, 0.02)) if self._kinds else 0.0
        self._every_s = length_s / math.exp(chance.uniform(0.0, math.log(STRIKES_MAX)))

    def begin(self) -> None:
        """Strike now and then."""
        self._node.on_message = self._maybe
        if self._kinds:
            self._next()

    def _maybe(self, message: object) -> None:
        """A message was handled: strike in the middle of what follows from it, maybe."""
        share = self._per_message if self.counts.total() < 2 * STRIKES_MAX else 0.0
        if isinstance(message, MOMENTS):
            share *= 10
        if share and self._chance.random() < share:
            most_s = max(3 * self._node.turn_s, self._node.disk.commit_s)
            self._clock.after(self._chance.random() * most_s, self._strike_once)

    def heal(self) -> None:
        """No more faults; what is broken is mended."""
        self._healed = True
        self._node.on_message = None
        self._story.tell(self._clock.now, "fault", "all is healed")
        node = self._node
        node.disk.full = 0
        node.disk.commit_s = 0.001
        node.doubles = False
        node.link.delay_s = 0.002
        if not node.up:
            node.start_core()

    def _next(self) -> None:
        self._clock.after(self._chance.expovariate(1 / self._every_s), self._strike)

    def _strike(self) -> None:
        if not self._healed:
            self._strike_once()
            self._next()

    def _strike_once(self) -> None:
        if self._healed:
            return
        name = self._chance.choice(list(self._kinds))
        self.counts[name] += 1
        self._story.tell(self._clock.now, "fault", name)
        self._kinds[name]()

    def _later(self, most_s: float, action: Callable[[], None]) -> None:
        """Undo a fault after up to `most_s` seconds, mostly soon."""
        delay_s = most_s * self._chance.random() ** 4
        self._clock.after(delay_s, lambda: None if self._healed else action())

    def _kill_core(self) -> None:
        self._node.kill_core()
        self._later(10.0, self._start)

    def _start(self) -> None:
        if not self._node.up:
            self._node.start_core()

    def _kill_runner(self) -> None:
        self._node.kill_runner()

    def _kill_both(self) -> None:
        first, second = self._node.kill_core, self._node.kill_runner
        if self._chance.random() < 0.5:
            first, second = second, first
        first()
        second()
        self._later(10.0, self._start)

    def _lose_power(self) -> None:
        self._node.kill_core()
        self._node.kill_runner()
        self._node.disk.lose_power()
        self._later(100.0, self._start)

    def _crash_actor(self) -> None:
        self._node.crash_actor(self._chance.choice(ACTORS))

    def _pause(self) -> None:
        self._node.pause(60.0 * self._chance.random() ** 4)

    def _set_clock(self) -> None:
        sign = self._chance.choice((-1, 1))
        self._clock.offset_s += sign * SKEW_S_MAX * self._chance.random() ** 4

    def _fill_disk(self) -> None:
        self._node.disk.full = self._chance.choice((1, 2))
        self._later(60.0, self._make_room)

    def _make_room(self) -> None:
        self._node.disk.full = 0

    def _slow_disk(self) -> None:
        self._node.disk.commit_s = self._chance.choice((0.05, 1.0, 5.0))
        self._later(60.0, self._quick_disk)

    def _quick_disk(self) -> None:
        self._node.disk.commit_s = 0.001

    def _delay_frames(self) -> None:
        self._node.link.delay_s = self._chance.choice((0.05, 1.0))
        self._later(60.0, self._quick_frames)

    def _quick_frames(self) -> None:
        self._node.link.delay_s = 0.002

    def _double(self) -> None:
        self._node.doubles = True
        if self._node.runner is not None:
            self._node.runner.doubles = True
