"""The nodes that this one knows of, and what the rest of it is told of them.

The machines of this node get a `View` whenever it changes; discovery, who to look for at the next
start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.effects import Effect, Log, Send, SetTimer
from leoronic.core.member_record import Acquaintance, Peer
from leoronic.core.membership_messages import Remember
from leoronic.core.peer import PeerMessage
from leoronic.core.view import LEFT, UP, About, GhostMember, Member, View

VIEWERS = (
    "queue",
    "scheduler",
    "runner",
    "replication",
    "control",
    "keeper",
    "file_store",
    "relay",
)
MEMBERS_MAX = 4096
# With more peers than this, changes of the view are gathered for so long.
CROWD_PEERS = 16
CROWD_VIEW_EVERY_S = 0.05


class Members:
    """`changed`: the view is to be told. `now` and `effects` are those of the message in hand.

    `ghosts` gives those of the view.
    """

    def __init__(self, node: str, about: About) -> None:
        self.node = node
        self.about = about
        self.ready = False
        self.leaving = False
        self.peers: dict[str, Peer] = {}
        self.newcomers: list[str] = []  # heard for the first time since the last tick
        self.changed = True
        self.now = 0.0
        self.effects: list[Effect] = []
        self.ghosts: Callable[[], dict[str, GhostMember]] = dict
        self._view_due = 0.0
        self._view_awaited = False  # a timer is set to tell it
        self._unremembered = False
        self._remembered = Remember({}, {}, [])

    def send(self, to: str, message: object) -> None:
        """To a machine of this node."""
        self.effects.append(Send(to, message))

    def tell(self, peer: Peer, message: PeerMessage) -> None:
        """To the membership of another node."""
        self.send(f"membership@{peer.id}", message)

    def log(self, event: str, level: str = "info", **fields: object) -> None:
        """A line in this node's log."""
        self.effects.append(Log(event, level, fields))

    # ---- who they are ----

    def meet(self, node: str, about: About, since: float | None = None) -> Peer | None:
        """The peer of that id, made if it is new; None for this node itself, or for too many."""
        peer = self.peers.get(node)
        if peer is None and node != self.node and len(self.peers) < MEMBERS_MAX:
            peer = self.peers[node] = Peer(node, about, self.now if since is None else since)
            self.changed = True
            self.log("met", peer=node, name=about.name)
        return peer

    def learn_about(self, peer: Peer, about: About) -> bool:
        """Take over what is newer; returns whether anything is."""
        known = peer.about
        if about.life != known.life:
            # Its clock may have begun anew, and so has its catching up.
            peer.sent_ms = 0
            peer.ready = False
            if known.life:
                self.log("started_anew", peer=peer.id, name=about.name)
        elif about.revision <= known.revision:
            return False
        peer.about = about
        self.changed = True
        return True

    def forget(self, peer: Peer) -> None:
        """It is gone for good."""
        del self.peers[peer.id]
        self.changed = True
        self.log("forgotten", peer=peer.id, name=peer.about.name)
        self.remember()

    def name(self, node: str) -> str:
        """What people call it; its id if that is not known."""
        peer = self.peers.get(node)
        return peer.about.name or node if peer is not None else node

    def down_s(self, peer: Peer) -> float:
        """For how long it has counted as down."""
        return 0.0 if peer.down_since is None else self.now - peer.down_since

    # ---- how they are ----

    def set(
        self, peer: Peer, state: str | None = None, reason: str | None = None, *, linked: bool
    ) -> None:
        """From now on it is so; what is None stays."""
        new = (state or peer.state, peer.reason if reason is None else reason, linked)
        if new != (peer.state, peer.reason, peer.linked):
            changed = (new[0] == LEFT) != (peer.state == LEFT)
            peer.state, peer.reason, peer.linked = new
            self.changed = True
            if changed:
                self.remember()

    def set_ready(self, peer: Peer, ready: bool) -> None:
        """Whether it has caught up with the others."""
        if peer.ready != ready:
            peer.ready = ready
            self.changed = True

    # ---- the view ----

    def tell_view_soon(self) -> None:
        """At once; in a crowd, where many may change together, not more often than it is of use."""
        if len(self.peers) <= CROWD_PEERS or self.now >= self._view_due:
            self._view_due = self.now + CROWD_VIEW_EVERY_S
            self._tell_view()
        elif not self._view_awaited:
            self._view_awaited = True
            self.effects.append(SetTimer("view", self._view_due))

    def view_is_due(self) -> None:
        """What has changed is told after this message, however many there are."""
        self._view_due = self.now

    def _tell_view(self) -> None:
        self.changed = False
        self._view_awaited = False
        view = self.view()
        for viewer in VIEWERS:
            self.send(viewer, view)

    def view(self) -> View:
        """All of them, as this node sees them."""
        me = Member(self.node, self.about, LEFT if self.leaving else UP, self.ready)
        members = {self.node: me}
        for node, peer in sorted(self.peers.items()):
            members[node] = Member(
                node,
                peer.about,
                peer.state,
                peer.ready,
                address=peer.address,
                heard_s=self.now - (peer.since if peer.heard_at is None else peer.heard_at),
                reason=peer.reason,
                linked=peer.linked,
            )
        return View(self.node, members, self.now, self.ghosts())

    # ---- for the next start ----

    def recall(self, known: Iterable[Acquaintance]) -> None:
        """Those of an earlier start: waited for, as ones that have fallen silent, unless they had
        left.
        """
        for node, name, addresses, left in known:
            if node != self.node and len(self.peers) < MEMBERS_MAX:
                about = About(name, "", 0, addresses=list(addresses))
                peer = self.peers[node] = Peer(node, about, self.now)
                if left:
                    peer.leave(self.now)
                    self._remembered.left.append(node)
                self._remembered.members[node] = list(addresses)
                self._remembered.names[node] = name

    def remember(self) -> None:
        """Note for the next start who is there; in a crowd at the next tick."""
        self._unremembered = True
        if len(self.peers) <= CROWD_PEERS:
            self.remember_now()

    def remember_now(self) -> None:
        """Note it if anything has changed."""
        if not self._unremembered:
            return
        self._unremembered = False
        known: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        left: list[str] = []
        for node, peer in sorted(self.peers.items()):
            last = [peer.address] if peer.address else []
            known[node] = last + [a for a in peer.about.addresses if a != peer.address]
            names[node] = peer.about.name
            if peer.state == LEFT:
                left.append(node)
        remembered = Remember(known, names, left)
        if remembered != self._remembered:
            # No addresses: to be forgotten.
            gone: dict[str, list[str]] = {n: [] for n in self._remembered.members if n not in known}
            self._remembered = remembered
            self.send("discovery", Remember({**known, **gone}, dict(names), list(left)))
