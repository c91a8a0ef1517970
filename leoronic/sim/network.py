"""The network between simulated nodes: connections that keep order, and all that befalls them.

Any two nodes that know each other keep one connection. On it messages arrive in order, late, and
through the real codec; a message that was under way when the connection broke may have arrived or
not, and the two ends notice the break at different times. What is *clogged* waits, as segments that
are sent again and again do; if that lasts, the connection is reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

import msgspec

from leoronic.core.lease import Lease
from leoronic.core.peer import (
    Assign,
    Heartbeat,
    Introduce,
    LinkDown,
    LinkUp,
    PeerMessage,
    ToGhost,
    decode,
    encode,
)
from leoronic.core.view import About
from leoronic.sim.clock import Clock

VERSION = 1
# Who is not connected tries again this often, and so do two that never met.
DIAL_S_MAX = 1.0
# A break is noticed by each end within this time; sooner, mostly.
NOTICE_S_MAX = 3.0
VANISHED_S_MAX = 30.0
DELAY_S = 0.002

Pair = tuple[str, str]
"""Two node ids, the lesser first; or (from, to) where a direction is meant."""


class Station(Protocol):
    """A node, as the network sees it."""

    id: str
    asleep: bool
    """Its process stands still: `when_awake` puts off what it is asked for."""

    @property
    def listening(self) -> bool:
        """Whether it answers who wants to connect."""

    def about(self) -> About:
        """What it tells of itself in the handshake."""

    def receive(self, message: object) -> None:
        """A message, or a notice about a connection."""

    def when_awake(self, action: Callable[[], None]) -> None:
        """Do `action` now, or when the pause of this process is over."""

    def steady(self) -> float:
        """Its steady clock, in seconds."""


class _Frame:
    """A message as it travels."""

    __slots__ = ("_introduce", "_text")

    def __init__(self, message: PeerMessage) -> None:
        self._text = encode(message)
        self._introduce: Introduce | None = None

    def message(self) -> PeerMessage:
        """What arrives."""
        if self._introduce is not None:
            return self._introduce
        message = decode(*self._text)
        if isinstance(message, Introduce):
            # In a crowd these are long, and tell many the same; nobody can change them.
            self._introduce = message
        return message


class _End:
    """What one node knows of a connection."""

    def __init__(self, opened_ms: int) -> None:
        self.lease = Lease(opened_ms=opened_ms)
        self.up = True


class _Connection:
    def __init__(self, network: Network, pair: Pair, opened_ms: dict[str, int]) -> None:
        self.pair = pair
        self.alive = True
        self.ends = {node: _End(opened_ms[node]) for node in pair}
        self.directions = {
            way: _Direction(network, self, way, self.ends[way[1]]) for way in (pair, pair[::-1])
        }


class _Direction:
    """One way of a connection: what is under way, in order."""

    def __init__(self, network: Network, connection: _Connection, way: Pair, end: _End) -> None:
        self.frames: deque[_Frame] = deque()
        self.arrives_at = 0.0
        self.waiting = False  # an arrival is planned
        self.way = way
        self._target = network.stations[way[1]]
        self._network = network
        self._connection = connection
        self._end = end

    def move(self) -> None:
        """Plan the arrival of the next frame."""
        network = self._network
        if self.waiting or not self.frames or self.way in network.clogged:
            return
        self.waiting = True
        at = network.clock.now + network.chance.random() * network.delay_s.get(self.way, DELAY_S)
        self.arrives_at = max(self.arrives_at, at)
        network.clock.at(self.arrives_at, self._arrive)

    def _arrive(self) -> None:
        self.waiting = False
        if not self._connection.alive or self.way in self._network.clogged:
            return
        count = len(self.frames)
        if count > 1:
            # What was sent close together arrives together.
            count = self._network.chance.randint(1, count)
        for _ in range(count):
            self.deliver()
        if self.frames:
            self.move()

    def deliver(self) -> None:
        """The next frame has arrived."""
        frame = self.frames.popleft()
        if self._target.asleep:
            self._target.when_awake(lambda: self._take(frame))
        else:
            self._take(frame)

    def _take(self, frame: _Frame) -> None:
        target = self._target
        if self._end.up and target.id in self._network.stations:
            target.receive(self._marked(frame.message()))

    def _marked(self, message: PeerMessage) -> PeerMessage:
        """As the links do: an `Assign` that was under way for too long is `stale`."""
        if isinstance(message, Heartbeat):
            self._end.lease.hear(message, int(self._target.steady() * 1000))
        elif (
            self._network.marks
            and isinstance(message, Assign | ToGhost)
            and self._end.lease.is_stale(int(self._target.steady() * 1000))
        ):
            return msgspec.structs.replace(message, stale=True)
        return message


class Network:
    """All connections. `clogged` are directions in which nothing passes for now.

    `marks`: what was under way for too long is marked, as the links do.
    """

    def __init__(self, clock: Clock, chance: Random, *, marks: bool = True) -> None:
        self.clogged: set[Pair] = set()
        self.disturbed_at: dict[Pair, float] = {}
        self.delay_s: dict[Pair, float] = {}
        self.stations: dict[str, Station] = {}
        self._told: PeerMessage | None = None
        self._told_frame: _Frame
        self.marks = marks
        self.clock = clock
        self.chance = chance
        self._connections: dict[Pair, _Connection] = {}
        self._dialling: set[Pair] = set()

    # ---- nodes ----

    def join(self, station: Station) -> None:
        """From now on it and all the others know each other's addresses."""
        self.stations[station.id] = station
        for other in self.stations:
            if other != station.id:
                self._dial_later(_pair(other, station.id))

    def remove(self, node: str) -> None:
        """It will never be back."""
        self.stations.pop(node, None)
        self.break_all(node)

    def process_ended(self, node: str) -> None:
        """Its process is gone: the kernel closes its connections, and tells the other ends."""
        self.break_all(node, noticed_by=(node,), at_most_s=0.01)

    def machine_vanished(self, node: str) -> None:
        """Nobody tells the other ends anything: they notice late, or when it is back."""
        self.break_all(node, noticed_by=(node,), at_most_s=VANISHED_S_MAX)

    def break_all(
        self, node: str, *, noticed_by: tuple[str, ...] = (), at_most_s: float = NOTICE_S_MAX
    ) -> None:
        """Break each connection of `node`; those in `noticed_by` need not be told."""
        for pair in [pair for pair in self._connections if node in pair]:
            self.cut(*pair, told=noticed_by, at_most_s=at_most_s)

    # ---- connecting ----

    def connected(self, one: str, other: str) -> bool:
        """Whether there is a connection that both ends believe in."""
        found = self._connections.get(_pair(one, other))
        return found is not None and all(end.up for end in found.ends.values())

    def _dial_later(self, pair: Pair) -> None:
        if pair not in self._dialling:
            self._dialling.add(pair)
            self.clock.after(self.chance.random() * DIAL_S_MAX, lambda: self._dial(pair))

    def _dial(self, pair: Pair) -> None:
        self._dialling.discard(pair)
        if pair in self._connections or any(node not in self.stations for node in pair):
            return
        if not self._passable(pair):
            self._dial_later(pair)
            return
        self._disturb(pair)
        opened_ms = {node: self._now_ms(node) for node in pair}
        connection = self._connections[pair] = _Connection(self, pair, opened_ms)
        for node, other in (pair, pair[::-1]):
            about = self.stations[other].about()
            up = LinkUp(other, about, address_of(other), VERSION)
            self._notify(connection, node, up)

    def _notify(self, connection: _Connection, node: str, notice: LinkUp | LinkDown) -> None:
        station = self.stations.get(node)
        if station is None:
            return

        def tell() -> None:
            if isinstance(notice, LinkUp) and not connection.alive:
                return  # it broke before this end had heard of it
            if isinstance(notice, LinkDown) or connection.ends[node].up:
                station.receive(notice)

        station.when_awake(tell)

    # ---- messages ----

    def send(self, source: str, target: str, message: PeerMessage) -> None:
        """Lost if there is no connection."""
        way = (source, target)
        connection = self._connections.get(way if source < target else (target, source))
        if connection is None or not connection.alive:
            return
        end = connection.ends[source]
        if not end.up:
            return
        if isinstance(message, Heartbeat):
            end.lease.note_sent(message.sent_ms)
        direction = connection.directions[way]
        if message is not self._told:
            self._told, self._told_frame = message, _Frame(message)  # often it goes to many
        direction.frames.append(self._told_frame)
        if not direction.waiting:
            direction.move()

    def _now_ms(self, node: str) -> int:
        return int(self.stations[node].steady() * 1000)

    # ---- faults ----

    def cut(
        self,
        one: str,
        other: str,
        *,
        told: tuple[str, ...] = (),
        at_most_s: float = NOTICE_S_MAX,
    ) -> None:
        """Reset the connection. Of what was under way, some beginning may still arrive.

        Each end that is not `told` already notices within `at_most_s`.
        """
        pair = _pair(one, other)
        self._disturb(pair)
        connection = self._connections.pop(pair, None)
        if connection is None:
            return
        for source, target in (pair, pair[::-1]):
            direction = connection.directions[source, target]
            passes = 0 if (source, target) in self.clogged else len(direction.frames)
            for _ in range(self.chance.randint(0, passes)):
                direction.deliver()
            direction.frames.clear()
        connection.alive = False
        for node in pair:
            if node in told:
                connection.ends[node].up = False
            else:
                self._notice_later(connection, node, at_most_s * self.chance.random() ** 3)
        self.clock.after(self.chance.random() * DIAL_S_MAX, lambda: self._replace(connection))

    def _notice_later(self, connection: _Connection, node: str, delay_s: float) -> None:
        self.clock.after(delay_s, lambda: self._notice(connection, node))

    def _notice(self, connection: _Connection, node: str) -> None:
        [other] = [n for n in connection.pair if n != node]
        if connection.ends[node].up:
            connection.ends[node].up = False
            self._notify(connection, node, LinkDown(other, "the connection broke"))

    def _replace(self, connection: _Connection) -> None:
        """A new connection, once both ends know that the old one is gone, or hear of the new."""
        if any(end.up for end in connection.ends.values()):
            if not self._passable(connection.pair):
                delay_s = self.chance.random() * DIAL_S_MAX
                self.clock.after(delay_s, lambda: self._replace(connection))
                return
            for node in connection.pair:
                self._notice(connection, node)
        self._dial_later(connection.pair)

    def _passable(self, pair: Pair) -> bool:
        """Whether these two could connect now."""
        if pair in self.clogged or pair[::-1] in self.clogged:
            return False
        found = [self.stations.get(node) for node in pair]
        return all(station is not None and station.listening for station in found)

    def clog(self, source: str, target: str) -> None:
        """Nothing passes in this direction until it is `unclog`ged; what is sent waits.

        A connection that is clogged for long is reset.
        """
        if (source, target) not in self.clogged:
            self._disturb(_pair(source, target))
            self.clogged.add((source, target))
            found = self._connections.get(_pair(source, target))
            if found is not None:
                reset_s = self.chance.uniform(6.0, 30.0)
                self.clock.after(reset_s, lambda: self._reset_if_clogged(found, source, target))

    def _reset_if_clogged(self, connection: _Connection, source: str, target: str) -> None:
        current = self._connections.get(connection.pair)
        if current is connection and (source, target) in self.clogged:
            self.cut(source, target)

    def unclog(self, source: str, target: str) -> None:
        """What waited goes on its way."""
        self._disturb(_pair(source, target))
        self.clogged.discard((source, target))
        found = self._connections.get(_pair(source, target))
        if found is not None:
            found.directions[source, target].move()

    def slow_down(self, directions: list[Pair], delay_s: float) -> None:
        """From now on messages take up to `delay_s` in these directions; 0.0: no longer."""
        for source, target in directions:
            self._disturb(_pair(source, target))
            if delay_s:
                self.delay_s[source, target] = delay_s
            else:
                self.delay_s.pop((source, target), None)

    def _disturb(self, pair: Pair) -> None:
        self.disturbed_at[pair] = self.clock.now

    def well_for_s(self, one: str, other: str) -> float:
        """For how long these two could talk as they should; 0.0 if they can't."""
        pair = _pair(one, other)
        disturbed = (pair, pair[::-1])
        if not self.connected(one, other) or any(
            direction in self.clogged or direction in self.delay_s for direction in disturbed
        ):
            return 0.0
        return self.clock.now - self.disturbed_at[pair]

    def heal(self) -> None:
        """All is as it should be."""
        self.slow_down(sorted(self.delay_s), 0.0)
        for source, target in sorted(self.clogged):
            self.unclog(source, target)


def address_of(node: str) -> str:
    """Where the node of this id can be reached."""
    return f"{node}:22580"


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)
