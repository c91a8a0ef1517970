"""Who holds what: what peers say that they have, and who waits for that."""

from __future__ import annotations

from leoronic.core.bounds import NUMBER_MAX
from leoronic.core.copies import Copies
from leoronic.core.replica import Replica
from leoronic.core.replica_peer import ORIGINS_MAX, Ask, ReplicaPeer
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.view import View

# What a peer holds so long that we lack, it is asked for.
MORE_S = 1.0
COPIES_S = 2.0


class Holders:
    """See the module. What a peer may not say ends its connection."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._copies = Copies()
        self._askers: dict[int, str] = {}  # by token

    def learn(
        self, peer: ReplicaPeer, have: dict[str, int], before: dict[str, int] | None = None
    ) -> bool:
        """Note what the peer holds. False if it lies; then it is cut off.

        `before` is what it said by the same way: of one who forgets what he had, nothing is sure.
        """
        replica = self._replica
        vector = replica.vectors[peer.id]
        for origin, number in have.items():
            if not origin or not 0 <= number <= NUMBER_MAX or len(vector) > ORIGINS_MAX:
                replica.cut_off(peer, f"no such place: {origin!r} {number}")
                return False
            if before is not None:
                if number < before.get(origin, 0):
                    was = before[origin]
                    replica.cut_off(peer, f"held {was} of {origin}, and now only {number}")
                    return False
                before[origin] = number
            if number <= vector.get(origin, 0):
                continue
            vector[origin] = number
            if replica.loaded:
                self._note_more(peer, origin, number)
        if replica.loaded and vector.get(replica.node, 0) > replica.own():
            self.own_entries_lost(peer)
            return False
        if replica.node in have:
            self._arrived(peer, have[replica.node])
        return True

    def compare(self, peer: ReplicaPeer) -> None:
        """Note all that it holds and we lack."""
        for origin, number in self._replica.vectors[peer.id].items():
            self._note_more(peer, origin, number)

    def _note_more(self, peer: ReplicaPeer, origin: str, number: int) -> None:
        replica = self._replica
        if origin == replica.node or number <= replica.have.get(origin, 0):
            return
        if origin not in peer.more:
            if not peer.more:
                replica.set_look(replica.now + (MORE_S if peer.ask is Ask.LATER else 0.0))
            peer.more[origin] = (number, replica.now)

    def own_entries_lost(self, peer: ReplicaPeer) -> None:
        """The peer holds entries of this node that this disk lacks: numbers would be used twice."""
        replica = self._replica
        reason = (
            f"{peer.id} holds entry {replica.vectors.get(peer.id, {}).get(replica.node)} of this "
            f"node, whose own disk ends at {replica.have.get(replica.node, 0)}"
        )
        # Once it has compared with others, this disk is right, and it is the peer that errs.
        if replica.compared:
            replica.cut_off(peer, reason)
        elif not replica.rejoining:
            replica.rejoin(reason)

    def stable(self, view: View) -> dict[str, int] | None:
        """What this node and all members hold; None while that of any is not known."""
        replica = self._replica
        stable = dict(replica.have)
        for node in view.members:
            if node == replica.node:
                continue
            vector = replica.vectors.get(node)
            peer = replica.peers.get(node)
            if vector is None or (peer is not None and not peer.heard):
                return None
            stable = {o: min(n, vector[o]) for o, n in stable.items() if o in vector}
        return stable

    def keep_members(self, view: View) -> None:
        """Forget what others hold."""
        replica = self._replica
        for node in [n for n in replica.vectors if n not in view.members]:
            if node not in replica.peers:
                del replica.vectors[node]

    # ---- copies ----

    def of(self, number: int) -> list[str]:
        """Ids of the connected that hold this node's entry `number`."""
        replica = self._replica
        return [
            peer.id
            for peer in replica.connected
            if replica.vectors[peer.id].get(replica.node, 0) >= number
        ]

    def wait(self, message: AwaitCopies) -> None:
        """Answer once a copy is there, or none is to be hoped for."""
        replica = self._replica
        holders = self.of(message.number)
        if holders or not self._may_be_copied():
            replica.send(message.sender, Copied(message.token, holders))
            return
        if self._copies.due() is None:
            replica.set_timer("copies", replica.now + COPIES_S)
        self._askers[message.token] = message.sender
        self._copies.wait(message.token, message.number, replica.now + COPIES_S)

    def _arrived(self, peer: ReplicaPeer, number: int) -> None:
        peer.arrived(number)
        self._tell_copied(number)

    def _tell_copied(self, number: int) -> None:
        for token, wanted in self._copies.held(number):
            self._replica.send(self._askers.pop(token), Copied(token, self.of(wanted)))

    def copies_are_overdue(self) -> None:
        """Who waited for long enough is told that there is none."""
        for token in self._copies.overdue(self._replica.now):
            self._replica.send(self._askers.pop(token), Copied(token, []))
        due = self._copies.due()
        if due is not None:
            self._replica.set_timer("copies", due)

    def _may_be_copied(self) -> bool:
        """Whether anybody is there who may soon hold what is new: pushed, or as it asks for it."""
        replica = self._replica
        return not replica.rejoining and any(peer.heard for peer in replica.connected)

    def end_waiting_in_vain(self) -> None:
        """If nobody is left who may hold what is new, who waits for that is told."""
        if self._copies.due() is not None and not self._may_be_copied():
            self._tell_copied(NUMBER_MAX)
