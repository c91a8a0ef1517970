"""Nodes made of the real membership and replication, on a virtual network with a virtual clock.

Every message between nodes goes through the real codec. The journal is a small fake in memory.
Entries are JSON texts that tell what their writer held when it wrote them, so that `check_order`
can see whether cause stays before effect everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Any

from leoronic.core import membership, replication
from leoronic.core.effects import CancelTimer, Fired, Log, Reply, Send, SetTimer
from leoronic.core.member_record import Acquaintance
from leoronic.core.membership_messages import Remember
from leoronic.core.peer import RECEIVERS, LinkDown, LinkUp, PeerMessage, decode, encode
from leoronic.core.queue_messages import NodeDown
from leoronic.core.replication_messages import (
    Body,
    Copied,
    LoadVector,
    Misbehaved,
    PageRead,
    ReadPage,
    Rejoin,
    Take,
    TakeFailed,
    Taken,
    VectorLoaded,
    Written,
)
from leoronic.core.timeouts import Timeouts, lan
from leoronic.core.view import About, View
from leoronic.errors import DiskFull, ProtocolError

DISK_S = 0.002


class FakeJournal:
    """What the journal promises to replication, in memory."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.order: list[Body] = []
        self.have: dict[str, int] = {}
        self.floor: dict[str, int] = {}
        self.full = False

    def write(self, texts: list[bytes]) -> list[Body]:
        """Entries of this node's own."""
        at = self.have.get(self.node, 0)
        bodies = [Body(self.node, at + n, text) for n, text in enumerate(texts, 1)]
        self.order += bodies
        self.have[self.node] = at + len(texts)
        return bodies

    def take(self, message: Take) -> Taken | TakeFailed:
        """All or nothing if the disk is full; else up to what makes no sense."""
        if self.full:
            return TakeFailed(message.token, DiskFull("no room"))
        if message.bodies and message.bodies[0].text == b"bad":
            return TakeFailed(message.token, ProtocolError("not an entry"))
        changed: dict[str, int] = {}
        for body in message.bodies:
            at = self.have.get(body.origin, 0)
            if body.number <= at:
                continue
            if body.number > max(at, message.floor.get(body.origin, 0)) + 1:
                return Taken(message.token, changed, f"a gap before {body.origin} {body.number}")
            if body.text == b"bad":
                return Taken(message.token, changed, "not an entry either")
            self.order.append(body)
            self.have[body.origin] = changed[body.origin] = body.number
        for origin, number in message.have.items():
            if number > self.have.get(origin, 0):
                self.have[origin] = changed[origin] = number
        for origin, number in message.floor.items():
            self.floor[origin] = max(number, self.floor.get(origin, 0))
        return Taken(message.token, changed)

    def read(self, message: ReadPage) -> PageRead:
        """A page, in local order."""
        found: list[Body] = []
        size = 0
        at = message.after
        while at < len(self.order) and size < message.bytes_max:
            body = self.order[at]
            at += 1
            if body.number > message.have.get(body.origin, 0):
                found.append(body)
                size += len(body.text)
        last = at >= len(self.order)
        return PageRead(message.token, found, at, last, dict(self.have), dict(self.floor))

    def forget(self, origin: str, numbers: set[int]) -> None:
        """Trim these entries."""
        self.order = [b for b in self.order if b.origin != origin or b.number not in numbers]
        self.floor[origin] = max(numbers | {self.floor.get(origin, 0)})


