"""The actor `relay` of a node: what it does for its ghosts, decided by `core/relay.py`."""

from __future__ import annotations

from collections.abc import Callable

from leoronic.actors.steady import steady_s
from leoronic.core import relay
from leoronic.core.effects import Send
from leoronic.core.view import AskView
from leoronic.ghost.door import TellConnections
from leoronic.runtime.machine import MachineActor


class RelayActor(MachineActor):
    """Hosts `RelayMachine`. `node` gives the node's id once the journal is open."""

    def __init__(self, node: Callable[[], str]) -> None:
        super().__init__(lambda: relay.RelayMachine(node()), clock=steady_s)

    async def started(self) -> None:
        """Ask who is there. After a restart the connections of ghosts are there still."""
        await super().started()
        await self.feed(relay.Start())
        self.perform([Send("membership", AskView("relay")), Send("relay_host", TellConnections())])
