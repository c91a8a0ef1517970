"""Entries travel: every node holds the journals of all, each in an order that keeps cause first.

In: what the journal wrote, what peers say. Out: pushes of this node's own new entries, pages for
who asks (`Pull`), entries to take (`Take`). The rules:

- Own new entries are pushed to each peer that holds the ones before. `needs` of a push is what
  else changed on this disk since the push before: who holds the entry before holds the rest.
  While there is much to push, what nobody waits for is gathered for `TOGETHER_S` (`pushing.py`).
- What cannot be taken yet is parked, for 0.2 s; then its sender is asked for all that is missing.
  A peer that holds something for 1 s that we lack is asked too, and after a start each peer once:
  the vector of its last page is all that it holds. One `Pull` at a time, page by page
  (`pulling.py`).
- One `Take` at a time, with all that arrived meanwhile: if the disk refuses it, nothing that
  builds on it is taken. Submissions are acknowledged at once, the rest soon (`taking.py`).
- A peer that contradicts itself is cut off (`Misbehaved`); all that is kept of it is bounded.

Here: starting, connections, and when this node is ready.
"""

from __future__ import annotations

from collections.abc import Callable

from leoronic.core.effects import Asked, Effect, Fired
from leoronic.core.holders import Holders
from leoronic.core.peer import Entries, Have, LinkDown, LinkUp, PeerMessage, Pull, Push
from leoronic.core.pulling import Pulling
from leoronic.core.pushing import Pushing
from leoronic.core.replica import Replica
from leoronic.core.replica_peer import Ask, ReplicaPeer
from leoronic.core.replication_messages import (
    AskStable,
    AwaitCopies,
    CatchUp,
    PageRead,
    PeerVector,
    Ready,
    TakeFailed,
    Taken,
    Vector,
    VectorLoaded,
    Written,
)
from leoronic.core.taking import Taking
from leoronic.core.view import AskView, View

ALONE_S = 5.0
CATCH_UP_S = 30.0


class Start:
    """The machine's first message: load the version vector from the journal."""


