"""What this node asks for: one `Pull` at a time, answered page by page."""

from __future__ import annotations

from typing import NamedTuple

from leoronic.core.bodies import Malformed, check_page, split, too_old
from leoronic.core.holders import MORE_S, Holders
from leoronic.core.peer import Entries, Pull
from leoronic.core.replica import Replica
from leoronic.core.replica_peer import Ask, ReplicaPeer
from leoronic.core.replication_messages import Body

PARKED_S = 0.2
PULL_S = 3.0


class _UnderWay(NamedTuple):
    """The `Pull` under way. `claimed` is what its peer had said that it holds."""

    number: int
    node: str
    since: float
    claimed: dict[str, int]
    pages: int = 0


class Page(NamedTuple):
    """A page that arrived, and its entries."""

    message: Entries
    bodies: list[Body]


class Pulling:
    """See the module."""

    def __init__(self, replica: Replica, holders: Holders) -> None:
        self._replica = replica
        self._holders = holders
        self._pull: _UnderWay | None = None
        self._page: Page | None = None  # it waits to be taken
        self._writing = False  # a page is being taken
        self._stuck_until = 0.0

    # ---- when to ask whom ----

    def look(self) -> None:
        """Ask a peer for what we lack, if it is time."""
        replica = self._replica
        if self._pull is not None or not replica.loaded or replica.rejoining:
            return
        # Several that never answer must not take turns for ever.
        dues: list[tuple[int, float, str]] = []
        for peer in replica.connected:
            due = self._due(peer)
            if due is not None:
                dues.append((peer.unanswered, due, peer.id))
        now = replica.now
        ripe = [entry for entry in dues if entry[1] <= now and now >= self._stuck_until]
        if ripe:
            self._start(min(ripe)[2])
        elif dues:
            replica.set_look(max(self._stuck_until, min(due for _, due, _ in dues)))

    def _due(self, peer: ReplicaPeer) -> float | None:
        """When the peer is to be asked, as far as is known."""
        replica = self._replica
        if not replica.caught_up or peer.ask is Ask.NOW:
            return replica.now
        if not peer.more and not peer.parked:
            return None
        have = replica.have
        peer.more = {o: m for o, m in peer.more.items() if m[0] > have.get(o, 0)}
        if peer.more and peer.ask is Ask.IF_MORE:
            return replica.now
        dues = [since + MORE_S for _, since in peer.more.values()]
        if peer.parked:
            dues.append(peer.parked[0].since + PARKED_S)
        return min(dues, default=None)

    def _start(self, node: str) -> None:
        replica = self._replica
        number = replica.next_token()
        self._pull = _UnderWay(number, node, replica.now, dict(replica.vectors[node]))
        replica.tell(node, Pull(replica.node, dict(replica.have), number))
        replica.set_timer("pull", replica.now + PULL_S)

    # ---- what comes of it ----

    def arrived(self, peer: ReplicaPeer, message: Entries) -> bool:
        """Whether it is a page that is to be taken."""
        replica, pull = self._replica, self._pull
        if pull is None or (pull.node, pull.number) != (peer.id, message.pull):
            return False  # Of a pull that was given up.
        if self._page is not None:
            replica.cut_off(peer, "sent a page before the one before was acknowledged")
            return False
        try:
            bodies = split(message.places, message.blob)
            check_page(message, replica.have, pull.claimed)
        except Malformed as error:
            replica.cut_off(peer, str(error))
            return False
        old = None if pull.pages else too_old(message, replica.have, replica.floor)
        if old is not None:
            self.end()
            replica.rejoin(old)
            return False
        if not self._holders.learn(peer, message.have):
            return False
        self._pull = pull._replace(pages=pull.pages + 1)
        self._page = Page(message, bodies)
        replica.set_timer("pull", replica.now + PULL_S)
        return True

    def take_page(self) -> Page | None:
        """What is to be taken next."""
        page, self._page = self._page, None
        return page

    def writing(self, yes: bool) -> None:
        """Whether a page is on its way to the disk."""
        self._writing = yes

    def is_of(self, page: Page) -> bool:
        """Whether the pull under way is the one that the page answers."""
        return self._pull is not None and self._pull.number == page.message.pull

    def complete(self, peer: ReplicaPeer) -> float:
        """Its last page is on disk. Returns when the pull began."""
        assert self._pull is not None
        since = self._pull.since
        self.end()
        self._replica.caught_up = True
        peer.unanswered = 0
        # The vector of its last page is all that it holds.
        peer.heard, peer.ask = True, Ask.LATER
        return since

    def end(self) -> None:
        """Give it up, if one is under way."""
        if self._pull is not None:
            self._pull = self._page = None
            self._replica.cancel_timer("pull")

    def gone(self, node: str) -> None:
        """That peer went."""
        if self._pull is not None and self._pull.node == node:
            self.end()

    def overdue(self) -> None:
        """No answer: ask another."""
        if self._pull is None:
            return
        replica = self._replica
        if self._page is not None or self._writing:
            # It is our disk that takes its time.
            replica.set_timer("pull", replica.now + PULL_S)
            return
        replica.log("no_answer", "warning", peer=self._pull.node, seconds=PULL_S)
        peer = replica.peers.get(self._pull.node)
        if peer is not None:
            peer.unanswered += 1
        self.end()
        self.look()

    def stick(self, until: float) -> None:
        """Ask nobody before `until`: this disk could not take what came."""
        self.end()
        self._stuck_until = until
        for peer in self._replica.connected:
            self._holders.compare(peer)
        self._replica.set_look(until)
