"""The ghosts that membership knows of, and which node each of them is attached to.

Each node tells the others which ghosts it has (`Ghosts`): all on connecting, later what changed.
A ghost that no node has, or whose node is down, may be on its way to another: it counts as there
for `GHOST_GRACE_S`, and only then as down.
"""

from __future__ import annotations

from leoronic.core.effects import SetTimer
from leoronic.core.ghost_messages import (
    GHOST_GRACE_S,
)
from leoronic.core.ghost_notices import (
    GhostsHere,
)
from leoronic.core.member_record import Peer
from leoronic.core.members import Members
from leoronic.core.peer import GHOSTS_MAX, Ghosts, GhostTold
from leoronic.core.queue_messages import NodeDown
from leoronic.core.view import DOWN, SUSPECT, UP, About, GhostMember

GATHER_S = 0.2
FORGET_S = 3600.0
TIMER = "ghosts"
JUDGE_TIMER = "judge ghosts"


class _Ghost:
    """`clairvoyant` has it, or had it last. Times are those of membership; None: it is not so."""

    def __init__(self, about: About, clairvoyant: str, number: int) -> None:
        self.about = about
        self.clairvoyant = clairvoyant
        self.number = number
        self.attached = True
        self.lost_at: float | None = None
        self.down = False

    def told(self, node: str) -> bool:
        """Whether it is attached to `node`, as far as is known."""
        return self.attached and self.clairvoyant == node


