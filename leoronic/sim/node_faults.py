"""What may befall one machine."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from leoronic.sim.clock import Clock
from leoronic.sim.node import TURN_S_MAX, SimNode

SKEW_S_MAX = 3600.0
BACK_S_MAX = 60.0

Strike = Callable[[SimNode], None]


class NodeFaults:
    """`kinds`: by name, what strikes a node. What is broken mends itself later, or by `heal`."""

    def __init__(self, clock: Clock, chance: Random, *, alone: bool) -> None:
        self._alone = alone
        self._clock = clock
        self._chance = chance
        self._healed = False
        self.kinds: dict[str, Strike] = {
            "core killed": self._kill_core,
            "runner killed": SimNode.kill_runner,
            "both killed": self._kill_both,
            "power lost": self._lose_power,
            "actor crashed": self._crash_actor,
            "paused": self._pause,
            "slow": self._slow,
            "clock set": self._set_clock,
            "disk full": self._fill_disk,
            "disk slow": self._slow_disk,
            "runner cut off": SimNode.cut,
            "frames late": self._delay_frames,
            "outcomes doubled": self._double,
        }

    def heal(self, node: SimNode) -> None:
        """No more faults; what is broken is mended."""
        self._healed = True
        node.disk.full = 0
        node.disk.commit_s = 0.001
        node.doubles = False
        node.link.delay_s = 0.002
        node.slow_down(min(node.turn_s, TURN_S_MAX))
        node.finish_leaving()
        if not node.up:
            node.start_core()

    def _later(self, most_s: float, action: Callable[[], None]) -> None:
        """Undo a fault after up to `most_s` seconds, mostly soon."""
        delay_s = most_s * self._chance.random() ** 4
        self._clock.after(delay_s, lambda: None if self._healed else action())

    def restart_later(self, node: SimNode, most_s: float) -> None:
        """Start it again."""

        def start() -> None:
            if not node.up and not node.gone and not node.away:
                node.start_core()

        self._later(most_s, start)

    def _kill_core(self, node: SimNode) -> None:
        node.kill_core()
        self.restart_later(node, 10.0)

    def _kill_both(self, node: SimNode) -> None:
        first, second = node.kill_core, node.kill_runner
        if self._chance.random() < 0.5:
            first, second = second, first
        first()
        second()
        self.restart_later(node, 10.0)

    def _lose_power(self, node: SimNode) -> None:
        node.lose_power()
        self.restart_later(node, 100.0)

    def _crash_actor(self, node: SimNode) -> None:
        node.crash_actor(self._chance.choice(node.order))

    def _pause(self, node: SimNode) -> None:
        node.pause(60.0 * self._chance.random() ** 3)

    def _slow(self, node: SimNode) -> None:
        """Every step takes long: a machine that swaps."""
        before = min(node.turn_s, TURN_S_MAX)
        node.slow_down(self._chance.choice((0.1, 0.5)))

        def quick() -> None:
            node.slow_down(before)

        self._later(60.0, quick)

    def _set_clock(self, node: SimNode) -> None:
        # What waits for a time of day waits on when the clock is set back, and so must the world.
        back_s = SKEW_S_MAX if self._alone else BACK_S_MAX
        most_s = self._chance.choice((-back_s, SKEW_S_MAX))
        node.time.offset_s += most_s * self._chance.random() ** 4

    def _fill_disk(self, node: SimNode) -> None:
        node.disk.full = self._chance.choice((1, 2))

        def make_room() -> None:
            node.disk.full = 0

        self._later(60.0, make_room)

    def _slow_disk(self, node: SimNode) -> None:
        node.disk.commit_s = self._chance.choice((0.05, 1.0, 5.0))

        def quick() -> None:
            node.disk.commit_s = 0.001

        self._later(60.0, quick)

    def _delay_frames(self, node: SimNode) -> None:
        node.link.delay_s = self._chance.choice((0.05, 1.0))

        def quick() -> None:
            node.link.delay_s = 0.002

        self._later(60.0, quick)

    def _double(self, node: SimNode) -> None:
        node.doubles = True
        if node.runner is not None:
            node.runner.doubles = True
