"""Who is there: heartbeats, and asking others before anybody is called dead.

In: links that come and go, heartbeats, timers. Out: heartbeats, a `View` to the machines of this
node whenever it changes. Each node judges for itself, by these rules:

- Any sign of life resets a node's time. A link that breaks says nothing about its node.
- Silent for `suspect_s`: it is suspect, and some others are asked when they heard it themselves.
  Silent for `down_s`, and nobody asked has heard it since: it is down, until it is heard again.
- Heartbeats that come from a node which hears none of ours count for a while only: of a path that
  leads one way only, both ends shall think the same.
- A node that is slow itself gives the others more time (`health.py`), and all of it again after a
  pause of its own. After one for which it may have been given up, it is not ready before it has
  caught up with the others.
- A node that is remembered from before this start is waited for, as one that has fallen silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from leoronic.core.effects import Effect, Fired, Log, Send, SetTimer
from leoronic.core.health import LocalHealth
from leoronic.core.member_record import Acquaintance, Peer
from leoronic.core.membership_messages import Addresses, Leave, Remember
from leoronic.core.peer import (
    Heartbeat,
    Introduce,
    Introduced,
    LinkDown,
    LinkUp,
    PeerMessage,
    Probe,
    ProbeAnswer,
)
from leoronic.core.queue_messages import NodeDown
from leoronic.core.replication_messages import CatchUp, PeerVector, Ready, Vector
from leoronic.core.ring import some_after
from leoronic.core.timeouts import Timeouts, lan
from leoronic.core.view import DOWN, LEFT, SUSPECT, UP, About, AskView, Member, Standing, View

VIEWERS = ("queue", "scheduler", "runner", "replication", "control", "keeper")
MEMBERS_MAX = 4096
# Nodes that are down are asked after only now and then: they may be back where we do not reach.
SEEK_TICKS = 5
# With more peers than this, changes of the view are gathered for so long.
CROWD_PEERS = 16
CROWD_VIEW_EVERY_S = 0.05
# Timers may come that much early.
EARLY_S = 0.002


class Start:
    """The machine's first message."""