class Node:
    """One node: two machines, a journal, and what the rest of a node would have been told."""

    def __init__(
        self, mesh: Mesh, name: str, journal: FakeJournal, known: list[str], left: str
    ) -> None:
        self.mesh = mesh
        self.id = name
        self.journal = journal
        self.alive = True
        self.ready_at: float | None = None
        self.lag: Callable[[], float] = lambda: 0.0
        self.paused_until = 0.0
        self.view: View
        self.views: list[View] = []
        self.downs: list[NodeDown] = []
        self.copied: list[Copied] = []
        self.cut_off: list[Misbehaved] = []
        self.rejoin: list[Rejoin] = []
        self.logs: list[tuple[str, dict[str, Any]]] = []
        self.remembered: dict[str, list[str]] = {}
        self.remembered_left: list[str] = []
        self.replies: list[Any] = []
        self.timers: dict[tuple[str, str], float] = {}
        # Steady clocks of machines have nothing to do with each other.
        self.clock_offset = 1000.0 * (1 + len(mesh.nodes))
        self.about = About(name, "1", life=mesh.next_life(), addresses=[f"{name}:22580"])
        acquaintances = [Acquaintance(other, other, [], other in left) for other in known]
        self.machines: dict[str, Any] = {
            "membership": membership.MembershipMachine(
                name, self.about, acquaintances, mesh.timeouts
            ),
            "replication": replication.ReplicationMachine(name),
        }
        self.cast("membership", membership.Start())
        self.cast("replication", replication.Start())

    def cast(self, to: str, message: object, delay_s: float = 0.0) -> None:
        """Deliver to an actor of this node."""
        self.mesh.after(delay_s, lambda: self._arrive(to, message))

    def _arrive(self, to: str, message: object) -> None:  # noqa: PLR0912 - a switchboard
        if not self.alive:
            return
        now = self.mesh.now
        if now < self.paused_until:
            self.mesh.after(self.paused_until - now, lambda: self._arrive(to, message))
            return
        match to, message:
            case "journal", LoadVector(life=life):
                have, floor = dict(self.journal.have), dict(self.journal.floor)
                self.cast("replication", VectorLoaded(self.id, have, floor, life), DISK_S)
            case "journal", Take():
                self.mesh.takes += 1
                self.cast("replication", self.journal.take(message), DISK_S)
            case "journal", ReadPage():
                self.cast("replication", self.journal.read(message), DISK_S)
            case _, View():
                if to == "queue":
                    self.view = message
                    self.views.append(message)
                    if self.ready_at is None and message.members[self.id].ready:
                        self.ready_at = now
                elif to == "replication":
                    self._handle(to, message)
            case "queue", NodeDown():
                self.downs.append(message)
            case "queue", Copied():
                self.copied.append(message)
            case "peers", Misbehaved():
                self.cut_off.append(message)
                self.mesh.disconnect(self.id, message.node)
            case "peers", Rejoin():
                self.rejoin.append(message)
            case "discovery", Remember():
                self.remembered, self.remembered_left = message.members, message.left
            case _, Fired(name):
                if self.timers.get((to, name)) is not None and self.timers[to, name] <= now + 1e-9:
                    del self.timers[to, name]
                    self._handle(to, message)
            case _:
                self._handle(to, message)

    def _handle(self, to: str, message: object) -> None:
        for effect in self.machines[to].handle(message, self.mesh.now + self.clock_offset):
            match effect:
                case Send(target, what):
                    name, at, node = target.partition("@")
                    if at:
                        assert isinstance(what, PeerMessage)
                        assert RECEIVERS[type(what)] == name
                        self.mesh.carry(self.id, node, what)
                    else:
                        self.cast(target, what)
                case SetTimer(name, at_s):
                    due = at_s - self.clock_offset
                    self.timers[to, name] = due
                    late_s = max(0.0, due - self.mesh.now) + self.lag()
                    self.cast(to, Fired(name), late_s)
                case CancelTimer(name):
                    self.timers.pop((to, name), None)
                case Log(event, _level, fields):
                    self.logs.append((event, fields))
                case Reply(_request, result):
                    self.replies.append(result)

    def write(self, count: int = 1, padding: int = 0) -> None:
        """Append entries of its own, each of which knows what is held here."""
        text = json.dumps({"saw": self.journal.have, "x": "x" * padding}).encode()
        texts = [text] * count
        self.cast("replication", Written(self.journal.write(texts)), DISK_S)

    def state(self, other: str) -> str:
        """How it sees another node; `` if it does not know it."""
        member = self.view.members.get(other)
        return "" if member is None else member.state