class ReplicationMachine:
    """See the module. `now` is seconds of a steady clock. One instance is one life of the actor."""

    def __init__(self, node: str) -> None:
        self.ready = False
        replica = self._replica = Replica(node)
        self._holders = Holders(replica)
        self._pushing = Pushing(replica, self._holders)
        self._pulling = Pulling(replica, self._holders)
        self._taking = Taking(replica, self._holders, self._pushing, self._pulling)
        self._view: View | None = None
        self._started_at = 0.0
        self._alone_since = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            VectorLoaded: self._on_vector_loaded,
            View: self._on_view,
            CatchUp: self._on_catch_up,
            LinkUp: self._on_link_up,
            LinkDown: self._on_link_down,
            Written: self._on_written,
            Push: self._on_push,
            Pull: self._on_pull,
            Entries: self._on_entries,
            Have: self._on_have,
            PeerVector: self._on_peer_vector,
            PageRead: self._pushing.page_read,
            Taken: self._taking.taken,
            TakeFailed: self._taking.failed,
            AwaitCopies: self._on_await_copies,
            Asked: self._on_asked,
            Fired: self._on_fired,
        }
        self._timers: dict[str, Callable[[], None]] = {
            "look": self._pulling.look,
            "pull": self._pulling.overdue,
            "take": self._taking.overdue,
            "acknowledge": self._taking.acknowledge_owed,
            "copies": self._holders.copies_are_overdue,
            "ready": self._check_ready,
            "push": self._pushing.push_new,
            "vector": replica.tell_vector,
        }

    @property
    def have(self) -> dict[str, int]:
        """The version vector of this disk."""
        return self._replica.have

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        replica = self._replica
        replica.now = now
        if not (replica.rejoining and isinstance(message, PeerMessage)):
            self._handlers[type(message)](message)
            if self._see_off():
                self._pulling.look()
            self._holders.end_waiting_in_vain()
            self._check_ready()
        return replica.take_effects()

    # ---- starting ----

    def _on_start(self, _message: Start) -> None:
        replica = self._replica
        replica.start_tokens()
        self._started_at = self._alone_since = replica.now
        # The views that membership told so far went by, and there may be no new one for long.
        replica.send("membership", AskView("replication"))
        replica.load()

    def _on_vector_loaded(self, message: VectorLoaded) -> None:
        replica = self._replica
        node = replica.node
        if message.life not in (0, replica.life):
            return
        assert message.node == node, f"this node is {node}, the disk of {message.node}"
        first = not replica.loaded
        replica.loaded = True
        replica.rises(message.have)
        replica.floor_rises(message.floor)
        replica.send("membership", Vector(dict(replica.have)))
        for peer in replica.connected:
            if replica.vectors[peer.id].get(node, 0) > replica.have.get(node, 0):
                self._holders.own_entries_lost(peer)
                continue
            self._holders.compare(peer)
            if first and peer.serving is not None:
                self._pushing.read(peer)
            elif peer.heard:
                self._pushing.keep_pushing(peer)
        self._taking.advance()
        self._pulling.look()

    # ---- ready ----

    def _on_view(self, view: View) -> None:
        replica = self._replica
        self._view = view
        self._holders.keep_members(view)
        if replica.loaded and not view.members[replica.node].ready:
            # Membership may have started again, and know nothing.
            told = self._told_ready() if self.ready else Vector(dict(replica.have))
            replica.send("membership", told)

    def _check_ready(self) -> None:
        replica = self._replica
        if self.ready or not replica.loaded or self._view is None or replica.rejoining:
            return
        if replica.connected:
            late = replica.now >= self._started_at + CATCH_UP_S
            heard = all(peer.heard for peer in replica.connected)
            if not late and not (replica.caught_up and heard):
                replica.set_timer("ready", self._started_at + CATCH_UP_S)
                return
            if late:
                replica.log("not_caught_up", "warning", seconds=CATCH_UP_S)
        elif len(self._view.members) > 1 and replica.now < self._alone_since + ALONE_S:
            replica.set_timer("ready", self._alone_since + ALONE_S)
            return
        self.ready = replica.compared = True
        replica.send("membership", self._told_ready())

    def _told_ready(self) -> Ready:
        return Ready(dict(self._replica.have), self._started_at)

    def _on_catch_up(self, _message: CatchUp) -> None:
        replica = self._replica
        self.ready = replica.caught_up = False
        self._started_at = replica.now
        if not replica.connected:
            self._alone_since = replica.now
        self._pulling.end()  # what it was answered may be as old as that
        self._pulling.look()

    # ---- connections ----

    def _on_link_up(self, message: LinkUp) -> None:
        replica = self._replica
        replica.disconnect(message.node)
        self._see_off()
        peer = ReplicaPeer(message.node)
        # The connection may be older than this life, and its first heartbeat gone by.
        peer.ask = Ask.IF_MORE if replica.compared else Ask.NOW
        replica.connect(peer)
        self._pulling.look()

    def _on_link_down(self, message: LinkDown) -> None:
        self._replica.disconnect(message.node)

    def _see_off(self) -> bool:
        """End what was under way with those who went. Whether anybody did."""
        replica = self._replica
        gone = replica.take_gone()
        for node in gone:
            self._pulling.gone(node)
        if gone and not replica.connected:
            self._alone_since = replica.now
        return bool(gone)

    # ---- what comes ----

    def _on_peer_vector(self, message: PeerVector) -> None:
        peer = self._replica.peers.get(message.node)
        if peer is None:
            return
        peer.heard = True
        if self._holders.learn(peer, message.have, peer.told):
            self._pushing.keep_pushing(peer)

    def _on_have(self, message: Have) -> None:
        peer = self._replica.peers.get(message.node)
        if peer is not None and self._holders.learn(peer, message.have, peer.acked):
            self._pushing.acknowledged(peer, message)

    def _on_pull(self, message: Pull) -> None:
        peer = self._replica.peers.get(message.node)
        if peer is not None and self._holders.learn(peer, message.have):
            peer.heard = True
            self._pushing.pull(peer, message)

    def _on_push(self, message: Push) -> None:
        peer = self._replica.peers.get(message.node)
        if peer is not None:
            self._taking.pushed(peer, message)

    def _on_entries(self, message: Entries) -> None:
        peer = self._replica.peers.get(message.node)
        if peer is not None and self._pulling.arrived(peer, message):
            self._taking.advance()

    def _on_written(self, message: Written) -> None:
        if self._pushing.written(message):
            self._taking.advance()

    def _on_await_copies(self, message: AwaitCopies) -> None:
        self._pushing.push_new()
        self._holders.wait(message)

    def _on_asked(self, asked: Asked) -> None:
        assert isinstance(asked.message, AskStable)
        view = self._view
        stable = None if view is None or not self.ready else self._holders.stable(view)
        if stable is not None:
            self._pushing.may_be_forgotten(stable.get(self._replica.node, 0))
        self._replica.reply(asked.request, stable)

    def _on_fired(self, message: Fired) -> None:
        self._timers[message.name]()
