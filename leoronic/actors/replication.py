"""The actor around `ReplicationMachine`: entries travel."""

from __future__ import annotations

from collections.abc import Callable

from leoronic.actors.peers_messages import TellLinks
from leoronic.actors.steady import steady_s
from leoronic.core import replication
from leoronic.core.effects import Send
from leoronic.runtime.machine import MachineActor


class ReplicationActor(MachineActor):
    """Hosts `ReplicationMachine`; its memory comes from the journal each time it starts.

    `node` is asked at each start, when the journal is open: this node's id.
    """

    def __init__(self, node: Callable[[], str]) -> None:
        super().__init__(lambda: replication.ReplicationMachine(node()), clock=steady_s)

    async def started(self) -> None:
        """Ask the journal what it holds."""
        await super().started()
        await self.feed(replication.Start())
        # After a restart: the connections are still there.
        self.perform([Send("peers", TellLinks("replication"))])