class Mesh:
    """Nodes and the connections between them. Seconds, from 0."""

    def __init__(
        self, names: str = "", *, delay_s: float = 0.001, timeouts: Timeouts | None = None
    ) -> None:
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.bytes: dict[tuple[str, str], int] = {}
        self.messages: list[tuple[str, str, PeerMessage]] = []
        self.keep_messages = False
        self.takes = 0
        self.delay_s = delay_s
        self.timeouts = timeouts or lan()
        self.links: dict[tuple[str, str], int] = {}  # both directions; the connection's number
        self.cuts: set[tuple[str, str]] = set()
        self.never: set[tuple[str, str]] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._lives = 0
        for name in names:
            self.start(name)

    def next_life(self) -> int:
        self._lives += 1
        return self._lives

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (self.now + delay_s, self._count, what))

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, what = heappop(self._events)
            what()
        self.now = end

    def start(
        self,
        name: str,
        journal: FakeJournal | None = None,
        known: list[str] | None = None,
        left: str = "",
    ) -> Node:
        """Start a node (again), which remembers `known`, of which some had `left`; it is connected
        to all others at once.
        """
        node = Node(self, name, journal or FakeJournal(name), known or [], left)
        self.nodes[name] = node
        for other in sorted(self.nodes):
            self.connect(name, other)
        return node

    def kill(self, name: str, *, told: bool = False) -> Node:
        """As by a power cut; `told`: only its process, so that connections break at once."""
        node = self.nodes.pop(name)
        node.alive = False
        for one, other in sorted(self.links):
            if other == name:
                del self.links[one, other], self.links[other, one]
                delay_s = 0.0 if told else 20.0
                self.after(delay_s, partial(self._broken, one, name))
        return node

    def _broken(self, one: str, other: str) -> None:
        if (one, other) not in self.links:
            self._notice(one, LinkDown(other, "closed"))

    def connect(self, one: str, other: str) -> None:
        """Make a connection if nothing is in the way."""
        blocked = self.cuts | self.never
        if one == other or (one, other) in self.links:
            return
        if (one, other) in blocked or (other, one) in blocked:
            return
        self._count += 1
        for here, there in ((one, other), (other, one)):
            self.links[here, there] = self._count
            link = LinkUp(there, self.nodes[there].about, f"{there}:22580", 1)
            self._notice(here, link)

    def disconnect(self, one: str, other: str) -> None:
        """The connection ends, both notice."""
        for here, there in ((one, other), (other, one)):
            if self.links.pop((here, there), None) is not None:
                self._notice(here, LinkDown(there, "closed"))

    def _notice(self, node: str, message: LinkUp | LinkDown) -> None:
        if node in self.nodes:
            self.nodes[node].cast("membership", message)
            self.nodes[node].cast("replication", message)

    def cut(self, ones: str, others: str, *, one_way: bool = False) -> None:
        """Nothing gets from `ones` to `others` (nor back)."""
        for one in ones:
            for other in others:
                self.cuts.add((one, other))
                if not one_way:
                    self.cuts.add((other, one))

    def heal(self) -> None:
        """All paths work again; broken connections are made anew."""
        cuts, self.cuts = sorted(self.cuts), set()
        for one, other in cuts:
            self.disconnect(one, other)
        for one, other in cuts:
            if one in self.nodes and other in self.nodes:
                self.connect(one, other)

    def carry(self, one: str, other: str, message: PeerMessage) -> None:
        """A message on its way, through the codec."""
        number = self.links.get((one, other))
        if number is None or (one, other) in self.cuts:
            return
        if self.keep_messages:
            self.messages.append((one, other, message))
        text, blob = encode(message)
        self.bytes[one, other] = self.bytes.get((one, other), 0) + len(text) + len(blob)

        def arrive() -> None:
            if self.links.get((one, other)) == number and (one, other) not in self.cuts:
                arrived = decode(text, blob)
                self.nodes[other].cast(RECEIVERS[type(arrived)], arrived)

        self.after(self.delay_s, arrive)

    def check_order(self) -> None:
        """On every disk each entry comes after all that its writer held."""
        for node in self.nodes.values():
            seen: dict[str, int] = {}
            for body in node.journal.order:
                for origin, number in json.loads(body.text)["saw"].items():
                    assert number <= seen.get(origin, 0), (node.id, body, origin, number)
                seen[body.origin] = body.number

    def same(self) -> bool:
        """Whether all hold the same."""
        return len({json.dumps(n.journal.have, sort_keys=True) for n in self.nodes.values()}) == 1
