"""Entries travel: every node holds the journals of all, each in an order that keeps cause first.

In: what the journal wrote, what peers say. Out: pushes of this node's own new entries, pages for
who asks (`Pull`), entries to take (`Take`). The rules:

- Own new entries are pushed to each peer that holds the ones before. `needs` of a push is what
  else changed on this disk since the push before: who holds the entry before holds the rest.
  While there is much to push, what nobody waits for is gathered for `TOGETHER_S`.
- What cannot be taken yet is parked, for 0.2 s; then its sender is asked for all that is missing.
  A peer that holds something for 1 s that we lack is asked too, and after a start each peer once:
  the vector of its last page is all that it holds. One `Pull` at a time, page by page.
- One `Take` at a time, with all that arrived meanwhile: if the disk refuses it, nothing that
  builds on it is taken.
- A peer that contradicts itself is cut off (`Misbehaved`); all that is kept of it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from leoronic.core.bodies import Malformed, check_page, chunks, join, split, too_old
from leoronic.core.bounds import NUMBER_MAX
from leoronic.core.copies import Copies
from leoronic.core.effects import Asked, CancelTimer, Effect, Fired, Log, Reply, Send, SetTimer
from leoronic.core.peer import Entries, Have, LinkDown, LinkUp, PeerMessage, Pull, Push
from leoronic.core.recent import Recent
from leoronic.core.replica_peer import (
    ORIGINS_MAX,
    Parked,
    ReplicaPeer,
    Serving,
)
from leoronic.core.replication_messages import (
    AskStable,
    AwaitCopies,
    Body,
    CatchUp,
    Copied,
    LoadVector,
    Misbehaved,
    PageRead,
    PeerVector,
    ReadPage,
    Ready,
    Rejoin,
    Take,
    TakeFailed,
    Taken,
    Vector,
    VectorLoaded,
    Written,
)
from leoronic.core.view import AskView, View
from leoronic.errors import ProtocolError

PAGE_BYTES = 256 << 10
TAKE_BYTES = 1 << 20
PARKED_S = 0.2
MORE_S = 1.0
PULL_S = 3.0
READ_S = 3.0
TAKE_S = 30.0
RETRY_TAKE_S = 1.0
COPIES_S = 2.0
# What is written so soon after a push waits so long for company.
BUSY_S = 0.01
TOGETHER_S = 0.004
# Heartbeats tell of what is held, once a second.
VECTOR_S = 0.5
ALONE_S = 5.0
CATCH_UP_S = 30.0


_SUBMITTED = b'{"kind":"submitted"'


class Start:
    """The machine's first message: load the version vector from the journal."""


class _Pulling(NamedTuple):
    """The `Pull` under way. `claimed` is what its peer had said that it holds."""

    number: int
    node: str
    since: float
    claimed: dict[str, int]
    pages: int = 0


class _Page(NamedTuple):
    message: Entries
    bodies: list[Body]


class _Taking(NamedTuple):
    token: int
    floor: dict[str, int]
    pushers: list[str]
    page: _Page | None


