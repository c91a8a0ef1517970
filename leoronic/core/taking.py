"""What others wrote and this disk takes: one `Take` at a time, with all that arrived meanwhile."""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.bodies import Malformed, split
from leoronic.core.holders import Holders
from leoronic.core.peer import Have, Push
from leoronic.core.pulling import PARKED_S, Page, Pulling
from leoronic.core.pushing import Pushing
from leoronic.core.replica import Replica
from leoronic.core.replica_peer import ORIGINS_MAX, Parked, ReplicaPeer
from leoronic.core.replication_messages import Body, Take, TakeFailed, Taken
from leoronic.errors import ProtocolError

TAKE_BYTES = 1 << 20
TAKE_S = 30.0
RETRY_TAKE_S = 1.0
# Nobody waits to hear that something is held here but for a submission.
ACKNOWLEDGE_S = 0.02

_SUBMITTED = b'{"kind":"submitted"'


class _UnderWay(NamedTuple):
    """The `Take` under way."""

    token: int
    floor: dict[str, int]
    pushers: list[str]
    page: Page | None
    patient: bool


class Taking:
    """See the module."""

    def __init__(
        self, replica: Replica, holders: Holders, pushing: Pushing, pulling: Pulling
    ) -> None:
        self._replica = replica
        self._holders = holders
        self._pushing = pushing
        self._pulling = pulling
        self._taking: _UnderWay | None = None
        self._owed: dict[str, None] = {}  # to whom it is to be told soon what is held of theirs

    def pushed(self, peer: ReplicaPeer, message: Push) -> None:
        """Take what a peer pushed, or park it till it can be taken."""
        replica = self._replica
        place = (message.node, message.first, message.count)
        try:
            bodies = split([place], message.blob)
        except Malformed as error:
            replica.cut_off(peer, str(error))
            return
        if len(message.needs) > ORIGINS_MAX:
            replica.cut_off(peer, f"needs entries of {len(message.needs)} nodes")
            return
        last = message.first + message.count - 1
        if not self._holders.learn(peer, {message.node: last}):
            return
        if replica.loaded and message.needs.get(replica.node, 0) > replica.own():
            replica.cut_off(peer, "wants entries of this node that were never written")
            return
        if replica.loaded and last <= replica.have.get(peer.id, 0):
            self._acknowledge([peer.id])
            return
        was_empty = not peer.parked
        size = len(message.blob)
        peer.park(Parked(message.first, bodies, message.needs, size, replica.now))
        self.advance()
        if was_empty and peer.parked and self._taking is None:
            replica.set_look(replica.now + PARKED_S)

    def advance(self) -> None:
        """Take what can be taken, unless something is under way already."""
        replica = self._replica
        if self._taking is not None or not replica.loaded or replica.rejoining:
            return
        bodies: list[Body] = []
        have: dict[str, int] = {}
        floor: dict[str, int] = {}
        held: dict[str, int] = {}  # once this is on disk, where that differs from `replica.have`
        page = self._pulling.take_page()
        if page is not None:
            bodies += page.bodies
            floor = page.message.floor
            if page.message.last:
                have = {o: n for o, n in page.message.have.items() if n > replica.have.get(o, 0)}
            for origin, first, count in page.message.places:
                held[origin] = max(first + count - 1, replica.have.get(origin, 0))
            held.update(have)
        pushers = self._takeable(bodies, held)
        if not bodies and not have:
            if page is not None:
                self._page_is_taken(page, {})
            self._acknowledge(pushers)
            return
        # Somebody waits until a submission is held here.
        patient = page is None and not any(b.text.startswith(_SUBMITTED) for b in bodies)
        self._taking = _UnderWay(replica.next_token(), floor, pushers, page, patient)
        self._pulling.writing(page is not None)
        replica.send("journal", Take(self._taking.token, bodies, floor, have, patient))
        replica.set_timer("take", replica.now + TAKE_S)

    def _takeable(self, bodies: list[Body], held: dict[str, int]) -> list[str]:
        """Add to `bodies` and `held` what was parked and has all it needs; returns its senders."""
        have = self._replica.have
        pushers: dict[str, None] = {}
        size = 0
        going_on = True
        while going_on and size < TAKE_BYTES:
            going_on = False
            for peer in self._replica.connected:
                while peer.parked and size < TAKE_BYTES:
                    push = peer.parked[0]
                    mine = held.get(peer.id, have.get(peer.id, 0))
                    if push.last > mine and (
                        push.first > mine + 1
                        or any(
                            number > held.get(origin, have.get(origin, 0))
                            for origin, number in push.needs.items()
                        )
                    ):
                        break
                    peer.unpark()
                    pushers[peer.id] = None
                    if push.last > mine:
                        bodies += push.bodies[mine + 1 - push.first :]
                        held[peer.id] = push.last
                        size += push.size
                        going_on = True
        return list(pushers)

    def taken(self, message: Taken) -> None:
        """It is on disk, or what came before a fault in it."""
        replica = self._replica
        # Even if it was given up, or an earlier life asked for it: what is written here from now on
        # was written knowing it.
        changed = replica.rises(message.have)
        replica.note_vector(changed)
        taking = self._ended(message.token)
        if taking is None:
            return
        if not message.refused:
            replica.floor_rises(taking.floor)
        if message.refused:
            self._refused(taking, message.refused)
        else:
            if taking.patient:
                self._acknowledge_soon(taking.pushers)
            else:
                self._acknowledge(taking.pushers)
            if taking.page is not None:
                self._page_is_taken(taking.page, changed)
        self.advance()
        self._pulling.look()

    def failed(self, message: TakeFailed) -> None:
        """Nothing of it is on disk."""
        taking = self._ended(message.token)
        if taking is None:
            return
        if isinstance(message.error, ProtocolError):
            self._refused(taking, message.error.message)
            return
        self._replica.log("not_taken", "warning", error=message.error.message)
        self._try_later()

    def overdue(self) -> None:
        """The journal was restarted, most likely: what is on disk must be asked."""
        if self._taking is not None:
            self._replica.log("take_unanswered", "warning", seconds=TAKE_S)
            self._taking = None
            self._pulling.writing(False)
            self._replica.load()
            self._try_later()

    def _ended(self, token: int) -> _UnderWay | None:
        """The take with that token, if it is the one under way; then it is over."""
        taking = self._taking
        if taking is None or token != taking.token:
            return None
        self._taking = None
        self._pulling.writing(False)
        self._replica.cancel_timer("take")
        return taking

    def _refused(self, taking: _UnderWay, reason: str) -> None:
        """Somebody's entries make no sense; who sent them is known if it was only one."""
        senders = set(taking.pushers)
        if taking.page is not None:
            senders.add(taking.page.message.node)
        self._replica.log("entries_refused", "error", peers=sorted(senders), reason=reason)
        for node in sorted(senders):
            peer = self._replica.peers.get(node)
            if peer is not None and len(senders) == 1:
                self._replica.cut_off(peer, reason)
        self._try_later()

    def _try_later(self) -> None:
        """What could not be written is asked for again; what builds on it stays parked."""
        self._pulling.stick(self._replica.now + RETRY_TAKE_S)

    def _acknowledge_soon(self, pushers: list[str]) -> None:
        if not self._owed:
            self._replica.set_timer("acknowledge", self._replica.now + ACKNOWLEDGE_S)
        self._owed.update(dict.fromkeys(pushers))

    def acknowledge_owed(self) -> None:
        """Tell what is held by now."""
        owed, self._owed = self._owed, {}
        self._acknowledge(list(owed))

    def _acknowledge(self, pushers: list[str]) -> None:
        replica = self._replica
        for node in pushers:
            self._owed.pop(node, None)
            if node in replica.peers:
                replica.tell(node, Have(replica.node, {node: replica.have.get(node, 0)}))

    def _page_is_taken(self, page: Page, changed: dict[str, int]) -> None:
        replica, message = self._replica, page.message
        peer = replica.peers.get(message.node)
        if peer is None or not self._pulling.is_of(page):
            return
        if not message.last:
            replica.tell(peer.id, Have(replica.node, changed, message.pull))
            return
        replica.tell(peer.id, Have(replica.node, changed))
        since = self._pulling.complete(peer)
        self.advance()
        push = peer.parked[0] if peer.parked else None
        if push is not None and push.since < since and self._taking is None:
            replica.cut_off(peer, f"its entry {push.first} builds on what it does not hold")
        if peer.id in replica.peers:
            self._pushing.keep_pushing(peer)
        self._pulling.look()
