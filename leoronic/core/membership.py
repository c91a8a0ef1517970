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
- A ghost is there while the node is that has it, and for a while after (`ghost_members.py`).
- A node that is remembered from before this start is waited for, as one that has fallen silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from leoronic.core import ghost_members
from leoronic.core.effects import Effect, Fired, SetTimer
from leoronic.core.ghost_members import GhostMembers
from leoronic.core.ghost_notices import (
    GhostsHere,
)
from leoronic.core.health import LocalHealth
from leoronic.core.judging import Judging
from leoronic.core.member_record import NOT_HEARD, STOPPED, Acquaintance, Peer
from leoronic.core.members import Members
from leoronic.core.membership_messages import Addresses, Leave
from leoronic.core.peer import (
    Ghosts,
    Heartbeat,
    Introduce,
    Introduced,
    LinkDown,
    LinkUp,
    Probe,
    ProbeAnswer,
)
from leoronic.core.replication_messages import CatchUp, PeerVector, Ready, Vector
from leoronic.core.timeouts import Timeouts, lan
from leoronic.core.view import DOWN, LEFT, SUSPECT, About, AskView, Standing


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
        self._members = Members(node, about)
        self._timeouts = timeouts or lan()
        self._known = list(known)
        self._health = LocalHealth(self._timeouts.heartbeat_s)
        self._judging = Judging(self._members, self._timeouts, self._health)
        self._ghosts = GhostMembers(self._members)
        self._members.ghosts = self._ghosts.view
        self._have: dict[str, int] = {}
        self._have_changed: dict[str, int] = {}  # since the last heartbeats
        self._about_changed = False
        self._ticks = 0
        self._stood_still_at: float | None = None  # for so long that it must catch up
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Fired: self._on_fired,
            LinkUp: self._on_link_up,
            LinkDown: self._on_link_down,
            Heartbeat: self._on_heartbeat,
            Probe: self._judging.answer_probe,
            ProbeAnswer: self._judging.take_answer,
            Introduce: self._on_introduce,
            Standing: self._on_standing,
            Addresses: self._on_addresses,
            Ready: self._on_ready,
            Vector: self._on_vector,
            Leave: self._on_leave,
            AskView: self._on_ask_view,
            GhostsHere: self._ghosts.here,
            Ghosts: self._ghosts.take,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        members = self._members
        members.now = now
        self._notice_pause()
        self._handlers[type(message)](message)
        if members.changed:
            members.tell_view_soon()
        effects, members.effects = members.effects, []
        return effects

    @property
    def about(self) -> About:
        """What this node tells of itself."""
        return self._members.about

    @property
    def ready(self) -> bool:
        """Whether this node has caught up with the others."""
        return self._members.ready

    # ---- this node itself ----

    def _on_start(self, _message: Start) -> None:
        members = self._members
        members.recall(self._known)
        # Others know what an earlier life of this actor said last; what is said now is newer.
        members.about = replace(members.about, revision=self._now_ms())
        self._tick()

    def _on_standing(self, message: Standing) -> None:
        self._change_about(capacity=message.capacity, tags=message.tags, draining=message.draining)

    def _on_addresses(self, message: Addresses) -> None:
        self._change_about(addresses=message.addresses)

    def _change_about(self, **changes: object) -> None:
        members = self._members
        about = replace(members.about, **changes)
        if about != self.about:
            members.about = replace(about, revision=self.about.revision + 1)
            self._about_changed = True
            members.changed = True

    def _on_ready(self, message: Ready) -> None:
        self._add_to_vector(message.have)
        if self._stood_still_at is not None and message.since < self._stood_still_at:
            return  # it said so of the time before
        if not self.ready:
            self._members.ready = True
            self._members.changed = True
            self._greet_all()

    def _on_vector(self, message: Vector) -> None:
        self._add_to_vector(message.have)

    def _add_to_vector(self, have: dict[str, int]) -> None:
        mine = self._have
        for origin, number in have.items():
            if number > mine.get(origin, 0):
                mine[origin] = self._have_changed[origin] = number

    def _on_leave(self, _message: Leave) -> None:
        self._members.leaving = True
        self._greet_all()

    def _greet_all(self) -> None:
        """What others should know at once is not left to the next tick."""
        for peer in self._members.peers.values():
            if peer.connected:
                self._beat(peer, self._have_changed)
        self._have_changed = {}
        self._about_changed = False

    # ---- ticks ----

    def _tick(self) -> None:
        members = self._members
        self._judging.tick_at = members.now + self._timeouts.heartbeat_s
        members.effects.append(SetTimer("tick", self._judging.tick_at))
        self._ticks += 1
        self._introduce_newcomers()
        members.remember_now()
        self._greet_all()
        self._judging.judge_all(self._ticks)
        self._ghosts.judge()

    def _on_fired(self, message: Fired) -> None:
        if message.name == "tick":
            if self._judging.tick_at is not None:
                self._health.tick(self._members.now - self._judging.tick_at)
            self._tick()
        elif message.name == "judge":
            self._judging.judge_all(self._ticks)
            self._ghosts.judge()
        elif message.name == ghost_members.JUDGE_TIMER:
            self._ghosts.judge()
        elif message.name == ghost_members.TIMER:
            self._ghosts.tell_news()
        else:
            self._members.view_is_due()

    def _notice_pause(self) -> None:
        """If this process stood still, whatever came first: nobody's silence counts so far."""
        members = self._members
        due = self._judging.tick_at
        if due is None or members.now - due <= self._timeouts.pause_s:
            return
        late_s = members.now - due
        members.log("paused", "warning", seconds=round(late_s, 1))
        for peer in members.peers.values():
            peer.since = members.now
            peer.deaf_since = None
        self._ghosts.stood_still()
        self._health.tick(late_s)
        self._judging.tick_at = members.now
        heartbeat_s, down_s = self._timeouts.heartbeat_s, self._timeouts.down_s
        if members.peers and late_s + heartbeat_s > down_s - heartbeat_s:
            self._catch_up()

    def _catch_up(self) -> None:
        """Others may have gone on without this node: it owns nothing before it knows how."""
        members = self._members
        self._stood_still_at = members.now
        members.send("replication", CatchUp())
        if self.ready:
            members.ready = False
            members.changed = True
            self._greet_all()

    def _beat(self, peer: Peer, have: dict[str, int]) -> None:
        members = self._members
        whole = not peer.greeted
        peer.greeted = True
        members.tell(
            peer,
            Heartbeat(
                members.node,
                sent_ms=self._now_ms(),
                echo_ms=peer.sent_ms,
                ready=self.ready,
                leaving=members.leaving,
                have=dict(self._have if whole else have),
                about=members.about if whole or self._about_changed else None,
            ),
        )

    def _now_ms(self) -> int:
        return max(1, int(self._members.now * 1000))

    # ---- links ----

    def _on_link_up(self, message: LinkUp) -> None:
        members = self._members
        peer = members.meet(message.node, message.about)
        if peer is None:
            return
        peer.connected = True
        peer.greeted = peer.welcomed = False
        peer.address = message.address
        members.learn_about(peer, message.about)
        self._judging.heard(peer, hears_us=True)
        others = [
            Introduced(other.id, other.about, members.down_s(other), other.state == LEFT)
            for other in members.peers.values()
            if other is not peer
        ]
        if others:
            members.tell(peer, Introduce(members.node, others))
        self._beat(peer, {})
        self._ghosts.greet(peer)
        members.remember()

    def _on_link_down(self, message: LinkDown) -> None:
        peer = self._members.peers.get(message.node)
        if peer is not None:
            peer.connected = peer.greeted = False
            self._members.set(peer, linked=False)
            self._judging.set_timer()

    def _on_introduce(self, message: Introduce) -> None:
        members = self._members
        teller = members.peers.get(message.node)
        if teller is None:
            return
        for other in message.members:
            known = members.peers.get(other.id)
            if known is not None:
                self._hear_of(known, other)
            if known is not None and not known.alive and other.down_s > 0:
                # So that everybody forgets it at the same time.
                down_since = members.now - other.down_s
                if known.down_since is None or down_since < known.down_since:
                    known.down_since = down_since
        strangers = [other for other in message.members if other.id not in members.peers]
        for other in strangers:
            peer = members.meet(other.id, other.about)
            if peer is not None and other.left:
                peer.leave(members.now - other.down_s)
            elif peer is not None and other.down_s > 0:
                peer.down_since = members.now - other.down_s
        if strangers:
            self._judging.set_timer()
            members.remember()

    def _hear_of(self, peer: Peer, told: Introduced) -> None:
        """Of a node that has left nothing is heard: that it did, or is back, others may know."""
        members = self._members
        if told.left:
            if peer.state != LEFT and not peer.connected and _is_before(peer, told, members.now):
                members.log("left", peer=peer.id, name=peer.about.name, told_by_others=True)
                peer.down_since = members.now - told.down_s
                members.set(peer, LEFT, STOPPED, linked=False)
        elif peer.state == LEFT and not told.down_s and told.about.life != peer.about.life:
            # It was started again: from now on it is asked after.
            peer.since, peer.down_since = members.now, None
            members.learn_about(peer, told.about)
            members.set(peer, SUSPECT, NOT_HEARD, linked=False)
            self._judging.set_timer()

    def _introduce_newcomers(self) -> None:
        """Those first heard since the last tick, together: hundreds may come at once."""
        members = self._members
        newcomers = [members.peers[node] for node in members.newcomers if node in members.peers]
        members.newcomers = []
        if not newcomers:
            return
        news = Introduce(members.node, [Introduced(peer.id, peer.about) for peer in newcomers])
        for peer in members.peers.values():
            if peer.connected and newcomers != [peer]:
                members.tell(peer, news)

    # ---- signs of life ----

    def _on_heartbeat(self, message: Heartbeat) -> None:
        members = self._members
        peer = members.peers.get(message.node)
        if peer is None or not peer.connected:
            return  # Of a connection that is gone.
        if message.about is not None and members.learn_about(peer, message.about):
            members.remember()
        peer.sent_ms = max(peer.sent_ms, message.sent_ms)
        if message.have or not peer.welcomed:
            peer.welcomed = True
            members.send("replication", PeerVector(peer.id, message.have))
        members.set_ready(peer, message.ready)
        if message.leaving:
            peer.heard_at = members.now
            if peer.state != LEFT:
                members.log("left", peer=peer.id, name=peer.about.name)
                peer.down_since = members.now
                members.set(peer, LEFT, STOPPED, linked=False)
            return
        echo_age_ms = self._now_ms() - message.echo_ms
        hears_us = message.echo_ms > 0 and self._judging.is_new_enough(echo_age_ms)
        given_up_at = peer.down_since if peer.state == DOWN else None
        self._judging.heard(peer, hears_us)
        # A connection may come to life again, and until both sides know it, each gives up what it
        # sees begin on the other. So who has not heard us since, or is back, is answered at once.
        heard_since = given_up_at is None or message.echo_ms >= given_up_at * 1000
        if given_up_at is not None and (peer.alive or not heard_since):
            self._beat(peer, {})

    def _on_ask_view(self, message: AskView) -> None:
        self._members.send(message.sender, self._members.view())


def _is_before(peer: Peer, told: Introduced, now: float) -> bool:
    """Whether all that was heard of `peer` here was before it left, as is told."""
    last = peer.heard_at if peer.vouched_at is None else max(peer.heard_at or 0.0, peer.vouched_at)
    return last is None or last <= now - told.down_s
