"""Whether a node is there: what was heard of it, and asking others before it is called down.

The rules are in `membership.py`, which this is a part of.
"""

from __future__ import annotations

from leoronic.core.effects import SetTimer
from leoronic.core.health import LocalHealth
from leoronic.core.member_record import NOT_HEARD, Peer
from leoronic.core.members import Members
from leoronic.core.peer import Probe, ProbeAnswer
from leoronic.core.queue_messages import NodeDown
from leoronic.core.ring import some_after
from leoronic.core.timeouts import Timeouts
from leoronic.core.view import DOWN, LEFT, SUSPECT, UP

# Nodes that are down are asked after only now and then: they may be back where we do not reach.
SEEK_TICKS = 5
# Timers may come that much early.
EARLY_S = 0.002


class Judging:
    """Judges `members`. `tick_at` is when the next tick is due, None before the first."""

    def __init__(self, members: Members, timeouts: Timeouts, health: LocalHealth) -> None:
        self.tick_at: float | None = None
        self._members = members
        self._timeouts = timeouts
        self._health = health

    # ---- signs of life ----

    def heard(self, peer: Peer, hears_us: bool) -> None:
        """A heartbeat came from it, or a connection."""
        members = self._members
        first = peer.heard_at is None
        peer.heard_at = members.now
        if hears_us:
            peer.deaf_since = None
        elif peer.deaf_since is None:
            peer.deaf_since = members.now
        deaf_s = 0.0 if peer.deaf_since is None else members.now - peer.deaf_since
        if deaf_s > self._suspect_s or (peer.state == DOWN and not hears_us):
            return  # It counts no longer that we hear it.
        peer.good_at = members.now
        peer.down_since = None
        if peer.state in (DOWN, LEFT):
            members.log("back", peer=peer.id, name=peer.about.name)
        members.set(peer, UP, "", linked=peer.connected)
        if first:
            members.newcomers.append(peer.id)
            self.set_timer()

    def is_new_enough(self, age_ms: int) -> bool:
        """Whether something of ours that a node heard so long ago shows that it hears us."""
        return age_ms <= self._suspect_s * 1000

    def answer_probe(self, probe: Probe) -> None:
        """Another node asks after one."""
        members = self._members
        asker = members.peers.get(probe.node)
        if asker is None:
            return
        peer = members.peers.get(probe.target)
        heard_s = None
        if probe.target == members.node:
            heard_s = 0.0
        elif peer is not None and peer.heard_at is not None and peer.state != LEFT:
            # Only what was heard here: two nodes must not keep a third alive by each other's word.
            heard_s = round(members.now - peer.heard_at, 3)
        ready = peer.ready if peer is not None else members.ready
        members.tell(asker, ProbeAnswer(members.node, probe.target, heard_s, ready))

    def take_answer(self, answer: ProbeAnswer) -> None:
        """What another node that was asked has heard."""
        members = self._members
        peer = members.peers.get(answer.target)
        if peer is None or answer.node not in members.peers or answer.node not in peer.asked:
            return
        peer.asked.remove(answer.node)
        if answer.node not in peer.answered:
            peer.answered.append(answer.node)
        if answer.heard_s is None or answer.heard_s < 0 or peer.state == LEFT:
            return
        at = members.now - answer.heard_s
        if at <= (peer.vouched_at if peer.vouched_at is not None else peer.since):
            return
        peer.vouched_at, peer.vouched_by = at, answer.node
        if not peer.linked:
            members.set_ready(peer, answer.ready)
        if peer.state == DOWN and answer.heard_s <= self._timeouts.suspect_s:
            members.log("back", peer=peer.id, name=peer.about.name, heard_through=answer.node)
            peer.down_since = None
            peer.state = SUSPECT
        self._judge(peer)
        self.set_timer()

    # ---- judging ----

    def judge_all(self, tick: int) -> None:
        """Judge everybody, ask others, and forget who has been gone for too long."""
        for peer in list(self._members.peers.values()):
            self._judge(peer)
            self._ask_others(peer, tick)
            if self._is_forgotten(peer):
                self._members.forget(peer)
        self.set_timer()

    @property
    def _suspect_s(self) -> float:
        return self._timeouts.suspect_s * self._health.multiplier

    @property
    def _down_s(self) -> float:
        return self._timeouts.down_s * self._health.multiplier

    def _judge(self, peer: Peer) -> None:
        if not peer.alive:
            return
        members, suspect_s = self._members, self._suspect_s
        silent_s = members.now - peer.sign_at
        directly = members.now - peer.direct_at < suspect_s - EARLY_S and peer.good_at is not None
        if directly:
            members.set(peer, UP, "", linked=peer.connected)
        elif silent_s >= self._down_s - EARLY_S:
            self._give_up(peer, silent_s)
        elif peer.vouched_at is not None and silent_s < suspect_s - EARLY_S:
            through = members.name(peer.vouched_by)
            members.set(peer, UP, f"no direct connection; heard through {through}", linked=False)
        elif peer.good_at is None and peer.vouched_at is None:
            members.set(peer, SUSPECT, NOT_HEARD, linked=False)
        else:
            members.set(peer, SUSPECT, f"silent for more than {suspect_s:g} s", linked=False)

    def _give_up(self, peer: Peer, silent_s: float) -> None:
        members = self._members
        reason = f"silent for {silent_s:.1f} s"
        if peer.answered:
            reason += ", and so say " + ", ".join(map(members.name, peer.answered))
        elif peer.asked:
            reason += "; no answer from " + ", ".join(map(members.name, peer.asked))
        elif peer.deaf_since is not None:
            reason = f"it has not heard this node for {members.now - peer.deaf_since:.1f} s"
        if peer.down_since is None:
            peer.down_since = members.now
        peer.asked, peer.answered = [], []
        members.set(peer, DOWN, reason, linked=False)
        name = members.name(peer.id)
        members.log("down", "warning", peer=peer.id, reason=f"node {name} is down: {reason}")
        members.send("queue", NodeDown(peer.id, reason))
        members.view_is_due()  # nothing is placed there from now on

    def _ask_others(self, peer: Peer, tick: int) -> None:
        """Ask some who are connected; over the ticks, everybody. First who heard it last.

        Then those who were not asked yet.
        """
        members = self._members
        if peer.state == LEFT or (peer.state == DOWN and tick % SEEK_TICKS):
            return
        if members.now - peer.direct_at < self._suspect_s - EARLY_S:
            peer.asked, peer.answered, peer.vouched_at = [], [], None
            return
        others = sorted(p.id for p in members.peers.values() if p.linked and p is not peer)
        count = self._timeouts.probes
        if peer.state != DOWN:
            # Between suspicion and the end of its time there are two ticks: by then all are asked.
            count = max(count, -(-len(others) // 2))
        turn = some_after(peer.id, others, tick * count, len(others))
        known = {*peer.asked, *peer.answered}
        turn.sort(key=lambda node: (node != peer.vouched_by, node in known))
        for node in turn[:count]:
            if node not in peer.asked:
                peer.asked.append(node)
            members.tell(members.peers[node], Probe(members.node, peer.id))

    def set_timer(self) -> None:
        """Judge exactly when somebody's time is up, if that is before the next tick."""
        if self.tick_at is None:
            return
        members, limits = self._members, (self._suspect_s, self._down_s)
        dues = [p.sign_at + limit for p in members.peers.values() if p.alive for limit in limits]
        soon = min((due for due in dues if due > members.now + EARLY_S), default=self.tick_at)
        if soon < self.tick_at:
            members.effects.append(SetTimer("judge", soon))

    def _is_forgotten(self, peer: Peer) -> bool:
        return (
            not peer.alive
            and not peer.connected
            and self._members.down_s(peer) > self._timeouts.forget_after_s
        )
