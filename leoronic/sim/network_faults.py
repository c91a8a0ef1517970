"""What may befall the network between the machines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from random import Random

from leoronic.sim.clock import Clock
from leoronic.sim.network import Network, Pair


class NetworkFaults:
    """`kinds`: by name. Each heals by itself after a while, mostly soon, or by `heal`."""

    def __init__(self, clock: Clock, chance: Random, network: Network) -> None:
        self._clock = clock
        self._chance = chance
        self._network = network
        self._healed = False
        self.kinds: dict[str, Callable[[], None]] = {
            "connection cut": self._cut,
            "clogged one way": self._clog,
            "halves": self._halves,
            "isolated": self._isolate,
            "one way": self._one_way,
            "non-transitive": self._non_transitive,
            "late": self._delay,
            "swizzle": self._swizzle,
        }

    def heal(self) -> None:
        """No more faults; all is as it should be."""
        self._healed = True
        self._network.heal()

    def _nodes(self) -> list[str]:
        return sorted(self._network.stations)

    def _some_pair(self) -> Pair:
        one, other = self._chance.sample(self._nodes(), 2)
        return (one, other)

    def _undo(self, action: Callable[[], None], most_s: float = 60.0) -> None:
        delay_s = most_s * self._chance.random() ** 2
        self._clock.after(delay_s, lambda: None if self._healed else action())

    def block(self, directions: list[Pair]) -> Callable[[], None]:
        """Clog these; returns what undoes it. Often the connections break at once."""
        for source, target in directions:
            self._network.clog(source, target)
        if self._chance.random() < 0.5:
            for source, target in directions:
                self._network.cut(source, target)

        def undo() -> None:
            for source, target in directions:
                self._network.unclog(source, target)

        return undo

    def _cut(self) -> None:
        self._network.cut(*self._some_pair())

    def _clog(self) -> None:
        self._undo(self.block([self._some_pair()]), 20.0)

    def groups(self) -> tuple[list[str], list[str]]:
        """All nodes in two groups, none of them empty."""
        nodes = self._nodes()
        self._chance.shuffle(nodes)
        at = self._chance.randint(1, len(nodes) - 1)
        return nodes[:at], nodes[at:]

    def part(self, one: list[str], other: list[str]) -> Callable[[], None]:
        """Nothing passes between the two groups; returns what undoes it."""
        between = [(a, b) for a in one for b in other]
        return self.block(between + [(b, a) for a, b in between])

    def _halves(self) -> None:
        self._undo(self.part(*self.groups()))

    def _isolate(self) -> None:
        nodes = self._nodes()
        one = self._chance.choice(nodes)
        self._undo(self.part([one], [node for node in nodes if node != one]))

    def _one_way(self) -> None:
        one, other = self.groups()
        self._undo(self.block([(a, b) for a in one for b in other]))

    def _non_transitive(self) -> None:
        """Two groups that cannot see each other, and one node that sees all."""
        one, other = self.groups()
        bridge = self._chance.choice(one + other)
        one = [node for node in one if node != bridge]
        other = [node for node in other if node != bridge]
        self._undo(self.part(one, other))

    def _delay(self) -> None:
        pairs = [p for p in permutations(self._nodes(), 2) if self._chance.random() < 0.5]
        delay_s = self._chance.choice((0.05, 0.5, 2.0))
        self._network.slow_down(pairs, delay_s)

        def undo() -> None:
            self._network.slow_down(pairs, 0.0)

        self._undo(undo)

    def _swizzle(self) -> None:
        """Clog some nodes one after the other, then free them in another order."""
        nodes = [node for node in self._nodes() if self._chance.random() < 0.5]
        for node in nodes:
            others = [other for other in self._nodes() if other != node]

            def strike(node: str = node, others: list[str] = others) -> None:
                if not self._healed:
                    both = [(node, o) for o in others] + [(o, node) for o in others]
                    self._undo(self.block(both), 20.0)

            self._clock.after(self._chance.random() * 10.0, strike)
