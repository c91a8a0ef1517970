"""What the parts of a file store say at one turn."""

from __future__ import annotations

from leoronic.core.effects import Effect, Log, Send
from leoronic.core.file_effects import BULK, DISK, PullChunk
from leoronic.core.peer import PeerMessage


class FileOutbox:
    """Shared by the parts of the file store of node `me`. `now`: steady seconds of this turn.

    `names` of nodes by id, for people.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self.now = 0.0
        self.names: dict[str, str] = {}
        self._effects: list[Effect] = []

    def take(self) -> list[Effect]:
        """All that was said since this was last asked."""
        effects, self._effects = self._effects, []
        return effects

    def name_of(self, node: str) -> str:
        """What people call it."""
        return self.names.get(node, node)

    def add(self, effect: Effect) -> None:
        """Have this done."""
        self._effects.append(effect)

    def send(self, to: str, message: object) -> None:
        """Say something to an actor of this node."""
        self._effects.append(Send(to, message))

    def tell(self, node: str, message: PeerMessage) -> None:
        """Say something to another node's file store."""
        self._effects.append(Send(f"file_store@{node}", message))

    def disk(self, message: object) -> None:
        """Have the disk do something."""
        self._effects.append(Send(DISK, message))

    def pull(self, digest: str, index: int, node: str) -> None:
        """Have a chunk fetched."""
        self._effects.append(Send(BULK, PullChunk(digest, index, node)))

    def log(self, event: str, level: str = "info", **fields: object) -> None:
        """Write a log line."""
        self._effects.append(Log(event, level, fields))