class ReplicationMachine:
    """See the module. `now` is seconds of a steady clock. One instance is one life of the actor."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.have: dict[str, int] = {}
        self.floor: dict[str, int] = {}
        self.ready = False
        self._compared = False  # it was ready once
        self._loaded = False
        self._rejoining = False
        self._caught_up = False
        self._token = 0
        self._life = 0
        self._view: View | None = None
        self._peers: dict[str, ReplicaPeer] = {}
        self._vectors: dict[str, dict[str, int]] = {}
        self._moved: dict[str, int] = {}  # of others' entries, since the last push
        self._recent = Recent()
        self._unpushed: list[Body] = []  # own entries on disk that are being gathered
        self._pushed_at = -BUSY_S
        self._untold: dict[str, int] = {}  # what membership is to be told soon
        self._read_own = 0  # up to which own entries went out in pages
        self._copies = Copies()
        self._reads: dict[int, tuple[str, int]] = {}  # token: (peer, number of its pull)
        self._pull: _Pulling | None = None
        self._page: _Page | None = None
        self._taking: _Taking | None = None
        self._stuck_until = 0.0
        self._avoid = ""
        self._started_at = 0.0
        self._alone_since = 0.0
        self._now = 0.0
        self._effects: list[Effect] = []
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
            PageRead: self._on_page_read,
            Taken: self._on_taken,
            TakeFailed: self._on_take_failed,
            AwaitCopies: self._on_await_copies,
            Asked: self._on_asked,
            Fired: self._on_fired,
        }
        self._timers: dict[str, Callable[[], None]] = {
            "look": self._look,
            "pull": self._pull_is_overdue,
            "take": self._take_is_overdue,
            "copies": self._copies_are_overdue,
            "ready": self._check_ready,
            "push": self._push_new,
            "vector": self._tell_vector,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._now = now
        if not (self._rejoining and isinstance(message, PeerMessage)):
            self._handlers[type(message)](message)
        effects, self._effects = self._effects, []
        return effects

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _tell(self, node: str, message: PeerMessage) -> None:
        self._send(f"replication@{node}", message)

    def _log(self, event: str, level: str = "info", **fields: object) -> None:
        self._effects.append(Log(event, level, fields))

    def _set_timer(self, name: str, at: float) -> None:
        self._effects.append(SetTimer(name, at))

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    # ---- starting ----

    def _on_start(self, _message: Start) -> None:
        # Answers to an earlier life of this actor must not be taken for ours.
        self._token = int(self._now * 1_000_000)
        self._started_at = self._alone_since = self._now
        # The views that membership told so far went by, and there may be no new one for long.
        self._send("membership", AskView("replication"))
        self._load()

    def _load(self) -> None:
        self._life = self._next_token()
        self._send("journal", LoadVector("replication", self._life))

    def _on_vector_loaded(self, message: VectorLoaded) -> None:
        if message.life not in (0, self._life):
            return
        assert message.node == self.node, f"this node is {self.node}, the disk of {message.node}"
        first = not self._loaded
        self._loaded = True
        self._raise(message.have)
        self._floor_rises(message.floor)
        self._send("membership", Vector(dict(self.have)))
        for peer in self._connected():
            if self._vectors[peer.id].get(self.node, 0) > self.have.get(self.node, 0):
                self._own_entries_lost(peer)
                continue
            for origin, number in self._vectors[peer.id].items():
                if number > self.have.get(origin, 0):
                    self._note_more(peer, origin, number)
            if first and peer.serving is not None:
                self._read(peer)
            elif peer.heard:
                self._keep_pushing(peer)
        self._advance()
        self._look()
        self._check_ready()

    def _raise(self, have: dict[str, int]) -> dict[str, int]:
        """Note what is on disk now; returns what that changed."""
        changed = {o: n for o, n in have.items() if n > self.have.get(o, 0)}
        self.have.update(changed)
        self._moved.update(changed)
        self._moved.pop(self.node, None)
        return changed

    def _note_vector(self, changed: dict[str, int]) -> None:
        if changed and not self._untold:
            self._set_timer("vector", self._now + VECTOR_S)
        self._untold.update(changed)

    def _tell_vector(self) -> None:
        if self._untold:
            self._send("membership", Vector(self._untold))
            self._untold = {}

    def _floor_rises(self, floor: dict[str, int]) -> None:
        for origin, number in floor.items():
            self.floor[origin] = max(number, self.floor.get(origin, 0))

    def _on_view(self, view: View) -> None:
        self._view = view
        for node in [n for n in self._vectors if n not in view.members and n not in self._peers]:
            del self._vectors[node]
        if self._loaded and not view.members[self.node].ready:
            # Membership may have started again, and know nothing.
            have = dict(self.have)
            self._send("membership", self._told_ready() if self.ready else Vector(have))
        self._check_ready()

    def _check_ready(self) -> None:
        if self.ready or not self._loaded or self._view is None or self._rejoining:
            return
        if self._peers:
            late = self._now >= self._started_at + CATCH_UP_S
            if not late and not (self._caught_up and all(p.heard for p in self._connected())):
                self._set_timer("ready", self._started_at + CATCH_UP_S)
                return
            if late:
                self._log("not_caught_up", "warning", seconds=CATCH_UP_S)
        elif len(self._view.members) > 1 and self._now < self._alone_since + ALONE_S:
            self._set_timer("ready", self._alone_since + ALONE_S)
            return
        self.ready = self._compared = True
        self._send("membership", self._told_ready())

    def _told_ready(self) -> Ready:
        return Ready(dict(self.have), self._started_at)

    def _on_catch_up(self, _message: CatchUp) -> None:
        self.ready = self._caught_up = False
        self._started_at = self._now
        if not self._peers:
            self._alone_since = self._now
        if self._pull is not None:
            self._end_pull()  # what it was answered may be as old as that
        self._look()
        self._check_ready()

    # ---- links ----

    def _connected(self) -> Iterator[ReplicaPeer]:
        """The peers in order of their ids; they may be cut off meanwhile."""
        return (self._peers[node] for node in sorted(self._peers) if node in self._peers)

    def _on_link_up(self, message: LinkUp) -> None:
        if message.node in self._peers:
            self._drop(message.node)
        peer = self._peers[message.node] = ReplicaPeer(message.node)
        # The connection may be older than this life, and its first heartbeat gone by.
        peer.to_compare = not self._compared
        # It may have lost what it held; what counts is what it says now.
        self._vectors[message.node] = {}
        self._look()

    def _on_link_down(self, message: LinkDown) -> None:
        if message.node in self._peers:
            self._drop(message.node)
            if not self._peers:
                self._alone_since = self._now
            self._look()
            self._check_ready()

    def _drop(self, node: str) -> None:
        peer = self._peers.pop(node)
        if not peer.heard:
            self._vectors.pop(node, None)
        if self._pull is not None and self._pull.node == node:
            self._end_pull()
        self._nobody_to_copy()

    def _misbehaves(self, peer: ReplicaPeer, reason: str) -> None:
        self._log("misbehaved", "warning", peer=peer.id, reason=reason)
        self._send("peers", Misbehaved(peer.id, reason))
        if peer.id in self._peers:
            self._on_link_down(LinkDown(peer.id))
            self._vectors.pop(peer.id, None)

    def _rejoin(self, reason: str) -> None:
        self._rejoining = True
        for peer in self._peers.values():
            peer.stop_pushing()
            peer.forget_parked()
        self._nobody_to_copy()
        self._log("must_rejoin", "error", reason=reason)
        self._send("peers", Rejoin(reason))

    def _own(self) -> int:
        """The number of this node's newest entry that a peer may hold.

        A page is read from the disk, and so may hold what the journal has yet to tell (`Written`).
        """
        return max(self._read_own, self.have.get(self.node, 0))

    def _own_entries_lost(self, peer: ReplicaPeer) -> None:
        """The peer holds entries of this node that this disk lacks: numbers would be used twice."""
        reason = (
            f"{peer.id} holds entry {self._vectors.get(peer.id, {}).get(self.node)} of this node, "
            f"whose own disk ends at {self.have.get(self.node, 0)}"
        )
        # Once it has compared with others, this disk is right, and it is the peer that errs.
        if self._compared:
            self._misbehaves(peer, reason)
        elif not self._rejoining:
            self._rejoin(reason)

    # ---- what peers hold ----

    def _on_peer_vector(self, message: PeerVector) -> None:
        peer = self._peers.get(message.node)
        if peer is None:
            return
        peer.heard = True
        if self._learn(peer, message.have, peer.told):
            self._keep_pushing(peer)
            self._check_ready()

    def _on_have(self, message: Have) -> None:
        peer = self._peers.get(message.node)
        if peer is None or not self._learn(peer, message.have, peer.acked):
            return
        serving = peer.serving
        if serving is not None and serving.number == message.pull and not peer.reading_since:
            self._read(peer)

    def _learn(
        self, peer: ReplicaPeer, have: dict[str, int], before: dict[str, int] | None = None
    ) -> bool:
        """Note what the peer holds. False if it lies; then it is cut off.

        `before` is what it said by the same way: of one who forgets what he had, nothing is sure.
        """
        vector = self._vectors[peer.id]
        for origin, number in have.items():
            if not origin or not 0 <= number <= NUMBER_MAX or len(vector) > ORIGINS_MAX:
                self._misbehaves(peer, f"no such place: {origin!r} {number}")
                return False
            if before is not None:
                if number < before.get(origin, 0):
                    was = before[origin]
                    self._misbehaves(peer, f"held {was} of {origin}, and now only {number}")
                    return False
                before[origin] = number
            if number <= vector.get(origin, 0):
                continue
            vector[origin] = number
            if origin != self.node and number > self.have.get(origin, 0) and self._loaded:
                self._note_more(peer, origin, number)
        if self._loaded and vector.get(self.node, 0) > self._own():
            self._own_entries_lost(peer)
            return False
        if self.node in have:
            self._arrived(peer, have[self.node])
        return True

    def _note_more(self, peer: ReplicaPeer, origin: str, number: int) -> None:
        if origin not in peer.more:
            if not peer.more:
                self._set_look(self._now + (MORE_S if peer.asked else 0.0))
            peer.more[origin] = (number, self._now)

    def _on_asked(self, asked: Asked) -> None:
        assert isinstance(asked.message, AskStable)
        self._effects.append(Reply(asked.request, self._stable()))

    def _stable(self) -> dict[str, int] | None:
        """What this node and all members hold; None while that of any is not known."""
        if self._view is None or not self.ready:
            return None
        stable = dict(self.have)
        for node in self._view.members:
            if node == self.node:
                continue
            vector = self._vectors.get(node)
            peer = self._peers.get(node)
            if vector is None or (peer is not None and not peer.heard):
                return None
            stable = {o: min(n, vector[o]) for o, n in stable.items() if o in vector}
        return stable

    # ---- pushing ----

    def _on_written(self, message: Written) -> None:
        if not self._loaded:
            return  # The vector that will be loaded counts it in.
        mine = self.have.get(self.node, 0)
        bodies = [body for body in message.bodies if body.number > mine]
        if not bodies:
            return
        self.have[self.node] = bodies[-1].number
        self._note_vector({self.node: bodies[-1].number})
        waits = self._now < self._pushed_at + BUSY_S and self._read_own <= mine
        if waits and any(peer.pushing for peer in self._peers.values()):
            if not self._unpushed:
                self._set_timer("push", self._now + TOGETHER_S)
            self._unpushed += bodies
        else:
            self._unpushed += bodies
            self._push_new()
        if self._read_own > mine:
            self._advance()  # who read that in a page may have built on it since

    def _push_new(self) -> None:
        """Push what was gathered. Before anybody can get it in another way and build on it."""
        if not self._unpushed:
            return
        bodies, self._unpushed = self._unpushed, []
        needs, self._moved = self._moved, {}
        self._pushed_at = self._now
        for chunk in chunks(bodies, PAGE_BYTES):
            blob = b"\n".join([body.text for body in chunk])
            push = Push(self.node, blob, chunk[0].number, len(chunk), needs)
            needs = {}
            self._recent.add(push)
            for peer in self._connected():
                if peer.pushing:
                    self._push(peer, push)

    def _push(self, peer: ReplicaPeer, push: Push) -> None:
        self._tell(peer.id, push)
        peer.pushed(push)

    def _keep_pushing(self, peer: ReplicaPeer) -> None:
        """If what the peer lacks of ours is still at hand, push it, and all that follows."""
        idle = not peer.pushing and peer.serving is None and self._loaded
        if idle and not self._rejoining:
            self._push_past(peer, self._vectors[peer.id].get(self.node, 0))

    def _push_past(self, peer: ReplicaPeer, number: int) -> None:
        self._push_new()
        pushes = self._recent.past(number)
        if number == self.have.get(self.node, 0):
            peer.pushing = True
        elif pushes is not None:
            peer.pushing = True
            for push in pushes:
                self._push(peer, push)

    def _arrived(self, peer: ReplicaPeer, number: int) -> None:
        peer.arrived(number)
        for token, wanted in self._copies.held(number):
            self._send("queue", Copied(token, self._holders(wanted)))

    def _holders(self, number: int) -> list[str]:
        return [
            peer.id
            for peer in self._connected()
            if self._vectors[peer.id].get(self.node, 0) >= number
        ]

    def _on_await_copies(self, message: AwaitCopies) -> None:
        self._push_new()
        holders = self._holders(message.number)
        if holders or not self._may_be_copied():
            self._send("queue", Copied(message.token, holders))
            return
        if self._copies.due() is None:
            self._set_timer("copies", self._now + COPIES_S)
        self._copies.wait(message.token, message.number, self._now + COPIES_S)

    def _copies_are_overdue(self) -> None:
        for token in self._copies.overdue(self._now):
            self._send("queue", Copied(token, []))
        due = self._copies.due()
        if due is not None:
            self._set_timer("copies", due)

    def _may_be_copied(self) -> bool:
        """Whether anybody is there who may soon hold what is new: pushed, or as it asks for it."""
        return not self._rejoining and any(peer.heard for peer in self._peers.values())

    def _nobody_to_copy(self) -> None:
        if self._copies.due() is not None and not self._may_be_copied():
            for token, wanted in self._copies.held(NUMBER_MAX):
                self._send("queue", Copied(token, self._holders(wanted)))

    # ---- answering pulls ----

    def _on_pull(self, message: Pull) -> None:
        peer = self._peers.get(message.node)
        if peer is None or not self._learn(peer, message.have):
            return
        peer.heard = True
        peer.stop_pushing()
        peer.serving = Serving(message.number, message.have, 0)
        # One page at a time is read for a peer, however often it asks; unless the journal forgot.
        if self._loaded and (not peer.reading_since or self._now - peer.reading_since > READ_S):
            self._read(peer)
        self._check_ready()

    def _read(self, peer: ReplicaPeer) -> None:
        assert peer.serving is not None
        self._reads.pop(peer.read_token, None)
        token = peer.read_token = self._next_token()
        peer.reading_since = self._now
        self._reads[token] = (peer.id, peer.serving.number)
        self._send("journal", ReadPage(token, peer.serving.have, peer.serving.after, PAGE_BYTES))

    def _on_page_read(self, message: PageRead) -> None:
        node, number = self._reads.pop(message.token, ("", 0))
        peer = self._peers.get(node)
        if peer is None or peer.read_token != message.token:
            return
        peer.reading_since = 0.0
        serving = peer.serving
        if serving is None:
            return
        if serving.number != number:
            self._read(peer)  # It has asked anew meanwhile.
            return
        self._push_new()
        self._read_own = max(self._read_own, message.have.get(self.node, 0))
        places, blob = join(message.bodies)
        self._tell(
            node,
            Entries(
                self.node, blob, places, message.floor, message.last, message.have, pull=number
            ),
        )
        peer.serving = serving._replace(after=message.after)
        if message.last:
            peer.serving = None
            self._push_past(peer, message.have.get(self.node, 0))

    # ---- pulling ----

    def _set_look(self, at: float) -> None:
        self._set_timer("look", max(at, self._now))

    def _look(self) -> None:
        """Ask a peer for what we lack, if it is time."""
        if self._pull is not None or not self._loaded or self._rejoining:
            return
        dues: list[tuple[bool, float, str]] = []
        for peer in self._connected():
            due = self._due(peer)
            if due is not None:
                dues.append((peer.id == self._avoid, due, peer.id))
        ripe = [entry for entry in dues if entry[1] <= self._now and self._now >= self._stuck_until]
        if ripe:
            self._start_pull(min(ripe)[2])
        elif dues:
            self._set_look(max(self._stuck_until, min(due for _, due, _ in dues)))

    def _due(self, peer: ReplicaPeer) -> float | None:
        """When the peer is to be asked, as far as is known."""
        if not self._caught_up or peer.to_compare:
            return self._now
        peer.more = {o: m for o, m in peer.more.items() if m[0] > self.have.get(o, 0)}
        if peer.more and not peer.asked:
            return self._now  # it was out of reach: what it has to tell will not come by itself
        dues = [since + MORE_S for _, since in peer.more.values()]
        if peer.parked:
            dues.append(peer.parked[0].since + PARKED_S)
        return min(dues, default=None)

    def _start_pull(self, node: str) -> None:
        self._peers[node].asked = True
        number = self._next_token()
        self._pull = _Pulling(number, node, self._now, dict(self._vectors[node]))
        self._tell(node, Pull(self.node, dict(self.have), number))
        self._set_timer("pull", self._now + PULL_S)

    def _end_pull(self) -> None:
        self._pull = self._page = None
        self._effects.append(CancelTimer("pull"))

    def _pull_is_overdue(self) -> None:
        if self._pull is None:
            return
        if self._page is not None or (self._taking is not None and self._taking.page is not None):
            self._set_timer("pull", self._now + PULL_S)  # It is our disk that takes its time.
            return
        self._log("no_answer", "warning", peer=self._pull.node, seconds=PULL_S)
        self._avoid = self._pull.node
        self._end_pull()
        self._look()

    def _on_entries(self, message: Entries) -> None:
        peer = self._peers.get(message.node)
        pull = self._pull
        if peer is None or pull is None or (pull.node, pull.number) != (peer.id, message.pull):
            return  # Of a pull that was given up.
        if self._page is not None:
            self._misbehaves(peer, "sent a page before the one before was acknowledged")
            return
        old = None if pull.pages else too_old(message, self.have, self.floor)
        if old is not None:
            self._end_pull()
            self._rejoin(old)
            return
        try:
            bodies = split(message.places, message.blob)
            check_page(message, self.have, pull.claimed)
        except Malformed as error:
            self._misbehaves(peer, str(error))
            return
        if not self._learn(peer, message.have):
            return
        self._pull = pull._replace(pages=pull.pages + 1)
        self._page = _Page(message, bodies)
        self._set_timer("pull", self._now + PULL_S)
        self._advance()

    # ---- taking ----

    def _on_push(self, message: Push) -> None:
        peer = self._peers.get(message.node)
        if peer is None:
            return
        place = (message.node, message.first, message.count)
        try:
            bodies = split([place], message.blob)
        except Malformed as error:
            self._misbehaves(peer, str(error))
            return
        if len(message.needs) > ORIGINS_MAX:
            self._misbehaves(peer, f"needs entries of {len(message.needs)} nodes")
            return
        last = message.first + message.count - 1
        if not self._learn(peer, {message.node: last}):
            return
        if self._loaded and message.needs.get(self.node, 0) > self._own():
            self._misbehaves(peer, "wants entries of this node that were never written")
            return
        if self._loaded and last <= self.have.get(peer.id, 0):
            self._tell(peer.id, Have(self.node, {peer.id: self.have[peer.id]}))
            return
        was_empty = not peer.parked
        size = len(message.blob)
        peer.park(Parked(message.first, bodies, message.needs, size, self._now))
        self._advance()
        if was_empty and peer.parked and self._taking is None:
            self._set_look(self._now + PARKED_S)

    def _advance(self) -> None:
        """Take what can be taken, unless something is under way already."""
        if self._taking is not None or not self._loaded or self._rejoining:
            return
        bodies: list[Body] = []
        have: dict[str, int] = {}
        floor: dict[str, int] = {}
        held: dict[str, int] = {}  # once this is on disk, where that differs from `self.have`
        page, self._page = self._page, None
        if page is not None:
            bodies += page.bodies
            floor = page.message.floor
            if page.message.last:
                have = {o: n for o, n in page.message.have.items() if n > self.have.get(o, 0)}
            for origin, first, count in page.message.places:
                held[origin] = max(first + count - 1, self.have.get(origin, 0))
            held.update(have)
        pushers = self._takeable(bodies, held)
        if not bodies and not have:
            if page is not None:
                self._page_is_taken(page, {})
            self._acknowledge(pushers)
            return
        self._taking = _Taking(self._next_token(), floor, pushers, page)
        # Somebody waits until a submission is held here.
        patient = page is None and not any(b.text.startswith(_SUBMITTED) for b in bodies)
        self._send("journal", Take(self._taking.token, bodies, floor, have, patient))
        self._set_timer("take", self._now + TAKE_S)

    def _takeable(self, bodies: list[Body], held: dict[str, int]) -> list[str]:
        """Add to `bodies` and `held` what was parked and has all it needs; returns its senders."""
        pushers: dict[str, None] = {}
        size = 0
        going_on = True
        while going_on and size < TAKE_BYTES:
            going_on = False
            for peer in self._connected():
                while peer.parked and size < TAKE_BYTES:
                    push = peer.parked[0]
                    mine = held.get(peer.id, self.have.get(peer.id, 0))
                    if push.last > mine and (
                        push.first > mine + 1
                        or any(
                            number > held.get(origin, self.have.get(origin, 0))
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

    def _on_taken(self, message: Taken) -> None:
        taking = self._taking
        if taking is None or message.token != taking.token:
            return
        self._taking = None
        self._effects.append(CancelTimer("take"))
        changed = self._raise(message.have)
        if not message.refused:
            self._floor_rises(taking.floor)
        self._note_vector(changed)
        if message.refused:
            self._refused(taking, message.refused)
        else:
            self._acknowledge(taking.pushers)
            if taking.page is not None:
                self._page_is_taken(taking.page, changed)
        self._advance()
        self._look()

    def _refused(self, taking: _Taking, reason: str) -> None:
        """Somebody's entries make no sense; who sent them is known if it was only one."""
        senders = set(taking.pushers)
        if taking.page is not None:
            senders.add(taking.page.message.node)
        self._log("entries_refused", "error", peers=sorted(senders), reason=reason)
        for node in sorted(senders):
            peer = self._peers.get(node)
            if peer is not None and len(senders) == 1:
                self._misbehaves(peer, reason)
        self._try_later()

    def _acknowledge(self, pushers: list[str]) -> None:
        for node in pushers:
            if node in self._peers:
                self._tell(node, Have(self.node, {node: self.have.get(node, 0)}))

    def _page_is_taken(self, page: _Page, changed: dict[str, int]) -> None:
        pull = self._pull
        peer = self._peers.get(page.message.node)
        if pull is None or peer is None or pull.number != page.message.pull:
            return
        if not page.message.last:
            self._tell(peer.id, Have(self.node, changed, page.message.pull))
            return
        self._tell(peer.id, Have(self.node, changed))
        self._end_pull()
        self._caught_up = True
        self._avoid = ""
        # The vector of its last page is all that it holds.
        peer.heard, peer.to_compare = True, False
        self._advance()
        push = peer.parked[0] if peer.parked else None
        if push is not None and push.since < pull.since and self._taking is None:
            self._misbehaves(peer, f"its entry {push.first} builds on what it does not hold")
        if peer.id in self._peers:
            self._keep_pushing(peer)
        self._look()
        self._check_ready()

    def _on_take_failed(self, message: TakeFailed) -> None:
        taking = self._taking
        if taking is None or message.token != taking.token:
            return
        self._taking = None
        self._effects.append(CancelTimer("take"))
        if isinstance(message.error, ProtocolError):
            self._refused(taking, message.error.message)
            return
        self._log("not_taken", "warning", error=message.error.message)
        self._try_later()

    def _try_later(self) -> None:
        """What could not be written is asked for again; what builds on it stays parked."""
        if self._pull is not None:
            self._end_pull()
        self._stuck_until = self._now + RETRY_TAKE_S
        for peer in self._connected():
            for origin, number in self._vectors[peer.id].items():
                if number > self.have.get(origin, 0):
                    self._note_more(peer, origin, number)
        self._set_look(self._stuck_until)

    def _take_is_overdue(self) -> None:
        """The journal was restarted, most likely: what is on disk must be asked."""
        if self._taking is not None:
            self._log("take_unanswered", "warning", seconds=TAKE_S)
            self._taking = None
            self._load()
            self._try_later()

    def _on_fired(self, message: Fired) -> None:
        self._timers[message.name]()
