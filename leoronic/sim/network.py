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
from leoronic.core.peer import Assign, Heartbeat, LinkDown, LinkUp, PeerMessage, decode, encode
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


class _Direction:
    """One way of a connection: what is under way, in order."""

    def __init__(self) -> None:
        self.frames: deque[tuple[bytes, bytes]] = deque()
        self.arrives_at = 0.0
        self.waiting = False  # an arrival is planned, or the direction is clogged


class _End:
    """What one node knows of a connection."""

    def __init__(self, opened_ms: int) -> None:
        self.lease = Lease(opened_ms=opened_ms)
        self.up = True


class _Connection:
    def __init__(self, pair: Pair, opened_ms: dict[str, int]) -> None:
        self.pair = pair
        self.alive = True
        self.directions = {pair: _Direction(), pair[::-1]: _Direction()}
        self.ends = {node: _End(opened_ms[node]) for node in pair}


class Network:
    """All connections. `clogged` are directions in which nothing passes for now.

    `marks`: what was under way for too long is marked, as the links do.
    """

    def __init__(self, clock: Clock, chance: Random, *, marks: bool = True) -> None:
        self.clogged: set[Pair] = set()
        self.disturbed_at: dict[Pair, float] = {}
        self._delay_s: dict[Pair, float] = {}
        self.stations: dict[str, Station] = {}
        self.messages = 0
        self.bytes = 0
        self._marks = marks
        self._clock = clock
        self._chance = chance
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
            self._clock.after(self._chance.random() * DIAL_S_MAX, lambda: self._dial(pair))

    def _dial(self, pair: Pair) -> None:
        self._dialling.discard(pair)
        if pair in self._connections or any(node not in self.stations for node in pair):
            return
        if not self._passable(pair):
            self._dial_later(pair)
            return
        self._disturb(pair)
        opened_ms = {node: self._now_ms(node) for node in pair}
        connection = self._connections[pair] = _Connection(pair, opened_ms)
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
        connection = self._connections.get(_pair(source, target))
        if connection is None or not connection.alive or not connection.ends[source].up:
            return
        if isinstance(message, Heartbeat):
            connection.ends[source].lease.note_sent(message.sent_ms)
        frame = encode(message)
        self.messages += 1
        self.bytes += len(frame[0]) + len(frame[1])
        direction = connection.directions[source, target]
        direction.frames.append(frame)
        self._move(connection, source, target)

    def _move(self, connection: _Connection, source: str, target: str) -> None:
        """Plan the arrival of the next frame."""
        direction = connection.directions[source, target]
        if direction.waiting or not direction.frames or (source, target) in self.clogged:
            return
        direction.waiting = True
        delay_s = self._chance.random() * self._delay_s.get((source, target), DELAY_S)
        direction.arrives_at = max(direction.arrives_at, self._clock.now + delay_s)
        self._clock.at(direction.arrives_at, lambda: self._arrive(connection, source, target))

    def _arrive(self, connection: _Connection, source: str, target: str) -> None:
        direction = connection.directions[source, target]
        direction.waiting = False
        if not connection.alive or (source, target) in self.clogged:
            return
        # What was sent close together arrives together.
        for _ in range(self._chance.randint(1, len(direction.frames))):
            self._deliver(connection, source, target, direction.frames.popleft())
        self._move(connection, source, target)

    def _deliver(
        self, connection: _Connection, source: str, target: str, frame: tuple[bytes, bytes]
    ) -> None:
        station = self.stations.get(target)
        if station is None:
            return

        def take() -> None:
            end = connection.ends[target]
            if end.up and target in self.stations:
                station.receive(self._marked(end, station, decode(*frame)))

        station.when_awake(take)

    def _marked(self, end: _End, station: Station, message: PeerMessage) -> PeerMessage:
        """As the links do: an `Assign` that was under way for too long is `stale`."""
        if isinstance(message, Heartbeat):
            end.lease.hear(message, self._now_ms(station.id))
        elif (
            self._marks
            and isinstance(message, Assign)
            and end.lease.is_stale(self._now_ms(station.id))
        ):
            return msgspec.structs.replace(message, stale=True)
        return message

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
            frames = connection.directions[source, target].frames
            passes = 0 if (source, target) in self.clogged else len(frames)
            for _ in range(self._chance.randint(0, passes)):
                self._deliver(connection, source, target, frames.popleft())
            frames.clear()
        connection.alive = False
        for node in pair:
            if node in told:
                connection.ends[node].up = False
            else:
                self._notice_later(connection, node, at_most_s * self._chance.random() ** 3)
        self._clock.after(self._chance.random() * DIAL_S_MAX, lambda: self._replace(connection))

    def _notice_later(self, connection: _Connection, node: str, delay_s: float) -> None:
        self._clock.after(delay_s, lambda: self._notice(connection, node))

    def _notice(self, connection: _Connection, node: str) -> None:
        [other] = [n for n in connection.pair if n != node]
        if connection.ends[node].up:
            connection.ends[node].up = False
            self._notify(connection, node, LinkDown(other, "the connection broke"))

    def _replace(self, connection: _Connection) -> None:
        """A new connection, once both ends know that the old one is gone, or hear of the new."""
        if any(end.up for end in connection.ends.values()):
            if not self._passable(connection.pair):
                delay_s = self._chance.random() * DIAL_S_MAX
                self._clock.after(delay_s, lambda: self._replace(connection))
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
                reset_s = self._chance.uniform(6.0, 30.0)
                self._clock.after(reset_s, lambda: self._reset_if_clogged(found, source, target))

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
            self._move(found, source, target)

    def slow_down(self, directions: list[Pair], delay_s: float) -> None:
        """From now on messages take up to `delay_s` in these directions; 0.0: no longer."""
        for source, target in directions:
            self._disturb(_pair(source, target))
            if delay_s:
                self._delay_s[source, target] = delay_s
            else:
                self._delay_s.pop((source, target), None)

    def _disturb(self, pair: Pair) -> None:
        self.disturbed_at[pair] = self._clock.now

    def well_for_s(self, one: str, other: str) -> float:
        """For how long these two could talk as they should; 0.0 if they can't."""
        pair = _pair(one, other)
        disturbed = (pair, pair[::-1])
        if not self.connected(one, other) or any(
            direction in self.clogged or direction in self._delay_s for direction in disturbed
        ):
            return 0.0
        return self._clock.now - self.disturbed_at[pair]

    def heal(self) -> None:
        """All is as it should be."""
        self.slow_down(sorted(self._delay_s), 0.0)
        for source, target in sorted(self.clogged):
            self.unclog(source, target)


def address_of(node: str) -> str:
    """Where the node of this id can be reached."""
    return f"{node}:22580"


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)
