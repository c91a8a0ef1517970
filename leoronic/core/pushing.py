"""What this node gives: its own new entries to all that hold those before, pages to who asks."""

from __future__ import annotations

from leoronic.core.bodies import chunks, join
from leoronic.core.holders import Holders
from leoronic.core.peer import Entries, Have, Pull, Push
from leoronic.core.recent import Recent
from leoronic.core.replica import Replica
from leoronic.core.replica_peer import ReplicaPeer, Serving
from leoronic.core.replication_messages import Body, PageRead, ReadPage, Written

PAGE_BYTES = 256 << 10
READ_S = 3.0
# What is written so soon after a push waits so long for company.
BUSY_S = 0.01
TOGETHER_S = 0.004
# A push of so many entries is no single task that somebody waits for: more will come soon.
MANY_ENTRIES = 4
MANY_BUSY_S = 0.025
MANY_TOGETHER_S = 0.012


class Pushing:
    """See the module."""

    def __init__(self, replica: Replica, holders: Holders) -> None:
        self._replica = replica
        self._holders = holders
        self._recent = Recent()
        self._gathered: list[Body] = []  # own entries on disk that are not pushed yet
        self._pushed_at = -BUSY_S
        self._pushed_count = 0  # how many entries then
        self._reads: dict[int, tuple[str, int]] = {}  # token: (peer, number of its pull)

    # ---- pushes ----

    def written(self, message: Written) -> bool:
        """Push what is new, or gather it. True if others may have built on it before."""
        replica = self._replica
        if not replica.loaded:
            return False  # The vector that will be loaded counts it in.
        mine = replica.have.get(replica.node, 0)
        bodies = [body for body in message.bodies if body.number > mine]
        if not bodies:
            return False
        newest = bodies[-1].number
        replica.have[replica.node] = newest
        replica.note_vector({replica.node: newest})
        many = self._pushed_count >= MANY_ENTRIES
        busy_s, together_s = (MANY_BUSY_S, MANY_TOGETHER_S) if many else (BUSY_S, TOGETHER_S)
        waits = replica.now < self._pushed_at + busy_s and replica.read_own <= mine
        if waits and any(peer.pushing for peer in replica.connected):
            if not self._gathered:
                replica.set_timer("push", replica.now + together_s)
            self._gathered += bodies
        else:
            self._gathered += bodies
            self.push_new()
        return replica.read_own > mine

    def push_new(self) -> None:
        """Push what was gathered. Before anybody can get it in another way and build on it."""
        if not self._gathered:
            return
        replica = self._replica
        bodies, self._gathered = self._gathered, []
        needs, replica.moved = replica.moved, {}
        self._pushed_at, self._pushed_count = replica.now, len(bodies)
        for chunk in chunks(bodies, PAGE_BYTES):
            blob = b"\n".join([body.text for body in chunk])
            push = Push(replica.node, blob, chunk[0].number, len(chunk), needs)
            needs = {}
            self._recent.add(push)
            for peer in replica.connected:
                if peer.pushing:
                    self._push(peer, push)

    def _push(self, peer: ReplicaPeer, push: Push) -> None:
        self._replica.tell(peer.id, push)
        peer.pushed(push)

    def keep_pushing(self, peer: ReplicaPeer) -> None:
        """If what the peer lacks of ours is still at hand, push it, and all that follows."""
        replica = self._replica
        idle = not peer.pushing and peer.serving is None and replica.loaded
        if idle and not replica.rejoining:
            self._push_past(peer, replica.vectors[peer.id].get(replica.node, 0))

    def _push_past(self, peer: ReplicaPeer, number: int) -> None:
        self.push_new()
        pushes = self._recent.past(number)
        if number == self._replica.have.get(self._replica.node, 0):
            peer.pushing = True
        elif pushes is not None:
            peer.pushing = True
            for push in pushes:
                self._push(peer, push)

    def may_be_forgotten(self, number: int) -> None:
        """Own entries up to `number` may go from the disk: a page tells so, a push would not."""
        self._recent.forget(number)

    # ---- pages ----

    def pull(self, peer: ReplicaPeer, message: Pull) -> None:
        """The peer asks for all that it lacks: page by page."""
        replica = self._replica
        peer.stop_pushing()
        peer.serving = Serving(message.number, message.have, 0)
        # One page at a time is read for a peer, however often it asks; unless the journal forgot.
        if replica.loaded and (not peer.reading_since or replica.now - peer.reading_since > READ_S):
            self.read(peer)

    def acknowledged(self, peer: ReplicaPeer, message: Have) -> None:
        """The page before is on the peer's disk: the next one may follow."""
        serving = peer.serving
        if serving is not None and serving.number == message.pull and not peer.reading_since:
            self.read(peer)

    def read(self, peer: ReplicaPeer) -> None:
        """Ask the journal for the next page."""
        assert peer.serving is not None
        replica = self._replica
        self._reads.pop(peer.read_token, None)
        token = peer.read_token = replica.next_token()
        peer.reading_since = replica.now
        self._reads[token] = (peer.id, peer.serving.number)
        replica.send("journal", ReadPage(token, peer.serving.have, peer.serving.after, PAGE_BYTES))

    def page_read(self, message: PageRead) -> None:
        """Send it, unless the peer has gone or asked anew meanwhile."""
        replica = self._replica
        node, number = self._reads.pop(message.token, ("", 0))
        peer = replica.peers.get(node)
        if peer is None or peer.read_token != message.token:
            return
        peer.reading_since = 0.0
        serving = peer.serving
        if serving is None:
            return
        if serving.number != number:
            self.read(peer)  # It has asked anew meanwhile.
            return
        self.push_new()
        own = message.have.get(replica.node, 0)
        replica.read_own = max(replica.read_own, own)
        places, blob = join(message.bodies)
        page = Entries(
            replica.node, blob, places, message.floor, message.last, message.have, pull=number
        )
        replica.tell(node, page)
        peer.serving = serving._replace(after=message.after)
        if message.last:
            peer.serving = None
            self._push_past(peer, own)