class GhostMembers:
    """See the module. Part of membership, whose `members` it adds to."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._ghosts: dict[str, _Ghost] = {}
        self._news: dict[str, None] = {}  # of this node's own, not told yet
        self._tell_at = 0.0

    # ---- what is told ----

    def here(self, message: GhostsHere) -> None:
        """The relay of this node says which ones it has."""
        me = self._members.node
        before = {told.id: told for told in self._mine()}
        now = {told.id: told for told in message.ghosts}
        self._take(me, message.ghosts, [ghost for ghost in before if ghost not in now])
        after = {told.id: told for told in self._mine()}
        changed = [g for g in sorted({*before, *after}) if before.get(g) != after.get(g)]
        self._news.update(dict.fromkeys(changed))
        self.tell_news()

    def take(self, message: Ghosts) -> None:
        """Another node says which ones it has."""
        peer = self._members.peers.get(message.node)
        if peer is None:
            return
        gone = list(message.gone)
        if message.whole:
            told = {ghost.id for ghost in message.ghosts}
            gone += [
                g for g, known in self._ghosts.items() if known.told(peer.id) and g not in told
            ]
        self._take(peer.id, message.ghosts, gone)
        if message.ask and self._mine():
            self._members.tell(peer, Ghosts(self._members.node, self._mine(), whole=True))

    def greet(self, peer: Peer) -> None:
        """There is a connection to `peer` now: tell it all, and have it tell all."""
        whole = Ghosts(self._members.node, self._mine(), whole=True, ask=True)
        self._members.tell(peer, whole)

    def _mine(self) -> list[GhostTold]:
        me = self._members.node
        return [
            GhostTold(ghost, known.about, known.number)
            for ghost, known in sorted(self._ghosts.items())
            if known.told(me)
        ]

    def _take(
        self, node: str, ghosts: list[GhostTold] | tuple[GhostTold, ...], gone: list[str]
    ) -> None:
        for told in ghosts:
            self._attached(node, told)
        for ghost in gone:
            known = self._ghosts.get(ghost)
            if known is not None and known.told(node):
                known.attached = False
                self._members.changed = True
        self.judge()

    def _attached(self, node: str, told: GhostTold) -> None:
        members = self._members
        known = self._ghosts.get(told.id)
        if told.id in members.peers or told.id == members.node:
            return  # It is a node.
        if known is None:
            if len(self._ghosts) >= GHOSTS_MAX and not self._forget_one():
                return  # Its relay says so to whoever comes.
            known = self._ghosts[told.id] = _Ghost(told.about, node, told.number)
            members.log("ghost_met", ghost=told.id, name=told.about.name)
        elif told.number < known.number:
            return  # It has gone to another since.
        elif known.down:
            members.log("ghost_back", ghost=told.id, name=told.about.name)
        known.about, known.clairvoyant, known.number = told.about, node, told.number
        known.attached, known.lost_at, known.down = True, None, False
        members.changed = True

    def _forget_one(self) -> bool:
        """Make room: one that has gone is forgotten before its time."""
        for ghost, known in self._ghosts.items():
            if known.down:
                del self._ghosts[ghost]
                return True
        return False

    def tell_news(self) -> None:
        """Tell the others what changed here, gathered for a moment."""
        members = self._members
        if not self._news:
            return
        if members.now < self._tell_at:
            # Set again even by its own firing: a timer may come a moment before its time.
            members.effects.append(SetTimer(TIMER, self._tell_at))
            return
        self._tell_at = members.now + GATHER_S
        mine = {told.id: told for told in self._mine()}
        news = [mine[ghost] for ghost in self._news if ghost in mine]
        gone = [ghost for ghost in self._news if ghost not in mine]
        self._news.clear()
        message = Ghosts(members.node, news, gone)
        for peer in members.peers.values():
            if peer.connected:
                members.tell(peer, message)

    # ---- who counts as there ----

    def judge(self) -> None:
        """Whoever has no node for too long is down; who is down for long is forgotten."""
        members = self._members
        due: float | None = None
        for ghost, known in list(self._ghosts.items()):
            if self._has_node(known):
                known.lost_at = None
                continue
            if known.lost_at is None:
                known.lost_at = members.now
                members.changed = True
            ends_at = known.lost_at + (FORGET_S if known.down else GHOST_GRACE_S)
            if members.now < ends_at:
                due = ends_at if due is None else min(due, ends_at)
            elif known.down:
                del self._ghosts[ghost]
                members.changed = True
            else:
                self._give_up(ghost, known)
        if due is not None:
            members.effects.append(SetTimer(JUDGE_TIMER, due))

    def _has_node(self, known: _Ghost) -> bool:
        if known.down or not known.attached:
            return False
        peer = self._members.peers.get(known.clairvoyant)
        return known.clairvoyant == self._members.node or (peer is not None and peer.alive)

    def _give_up(self, ghost: str, known: _Ghost) -> None:
        members = self._members
        known.down, known.attached = True, False
        members.changed = True
        reason = self._reason(known)
        members.log("ghost_down", "warning", ghost=ghost, name=known.about.name, reason=reason)
        members.send("queue", NodeDown(ghost, reason))
        members.view_is_due()

    def stood_still(self) -> None:
        """This process did: where a ghost is may have been told meanwhile."""
        for known in self._ghosts.values():
            if known.lost_at is not None and not known.down:
                known.lost_at = self._members.now

    def _reason(self, known: _Ghost) -> str:
        had = self._members.name(known.clairvoyant)
        if known.clairvoyant == self._members.node:
            had = self._members.about.name
        return f"no node has heard of it since {had} lost it"

    # ---- the view ----

    def view(self) -> dict[str, GhostMember]:
        """All of them, as this node sees them."""
        return {ghost: self._member(ghost, known) for ghost, known in sorted(self._ghosts.items())}

    def _member(self, ghost: str, known: _Ghost) -> GhostMember:
        members = self._members
        peer = members.peers.get(known.clairvoyant)
        near = known.clairvoyant == members.node or (peer is not None and peer.linked)
        lost = known.lost_at is not None
        state = DOWN if known.down else SUSPECT if lost else UP
        return GhostMember(
            ghost,
            known.about,
            known.clairvoyant,
            state,
            reason=self._reason(known) if lost else "",
            linked=near and not lost,
            lost_s=0.0 if known.lost_at is None else members.now - known.lost_at,
        )
