"""What the parts of replication share: this disk's vector, who is connected, what is to be done.

The machine is in `replication.py`, its parts in `holders.py`, `pushing.py`, `pulling.py` and
`taking.py`.
"""

from __future__ import annotations

from leoronic.core.effects import CancelTimer, Effect, Log, Reply, Send, SetTimer
from leoronic.core.peer import PeerMessage
from leoronic.core.replica_peer import ReplicaPeer
from leoronic.core.replication_messages import LoadVector, Misbehaved, Rejoin, Vector

# Heartbeats tell of what is held, once a second.
VECTOR_S = 0.5


class Replica:
    """See the module. `node` is this node's id, `now` the time of the message being handled."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.now = 0.0
        self.have: dict[str, int] = {}
        self.floor: dict[str, int] = {}
        self.moved: dict[str, int] = {}  # of others' entries, since the last push
        self.read_own = 0  # up to which own entries went out in pages
        self.loaded = False
        self.caught_up = False
        self.compared = False  # it was ready once
        self.rejoining = False
        self.life = 0  # of the last `LoadVector`
        self.peers: dict[str, ReplicaPeer] = {}
        self.connected: tuple[ReplicaPeer, ...] = ()  # the same, in order of their ids
        self.vectors: dict[str, dict[str, int]] = {}  # what others hold; of the connected for sure
        self._gone: list[str] = []
        self._untold: dict[str, int] = {}  # what membership is to be told soon
        self._token = 0
        self._effects: list[Effect] = []

    # ---- what is to be done ----

    def send(self, to: str, message: object) -> None:
        """To an actor of this node."""
        self._effects.append(Send(to, message))

    def tell(self, node: str, message: PeerMessage) -> None:
        """To replication on another node."""
        self._effects.append(Send(f"replication@{node}", message))

    def reply(self, request: object, result: object) -> None:
        """Answer a call."""
        self._effects.append(Reply(request, result))

    def log(self, event: str, level: str = "info", **fields: object) -> None:
        """Write a log line."""
        self._effects.append(Log(event, level, fields))

    def set_timer(self, name: str, at: float) -> None:
        """As the effect."""
        self._effects.append(SetTimer(name, at))

    def cancel_timer(self, name: str) -> None:
        """As the effect."""
        self._effects.append(CancelTimer(name))

    def set_look(self, at: float) -> None:
        """Then `Pulling.look` is due, if not now."""
        self.set_timer("look", max(at, self.now))

    def take_effects(self) -> list[Effect]:
        """What came together since this was asked last."""
        effects, self._effects = self._effects, []
        return effects

    def start_tokens(self) -> None:
        """From the time: answers to an earlier life of this actor must not be taken for ours."""
        self._token = int(self.now * 1_000_000)

    def next_token(self) -> int:
        """A number that was not given yet."""
        self._token += 1
        return self._token

    # ---- what is on disk ----

    def load(self) -> None:
        """Ask the journal for the vector; `life` tells the answer from those to earlier ones."""
        self.life = self.next_token()
        self.send("journal", LoadVector("replication", self.life))

    def rises(self, have: dict[str, int]) -> dict[str, int]:
        """Note what is on disk now; returns what that changed."""
        changed = {o: n for o, n in have.items() if n > self.have.get(o, 0)}
        self.have.update(changed)
        self.moved.update(changed)
        self.moved.pop(self.node, None)
        return changed

    def floor_rises(self, floor: dict[str, int]) -> None:
        """Note what was forgotten."""
        for origin, number in floor.items():
            self.floor[origin] = max(number, self.floor.get(origin, 0))

    def own(self) -> int:
        """The number of this node's newest entry that a peer may hold.

        A page is read from the disk, and so may hold what the journal has yet to tell (`Written`).
        """
        return max(self.read_own, self.have.get(self.node, 0))

    def note_vector(self, changed: dict[str, int]) -> None:
        """Membership is to be told of it soon."""
        if changed and not self._untold:
            self.set_timer("vector", self.now + VECTOR_S)
        self._untold.update(changed)

    def tell_vector(self) -> None:
        """Tell membership what changed."""
        if self._untold:
            self.send("membership", Vector(self._untold))
            self._untold = {}

    # ---- who is connected ----

    def connect(self, peer: ReplicaPeer) -> None:
        """Somebody came. It may have lost what it held; what counts is what it says now."""
        self.peers[peer.id] = peer
        self.vectors[peer.id] = {}
        self._list_connected()

    def disconnect(self, node: str) -> None:
        """Somebody went, if it was there: see `take_gone`."""
        peer = self.peers.pop(node, None)
        if peer is None:
            return
        if not peer.heard:
            self.vectors.pop(node, None)
        self._gone.append(node)
        self._list_connected()

    def _list_connected(self) -> None:
        self.connected = tuple(self.peers[node] for node in sorted(self.peers))

    def take_gone(self) -> list[str]:
        """Who went since this was asked last."""
        gone, self._gone = self._gone, []
        return gone

    def cut_off(self, peer: ReplicaPeer, reason: str) -> None:
        """It sent what it must not."""
        self.log("misbehaved", "warning", peer=peer.id, reason=reason)
        self.send("peers", Misbehaved(peer.id, reason))
        if peer.id in self.peers:
            self.disconnect(peer.id)
            self.vectors.pop(peer.id, None)

    def rejoin(self, reason: str) -> None:
        """What is on this disk must not be mixed with what others hold: nothing more is said."""
        self.rejoining = True
        for peer in self.connected:
            peer.stop_pushing()
            peer.forget_parked()
        self.log("must_rejoin", "error", reason=reason)
        self.send("peers", Rejoin(reason))
