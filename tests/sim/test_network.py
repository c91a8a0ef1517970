"""The simulated network: order, loss at a break, clogs, leases."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from leoronic.core.peer import Assign, Heartbeat, LinkDown, LinkUp, Probe
from leoronic.core.view import About
from leoronic.sim.clock import Clock
from leoronic.sim.network import Network


class Station:
    """A node that notes what it gets."""

    def __init__(self, id: str, clock: Clock) -> None:
        self.id = id
        self.clock = clock
        self.listening = True
        self.asleep = False
        self.got: list[object] = []

    def about(self) -> About:
        return About(self.id, "", 1)

    def receive(self, message: object) -> None:
        self.got.append(message)

    def when_awake(self, action: Callable[[], None]) -> None:
        action()

    def steady(self) -> float:
        return self.clock.now + 10.0

    def of(self, kind: type) -> list[object]:
        return [message for message in self.got if isinstance(message, kind)]


def connected(seed: int = 1) -> tuple[Clock, Network, Station, Station]:
    clock = Clock()
    network = Network(clock, Random(seed))
    a, b = Station("a", clock), Station("b", clock)
    network.join(a)
    network.join(b)
    run(clock, 2.0)
    return clock, network, a, b


def run(clock: Clock, for_s: float) -> None:
    clock.run(clock.now + for_s)


def probes(station: Station) -> list[str]:
    return [message.target for message in station.of(Probe)]  # type: ignore[attr-defined]


def test_two_nodes_connect_and_are_told() -> None:
    """Each hears of the other once."""
    _, network, a, b = connected()
    assert network.connected("a", "b")
    assert ["b"] == [up.node for up in a.of(LinkUp)]  # type: ignore[attr-defined]
    assert ["a"] == [up.node for up in b.of(LinkUp)]  # type: ignore[attr-defined]


def test_messages_arrive_in_order() -> None:
    """As on one TCP connection."""
    clock, network, _, b = connected()
    for number in range(20):
        network.send("a", "b", Probe("a", str(number)))
    run(clock, 1.0)
    assert [str(number) for number in range(20)] == probes(b)


def test_of_what_was_under_way_when_it_broke_a_beginning_arrives() -> None:
    """Never something with a gap before it; and over some seeds, more or less of it."""
    counts = set()
    for seed in range(12):
        clock, network, a, b = connected(seed)
        for number in range(5):
            network.send("a", "b", Probe("a", str(number)))
        network.cut("a", "b")
        run(clock, 30.0)
        assert [str(number) for number in range(len(probes(b)))] == probes(b)
        assert 1 == len(a.of(LinkDown)) == len(b.of(LinkDown))
        assert 2 == len(a.of(LinkUp)) == len(b.of(LinkUp))
        counts.add(len(probes(b)))
    assert len(counts) > 2


def test_what_is_clogged_waits() -> None:
    """In one direction only, and until it is free again."""
    clock, network, a, b = connected()
    network.clog("a", "b")
    network.send("a", "b", Probe("a", "x"))
    network.send("b", "a", Probe("b", "y"))
    run(clock, 5.0)
    assert [] == probes(b)
    assert ["y"] == probes(a)
    network.unclog("a", "b")
    run(clock, 1.0)
    assert ["x"] == probes(b)


def test_a_long_clog_resets_the_connection() -> None:
    """And what waited is lost."""
    clock, network, a, b = connected()
    network.clog("a", "b")
    network.send("a", "b", Probe("a", "x"))
    run(clock, 60.0)
    network.unclog("a", "b")
    run(clock, 5.0)
    assert [] == probes(b)
    assert network.connected("a", "b")
    assert 1 == len(a.of(LinkDown))


def test_an_assignment_that_was_long_under_way_is_marked() -> None:
    """As the links mark it: by the age of the newest echo."""
    clock, network, _, b = connected()
    network.send("a", "b", Assign("a"))
    run(clock, 1.0)
    network.send("b", "a", Heartbeat("b", sent_ms=int(b.steady() * 1000)))
    run(clock, 1.0)
    network.clog("a", "b")
    network.send("a", "b", Assign("a"))
    run(clock, 4.0)
    network.unclog("a", "b")
    run(clock, 1.0)
    assert [False, True] == [message.stale for message in b.of(Assign)]  # type: ignore[attr-defined]