class MembershipMachine:
    """See the module. `now` is seconds of a steady clock that goes on while the machine sleeps."""

    def __init__(
        self,
        node: str,
        about: About,
        known: Iterable[Acquaintance] = (),
        timeouts: Timeouts | None = None,
    ) -> None:
        self.node = node
        self.about = about
        self.ready = False
        self._timeouts = timeouts or lan()
        self._known = list(known)
        self._health = LocalHealth(self._timeouts.heartbeat_s)
        self._peers: dict[str, Peer] = {}
        self._have: dict[str, int] = {}
        self._have_changed: dict[str, int] = {}  # since the last heartbeats
        self._about_changed = False
        self._leaving = False
        self._newcomers: list[str] = []  # heard for the first time since the last tick
        self._ticks = 0
        self._due: float | None = None  # when the next tick is
        self._stood_still_at: float | None = None  # for so long that it must catch up
        self._viewed = False
        self._unremembered = False
        self._view_due = 0.0
        self._view_awaited = False  # a timer is set to tell it
        self._remembered: tuple[dict[str, list[str]], dict[str, str]] = ({}, {})
        self._now = 0.0
        self._effects: list[Effect] = []
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Fired: self._on_fired,
            LinkUp: self._on_link_up,
            LinkDown: self._on_link_down,
            Heartbeat: self._on_heartbeat,
            Probe: self._on_probe,
            ProbeAnswer: self._on_probe_answer,
            Introduce: self._on_introduce,
            Standing: self._on_standing,
            Addresses: self._on_addresses,
            Ready: self._on_ready,
            Vector: self._on_vector,
            Leave: self._on_leave,
            AskView: self._on_ask_view,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._now = now
        self._notice_pause()
        self._handlers[type(message)](message)
        if not self._viewed:
            self._tell_view_soon()
        effects, self._effects = self._effects, []
        return effects

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _tell(self, peer: Peer, message: PeerMessage) -> None:
        self._send(f"membership@{peer.id}", message)

    def _log(self, event: str, level: str = "info", **fields: object) -> None:
        self._effects.append(Log(event, level, fields))

    # ---- this node itself ----

    def _on_start(self, _message: Start) -> None:
        for node, name, addresses in self._known[:MEMBERS_MAX]:
            if node != self.node:
                about = About(name, "", 0, addresses=list(addresses))
                self._peers[node] = Peer(node, about, self._now)
                self._remembered[0][node] = list(addresses)
                self._remembered[1][node] = name
        # Others know what an earlier life of this actor said last; what is said now is newer.
        self.about = replace(self.about, revision=self._now_ms())
        self._tick()

    def _on_standing(self, message: Standing) -> None:
        self._change_about(capacity=message.capacity, tags=message.tags, draining=message.draining)

    def _on_addresses(self, message: Addresses) -> None:
        self._change_about(addresses=message.addresses)

    def _change_about(self, **changes: object) -> None:
        about = replace(self.about, **changes)
        if about != self.about:
            self.about = replace(about, revision=self.about.revision + 1)
            self._about_changed = True
            self._viewed = False

    def _on_ready(self, message: Ready) -> None:
        self._add_to_vector(message.have)
        if self._stood_still_at is not None and message.since < self._stood_still_at:
            return  # it said so of the time before
        if not self.ready:
            self.ready = True
            self._viewed = False
            self._greet_all()

    def _on_vector(self, message: Vector) -> None:
        self._add_to_vector(message.have)

    def _add_to_vector(self, have: dict[str, int]) -> None:
        mine = self._have
        for origin, number in have.items():
            if number > mine.get(origin, 0):
                mine[origin] = self._have_changed[origin] = number

    def _on_leave(self, _message: Leave) -> None:
        self._leaving = True
        self._greet_all()

    def _greet_all(self) -> None:
        """What others should know at once is not left to the next tick."""
        for peer in self._peers.values():
            if peer.connected:
                self._beat(peer, self._have_changed)
        self._have_changed = {}
        self._about_changed = False

    # ---- ticks ----

    def _tick(self) -> None:
        self._due = self._now + self._timeouts.heartbeat_s
        self._effects.append(SetTimer("tick", self._due))
        self._ticks += 1
        self._introduce_newcomers()
        self._remember_now()
        self._greet_all()
        self._judge_all()

    def _on_fired(self, message: Fired) -> None:
        if message.name == "tick":
            if self._due is not None:
                self._health.tick(self._now - self._due)
            self._tick()
        elif message.name == "judge":
            self._judge_all()
        else:
            self._view_due = self._now

    def _notice_pause(self) -> None:
        """If this process stood still, whatever came first: nobody's silence counts so far."""
        if self._due is None or self._now - self._due <= self._timeouts.pause_s:
            return
        self._log("paused", "warning", seconds=round(self._now - self._due, 1))
        for peer in self._peers.values():
            peer.since = self._now
            peer.deaf_since = None
        self._health.tick(self._now - self._due)
        silent_s = self._now - self._due + self._timeouts.heartbeat_s
        self._due = self._now
        if self._peers and silent_s > self._timeouts.down_s - self._timeouts.heartbeat_s:
            self._catch_up()

    def _catch_up(self) -> None:
        """Others may have gone on without this node: it owns nothing before it knows how."""
        self._stood_still_at = self._now
        self._send("replication", CatchUp())
        if self.ready:
            self.ready = False
            self._viewed = False
            self._greet_all()

    def _beat(self, peer: Peer, have: dict[str, int]) -> None:
        whole = not peer.greeted
        peer.greeted = True
        self._tell(
            peer,
            Heartbeat(
                self.node,
                sent_ms=self._now_ms(),
                echo_ms=peer.sent_ms,
                ready=self.ready,
                leaving=self._leaving,
                have=dict(self._have if whole else have),
                about=self.about if whole or self._about_changed else None,
            ),
        )

    def _now_ms(self) -> int:
        return max(1, int(self._now * 1000))

    # ---- links ----

    def _on_link_up(self, message: LinkUp) -> None:
        peer = self._meet(message.node, message.about)
        if peer is None:
            return
        peer.connected = True
        peer.greeted = peer.welcomed = False
        peer.address = message.address
        self._learn_about(peer, message.about)
        self._heard(peer, hears_us=True)
        others = [
            Introduced(other.id, other.about, self._down_s(other))
            for other in self._peers.values()
            if other is not peer and other.state != LEFT
        ]
        if others:
            self._tell(peer, Introduce(self.node, others))
        self._beat(peer, {})
        self._remember()

    def _on_link_down(self, message: LinkDown) -> None:
        peer = self._peers.get(message.node)
        if peer is not None:
            peer.connected = peer.greeted = False
            self._set(peer, linked=False)
            self._set_timer()

    def _meet(self, node: str, about: About, since: float | None = None) -> Peer | None:
        """The peer of that id, made if it is new; None for this node itself, or for too many."""
        peer = self._peers.get(node)
        if peer is None and node != self.node and len(self._peers) < MEMBERS_MAX:
            peer = self._peers[node] = Peer(node, about, self._now if since is None else since)
            self._viewed = False
            self._log("met", peer=node, name=about.name)
        return peer

    def _learn_about(self, peer: Peer, about: About) -> bool:
        """Take over what is newer; returns whether anything is."""
        known = peer.about
        if about.life != known.life:
            # Its clock may have begun anew, and so has its catching up.
            peer.sent_ms = 0
            peer.ready = False
            if known.life:
                self._log("started_anew", peer=peer.id, name=about.name)
        elif about.revision <= known.revision:
            return False
        peer.about = about
        self._viewed = False
        return True

    def _on_introduce(self, message: Introduce) -> None:
        teller = self._peers.get(message.node)
        if teller is None:
            return
        for other in message.members:
            known = self._peers.get(other.id)
            if known is not None and not known.alive and other.down_s > 0:
                # So that everybody forgets it at the same time.
                down_since = self._now - other.down_s
                if known.down_since is None or down_since < known.down_since:
                    known.down_since = down_since
        strangers = [other for other in message.members if other.id not in self._peers]
        for other in strangers:
            peer = self._meet(other.id, other.about)
            if peer is not None and other.down_s > 0:
                peer.down_since = self._now - other.down_s
        if strangers:
            self._set_timer()
            self._remember()

    def _introduce_newcomers(self) -> None:
        """Those first heard since the last tick, together: hundreds may come at once."""
        newcomers = [self._peers[node] for node in self._newcomers if node in self._peers]
        self._newcomers = []
        if not newcomers:
            return
        news = Introduce(self.node, [Introduced(peer.id, peer.about) for peer in newcomers])
        for peer in self._peers.values():
            if peer.connected and newcomers != [peer]:
                self._tell(peer, news)

    def _remember(self) -> None:
        """Note for the next start who is there; in a crowd at the next tick."""
        self._unremembered = True
        if len(self._peers) <= CROWD_PEERS:
            self._remember_now()

    def _remember_now(self) -> None:
        if not self._unremembered:
            return
        self._unremembered = False
        known: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for node, peer in sorted(self._peers.items()):
            last = [peer.address] if peer.address else []
            known[node] = last + [a for a in peer.about.addresses if a != peer.address]
            names[node] = peer.about.name
        if (known, names) != self._remembered:
            # No addresses: to be forgotten.
            gone: dict[str, list[str]] = {n: [] for n in self._remembered[0] if n not in known}
            self._remembered = (known, names)
            self._send("discovery", Remember({**known, **gone}, dict(names)))

    # ---- signs of life ----

    def _on_heartbeat(self, message: Heartbeat) -> None:
        peer = self._peers.get(message.node)
        if peer is None or not peer.connected:
            return  # Of a connection that is gone.
        if message.about is not None and self._learn_about(peer, message.about):
            self._remember()
        peer.sent_ms = max(peer.sent_ms, message.sent_ms)
        if message.have or not peer.welcomed:
            peer.welcomed = True
            self._send("replication", PeerVector(peer.id, message.have))
        if message.ready != peer.ready:
            peer.ready = message.ready
            self._viewed = False
        if message.leaving:
            peer.heard_at = self._now
            if peer.state != LEFT:
                self._log("left", peer=peer.id, name=peer.about.name)
                peer.down_since = self._now
                self._set(peer, LEFT, "stopped in order", linked=False)
            return
        echo_age_ms = self._now_ms() - message.echo_ms
        hears_us = (
            message.echo_ms > 0 and echo_age_ms <= self._limit(self._timeouts.suspect_s) * 1000
        )
        self._heard(peer, hears_us)

    def _limit(self, seconds: float) -> float:
        return seconds * self._health.multiplier

    def _heard(self, peer: Peer, hears_us: bool) -> None:
        first = peer.heard_at is None
        peer.heard_at = self._now
        if hears_us:
            peer.deaf_since = None
        elif peer.deaf_since is None:
            peer.deaf_since = self._now
        deaf_s = 0.0 if peer.deaf_since is None else self._now - peer.deaf_since
        if deaf_s > self._limit(self._timeouts.suspect_s) or (peer.state == DOWN and not hears_us):
            return  # It counts no longer that we hear it.
        peer.good_at = self._now
        peer.down_since = None
        if peer.state in (DOWN, LEFT):
            self._log("back", peer=peer.id, name=peer.about.name)
        self._set(peer, UP, "", linked=peer.connected)
        if first:
            self._newcomers.append(peer.id)
            self._set_timer()

    def _on_probe(self, message: Probe) -> None:
        asker = self._peers.get(message.node)
        if asker is None:
            return
        peer = self._peers.get(message.target)
        heard_s = None
        if message.target == self.node:
            heard_s = 0.0
        elif peer is not None and peer.heard_at is not None and peer.state != LEFT:
            # Only what was heard here: two nodes must not keep a third alive by each other's word.
            heard_s = round(self._now - peer.heard_at, 3)
        ready = peer.ready if peer is not None else self.ready
        self._tell(asker, ProbeAnswer(self.node, message.target, heard_s, ready))

    def _on_probe_answer(self, message: ProbeAnswer) -> None:
        peer = self._peers.get(message.target)
        if peer is None or message.node not in self._peers or message.node not in peer.asked:
            return
        peer.asked.remove(message.node)
        if message.node not in peer.answered:
            peer.answered.append(message.node)
        if message.heard_s is None or message.heard_s < 0 or peer.state == LEFT:
            return
        at = self._now - message.heard_s
        if at <= (peer.vouched_at if peer.vouched_at is not None else peer.since):
            return
        peer.vouched_at, peer.vouched_by = at, message.node
        if peer.ready != message.ready and not peer.linked:
            peer.ready = message.ready
            self._viewed = False
        if peer.state == DOWN and message.heard_s <= self._timeouts.suspect_s:
            self._log("back", peer=peer.id, name=peer.about.name, heard_through=message.node)
            peer.down_since = None
            peer.state = SUSPECT
        self._judge(peer)
        self._set_timer()

    # ---- judging ----

    def _judge_all(self) -> None:
        for peer in list(self._peers.values()):
            self._judge(peer)
            self._ask_others(peer)
            if self._is_forgotten(peer):
                del self._peers[peer.id]
                self._viewed = False
                self._log("forgotten", peer=peer.id, name=peer.about.name)
                self._remember()
        self._set_timer()

    def _judge(self, peer: Peer) -> None:
        if not peer.alive:
            return
        suspect_s = self._limit(self._timeouts.suspect_s)
        silent_s = self._now - peer.sign_at
        directly = self._now - peer.direct_at < suspect_s - EARLY_S and peer.good_at is not None
        if directly:
            self._set(peer, UP, "", linked=peer.connected)
        elif silent_s >= self._limit(self._timeouts.down_s) - EARLY_S:
            self._give_up(peer, silent_s)
        elif peer.vouched_at is not None and silent_s < suspect_s - EARLY_S:
            through = self._name(peer.vouched_by)
            self._set(peer, UP, f"no direct connection; heard through {through}", linked=False)
        elif peer.good_at is None and peer.vouched_at is None:
            self._set(peer, SUSPECT, "not heard yet", linked=False)
        else:
            self._set(peer, SUSPECT, f"silent for more than {suspect_s:g} s", linked=False)

    def _give_up(self, peer: Peer, silent_s: float) -> None:
        reason = f"silent for {silent_s:.1f} s"
        if peer.answered:
            reason += ", and so say " + ", ".join(map(self._name, peer.answered))
        elif peer.asked:
            reason += "; no answer from " + ", ".join(map(self._name, peer.asked))
        elif peer.deaf_since is not None:
            reason = f"it has not heard this node for {self._now - peer.deaf_since:.1f} s"
        if peer.down_since is None:
            peer.down_since = self._now
        peer.asked, peer.answered = [], []
        self._set(peer, DOWN, reason, linked=False)
        name = self._name(peer.id)
        self._log("down", "warning", peer=peer.id, reason=f"node {name} is down: {reason}")
        self._send("queue", NodeDown(peer.id, reason))
        self._view_due = self._now  # nothing is placed there from now on

    def _ask_others(self, peer: Peer) -> None:
        """Ask some who are connected; over the ticks, everybody. First who heard it last."""
        if peer.state == LEFT or (peer.state == DOWN and self._ticks % SEEK_TICKS):
            return
        if self._now - peer.direct_at < self._limit(self._timeouts.suspect_s) - EARLY_S:
            peer.asked, peer.answered, peer.vouched_at = [], [], None
            return
        others = sorted(p.id for p in self._peers.values() if p.linked and p is not peer)
        count = self._timeouts.probes
        asked = some_after(peer.id, others, self._ticks * count, count)
        if peer.vouched_by in others and peer.vouched_by not in asked:
            asked = [peer.vouched_by, *asked[: count - 1]]
        for node in asked:
            if node not in peer.asked:
                peer.asked.append(node)
            self._tell(self._peers[node], Probe(self.node, peer.id))

    def _set_timer(self) -> None:
        """Judge exactly when somebody's time is up, if that is before the next tick."""
        if self._due is None:
            return
        limits = [self._limit(s) for s in (self._timeouts.suspect_s, self._timeouts.down_s)]
        dues = [p.sign_at + limit for p in self._peers.values() if p.alive for limit in limits]
        soon = min((due for due in dues if due > self._now + EARLY_S), default=self._due)
        if soon < self._due:
            self._effects.append(SetTimer("judge", soon))

    def _is_forgotten(self, peer: Peer) -> bool:
        return (
            not peer.alive
            and not peer.connected
            and self._down_s(peer) > self._timeouts.forget_after_s
        )

    def _down_s(self, peer: Peer) -> float:
        return 0.0 if peer.down_since is None else self._now - peer.down_since

    def _name(self, node: str) -> str:
        peer = self._peers.get(node)
        return peer.about.name or node if peer is not None else node

    # ---- what others see ----

    def _set(
        self, peer: Peer, state: str | None = None, reason: str | None = None, *, linked: bool
    ) -> None:
        new = (state or peer.state, peer.reason if reason is None else reason, linked)
        if new != (peer.state, peer.reason, peer.linked):
            peer.state, peer.reason, peer.linked = new
            self._viewed = False

    def _on_ask_view(self, message: AskView) -> None:
        self._send(message.sender, self._view())

    def _tell_view_soon(self) -> None:
        """At once; in a crowd, where many may change together, not more often than it is of use."""
        if len(self._peers) <= CROWD_PEERS or self._now >= self._view_due:
            self._view_due = self._now + CROWD_VIEW_EVERY_S
            self._tell_view()
        elif not self._view_awaited:
            self._view_awaited = True
            self._effects.append(SetTimer("view", self._view_due))

    def _tell_view(self) -> None:
        self._viewed = True
        self._view_awaited = False
        view = self._view()
        for viewer in VIEWERS:
            self._send(viewer, view)

    def _view(self) -> View:
        me = Member(self.node, self.about, LEFT if self._leaving else UP, self.ready)
        members = {self.node: me}
        for node, peer in sorted(self._peers.items()):
            members[node] = Member(
                node,
                peer.about,
                peer.state,
                peer.ready,
                address=peer.address,
                heard_s=self._now - (peer.since if peer.heard_at is None else peer.heard_at),
                reason=peer.reason,
                linked=peer.linked,
            )
        return View(self.node, members, self._now)
