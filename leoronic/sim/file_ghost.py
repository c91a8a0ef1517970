"""A simulated ghost with nothing but a file store: all its words go through its clairvoyant."""

from __future__ import annotations

from leoronic.core.peer import PeerMessage, decode, encode
from leoronic.core.view import UP, Member, View
from leoronic.sim.file_node import FileNode

LOOK_S = 1.0
DELAY_S = 0.002
FAILOVER_S = 5.0


class GhostNode(FileNode):
    """See the module. It takes another clairvoyant some time after it has lost its own."""

    ghost = True
    clairvoyant = ""
    _lost_at: float | None = None
    _said_at = 0.0
    _heard_at = 0.0

    def start(self) -> None:
        """Its process begins, and looks for a clairvoyant."""
        if not self.up:
            self.clairvoyant, self._lost_at = "", None
            super().start()
            self._watch()

    def kill(self) -> None:
        """Its process ends."""
        self.up = False

    def _watch(self) -> None:
        """Now and then: is the clairvoyant there? If not for long, take another."""
        self.later(LOOK_S, self._watch)
        now = self.world.clock.now
        if self.clairvoyant and self.world.nodes[self.clairvoyant].up:
            self._lost_at = None
            return
        if self._lost_at is None:
            self._lost_at = now
        candidates = sorted(node.id for node in self.world.nodes.values() if node.up)
        if candidates and (now >= self._lost_at + FAILOVER_S or not self.clairvoyant):
            self.clairvoyant, self._lost_at = candidates[0], None
            self._tell_view()

    def _tell_view(self) -> None:
        members = {self.id: Member(self.id, self.about(), UP, True)}
        if self.clairvoyant:
            about = self.world.nodes[self.clairvoyant].about()
            members[self.clairvoyant] = Member(self.clairvoyant, about, UP, True)
        self.feed(View(self.id, members, self.steady()))

    def say(self, node: str, message: PeerMessage) -> None:
        """To its clairvoyant: it knows nobody else."""
        assert node in self.world.nodes, f"{self.id} speaks to {node}"
        if node == self.clairvoyant:
            other, text = self.world.nodes[node], encode(message)
            self._said_at = at = self._after(self._said_at)
            self.world.clock.at(at, lambda: other.receive(decode(*text)))

    def hear(self, node: FileNode, message: PeerMessage) -> None:
        """From its clairvoyant."""
        if node.id == self.clairvoyant:
            text = encode(message)
            self._heard_at = at = self._after(self._heard_at)
            self.world.clock.at(at, lambda: self.receive(decode(*text)))

    def _after(self, before: float) -> float:
        """When what is said now arrives: order is kept."""
        return max(before, self.world.clock.now + self.world.chance.random() * DELAY_S)

    def reaches(self, node: str) -> bool:
        """Only its clairvoyant."""
        return node == self.clairvoyant
